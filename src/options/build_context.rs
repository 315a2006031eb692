//! `--build-context`: named contexts beside the main one.

use std::collections::BTreeMap;

use super::error::{OptionError, Problem};
use crate::reference::Reference;

/// Parses `NAME=VALUE`. A name is that of a stage or an image and is normalized like an image
/// (`docker.io/library/app:latest` is `app`), so that it replaces `FROM app`. An empty value, which an
/// unset variable leaves, names no folder, and not the working folder.
pub fn parse(text: &str) -> Result<(String, String), OptionError> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(OptionError::new(Problem::NotKeyValue {
            field: text.to_owned(),
        })
        .within(text));
    };
    let name = Reference::parse_normalized(name)
        .map_err(|error| OptionError::from(error).within(text))?
        .familiar();
    let name = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
    if value.is_empty() {
        return Err(OptionError::new(Problem::Empty {
            expected: "a folder, a URL or an image",
        })
        .within(text));
    }
    Ok((name, value.to_owned()))
}

/// Parses the values of all `--build-context` flags; empty ones are skipped, of one name the last
/// counts.
pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<BTreeMap<String, String>, OptionError> {
    values
        .iter()
        .map(AsRef::as_ref)
        .filter(|value| !value.is_empty())
        .map(parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalized() {
        for (text, name, value) in [
            ("app=.", "app", "."),
            ("app:latest=.", "app", "."),
            ("docker.io/library/app=.", "app", "."),
            ("app:1=docker-image://b:2", "app:1", "docker-image://b:2"),
            (
                "r.example/app=https://h/x?a=b",
                "r.example/app",
                "https://h/x?a=b",
            ),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                (name.to_owned(), value.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn errors() {
        assert_eq!(
            parse("app").unwrap_err().to_string(),
            r#""app" is not of the form key=value"#
        );
        assert_eq!(
            parse("app=").unwrap_err().to_string(),
            r#"empty value, expected a folder, a URL or an image in "app=""#
        );
        let error = parse("App=.").unwrap_err().to_string();
        assert!(error.contains("must be lowercase"), "{error}");
    }

    #[test]
    fn last_of_a_name_counts() {
        let contexts = parse_list(&["a=1", "", "a:latest=2"]).unwrap();
        assert_eq!(contexts, BTreeMap::from([("a".to_owned(), "2".to_owned())]));
    }
}
