//! The hidden `__complete` command: docker and its completion scripts ask a plugin for candidates in
//! the protocol of cobra, one `candidate<TAB>description` a line, then `:DIRECTIVE`.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, ValueHint};

mod values;

/// What the shell does besides; cobra's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    /// Complete file names where there are no candidates.
    Default = 0,
    /// Complete nothing else.
    NoFiles = 4,
    /// Complete nothing else, and add no space: the word can go on.
    GoesOn = 6,
    /// Complete names of folders.
    Folders = 16,
}

/// Finds candidates for values that only the machine knows, by the identifier of the flag or argument:
/// `global-builder`, `global-context`, `builder`, `stored-builder`, `endpoint`. `None` for all others.
pub(super) type Dynamic<'a> = &'a dyn Fn(&str) -> Option<Vec<String>>;

struct Answer {
    candidates: Vec<(String, String)>,
    directive: Directive,
}

/// Answers a request. `words` are those behind the program; the last one is being typed.
pub(super) fn answer(
    root: &Command,
    words: &[OsString],
    descriptions: bool,
    dynamic: Dynamic<'_>,
) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let (typed, before) = match words.split_last() {
        Some((typed, before)) => (typed.as_ref(), before),
        None => ("", &[][..]),
    };
    let answer = candidates(root, before, typed, dynamic);
    let mut text = String::new();
    for (candidate, description) in answer.candidates {
        text.push_str(&candidate);
        if descriptions && !description.is_empty() {
            text.push('\t');
            text.push_str(&description);
        }
        text.push('\n');
    }
    text + &format!(":{}", answer.directive as u8)
}

fn candidates<S: AsRef<str>>(
    root: &Command,
    before: &[S],
    typed: &str,
    dynamic: Dynamic<'_>,
) -> Answer {
    let mut command = root;
    let mut words = before.iter().map(AsRef::as_ref);
    let mut positionals = 0;
    let mut only_positionals = false;
    while let Some(word) = words.next() {
        if only_positionals {
            positionals += 1;
        } else if word == "--" {
            only_positionals = true;
        } else if let Some(flag) = open_flag(command, word) {
            if words.next().is_none() {
                return values(flag, typed, dynamic);
            }
        } else if word.len() > 1 && word.starts_with('-') {
            // A flag without value, or with it in the same word.
        } else if let Some(inner) = command.find_subcommand(word) {
            (command, positionals) = (inner, 0);
        } else {
            positionals += 1;
        }
    }
    if !only_positionals && typed.starts_with('-') {
        if let Some((name, value)) = typed.split_once('=')
            && let Some(flag) = open_flag(command, name)
        {
            return values(flag, value, dynamic);
        }
        return flags(command, typed);
    }
    if positionals == 0 && command.has_subcommands() {
        return subcommands(command, typed);
    }
    let all: Vec<&Arg> = command.get_positionals().collect();
    let is_list = |argument: &&&Arg| matches!(argument.get_action(), ArgAction::Append);
    let argument = all.get(positionals).or(all.last().filter(is_list));
    match argument {
        Some(argument) => values(argument, typed, dynamic),
        None => Answer {
            candidates: Vec::new(),
            directive: Directive::NoFiles,
        },
    }
}

/// Finds the flag whose value must be the next word.
fn open_flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let takes_word = |flag: &&Arg| {
        matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
            && !flag.is_require_equals_set()
    };
    if let Some(long) = word.strip_prefix("--") {
        return command
            .get_arguments()
            .filter(takes_word)
            .find(|flag| flag.get_long() == Some(long));
    }
    let shorts = word.strip_prefix('-')?;
    let find = |short| {
        command
            .get_arguments()
            .filter(takes_word)
            .find(|flag| flag.get_short() == Some(short))
    };
    let (at, flag) = shorts
        .char_indices()
        .find_map(|(at, c)| Some((at, find(c)?)))?;
    shorts[at..].chars().nth(1).is_none().then_some(flag)
}

