//! The cache config: which layers there are and which records, that is cache keys, lead to them.
//!
//! Format: `application/vnd.buildkit.cacheconfig.v0`, BuildKit `cache/remotecache/v1/types`. A
//! record is a digest plus, for each input of the step, the records that this input may have come
//! from. Fields that this program does not know are kept.

mod superset;

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::budget::{Budget, TooMuch};
use super::unknown::{Unknown, keeps_unknown, null_is_empty};
use crate::digest::Digest;

/// Media type of a cache config.
pub const MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The complete config.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct CacheConfig {
    /// Layers; records and other layers point to them by index.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub layers: Vec<CacheLayer>,
    /// Records; other records point to them by index.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub records: Vec<CacheRecord>,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

/// One layer: a blob on top of its parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct CacheLayer {
    /// Digest of the blob, as the manifest lists it.
    pub blob: Digest,
    /// The layer below.
    #[serde(default, skip_serializing_if = "Parent::is_first", rename = "parent")]
    pub parent: Parent,
    /// What the writer knew about the blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<LayerAnnotations>,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

/// The layer that a layer lies on. In JSON -1 is none, and an absent field is layer 0, because Go
/// leaves out a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parent(pub Option<usize>);

impl Default for Parent {
    fn default() -> Self {
        Self(Some(0))
    }
}

impl Parent {
    fn is_first(&self) -> bool {
        self.0 == Some(0)
    }
}

impl Serialize for Parent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(index) => serializer.serialize_u64(index as u64),
            None => serializer.serialize_i64(-1),
        }
    }
}

impl<'de> Deserialize<'de> for Parent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            -1 => Ok(Self(None)),
            index => usize::try_from(index)
                .map(|index| Self(Some(index)))
                .map_err(|_| serde::de::Error::custom(format!("invalid parent {index}"))),
        }
    }
}

/// Facts about a layer's blob. In the caches that BuildKit writes they are filled in only where the
/// blob is not described by a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct LayerAnnotations {
    /// Media type of the blob.
    #[serde(
        default,
        rename = "mediaType",
        skip_serializing_if = "String::is_empty"
    )]
    pub media_type: String,
    /// Digest of the uncompressed blob.
    #[serde(default, rename = "diffID", skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    /// Size of the blob in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: i64,
    /// Time the layer was made, RFC 3339.
    #[serde(default, rename = "createdAt")]
    pub created_at: String,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One record: a cache key and the results stored under it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct CacheRecord {
    /// Results that are a layer with all the layers below it.
    #[serde(
        default,
        rename = "layers",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub results: Vec<CacheResult>,
    /// Results that are a list of layers in order, without those below them.
    #[serde(
        default,
        rename = "chains",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub chains: Vec<ChainedResult>,
    /// The key's own digest. BuildKit takes any text here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// For each input of the step, the records that it may have come from.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub inputs: Vec<Vec<CacheInput>>,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

/// A result that is a layer with all its parents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct CacheResult {
    /// Index of the layer.
    #[serde(rename = "layer")]
    pub layer: usize,
    /// Time the step ran, RFC 3339.
    #[serde(default, rename = "createdAt")]
    pub created_at: String,
    /// Last time that a build used it, RFC 3339; empty where that is not known. Only this program writes
    /// it, and BuildKit passes over it.
    #[serde(
        default,
        rename = "lastUsed",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "text_or_nothing"
    )]
    pub last_used: String,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

/// A result that is a list of layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct ChainedResult {
    /// Indexes of the layers, lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<usize>,
    /// Time the step ran, RFC 3339.
    #[serde(default, rename = "createdAt")]
    pub created_at: String,
    /// Last time that a build used it, RFC 3339; empty where that is not known. Only this program writes
    /// it, and BuildKit passes over it.
    #[serde(
        default,
        rename = "lastUsed",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "text_or_nothing"
    )]
    pub last_used: String,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

/// A link to the record of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct CacheInput {
    /// Path inside the input that the step read, empty for all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Index of the record.
    #[serde(rename = "link")]
    pub link: usize,
    /// Fields of newer formats.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

/// BuildKit reads a cache whatever is in a field that it does not know.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(value.get()).unwrap_or_default())
}

keeps_unknown!(
    CacheConfig,
    CacheLayer,
    LayerAnnotations,
    CacheRecord,
    CacheResult,
    ChainedResult,
    CacheInput
);

