//! `--tag`: names of the image.

use std::fmt;

use super::error::OptionError;
use crate::reference::Reference;

/// A name of the image. [`Display`](fmt::Display) writes it as the user did, which is what buildx
/// sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The name, normalized; without digest.
    pub reference: Reference,
    /// The name as written.
    pub raw: String,
}

impl Tag {
    /// Parses one name. A digest is an error: what is built has its own.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let reference = Reference::parse_normalized(value)?;
        if reference.digest.is_some() {
            return Err(
                OptionError::other("an image cannot be tagged with a digest").within(value),
            );
        }
        Ok(Self {
            reference,
            raw: value.to_owned(),
        })
    }

    /// Parses the values of all `--tag` flags.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<Self>, OptionError> {
        values
            .iter()
            .map(|value| Self::parse(value.as_ref()))
            .collect()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

/// Returns the names as the image exporters' attribute `name` takes them; `None` without names.
pub fn attr(tags: &[Tag]) -> Option<String> {
    let names: Vec<&str> = tags.iter().map(|tag| tag.raw.as_str()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_as_written() {
        let tags = Tag::parse_list(&["app", "r.example:5000/a/b:1"]).unwrap();
        assert_eq!(attr(&tags).unwrap(), "app,r.example:5000/a/b:1");
        assert_eq!(tags[0].reference.to_string(), "docker.io/library/app");
        assert_eq!(attr(&[]), None);
    }

    #[test]
    fn errors() {
        let digest = format!("app@sha256:{}", "a".repeat(64));
        for (value, part) in [
            ("", "empty reference"),
            ("App", "must be lowercase"),
            ("app:", "invalid tag"),
            (digest.as_str(), "cannot be tagged with a digest"),
        ] {
            let error = Tag::parse(value).unwrap_err().to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
