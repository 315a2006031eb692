//! A repository of a registry: names, paths and the scopes of its tokens.

use http::Method;

use super::auth::scope::{Access, Scopes};
use super::client::{Call, RegistryClient, Target};
use super::error::RegistryError;
use super::redact::clean;

/// Names and tags are at most 255 and 128 characters (OCI distribution spec).
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The handle of one repository. Its operations are in [`manifest`](super::manifest),
/// [`blob`](super::blob), [`upload`](super::upload) and [`download`](super::download).
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) client: RegistryClient,
    name: String,
    scopes: Scopes,
}

impl RegistryClient {
    /// Returns the handle of a repository. `access` is what its tokens are asked for; with one
    /// handle for all work in a repository there is one token.
    ///
    /// # Errors
    /// The name cannot be part of a URL.
    pub fn repository(&self, name: &str, access: Access) -> Result<Repository, RegistryError> {
        check_name(name)?;
        Ok(Repository {
            client: self.clone(),
            name: name.to_owned(),
            scopes: Scopes::repository(name, access),
        })
    }
}

impl Repository {
    /// Returns the name of the repository, without the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the client of the host.
    pub fn client(&self) -> &RegistryClient {
        &self.client
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Creates a request without a body for a path below the repository.
    pub(super) fn call(&self, method: Method, path: &str) -> Call<'_> {
        Call::new(method, self.path(path), &self.scopes)
    }

    pub(super) fn path(&self, path: &str) -> Target {
        Target::Path(format!("/v2/{}/{path}", self.name))
    }
}

/// Checks that a name is one that the OCI distribution spec allows in its URLs.
pub(super) fn check_name(name: &str) -> Result<(), RegistryError> {
    let component = |part: &str| {
        let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ends(part.bytes().next())
            && ends(part.bytes().last())
            && !part.contains("..")
            && part.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
            })
    };
    if name.len() <= MAX_NAME && name.split('/').all(component) {
        return Ok(());
    }
    Err(RegistryError::Name {
        kind: "repository",
        value: clean(name, MAX_NAME),
    })
}

/// Checks that a text is a tag or a digest.
pub(super) fn check_reference(reference: &str) -> Result<(), RegistryError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let tag = reference.len() <= MAX_TAG
        && reference.bytes().next().is_some_and(word)
        && reference
            .bytes()
            .all(|b| word(b) || matches!(b, b'.' | b'-'));
    if tag || reference.parse::<crate::digest::Digest>().is_ok() {
        return Ok(());
    }
    Err(RegistryError::Name {
        kind: "tag or digest",
        value: clean(reference, 200),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_in_a_url() {
        for name in ["a", "library/alpine", "a/b-c/d__e/f.g", "0/1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a/../b", "..", "a?x", "a%2f", "a b", &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn tags_and_digests() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for reference in ["latest", "v1.2-3_x", "_", &digest] {
            assert!(check_reference(reference).is_ok(), "{reference}");
        }
        for reference in ["", ".x", "-x", "a/b", "a?b", "..", "sha256:00", "é"] {
            assert!(check_reference(reference).is_err(), "{reference}");
        }
    }
}
