//! `--annotation`: notes on manifests, indexes and their descriptors.

use std::collections::BTreeMap;

use super::error::{OptionError, Problem};
use super::platform::Platform;
use super::suggest;

const TYPES: [&str; 4] = [
    "index",
    "index-descriptor",
    "manifest",
    "manifest-descriptor",
];

/// Parses `[TYPE[[PLATFORM]][,TYPE…]:]KEY=VALUE` to attributes of an image exporter, for example
/// `annotation-manifest[linux/arm64].KEY`. A platform means nothing for an index and is left out.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, OptionError> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(OptionError::new(Problem::NotKeyValue {
            field: text.to_owned(),
        })
        .within(text));
    };
    let (types, key) = match name.split_once(':') {
        Some((types, key)) => (Some(types), key),
        None => (None, name),
    };
    // BuildKit would not see such a key as an annotation, and say nothing.
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(OptionError::bad_value("annotation key", key, "a word").within(text));
    }
    let Some(types) = types else {
        return Ok(vec![(format!("annotation.{key}"), value.to_owned())]);
    };
    types
        .split(',')
        .map(|kind| {
            let prefix = prefix(kind).map_err(|error| error.within(text))?;
            Ok((format!("annotation-{prefix}.{key}"), value.to_owned()))
        })
        .collect()
}

/// Parses the values of all `--annotation` flags; empty ones are skipped, of one attribute the last
/// counts.
pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<BTreeMap<String, String>, OptionError> {
    let mut attrs = BTreeMap::new();
    for value in values
        .iter()
        .map(AsRef::as_ref)
        .filter(|value| !value.is_empty())
    {
        attrs.extend(parse(value)?);
    }
    Ok(attrs)
}

/// Reads `TYPE[PLATFORM]`.
fn prefix(text: &str) -> Result<String, OptionError> {
    let (kind, platform) = match text.split_once('[') {
        Some((kind, rest)) => {
            let inner = rest.strip_suffix(']').filter(|inner| !inner.is_empty());
            (kind, Some(inner.ok_or_else(|| bad_type(text))?))
        }
        None => (text, None),
    };
    if !TYPES.contains(&kind) {
        return Err(bad_type(text).suggest(suggest::closest(kind, &TYPES)));
    }
    let platform = platform.map(Platform::parse).transpose()?;
    Ok(match platform {
        Some(platform) if kind.starts_with("manifest") => format!("{kind}[{platform}]"),
        _ => kind.to_owned(),
    })
}

fn bad_type(text: &str) -> OptionError {
    let expected = format!("{}, optionally with [PLATFORM]", TYPES.join(", "));
    OptionError::bad_value("annotation type", text, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_exporter() {
        let cases: [(&str, &[&str]); 8] = [
            ("a=b", &["annotation.a"]),
            ("com.example=b", &["annotation.com.example"]),
            (
                "manifest:com.example=b",
                &["annotation-manifest.com.example"],
            ),
            (
                "manifest[plat/form]:k=b",
                &["annotation-manifest[plat/form].k"],
            ),
            (
                "index,manifest:k=b",
                &["annotation-index.k", "annotation-manifest.k"],
            ),
            (
                "index[linux/amd64],manifest-descriptor[linux/arm64]:k=b",
                &[
                    "annotation-index.k",
                    "annotation-manifest-descriptor[linux/arm64].k",
                ],
            ),
            (
                "manifest[linux/arm64/v8]:k=b",
                &["annotation-manifest[linux/arm64/v8].k"],
            ),
            (
                "manifest[linux/arm]:k=b",
                &["annotation-manifest[linux/arm].k"],
            ),
        ];
        for (text, keys) in cases {
            let expected: Vec<_> = keys
                .iter()
                .map(|key| ((*key).to_owned(), "b".to_owned()))
                .collect();
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse("a=b=c:d").unwrap()[0].1, "b=c:d");
    }

    #[test]
    fn errors() {
        for (text, part) in [
            ("a", "is not of the form key=value"),
            ("bad:a=b", r#"invalid value "bad" for "annotation type""#),
            ("manifst:a=b", r#"did you mean "manifest"?"#),
            ("manifest[]:a=b", "annotation type"),
            ("manifest[linux:a=b", "annotation type"),
            ("manifest[a/b/c/d]:a=b", "at most OS/ARCH/VARIANT"),
            (":a=b", "annotation type"),
            ("=b", "annotation key"),
            ("a b=c", "annotation key"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
