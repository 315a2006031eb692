//! `--resource`: limits of build steps, named as the flags of `docker run`.

use std::collections::BTreeMap;

use super::error::{OptionError, Problem};
use super::size::ram_in_bytes;
use super::suggest;

/// Keys of the flag and attributes of the frontend (BuildKit `frontend/dockerui`).
const KEYS: [(&str, &str); 7] = [
    ("memory", "memory"),
    ("memory-swap", "memswap"),
    ("cpu-shares", "cpushares"),
    ("cpu-period", "cpuperiod"),
    ("cpu-quota", "cpuquota"),
    ("cpuset-cpus", "cpusetcpus"),
    ("cpuset-mems", "cpusetmems"),
];

/// Parses `KEY=VALUE` values; of two for one key the later counts. Returns the attributes for the
/// frontend; what sets no limit is left out, so that a builder that knows none takes the build.
pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<BTreeMap<String, String>, OptionError> {
    let mut attrs = BTreeMap::new();
    for value in values.iter().map(AsRef::as_ref) {
        let (key, text) = value
            .split_once('=')
            .ok_or_else(|| OptionError::other("expected KEY=VALUE").within(value))?;
        let (key, text) = (key.trim(), text.trim());
        let Some((_, attr)) = KEYS.iter().find(|(known, _)| *known == key) else {
            let known = KEYS.map(|(known, _)| known);
            let problem = Problem::UnknownKey {
                key: key.to_owned(),
            };
            return Err(OptionError::new(problem)
                .within(value)
                .suggest(suggest::closest(key, &known)));
        };
        match limit(key, text).map_err(|error| error.within(value))? {
            Some(limit) => attrs.insert((*attr).to_owned(), limit),
            None => attrs.remove(*attr),
        };
    }
    Ok(attrs)
}

fn limit(key: &str, text: &str) -> Result<Option<String>, OptionError> {
    let limit = match key {
        "cpuset-cpus" | "cpuset-mems" => text.to_owned(),
        "memory-swap" if text == "-1" => text.to_owned(),
        "memory" | "memory-swap" => ram_in_bytes(text)?.to_string(),
        _ => {
            let number: i64 = text
                .parse()
                .map_err(|_| OptionError::bad_value(key, text, "a whole number"))?;
            number.max(0).to_string()
        }
    };
    Ok(Some(limit).filter(|limit| !limit.is_empty() && limit != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_attributes() {
        let attrs = parse_list(&[
            "memory=1k",
            "memory=2g",
            "memory-swap=-1",
            " cpu-shares = 10",
            "cpu-period=0",
            "cpu-quota=-5",
            "cpuset-cpus=0-3",
            "cpuset-mems=",
        ])
        .unwrap();
        let expected = [
            ("cpusetcpus", "0-3"),
            ("cpushares", "10"),
            ("memory", "2147483648"),
            ("memswap", "-1"),
        ];
        let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(attrs, BTreeMap::from(expected));
    }

    #[test]
    fn errors() {
        for (value, part) in [
            ("memory", "expected KEY=VALUE"),
            ("memory=lots", "a size such as"),
            ("memory=-1", "a size such as"),
            ("cpu-quota=x", "a whole number"),
            ("cpu-qouta=1", r#"did you mean "cpu-quota"?"#),
        ] {
            let error = parse_list(&[value]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
