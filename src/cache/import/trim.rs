//! A cache that is too large for BuildKit made one that it accepts.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::ImportError;
use crate::cache::config::CacheConfig;
use crate::cache::manifest::CacheManifest;
use crate::cache::merge::{Bounds, Contents};
use crate::digest::Digest;

/// What a build can use of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its records, by their indexes in the config. The contents of files that they lead to need not be among them.
    pub records: BTreeSet<usize>,
    /// Nothing else is of use.
    pub is_sure: bool,
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// Results of the cache.
    pub results: usize,
    /// Results that are left.
    pub kept: usize,
    how: How,
}

/// Which results are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The youngest.
    Youngest,
    /// Those that the build can use.
    Used,
    /// Those that the build is known to be able to use, then the youngest.
    UsedFirst,
}

impl fmt::Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache is larger than BuildKit reads (1 MiB): ")?;
        let Self { results, kept, .. } = *self;
        match (self.how, results - kept) {
            (How::Used, 1..) => write!(
                f,
                "only the {kept} of its {results} results that this build can use are read"
            ),
            (_, 0) => f.write_str("what it says twice is left out"),
            (How::UsedFirst, count) => write!(
                f,
                "the oldest {count} of its {results} results are left out, but for those that this build can use"
            ),
            (How::Youngest, count) => {
                write!(
                    f,
                    "the oldest {count} of its {results} results are left out"
                )
            }
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

/// Cuts a cache so that its manifest and config have at most `limit` bytes each: to what the build can use, where that is
/// known. What is too much after that goes by its age.
pub(super) fn trim(
    config: &CacheConfig,
    manifest: &CacheManifest,
    limit: usize,
    wanted: Option<&Wanted>,
) -> Result<Trimmed, ImportError> {
    let now = Timestamp::now();
    let (mut contents, how) = match wanted {
        None => (Contents::new(manifest, config)?, How::Youngest),
        Some(Wanted { records, is_sure }) if *is_sure => {
            let contents = Contents::with_records(manifest, config, records)?;
            (contents, How::Used)
        }
        Some(Wanted { records, .. }) => {
            let config = used_now(config, records, now);
            (Contents::new(manifest, &config)?, How::UsedFirst)
        }
    };
    let results = match how {
        How::Used => results(config),
        How::Youngest | How::UsedFirst => contents.results(),
    };
    let bounds = Bounds {
        metadata: limit,
        ..Bounds::default()
    };
    contents.bound(&bounds, now)?;
    let parts = contents.to_parts()?;
    Ok(Trimmed {
        manifest: parts.manifest,
        config: parts.config,
        config_digest: parts.config_digest,
        what: Trim {
            results,
            kept: contents.results(),
            how,
        },
    })
}

/// Notes that a build is about to use these records: they stay longer than all others.
fn used_now(config: &CacheConfig, records: &BTreeSet<usize>, now: Timestamp) -> CacheConfig {
    let mut config = config.clone();
    let now = now.to_string();
    for at in records {
        let Some(record) = config.records.get_mut(*at) else {
            continue;
        };
        let results = record
            .results
            .iter_mut()
            .map(|result| &mut result.last_used);
        let chains = record.chains.iter_mut().map(|chain| &mut chain.last_used);
        for used in results.chain(chains) {
            now.clone_into(used);
        }
    }
    config
}

fn results(config: &CacheConfig) -> usize {
    let records = config.records.iter();
    records.map(|r| r.results.len() + r.chains.len()).sum()
}

#[cfg(test)]
mod tests;
