//! `--build-arg`: arguments of the Dockerfile. Their values may be secret and are in no error; only what
//! stands without a name is shown, as by buildx.

use std::collections::BTreeMap;

use super::error::OptionError;

/// The argument that is taken from the environment without being asked for.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Parses the values of all `--build-arg` flags: `KEY=VALUE`, or `KEY` for the value of the
/// environment variable of that name, which `lookup` gives; where it is not set, the argument is left
/// out. `SOURCE_DATE_EPOCH` is always taken from a non-empty variable, unless given.
pub fn parse_list<S: AsRef<str>>(
    values: &[S],
    lookup: impl Fn(&str) -> Result<Option<String>, OptionError>,
) -> Result<BTreeMap<String, String>, OptionError> {
    let mut args = BTreeMap::new();
    for text in values.iter().map(AsRef::as_ref) {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err(OptionError::empty_key(text));
        }
        let value = match value {
            Some(value) => Some(value),
            None => lookup(key)?,
        };
        if let Some(value) = value {
            args.insert(key.to_owned(), value);
        }
    }
    if !args.contains_key(SOURCE_DATE_EPOCH)
        && let Some(epoch) = lookup(SOURCE_DATE_EPOCH)?.filter(|epoch| !epoch.is_empty())
    {
        args.insert(SOURCE_DATE_EPOCH.to_owned(), epoch);
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str], env: &[(&str, &str)]) -> Vec<String> {
        let lookup = |key: &str| {
            let found = env.iter().find(|(name, _)| *name == key);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        };
        let args = parse_list(values, lookup).unwrap();
        args.iter()
            .map(|(key, value)| format!("{key}:{value}"))
            .collect()
    }

    #[test]
    fn values_and_variables() {
        let env = [("SET", "env"), ("EMPTY", "")];
        assert_eq!(parse(&["A=1", "B=x=y", "A=2"], &env), ["A:2", "B:x=y"]);
        assert_eq!(
            parse(&["SET", "EMPTY", "UNSET"], &env),
            ["EMPTY:", "SET:env"]
        );
        assert_eq!(parse(&["SET="], &env), ["SET:"]);
        assert_eq!(parse(&["UNSET=1", "UNSET"], &env), ["UNSET:1"]);
    }

    #[test]
    fn epoch_comes_by_itself() {
        let env = [("SOURCE_DATE_EPOCH", "7")];
        assert_eq!(parse(&[], &env), ["SOURCE_DATE_EPOCH:7"]);
        assert_eq!(
            parse(&["SOURCE_DATE_EPOCH=1"], &env),
            ["SOURCE_DATE_EPOCH:1"]
        );
        assert_eq!(parse(&[], &[("SOURCE_DATE_EPOCH", "")]), [""; 0]);
    }

    #[test]
    fn errors() {
        let error = parse_list(&["=x"], |_| Ok(None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid key-value pair "=x": empty key"#
        );
        let refused = |_: &str| Err(OptionError::other("no text"));
        for values in [&["A"][..], &[]] {
            assert!(parse_list(values, refused).is_err(), "{values:?}");
        }
        let given = ["A=1", "SOURCE_DATE_EPOCH=1"];
        assert_eq!(parse_list(&given, refused).unwrap().len(), 2);
    }
}