/// Why a config is not taken.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It is more than this program reads.
    #[error("the cache config {0}")]
    TooLarge(#[from] TooMuch),
    /// It is no JSON of the right shape.
    #[error("the cache config is no valid JSON of its format")]
    Json(#[from] serde_json::Error),
    /// An index points outside its list.
    #[error("{what} {index} of the cache config points to {kind} {target}, which does not exist")]
    Dangling {
        /// What holds the index: `record` or `layer`.
        what: &'static str,
        /// Its own index.
        index: usize,
        /// What it points to: `record` or `layer`.
        kind: &'static str,
        /// The index it holds.
        target: usize,
    },
    /// Records or layers depend on themselves.
    #[error("{what} {index} of the cache config depends on itself")]
    Cycle {
        /// `record` or `layer`.
        what: &'static str,
        /// One of those in the cycle.
        index: usize,
    },
    /// An input has no record.
    #[error("record {0} of the cache config has an empty input")]
    EmptyInput(usize),
}

impl CacheConfig {
    /// The largest config that is read, in bytes. BuildKit stops at 1 MiB; more is read so that such
    /// a cache can be looked into and made smaller.
    pub const MAX_BYTES: usize = 8 << 20;
    /// What is read of the configs of one cache. BuildKit writes 15 bytes for a value.
    pub(super) const BUDGET: Budget = Budget::new(Self::MAX_BYTES, 1 << 19);

    /// Parses and checks a config: every index exists and nothing depends on itself.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are too many, no JSON of this format, or contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut budget = Self::BUDGET;
        budget.take(bytes)?;
        let config: Self = serde_json::from_slice(bytes)?;
        config.check()?;
        Ok(config)
    }

    /// Returns the JSON text with the fields in the order that BuildKit writes.
    ///
    /// # Errors
    ///
    /// Fails only where a kept unknown field cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Checks that every index exists and nothing depends on itself.
    ///
    /// # Errors
    ///
    /// Names the first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_indexes()?;
        self.check_layer_cycles()?;
        self.check_record_cycles()
    }

    /// Returns a layer and all that lie below it, lowest first. The config must have been checked.
    pub fn chain(&self, layer: usize) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut next = Some(layer);
        while let Some(index) = next {
            // A config that was built by hand might loop; a chain is never longer than the list.
            if chain.len() > self.layers.len() {
                break;
            }
            chain.push(index);
            next = self.layers.get(index).and_then(|l| l.parent.0);
        }
        chain.reverse();
        chain
    }

    fn check_indexes(&self) -> Result<(), ConfigError> {
        let layers = self.layers.len();
        for (index, layer) in self.layers.iter().enumerate() {
            if let Some(target) = layer.parent.0.filter(|target| *target >= layers) {
                return Err(ConfigError::Dangling {
                    what: "layer",
                    index,
                    kind: "layer",
                    target,
                });
            }
        }
        for (index, record) in self.records.iter().enumerate() {
            let dangling = |kind, target| ConfigError::Dangling {
                what: "record",
                index,
                kind,
                target,
            };
            let chained = record.chains.iter().flat_map(|c| c.layers.iter().copied());
            if let Some(target) = record
                .results
                .iter()
                .map(|r| r.layer)
                .chain(chained)
                .find(|t| *t >= layers)
            {
                return Err(dangling("layer", target));
            }
            if record.inputs.iter().any(Vec::is_empty) {
                return Err(ConfigError::EmptyInput(index));
            }
            let links = record.inputs.iter().flatten().map(|input| input.link);
            if let Some(target) = links.into_iter().find(|t| *t >= self.records.len()) {
                return Err(dangling("record", target));
            }
        }
        Ok(())
    }

    fn check_layer_cycles(&self) -> Result<(), ConfigError> {
        let mut good = HashSet::new();
        for start in 0..self.layers.len() {
            let mut path = Vec::new();
            let mut on_path = HashSet::new();
            let mut next = Some(start);
            while let Some(index) = next {
                if good.contains(&index) {
                    break;
                }
                if !on_path.insert(index) {
                    return Err(ConfigError::Cycle {
                        what: "layer",
                        index,
                    });
                }
                path.push(index);
                next = self.layers.get(index).and_then(|l| l.parent.0);
            }
            good.extend(path);
        }
        Ok(())
    }

    /// A walk in depth with its own stack: a hostile config may be as deep as it is long.
    fn check_record_cycles(&self) -> Result<(), ConfigError> {
        let mut marks = vec![Mark::New; self.records.len()];
        let links = |index: usize| {
            self.records
                .get(index)
                .map(|r| {
                    r.inputs
                        .iter()
                        .flatten()
                        .map(|i| i.link)
                        .collect::<Vec<_>>()
                })
                .unwrap_or_default()
        };
        for start in 0..self.records.len() {
            if marks.get(start) != Some(&Mark::New) {
                continue;
            }
            let mut stack = vec![(start, links(start))];
            set(&mut marks, start, Mark::Open);
            while let Some((index, pending)) = stack.last_mut() {
                let index = *index;
                let Some(next) = pending.pop() else {
                    set(&mut marks, index, Mark::Done);
                    stack.pop();
                    continue;
                };
                match marks.get(next) {
                    Some(Mark::Open) => {
                        return Err(ConfigError::Cycle {
                            what: "record",
                            index: next,
                        });
                    }
                    Some(Mark::New) => {
                        set(&mut marks, next, Mark::Open);
                        stack.push((next, links(next)));
                    }
                    Some(Mark::Done) | None => {}
                }
            }
        }
        Ok(())
    }
}

/// State of a record in the walk that looks for cycles.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

fn set(marks: &mut [Mark], index: usize, mark: Mark) {
    if let Some(slot) = marks.get_mut(index) {
        *slot = mark;
    }
}

#[cfg(test)]
mod tests;
