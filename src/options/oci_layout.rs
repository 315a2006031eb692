//! `oci-layout://FOLDER[:TAG][@DIGEST]`: a manifest in a folder of the OCI image layout.

use super::error::{OptionError, Problem};
use crate::digest::Digest;
use crate::reference::{DEFAULT_TAG, is_tag};

/// How such a reference begins.
pub const PREFIX: &str = "oci-layout://";

/// A manifest in a layout folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutRef {
    /// The folder as the user wrote it.
    pub path: String,
    /// The tag, where one was given.
    pub tag: Option<String>,
    /// The digest, where one was given.
    pub digest: Option<Digest>,
}

impl LayoutRef {
    /// Parses a reference that begins with [`PREFIX`]; `None` for any other text.
    ///
    /// As in buildx a colon or an `@` that no tag or digest follows belongs to the folder's name.
    ///
    /// # Errors
    ///
    /// Fails if a digest has the wrong form for its algorithm, or the folder has no name.
    pub fn parse(text: &str) -> Result<Option<Self>, OptionError> {
        text.strip_prefix(PREFIX)
            .map(|rest| Self::parse_path(rest).map_err(|error| error.within(text)))
            .transpose()
    }

    /// Parses `FOLDER[:TAG][@DIGEST]`.
    ///
    /// # Errors
    ///
    /// Fails as [`parse`](Self::parse).
    pub fn parse_path(text: &str) -> Result<Self, OptionError> {
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if looks_like_digest(digest) => {
                let wrong =
                    |_| OptionError::bad_value("digest", digest, "a digest such as sha256:…");
                let digest = digest.parse().map_err(wrong)?;
                (rest, Some(digest))
            }
            _ => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() {
            return Err(OptionError::new(Problem::Empty {
                expected: "a folder",
            }));
        }
        Ok(Self {
            path: path.to_owned(),
            tag,
            digest,
        })
    }

    /// Writes the reference that BuildKit is told: the name of a store for the folder, and the
    /// digest that the tag stands for.
    pub fn to_store(&self, store: &str, digest: &Digest) -> String {
        let tag = match (&self.tag, &self.digest) {
            (Some(tag), _) => format!(":{tag}"),
            (None, None) => format!(":{DEFAULT_TAG}"),
            (None, Some(_)) => String::new(),
        };
        format!("{PREFIX}{store}{tag}@{digest}")
    }
}

/// A word, a colon and many hexadecimal digits (`DigestRegexp` of `distribution/reference`).
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let algorithm_ok = !algorithm.is_empty()
        && algorithm
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+.-_".contains(&b));
    algorithm_ok && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_tag_and_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with = |rest: &str| format!("{PREFIX}{rest}");
        for (text, path, tag, has_digest) in [
            (with("/a/b"), "/a/b", None, false),
            (with("/a/b:1.3"), "/a/b", Some("1.3"), false),
            (with(&format!("/a/b@{digest}")), "/a/b", None, true),
            (with(&format!("/a/@/b@{digest}")), "/a/@/b", None, true),
            (with("/a/@/b"), "/a/@/b", None, false),
            (with(&format!("a:x@{digest}")), "a", Some("x"), true),
            (with("/a:b/c"), "/a:b/c", None, false),
        ] {
            let layout = LayoutRef::parse(&text).unwrap().unwrap();
            assert_eq!(layout.path, path, "{text}");
            assert_eq!(layout.tag.as_deref(), tag, "{text}");
            assert_eq!(layout.digest.is_some(), has_digest, "{text}");
        }
        assert_eq!(LayoutRef::parse("docker-image://x").unwrap(), None);
        assert!(LayoutRef::parse(&with(&format!("/a@sha256:{}", "a".repeat(40)))).is_err());
        for unset in ["", ":v1", &format!("@{digest}")] {
            let error = LayoutRef::parse(&with(unset)).unwrap_err().to_string();
            assert!(error.contains("empty value, expected a folder"), "{error}");
        }
    }

    #[test]
    fn buildkit_is_told_the_store_and_the_digest() {
        let digest = Digest::of(b"m");
        let layout = LayoutRef::parse_path("dir:v1").unwrap();
        assert_eq!(
            layout.to_store("abc", &digest),
            format!("oci-layout://abc:v1@{digest}")
        );
        let layout = LayoutRef::parse_path("dir").unwrap();
        assert_eq!(
            layout.to_store("abc", &digest),
            format!("oci-layout://abc:latest@{digest}")
        );
    }
}