fn values(flag: &Arg, typed: &str, dynamic: Dynamic<'_>) -> Answer {
    let mut candidates: Vec<(String, String)> = flag
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && value.get_name().starts_with(typed))
        .map(|value| {
            let help = value.get_help().map(ToString::to_string);
            (value.get_name().to_owned(), help.unwrap_or_default())
        })
        .collect();
    let id = flag.get_id().as_str();
    if candidates.is_empty()
        && let Some(known) = values::known(id, typed)
    {
        let with_text = |candidate| (candidate, String::new());
        return Answer {
            candidates: known.candidates.into_iter().map(with_text).collect(),
            directive: if known.goes_on {
                Directive::GoesOn
            } else {
                Directive::NoFiles
            },
        };
    }
    let found = dynamic(id);
    let is_name = found.is_some() || !flag.get_possible_values().is_empty();
    candidates.extend(
        found
            .into_iter()
            .flatten()
            .filter(|name| name.starts_with(typed))
            .map(|name| (name, String::new())),
    );
    let directive = match flag.get_value_hint() {
        _ if is_name => Directive::NoFiles,
        ValueHint::AnyPath | ValueHint::FilePath => Directive::Default,
        ValueHint::DirPath => Directive::Folders,
        // As in cobra: the shell has files for the value of a flag of which nothing else is known.
        ValueHint::Unknown if !flag.is_positional() => Directive::Default,
        _ => Directive::NoFiles,
    };
    Answer {
        candidates,
        directive,
    }
}

fn flags(command: &Command, typed: &str) -> Answer {
    let mut candidates = Vec::new();
    for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
        let help = first_line(flag.get_help().map(ToString::to_string));
        let long = flag.get_long().map(|long| format!("--{long}"));
        // Short ones only while nothing but the dash is typed, as cobra does.
        let short = flag
            .get_short()
            .filter(|_| typed == "-")
            .map(|short| format!("-{short}"));
        for name in long.into_iter().chain(short) {
            if name.starts_with(typed) {
                candidates.push((name, help.clone()));
            }
        }
    }
    Answer {
        candidates,
        directive: Directive::NoFiles,
    }
}

fn subcommands(command: &Command, typed: &str) -> Answer {
    let candidates = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set() && inner.get_name().starts_with(typed))
        .map(|inner| {
            let about = first_line(inner.get_about().map(ToString::to_string));
            (inner.get_name().to_owned(), about)
        })
        .collect();
    Answer {
        candidates,
        directive: Directive::NoFiles,
    }
}

fn first_line(text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Command {
        Command::new("x")
            .arg(Arg::new("global-builder").long("builder").help("A builder"))
            .subcommand(
                Command::new("build")
                    .about("Start a build")
                    .arg(
                        Arg::new("progress")
                            .long("progress")
                            .value_parser(["auto", "plain"]),
                    )
                    .arg(
                        Arg::new("file")
                            .short('f')
                            .long("file")
                            .value_hint(ValueHint::FilePath),
                    )
                    .arg(Arg::new("output").long("output").action(ArgAction::Append))
                    .arg(
                        Arg::new("quiet")
                            .short('q')
                            .long("quiet")
                            .action(ArgAction::SetTrue)
                            .help("Be quiet"),
                    )
                    .arg(Arg::new("secret-flag").long("sly").hide(true))
                    .arg(Arg::new("path").value_hint(ValueHint::DirPath)),
            )
            .subcommand(Command::new("bake"))
            .subcommand(
                Command::new("rm").arg(Arg::new("stored-builder").action(ArgAction::Append)),
            )
            .subcommand(Command::new("ls").hide(true))
    }

    fn ask(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let dynamic = |id: &str| match id {
            "global-builder" | "stored-builder" => Some(vec!["one".to_owned(), "two".to_owned()]),
            _ => None,
        };
        answer(&tree(), &words, true, &dynamic)
    }

    #[test]
    fn candidates_are_found() {
        for (line, want) in [
            ("", "build\tStart a build\nbake\nrm\n:4"),
            ("rm ", "one\ntwo\n:4"),
            ("rm one t", "two\n:4"),
            ("bu", "build\tStart a build\n:4"),
            ("build --progress ", "auto\nplain\n:4"),
            ("build --progress=p", "plain\n:4"),
            (
                "build -",
                "--progress\n--file\n-f\n--output\n--quiet\tBe quiet\n-q\tBe quiet\n:4",
            ),
            ("build --qu", "--quiet\tBe quiet\n:4"),
            ("build -f ", ":0"),
            ("build -qf ", ":0"),
            ("build --output ", ":0"),
            ("build --progress=x", ":4"),
            ("rm three", ":4"),
            ("build -q ", ":16"),
            ("build ", ":16"),
            ("build . ", ":4"),
            ("build -- --", ":16"),
            ("--builder t", "two\n:4"),
            ("--builder one bu", "build\tStart a build\n:4"),
        ] {
            assert_eq!(ask(line), want, "{line:?}");
        }
    }

    #[test]
    fn descriptions_can_be_left_out() {
        let words = [OsString::from("bu")];
        assert_eq!(answer(&tree(), &words, false, &|_| None), "build\n:4");
        assert_eq!(
            answer(&tree(), &[], false, &|_| None),
            "build\nbake\nrm\n:4"
        );
    }
}
