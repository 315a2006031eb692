//! `--ulimit`: resource limits of build steps.

use std::collections::BTreeMap;
use std::fmt;

use super::error::{OptionError, Problem};
use super::suggest;

const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One limit; -1 is unlimited. [`Display`](fmt::Display) writes `name=soft:hard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The name, for example `nofile`.
    pub name: String,
    /// The limit that a process starts with.
    pub soft: i64,
    /// The limit up to which it may go.
    pub hard: i64,
}

impl Ulimit {
    /// Parses `NAME=SOFT[:HARD]`; without a hard limit it is the soft one.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let Some((name, limits)) = value.split_once('=') else {
            return Err(OptionError::new(Problem::NotKeyValue {
                field: value.to_owned(),
            })
            .within(value));
        };
        if !NAMES.contains(&name) {
            return Err(OptionError::bad_value("ulimit", name, NAMES.join(", "))
                .within(value)
                .suggest(suggest::closest(name, &NAMES)));
        }
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| {
                OptionError::bad_value(name, text, "SOFT[:HARD], each a whole number").within(value)
            })
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            let text = format!("the soft limit {soft} is above the hard limit {hard}");
            return Err(OptionError::other(text).within(value));
        }
        Ok(Self {
            name: name.to_owned(),
            soft,
            hard,
        })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

/// Returns the limits as BuildKit's `ulimit` attribute takes them: in order of the names, of one
/// name the last. `None` without limits.
pub fn attr(limits: &[Ulimit]) -> Option<String> {
    let by_name: BTreeMap<&str, &Ulimit> = limits
        .iter()
        .map(|limit| (limit.name.as_str(), limit))
        .collect();
    let list: Vec<String> = by_name.values().map(ToString::to_string).collect();
    (!list.is_empty()).then(|| list.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (value, display) in [
            ("nofile=512:1024", "nofile=512:1024"),
            ("nofile=1024", "nofile=1024:1024"),
            ("cpu=2:-1", "cpu=2:-1"),
            ("core=-1", "core=-1:-1"),
            ("core=-1:-1", "core=-1:-1"),
        ] {
            assert_eq!(
                Ulimit::parse(value).unwrap().to_string(),
                display,
                "{value}"
            );
        }
    }

    #[test]
    fn errors() {
        for (value, part) in [
            ("notanumber", "not of the form key=value"),
            ("nofiles=1", r#"did you mean "nofile"?"#),
            ("nofile=", r#"invalid value "" for "nofile""#),
            ("nofile=a", r#"invalid value "a" for "nofile""#),
            ("nofile=1:2:3", r#"invalid value "2:3" for "nofile""#),
            (
                "nofile=1024:512",
                "soft limit 1024 is above the hard limit 512",
            ),
            (
                "nofile=-1:1024",
                "soft limit -1 is above the hard limit 1024",
            ),
        ] {
            let error = Ulimit::parse(value).unwrap_err().to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
    }

    #[test]
    fn attribute_is_sorted_and_last_of_a_name_counts() {
        let limits: Vec<_> = ["nofile=1", "cpu=2", "nofile=3:4"]
            .map(|value| Ulimit::parse(value).unwrap())
            .to_vec();
        assert_eq!(attr(&limits).unwrap(), "cpu=2:2,nofile=3:4");
        assert_eq!(attr(&[]), None);
    }
}
