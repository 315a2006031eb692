//! A cache that is too large for BuildKit made one that it accepts.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::ImportError;
use crate::cache::config::CacheConfig;
use crate::cache::manifest::CacheManifest;
use crate::cache::merge::{Bounds, Contents};
use crate::digest::Digest;

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// Results of the cache.
    pub results: usize,
    /// Results that are left.
    pub kept: usize,
}

impl fmt::Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache is larger than BuildKit reads (1 MiB): ")?;
        match self.results - self.kept {
            0 => f.write_str("what it says twice is left out"),
            left_out => write!(
                f,
                "the oldest {left_out} of its {} results are left out",
                self.results
            ),
        }
    }
}

/// A smaller cache.
#[derive(Debug)]
pub(super) struct Trimmed {
    pub(super) manifest: Bytes,
    pub(super) config: Bytes,
    pub(super) config_digest: Digest,
    pub(super) what: Trim,
}

/// Cuts a cache so that its manifest and config have at most `limit` bytes each.
pub(super) fn trim(
    config: &CacheConfig,
    manifest: &CacheManifest,
    limit: usize,
) -> Result<Trimmed, ImportError> {
    let mut contents = Contents::new(manifest, config)?;
    let results = contents.results();
    let bounds = Bounds {
        metadata: limit,
        ..Bounds::default()
    };
    contents.bound(&bounds, Timestamp::now())?;
    let parts = contents.to_parts()?;
    Ok(Trimmed {
        manifest: parts.manifest,
        config: parts.config,
        config_digest: parts.config_digest,
        what: Trim {
            results,
            kept: contents.results(),
        },
    })
}

#[cfg(test)]
mod tests;
