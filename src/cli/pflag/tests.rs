use std::ffi::{OsStr, OsString};

use clap::ArgMatches;

use super::*;
use crate::cli::{command, usage};

/// One of these is taken by each flag with a value.
const VALUES: [&str; 9] = [
    "json", "debug", "1s", "1m", "1", "a=b", "core=1", "manifest", "v",
];

/// A command and the way to it.
struct Place {
    path: Vec<String>,
    command: Command,
}

/// All commands with their flags; those that clap adds take no value in any form.
fn places() -> Vec<Place> {
    fn collect(command: &Command, path: &[String], places: &mut Vec<Place>) {
        for inner in command.get_subcommands() {
            let path = [path, &[inner.get_name().to_owned()]].concat();
            collect(inner, &path, places);
        }
        let (path, command) = (path.to_vec(), command.clone());
        places.push(Place { path, command });
    }
    let mut places = Vec::new();
    collect(&command(), &[], &mut places);
    places
}

impl Place {
    fn flags(&self) -> impl Iterator<Item = &Arg> {
        self.command
            .get_arguments()
            .filter(|arg| !arg.is_positional())
    }

    /// Parses flags of the command, with what it needs besides.
    fn parse(&self, flags: &[&str]) -> Result<ArgMatches, clap::Error> {
        let mut line = self.path.clone();
        line.extend(flags.iter().map(|&flag| flag.to_owned()));
        for needed in self
            .command
            .get_positionals()
            .filter(|a| a.is_required_set())
        {
            let words = needed.get_possible_values();
            let word = words.first().map_or("x", |word| word.get_name());
            line.push(word.to_owned());
        }
        let mut matches = command().try_get_matches_from(&line)?;
        while let Some((_, inner)) = matches.remove_subcommand() {
            matches = inner;
        }
        Ok(matches)
    }

    /// The values of a flag.
    fn values(&self, flag: &Arg, words: &[&str]) -> Vec<OsString> {
        let matches = self.parse(words);
        let matches = matches.unwrap_or_else(|error| panic!("{:?} {words:?}: {error}", self.path));
        let values = matches.get_raw(flag.get_id().as_str());
        values.into_iter().flatten().map(OsStr::to_owned).collect()
    }

    fn truth(&self, flag: &Arg, words: &[&str]) -> bool {
        let matches = self.parse(words);
        let matches = matches.unwrap_or_else(|error| panic!("{:?} {words:?}: {error}", self.path));
        *matches.get_one(flag.get_id().as_str()).unwrap()
    }

    /// The exit code and the message for words that are refused.
    fn refusal(&self, words: &[&str]) -> (u8, String) {
        let error = match self.parse(words) {
            Ok(_) => panic!("{:?} {words:?} is taken", self.path),
            Err(error) => usage::error(&error, &command(), &[]),
        };
        (error.kind.exit_code(), error.message())
    }
}

fn is_truth(flag: &Arg) -> bool {
    flag.get_value_parser().type_id() == TypeId::of::<bool>()
}

fn names(flag: &Arg) -> Vec<String> {
    let longs = flag.get_long_and_visible_aliases().unwrap_or_default();
    let hidden = flag.get_all_aliases().unwrap_or_default();
    let all = longs.into_iter().chain(hidden);
    all.map(|long| format!("--{long}")).collect()
}

