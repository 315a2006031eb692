//! References of images and caches in the grammar of Docker.
//!
//! The grammar and the normalization are those of `distribution/reference`: a name without a
//! registry belongs to Docker Hub (`docker.io`), and one without a namespace there belongs to
//! `library`. Unlike the original, a first component that looks like a host but is not a valid
//! one (`under_score.example/app`) is an error instead of a part of the path.

use std::fmt;
use std::str::FromStr;

/// The registry of names that carry none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of references that carry neither a tag nor a digest.
pub const DEFAULT_TAG: &str = "latest";

/// The old name of Docker Hub, normalized to [`DEFAULT_DOMAIN`].
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The host that serves the registry API of Docker Hub.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";
/// The namespace of official images on Docker Hub.
const OFFICIAL_NAMESPACE: &str = "library/";
/// The longest path of a repository, in bytes.
const PATH_MAX: usize = 255;
/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is empty.
    #[error("empty reference, expected a name such as \"registry.example/app:tag\"")]
    Empty,
    /// The text is 64 hexadecimal digits: the ID of an image, not a name.
    #[error("invalid reference {reference:?}: 64 hexadecimal digits are an image ID, not a name")]
    Identifier {
        /// The whole text.
        reference: String,
    },
    /// The text starts with a URL scheme.
    #[error("invalid reference {reference:?}: leave out {scheme:?}")]
    Scheme {
        /// The whole text.
        reference: String,
        /// The scheme with its separator, for example `https://`.
        scheme: String,
    },
    /// The registry's host is not a host name, IPv4 or bracketed IPv6 address with an optional port.
    #[error(
        "invalid reference {reference:?}: {domain:?} is not a valid registry host, expected HOST[:PORT]"
    )]
    Domain {
        /// The whole text.
        reference: String,
        /// The part that stands for the registry.
        domain: String,
    },
    /// The repository's path has an uppercase letter.
    #[error(
        "invalid reference {reference:?}: repository name must be lowercase, for example {lower:?}"
    )]
    Uppercase {
        /// The whole text.
        reference: String,
        /// The same text with a lowercase path.
        lower: String,
    },
    /// The repository's path has no component, or an empty or malformed one.
    #[error(
        "invalid reference {reference:?}: {component:?} is not a valid part of a repository name \
         (lowercase letters and digits, separated by one \".\", \"_\", \"__\" or any number of \"-\")"
    )]
    Component {
        /// The whole text.
        reference: String,
        /// The component that is wrong; empty for `a//b`.
        component: String,
    },
    /// The repository's path is longer than 255 bytes.
    #[error("invalid reference: repository name must not be more than {PATH_MAX} characters")]
    TooLong,
    /// The tag is empty, too long or has a character that tags cannot have.
    #[error(
        "invalid reference {reference:?}: invalid tag {tag:?} \
         (letters, digits, \"_\", \".\" and \"-\", at most {TAG_MAX}, not starting with \".\" or \"-\")"
    )]
    Tag {
        /// The whole text.
        reference: String,
        /// The part behind the colon.
        tag: String,
    },
    /// The digest has no known algorithm, or the wrong number or kind of digits.
    #[error("invalid reference {reference:?}: invalid digest {digest:?} ({expected})")]
    Digest {
        /// The whole text.
        reference: String,
        /// The part behind the at sign.
        digest: String,
        /// What would be right.
        expected: &'static str,
    },
}

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
        if path.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase {
                reference: text.to_owned(),
                lower: text.replacen(
                    path.trim_start_matches(OFFICIAL_NAMESPACE),
                    &path.trim_start_matches(OFFICIAL_NAMESPACE).to_lowercase(),
                    1,
                ),
            });
        }
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

    /// Returns the same reference, with the tag `latest` when it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        self.tag = self.effective_tag().map(str::to_owned);
        self
    }

    /// Returns the same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag {
                reference: format!("{}:{tag}", self.name()),
                tag: tag.to_owned(),
            });
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the same repository with a digest and no tag.
    pub fn with_digest(&self, digest: &str) -> Result<Self, ReferenceError> {
        check_digest(digest).map_err(|expected| ReferenceError::Digest {
            reference: format!("{}@{digest}", self.name()),
            digest: digest.to_owned(),
            expected,
        })?;
        Ok(Self {
            tag: None,
            digest: Some(digest.to_owned()),
            ..self.clone()
        })
    }

    /// Tells whether both name the same repository of the same registry.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.domain.eq_ignore_ascii_case(&other.domain) && self.path == other.path
    }

    /// Tells whether writing to both would write to the same place: the same repository and the
    /// same effective tag, or, by digest alone, the same digest.
    pub fn same_target(&self, other: &Self) -> bool {
        self.same_repository(other)
            && match (self.effective_tag(), other.effective_tag()) {
                (Some(mine), Some(theirs)) => mine == theirs,
                (None, None) => self.digest == other.digest,
                _ => false,
            }
    }

    /// Returns the host (with port) that serves the registry API, `registry-1.docker.io` for
    /// Docker Hub.
    pub fn registry_host(&self) -> &str {
        if self.domain == DEFAULT_DOMAIN {
            DEFAULT_REGISTRY_HOST
        } else {
            &self.domain
        }
    }

    /// Converts to the reference type of `oci-client`, with [`Reference::registry_host`] as the
    /// registry and the effective tag.
    pub fn to_oci(&self) -> oci_client::Reference {
        let registry = self.registry_host().to_owned();
        let path = self.path.clone();
        match (self.effective_tag(), &self.digest) {
            (Some(tag), Some(digest)) => oci_client::Reference::with_tag_and_digest(
                registry,
                path,
                tag.to_owned(),
                digest.clone(),
            ),
            (None, Some(digest)) => {
                oci_client::Reference::with_digest(registry, path, digest.clone())
            }
            (tag, None) => oci_client::Reference::with_tag(
                registry,
                path,
                tag.unwrap_or(DEFAULT_TAG).to_owned(),
            ),
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

/// Tells whether the text is a tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= TAG_MAX
        && bytes.first().is_some_and(|byte| is_word(*byte))
        && bytes
            .iter()
            .all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

/// Checks a digest: `sha256`, `sha384` or `sha512`, a colon, and the right number of lowercase
/// hexadecimal digits. The error tells what would be right.
pub fn check_digest(text: &str) -> Result<(), &'static str> {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return Err("expected ALGORITHM:DIGITS, for example \"sha256:…\"");
    };
    let (length, expected) = match algorithm {
        "sha256" => (64, "sha256 has 64 lowercase hexadecimal digits"),
        "sha384" => (96, "sha384 has 96 lowercase hexadecimal digits"),
        "sha512" => (128, "sha512 has 128 lowercase hexadecimal digits"),
        _ => return Err("the algorithm must be sha256, sha384 or sha512"),
    };
    let right = digits.len() == length
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    if right { Ok(()) } else { Err(expected) }
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

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| plain(*byte));
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(|byte| plain(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|byte| *byte == b'-')
        })
}

/// A host name, an IPv4 address or a bracketed IPv6 address, with an optional port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_fits =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    port_fits && (is_ipv6(host) || host.split('.').all(is_host_label))
}

fn is_ipv6(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| {
            !inner.is_empty()
                && inner
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        })
}

fn is_host_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests;
