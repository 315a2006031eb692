//! Why caches cannot be served, as far as their options tell.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::reference::DEFAULT_TAG;

/// Why the caches cannot be served.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CacheError {
    /// The cache would overwrite the image, or the reverse.
    #[error("the cache reference {0:?} is the image's own name; each would overwrite the other")]
    ImageItself(String),
    /// Two exports to one reference.
    #[error("two caches are exported to {0:?}; the second would overwrite the first")]
    Twice(String),
    /// Keys that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A value of a local cache is wrong.
    #[error("invalid value {value:?} for {key:?} of a cache of type=local")]
    Local {
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
    },
}

impl CacheError {
    /// Returns what the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::ImageItself(reference) => {
                format!("give the cache a tag of its own, such as {reference}-cache")
            }
            Self::Twice(_) => "leave out one of them, or give them two tags".to_owned(),
            Self::Local { key: "digest", .. } => "give a digest such as sha256:…".to_owned(),
            Self::Local { key: "tag", .. } => "give a tag, or leave the key out".to_owned(),
            Self::Local { .. } => "give true or false".to_owned(),
            Self::Contradiction(_) => {
                "leave out one of the two keys of --cache-to or --cache".to_owned()
            }
        }
    }
}

/// Returns the tag in the index of a layout folder.
pub(super) fn local_tag(attrs: &BTreeMap<String, String>) -> Result<String, CacheError> {
    match attrs.get("tag").map(String::as_str) {
        None => Ok(DEFAULT_TAG.to_owned()),
        Some("") => Err(CacheError::Local {
            key: "tag",
            value: String::new(),
        }),
        Some(tag) => Ok(tag.to_owned()),
    }
}
