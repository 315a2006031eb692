//! The contract with the docker command line: metadata, argv form, cancel socket.
//!
//! Docker starts a plugin with its own arguments: `docker -c ctx cachex ls` becomes
//! `docker-cachex -c ctx cachex ls`. Started by hand, the name of the plugin is left out.

use std::ffi::{OsStr, OsString};

pub mod cancel;

/// Name of the plugin on the docker command line.
pub const NAME: &str = "cachex";

const METADATA: &str = include_str!("../../plugin-metadata/metadata.json");
const METADATA_COMMAND: &str = "docker-cli-plugin-metadata";
const COMPLETE_COMMAND: &str = "__complete";
const COMPLETE_NO_DESCRIPTIONS_COMMAND: &str = "__completeNoDesc";
const HELP_COMMAND: &str = "help";

/// Docker's global flags that take a value, and those of this program before the command.
const VALUE_FLAGS: [&str; 8] = [
    "--config",
    "--context",
    "--host",
    "--log-level",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--builder",
];
const VALUE_SHORTS: [u8; 3] = [b'c', b'H', b'l'];

/// What the program was started for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Docker asks what this plugin is.
    Metadata,
    /// A shell asks for completions of the last word (cobra's protocol).
    Complete {
        /// With descriptions of the candidates.
        descriptions: bool,
        /// The words behind the name of the plugin; the last one is not complete.
        words: Vec<OsString>,
    },
    /// A command: global flags, command, its arguments; without program and plugin name.
    Command(Vec<OsString>),
}

/// Returns the answer to the metadata question, JSON with a new line at the end.
pub fn metadata() -> String {
    METADATA.replace("@VERSION@", env!("CARGO_PKG_VERSION"))
}

/// Understands the arguments of the process, the program's own path first.
pub fn invocation(mut args: Vec<OsString>) -> Invocation {
    args.drain(..args.len().min(1));
    match first_word(&args) {
        Some(at) if args[at] == METADATA_COMMAND => Invocation::Metadata,
        Some(at) if args[at] == COMPLETE_COMMAND => complete(args, at, true),
        Some(at) if args[at] == COMPLETE_NO_DESCRIPTIONS_COMMAND => complete(args, at, false),
        Some(at) if args[at] == NAME => {
            args.remove(at);
            Invocation::Command(args)
        }
        // "docker help cachex ls" comes as "help cachex ls".
        Some(at) if args[at] == HELP_COMMAND && args.get(at + 1).is_some_and(|a| a == NAME) => {
            args.remove(at + 1);
            Invocation::Command(args)
        }
        _ => Invocation::Command(args),
    }
}

fn complete(mut args: Vec<OsString>, at: usize, descriptions: bool) -> Invocation {
    let mut words = args.split_off(at + 1);
    // Not where the name itself is being typed.
    if words.len() > 1
        && let Some(name) = first_word(&words[..words.len() - 1])
        && words[name] == NAME
    {
        words.remove(name);
    }
    Invocation::Complete {
        descriptions,
        words,
    }
}

/// Finds the first argument that is neither a global flag nor the value of one.
fn first_word(args: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        if arg == "--" || !is_flag(arg) {
            return (arg != "--").then_some(at);
        }
        at += if takes_next(arg) { 2 } else { 1 };
    }
    None
}

fn is_flag(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    bytes.len() > 1 && bytes[0] == b'-'
}

/// Returns whether the value of a global flag is the next argument.
fn takes_next(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    if bytes.starts_with(b"--") {
        return VALUE_FLAGS.iter().any(|flag| arg == *flag);
    }
    // In a group such as -Dc the first short flag with a value takes the rest, or the next argument.
    let shorts = &bytes[1..];
    shorts.iter().position(|short| VALUE_SHORTS.contains(short)) == Some(shorts.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ')
            .filter(|w| !w.is_empty())
            .map(Into::into)
            .collect()
    }

    #[test]
    fn both_argv_forms_give_the_same_command() {
        for (line, want) in [
            ("docker-cachex cachex build .", "build ."),
            ("docker-cachex build .", "build ."),
            ("docker-cachex -c ctx cachex ls", "-c ctx ls"),
            (
                "docker-cachex --context cachex cachex ls",
                "--context cachex ls",
            ),
            ("docker-cachex --context=x cachex ls", "--context=x ls"),
            ("docker-cachex -Dc x cachex ls", "-Dc x ls"),
            ("docker-cachex -cD cachex ls", "-cD ls"),
            (
                "docker-cachex -H unix:///s -D cachex -l debug ls",
                "-H unix:///s -D -l debug ls",
            ),
            (
                "docker-cachex --tls --tlscacert ca cachex ls",
                "--tls --tlscacert ca ls",
            ),
            ("docker-cachex cachex --help", "--help"),
            ("docker-cachex help cachex ls", "help ls"),
            ("docker-cachex build cachex", "build cachex"),
            ("docker-cachex build -t cachex .", "build -t cachex ."),
            ("docker-cachex cachex cachex", "cachex"),
            ("docker-cachex -- cachex", "-- cachex"),
            ("docker-cachex", ""),
            ("docker-cachex --config", "--config"),
        ] {
            assert_eq!(
                invocation(words(line)),
                Invocation::Command(words(want)),
                "{line}"
            );
        }
        assert_eq!(invocation(Vec::new()), Invocation::Command(Vec::new()));
    }

    #[test]
    fn metadata_and_completion_are_seen() {
        let metadata_line = words("docker-cachex docker-cli-plugin-metadata");
        assert_eq!(invocation(metadata_line), Invocation::Metadata);
        for (line, descriptions, want) in [
            ("x __complete cachex build --pu", true, "build --pu"),
            (
                "x __completeNoDesc cachex -D build --pu",
                false,
                "-D build --pu",
            ),
            ("x __complete build --pu", true, "build --pu"),
            ("x --config d __complete cachex ls", true, "ls"),
            ("x __complete cachex", true, "cachex"),
        ] {
            assert_eq!(
                invocation(words(line)),
                Invocation::Complete {
                    descriptions,
                    words: words(want)
                },
                "{line}"
            );
        }
    }

    #[test]
    fn metadata_is_what_docker_wants() {
        let value: serde_json::Value = serde_json::from_str(&metadata()).unwrap();
        assert_eq!(value["SchemaVersion"], "0.1.0");
        assert_eq!(value["Version"], env!("CARGO_PKG_VERSION"));
        for key in ["Vendor", "ShortDescription"] {
            assert!(!value[key].as_str().unwrap().is_empty(), "{key}");
        }
    }
}
