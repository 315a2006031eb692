//! References of images and caches in the grammar of Docker.
//!
//! The grammar and the normalization are those of `distribution/reference`: a name without a
//! registry belongs to Docker Hub (`docker.io`), and one without a namespace there belongs to
//! `library`. Unlike the original, a first component that looks like a host but is not a valid
//! one (`under_score.example/app`) is an error instead of a part of the path.

mod error;
mod grammar;

use std::fmt;
use std::str::FromStr;

pub use error::ReferenceError;
use grammar::{PATH_MAX, is_component, is_domain};
pub use grammar::{check_digest, is_tag};

/// The registry of names that carry none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of references that carry neither a tag nor a digest.
pub const DEFAULT_TAG: &str = "latest";

/// The old name of Docker Hub, normalized to [`DEFAULT_DOMAIN`].
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The namespace of official images on Docker Hub.
const OFFICIAL_NAMESPACE: &str = "library/";

/// A normalized reference: a repository with an optional tag and an optional digest.
///
/// [`Display`](fmt::Display) writes the canonical form (`docker.io/library/busybox:1`), which
/// [`Reference::parse_normalized`] reads back to an equal value. No tag is added: see
/// [`Reference::effective_tag`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry as it is named, for example `docker.io` or `[::1]:5000`.
    pub domain: String,
    /// The path of the repository inside the registry, for example `library/busybox`.
    pub path: String,
    /// The tag, where one is given.
    pub tag: Option<String>,
    /// The digest with its algorithm, where one is given.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses a reference as a user writes it and normalizes it.
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        refuse_what_is_no_name(text)?;
        let (domain, rest) = split_domain(text);
        let (named, digest) = match rest.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        refuse_uppercase(text, &rest, path)?;
        if !is_domain(&domain) {
            return Err(ReferenceError::Domain {
                reference: text.to_owned(),
                domain,
            });
        }
        check_path(text, path)?;
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag {
                reference: text.to_owned(),
                tag: tag.to_owned(),
            });
        }
        if let Some(digest) = digest {
            check_digest(digest).map_err(|expected| ReferenceError::Digest {
                reference: text.to_owned(),
                digest: digest.to_owned(),
                expected,
            })?;
        }
        Ok(Self {
            domain,
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Returns the repository with its registry, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the repository as people write it: without `docker.io/` and `library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_NAMESPACE) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns the reference as people write it, with its tag and digest.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// Returns the tag that this reference means: its own, or `latest` when it has neither tag nor
    /// digest. `None` for a reference by digest alone.
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some(DEFAULT_TAG),
            (None, Some(_)) => None,
        }
    }

    /// Returns whether both name the same repository of the same registry.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.domain.eq_ignore_ascii_case(&other.domain) && self.path == other.path
    }

    /// Returns whether writing to both would write to the same place: the same repository and the
    /// same effective tag, or, by digest alone, the same digest.
    pub fn same_target(&self, other: &Self) -> bool {
        self.same_repository(other)
            && match (self.effective_tag(), other.effective_tag()) {
                (Some(mine), Some(theirs)) => mine == theirs,
                (None, None) => self.digest == other.digest,
                _ => false,
            }
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest);
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_normalized(text)
    }
}

fn refuse_what_is_no_name(text: &str) -> Result<(), ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if check_digest(&format!("sha256:{text}")).is_ok() {
        return Err(ReferenceError::Identifier {
            reference: text.to_owned(),
        });
    }
    if let Some(end) = text.find("://") {
        let scheme = text.get(..end + 3).unwrap_or(text).to_owned();
        return Err(ReferenceError::Scheme {
            reference: text.to_owned(),
            scheme,
        });
    }
    Ok(())
}

/// Splits off the registry; the rest is the path with tag and digest. What makes a first component
/// a registry is `distribution/reference`'s rule: `localhost`, a dot, a colon or an uppercase letter.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if first == LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        (domain.to_owned(), format!("{OFFICIAL_NAMESPACE}{rest}"))
    } else {
        (domain.to_owned(), rest.to_owned())
    }
}

/// Refuses a path with uppercase letters, and tells the same text with a lowercase path. `rest` is
/// the path with tag and digest, both perhaps with a namespace that is not in the text.
fn refuse_uppercase(text: &str, rest: &str, path: &str) -> Result<(), ReferenceError> {
    if !path.chars().any(char::is_uppercase) {
        return Ok(());
    }
    let written = if text.ends_with(rest) {
        path
    } else {
        path.strip_prefix(OFFICIAL_NAMESPACE).unwrap_or(path)
    };
    let suffix = rest.strip_prefix(path).unwrap_or_default();
    let prefix = text
        .strip_suffix(suffix)
        .and_then(|named| named.strip_suffix(written))
        .unwrap_or_default();
    Err(ReferenceError::Uppercase {
        reference: text.to_owned(),
        lower: format!("{prefix}{}{suffix}", written.to_lowercase()),
    })
}

fn check_path(text: &str, path: &str) -> Result<(), ReferenceError> {
    if let Some(component) = path.split('/').find(|part| !is_component(part)) {
        return Err(ReferenceError::Component {
            reference: text.to_owned(),
            component: component.to_owned(),
        });
    }
    if path.len() > PATH_MAX {
        return Err(ReferenceError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