#[test]
fn truth_values_take_every_form() {
    let mut seen = 0;
    for place in places() {
        for flag in place.flags().filter(|flag| is_truth(flag)) {
            let short = flag.get_short().map(|short| format!("-{short}"));
            for name in names(flag).into_iter().chain(short) {
                let with = |value: &str| format!("{name}={value}");
                let truth = |words: &[&str]| place.truth(flag, words);
                assert!(truth(&[&name]), "{name}");
                for (text, expected) in [("true", true), ("1", true), ("F", false), ("0", false)] {
                    assert_eq!(truth(&[&with(text)]), expected, "{name}={text}");
                }
                // The last one counts.
                assert!(!truth(&[&name, &with("false")]), "{name}");
                assert!(truth(&[&with("false"), &name]), "{name}");
                for text in ["maybe", ""] {
                    let (code, message) = place.refusal(&[&with(text)]);
                    assert_eq!(code, 125, "{name}={text}: {message}");
                    assert!(message.starts_with(&format!("invalid value {text:?} for --")));
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn values_take_every_form() {
    let mut seen = 0;
    for place in places() {
        // A value that may be left out is taken only behind `=`.
        let separate = |flag: &&Arg| !is_truth(flag) && !flag.is_require_equals_set();
        // One that takes all that is behind it is checked elsewhere.
        let takes_rest = |flag: &&Arg| {
            let count = flag.get_num_args();
            count.is_some_and(|count| count.max_values() == usize::MAX)
        };
        let separate = place.flags().filter(separate);
        for flag in separate.filter(|flag| !takes_rest(flag)) {
            let name = &names(flag)[0];
            let taken = VALUES.iter().find(|v| place.parse(&[name, v]).is_ok());
            let value = taken.unwrap_or_else(|| panic!("no value for {:?} {name}", place.path));
            let mut forms = vec![vec![format!("{name}={value}")]];
            if let Some(short) = flag.get_short() {
                forms.push(vec![format!("-{short}"), (*value).to_owned()]);
                forms.push(vec![format!("-{short}{value}")]);
                forms.push(vec![format!("-{short}={value}")]);
                for other in place.flags().filter(|flag| is_truth(flag)) {
                    let Some(other) = other.get_short() else {
                        continue;
                    };
                    forms.push(vec![format!("-{other}{short}"), (*value).to_owned()]);
                    forms.push(vec![format!("-{other}{short}{value}")]);
                }
            }
            for alias in &names(flag)[1..] {
                forms.push(vec![alias.clone(), (*value).to_owned()]);
            }
            for form in &forms {
                let words: Vec<&str> = form.iter().map(String::as_str).collect();
                assert_eq!(
                    place.values(flag, &words),
                    [*value],
                    "{:?} {form:?}",
                    place.path
                );
            }
            let (code, message) = place.refusal(&[name]);
            // The flag takes what the command needs.
            let needs = place.command.get_positionals().any(Arg::is_required_set);
            assert!(needs || code == 125, "{name}: {message}");
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn texts_may_be_empty_or_begin_with_a_dash() {
    let mut seen = 0;
    for place in places() {
        let is_text = |flag: &&Arg| {
            let parser = flag.get_value_parser();
            parser.type_id() == TypeId::of::<String>() && parser.possible_values().is_none()
        };
        for flag in place.flags().filter(is_text) {
            let name = &names(flag)[0];
            let empty = format!("{name}=");
            assert_eq!(
                place.values(flag, &[&empty]),
                [""],
                "{:?} {name}",
                place.path
            );
            assert_eq!(
                place.values(flag, &[name, ""]),
                [""],
                "{:?} {name}",
                place.path
            );
            assert_eq!(place.values(flag, &[name, "--debug"]), ["--debug"]);
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

/// pflag takes a bare `-` and what follows a `--` as they are.
#[test]
fn words_end_the_flags() {
    for (line, expected) in [
        (&["build", "-"][..], "-"),
        (&["build", "--", "--push"], "--push"),
        (&["build", "--push", "true"], "true"),
        (&["build", "true", "--push"], "true"),
    ] {
        let matches = command().try_get_matches_from(line).unwrap();
        let (_, build) = matches.subcommand().unwrap();
        assert_eq!(build.get_one::<String>("context").unwrap(), expected);
    }
}

#[test]
fn help_takes_the_forms_of_a_truth_value() {
    let forms = |line: &str| {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let given = without_help_values(&args).into_iter();
        let given: Vec<_> = given.map(|arg| arg.into_string().unwrap()).collect();
        given.join(" ")
    };
    for (line, expected) in [
        ("ls --help=false", "ls"),
        ("build --help=0 .", "build ."),
        ("ls --help=true", "ls --help"),
        ("ls --help=maybe", "ls --help=maybe"),
        ("build -- --help=false", "build -- --help=false"),
    ] {
        assert_eq!(forms(line), expected);
    }
}

#[test]
fn a_wrong_flag_beside_help_is_an_error() {
    let wrong = |line: &str| {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        wrong_beside_help(command(), &args).map(|error| error.kind())
    };
    for line in [
        "build --help --bogus",
        "build -h --bogus .",
        "--help --bogus",
        "--help build --bogus",
        "cache inspect --help --bogus",
    ] {
        assert_eq!(wrong(line), Some(ErrorKind::UnknownArgument), "{line}");
    }
    assert_eq!(
        wrong("build --help --tag"),
        Some(ErrorKind::InvalidValue),
        "a flag without its value"
    );
    for line in [
        "build --help",
        "--help",
        "build --help a b",
        "build --help --progress=odd",
        "help build",
        "ls -h",
    ] {
        assert_eq!(wrong(line), None, "{line}");
    }
}
