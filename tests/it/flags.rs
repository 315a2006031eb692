//! Every flag that the installed buildx shows in its help is there, with its short form, or is left
//! out for a reason, and is compared with buildx in `parity`.

use docker_cachex::for_tests::cli;

use crate::parity;
use crate::support::rig::Rig;

/// Flags of buildx that cachex does not have: command, flag, reason.
const LEFT_OUT: [(&str, &str, &str); 0] = [];

/// A flag as it stands in a help text.
#[derive(Debug, PartialEq, Eq)]
struct Flag {
    short: Option<char>,
    long: String,
}

/// Reads the table of flags: `  -f, --file string   Name …`.
fn flags_of(help: &str) -> Vec<Flag> {
    let flag = |line: &str| {
        let line = line.strip_prefix("  ")?;
        let (short, rest) = match line.strip_prefix('-') {
            Some(rest) if !rest.starts_with('-') => (rest.chars().next(), rest.split_once(", ")?.1),
            _ => (None, line.strip_prefix("    ")?),
        };
        let long = rest.strip_prefix("--")?.split([' ', '\n']).next()?;
        Some(Flag {
            short,
            long: long.to_owned(),
        })
    };
    help.lines().filter_map(flag).collect()
}

#[test]
fn the_table_is_read() {
    let help = "Usage:  x\n\nOptions:\n  -f, --file string   Name of\n                      --not this\n      --push          Push\n";
    let expected = [(Some('f'), "file"), (None, "push")].map(|(short, long)| Flag {
        short,
        long: long.to_owned(),
    });
    assert_eq!(flags_of(help), expected);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn every_flag_of_buildx_is_there_and_compared_or_left_out_for_a_reason() {
    let client = Rig::get().client();
    let mut root = cli::command();
    root.build();
    for name in ["build", "create"] {
        let command = root.find_subcommand(name).expect("the command");
        let (help, _) = client.docker_ok(&["buildx", name, "--help"]);
        let flags = flags_of(&help);
        assert!(flags.len() > 10, "{name}: {flags:?}");
        let compared = parity::compared(name);
        for flag in flags {
            let own = command.get_arguments().find(|arg| {
                arg.get_long() == Some(&flag.long)
                    || arg
                        .get_all_aliases()
                        .unwrap_or_default()
                        .contains(&flag.long.as_str())
            });
            let left_out = LEFT_OUT
                .iter()
                .any(|(c, f, _)| *c == name && *f == flag.long);
            match own {
                None => assert!(left_out, "{name} --{} is missing", flag.long),
                Some(arg) => {
                    assert!(!left_out, "{name} --{} is there", flag.long);
                    assert!(
                        compared.contains(flag.long.as_str()),
                        "{name} --{} is not compared with buildx in parity",
                        flag.long
                    );
                    assert!(
                        flag.short.is_none() || arg.get_short() == flag.short,
                        "{flag:?}"
                    );
                }
            }
        }
    }
}
