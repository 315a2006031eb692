//! A whole cache as a value: merged with others, cut to bounds, without blobs that were lost.
//!
//! | file | holds |
//! |---|---|
//! | `normal` | several configs made one, in one order |
//! | `subsume` | results that another record has under more keys |
//! | `reduce` | a config with some of its results |
//! | `retention` | the least recently used dropped |
//! | `times` | when a result was made and last used |
//!
//! Contents are always in the normal form, so the union of the same caches is the same bytes, whoever
//! makes it and in whatever order.

mod normal;
mod record;
mod reduce;
mod retention;
mod root_record;
mod subsume;
mod times;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use self::normal::Table;
use self::reduce::{Place, layers_of, only, reduce};
use self::times::Times;
use super::config::{self, CacheConfig, ConfigError};
use super::descriptor::Descriptor;
use super::extras::Extras;
use super::extras::store::Written;
use super::manifest::{CacheManifest, ManifestError};
use super::media::Form;
use super::media::{algorithm_of, layer_type};
use super::source::CachePart;
use super::unknown::Unknown;
use crate::digest::Digest;

pub use self::retention::{Bounds, Dropped, oldest};
pub use self::root_record::is_root_record;

/// A cache: its config, and the blobs that its manifest lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    config: CacheConfig,
    /// What is referred to, and nothing else.
    blobs: BTreeMap<Digest, Descriptor>,
    form: Form,
    /// Entries of this program.
    extras: Extras,
    /// Fields of the manifest, such as annotations.
    other: Unknown,
}

/// Why a cache cannot be taken.
#[derive(Debug, Error)]
pub enum ContentsError {
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is not that of a cache.
    #[error("the manifest is that of an image, not of a cache")]
    NoCache,
    /// The config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A cache as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The manifest.
    pub manifest: Bytes,
    /// The manifest without entries of this program, where it has some.
    pub plain: Option<Bytes>,
    /// Media type of the manifest.
    pub media_type: &'static str,
    /// The config.
    pub config: Bytes,
    /// Digest of the config.
    pub config_digest: Digest,
}

impl Parts {
    /// Returns the manifest as it is to be written.
    pub fn written(&self) -> Written {
        Written {
            with: self.manifest.clone(),
            without: self.plain.clone(),
            media_type: self.media_type,
        }
    }
}

impl Contents {
    /// Reads a cache as it is stored. `media_type` is what the registry says of the manifest.
    ///
    /// # Errors
    ///
    /// Fails if the manifest or the config are not those of a cache.
    pub fn parse(manifest: &[u8], media_type: &str, config: &[u8]) -> Result<Self, ContentsError> {
        let manifest = CacheManifest::parse(manifest, media_type)?;
        if !manifest.is_cache() {
            return Err(ContentsError::NoCache);
        }
        Ok(Self::new(&manifest, &CacheConfig::parse(config)?)?)
    }

    /// Creates the contents of a manifest that was read and a config. As in BuildKit, results with a
    /// blob that the manifest does not list are left out.
    ///
    /// # Errors
    ///
    /// Fails if the config contradicts itself.
    pub fn new(manifest: &CacheManifest, config: &CacheConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let blobs = BTreeMap::new();
        let mut contents = Self {
            config: CacheConfig::default(),
            blobs,
            form: manifest.form,
            extras: manifest.extras.clone(),
            other: manifest.other.clone(),
        };
        for blob in &manifest.layers {
            contents.add_blob(blob.clone());
        }
        let mut table = Table::default();
        table.add(config, |blob| contents.blobs.contains_key(blob));
        contents.config = table.finish();
        contents.forget_unused();
        Ok(contents)
    }

    /// Creates the contents of a manifest that was read with these records of a config, by their indexes. Of what they lead
    /// to only the contents of files stay.
    ///
    /// # Errors
    ///
    /// Fails if the config contradicts itself.
    pub fn with_records(
        manifest: &CacheManifest,
        config: &CacheConfig,
        records: &BTreeSet<usize>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        Self::new(manifest, &only(config, records))
    }

    /// Creates the contents of a cache that was looked at. An inline cache gets the form of a cache.
    ///
    /// # Errors
    ///
    /// Fails if the config contradicts itself.
    pub fn of_part(manifest: &CacheManifest, part: &CachePart) -> Result<Self, ConfigError> {
        let is_cache = manifest.is_cache();
        let manifest = CacheManifest {
            extras: manifest.extras.clone(),
            form: if is_cache {
                manifest.form
            } else {
                Form::OciManifest
            },
            config: None,
            layers: part.layers.clone(),
            other: if is_cache {
                manifest.other.clone()
            } else {
                Unknown::default()
            },
        };
        Self::new(&manifest, &part.config)
    }

    /// Adds another cache: every result of both is kept under every key that it had in either. The
    /// form stays. Of a result that both have, and of what is said about a blob, the younger or else
    /// the greater text stays, so that the order does not matter.
    pub fn merge(&mut self, other: &Self) {
        for blob in other.blobs.values() {
            self.add_blob(blob.clone());
        }
        let mut table = Table::default();
        for config in [&self.config, &other.config] {
            table.add(config, |blob| self.blobs.contains_key(blob));
        }
        self.config = table.finish();
        self.forget_unused();
        self.extras.merge(&other.extras);
        self.other.merge(&other.other);
    }

    /// Removes the results that have one of these blobs below them, with the records and layers that
    /// nothing needs any more. Returns how many results that were.
    pub fn drop_layers(&mut self, lost: &HashSet<Digest>) -> usize {
        let before = self.results();
        let lost = self.on_lost(lost);
        let mut kept = HashSet::new();
        for (record, content) in self.config.records.iter().enumerate() {
            for result in 0..content.results.len() + content.chains.len() {
                let layers = layers_of(content, result);
                let is_lost = |layer: &usize| lost.get(*layer).copied().unwrap_or_default();
                if !layers.iter().any(is_lost) {
                    kept.insert(Place { record, result });
                }
            }
        }
        if kept.len() < before {
            *self = self.replaced(reduce(&self.config, &kept));
        }
        before - kept.len()
    }

    /// For each layer whether it or one below it is lost.
    fn on_lost(&self, lost: &HashSet<Digest>) -> Vec<bool> {
        let layers = &self.config.layers;
        let mut known: Vec<Option<bool>> = vec![None; layers.len()];
        for start in 0..layers.len() {
            let mut open = Vec::new();
            let mut next = Some(start);
            let mut below = false;
            while let Some(index) = next {
                if let Some(told) = known.get(index).copied().flatten() {
                    below = told;
                    break;
                }
                open.push(index);
                next = layers.get(index).and_then(|layer| layer.parent.0);
            }
            for index in open.into_iter().rev() {
                below |= layers.get(index).is_some_and(|l| lost.contains(&l.blob));
                if let Some(slot) = known.get_mut(index) {
                    *slot = Some(below);
                }
            }
        }
        known.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Notes that a build has just used every result.
    pub fn touch(&mut self, now: Timestamp) {
        let touch = |created_at: &str, last_used: &mut String| {
            let mut times = Times::of(created_at, last_used);
            times.touch(now);
            (_, *last_used) = times.write();
        };
        for record in &mut self.config.records {
            for result in &mut record.results {
                touch(&result.created_at, &mut result.last_used);
            }
            for chain in &mut record.chains {
                touch(&chain.created_at, &mut chain.last_used);
            }
        }
    }

    /// Returns whether merging these contents with others has added nothing: `merged` has the same
    /// results under the same keys, the same mounts, and none whose last use is later by more than `stale`.
    pub fn is_still(&self, merged: &Self, stale: Duration) -> bool {
        let stale = SignedDuration::try_from(stale).unwrap_or(SignedDuration::MAX);
        let (old, new) = (self.timeless(), merged.timeless());
        let times = old.1.iter().zip(&new.1);
        let fresh = |(old, new): (&Times, &Times)| match (old.used(), new.used()) {
            (Some(old), Some(new)) => new.duration_since(old) <= stale,
            (_, new) => new.is_none(),
        };
        let mounts = [self, merged].map(|contents| contents.extras.mounts());
        mounts[0] == mounts[1]
            && old.0 == new.0
            && self.blobs.keys().eq(merged.blobs.keys())
            && times.into_iter().all(fresh)
    }

    /// The config without the times of its results, and these in the same order.
    fn timeless(&self) -> (CacheConfig, Vec<Times>) {
        let mut config = self.config.clone();
        let mut all = Vec::new();
        for record in &mut config.records {
            record.results.sort_by_key(|result| result.layer);
            for result in &mut record.results {
                all.push(Times::of(&result.created_at, &result.last_used));
                result.created_at.clear();
                result.last_used.clear();
            }
            for chain in &mut record.chains {
                all.push(Times::of(&chain.created_at, &chain.last_used));
                chain.created_at.clear();
                chain.last_used.clear();
            }
        }
        (config, all)
    }

    /// Writes manifest and config. Layers get the spelling of media types that goes with the form.
    ///
    /// # Errors
    ///
    /// Fails only where a kept unknown field cannot be written.
    pub fn to_parts(&self) -> Result<Parts, serde_json::Error> {
        let config = Bytes::from(root_record::add(&self.config).to_bytes()?);
        let descriptor = Descriptor::of(config::MEDIA_TYPE, &config);
        let config_digest = descriptor.digest.clone();
        let oci = self.form != Form::DockerList;
        let layer = |blob: &Descriptor| {
            let mut blob = blob.clone();
            if let Some(algorithm) = algorithm_of(&blob.media_type) {
                layer_type(algorithm, oci).clone_into(&mut blob.media_type);
            }
            blob
        };
        let manifest = CacheManifest {
            extras: self.extras.in_form(self.form),
            form: self.form,
            config: Some(descriptor),
            layers: self.blobs().map(layer).collect(),
            other: self.other.clone(),
        };
        let written = Written::of(&manifest)?;
        Ok(Parts {
            manifest: written.with,
            plain: written.without,
            media_type: written.media_type,
            config,
            config_digest,
        })
    }

    /// Returns the config.
    #[cfg(test)]
    pub fn config(&self) -> &CacheConfig {
        &self.config
    }

    /// Returns the entries of this program.
    pub fn extras(&self) -> &Extras {
        &self.extras
    }

    /// Sets the entries of this program.
    pub fn set_extras(&mut self, extras: Extras) {
        self.extras = extras;
    }

    /// Returns the form of the manifest.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Sets the form of the manifest.
    #[cfg(test)]
    pub fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    /// Returns the blobs, each once, in the order of their digests.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.values()
    }

    /// Returns the size of all blobs together, in bytes.
    pub fn size(&self) -> u64 {
        let sizes = self.blobs().map(|blob| blob.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns the number of results.
    pub fn results(&self) -> usize {
        let results = self.config.records.iter();
        results.map(|r| r.results.len() + r.chains.len()).sum()
    }

    fn replaced(&self, config: CacheConfig) -> Self {
        let mut contents = Self {
            config,
            blobs: self.blobs.clone(),
            form: self.form,
            extras: self.extras.clone(),
            other: self.other.clone(),
        };
        contents.forget_unused();
        contents
    }

    /// Of two descriptors of a blob, one that names the uncompressed digest wins, else the lexicographically greater.
    fn add_blob(&mut self, blob: Descriptor) {
        let order = |blob: &Descriptor| {
            let text = serde_json::to_string(blob).unwrap_or_default();
            (blob.diff_id().is_some(), text)
        };
        match self.blobs.get_mut(&blob.digest) {
            Some(known) if *known == blob => {}
            Some(known) if order(&blob) > order(known) => *known = blob,
            Some(_) => {}
            None => drop(self.blobs.insert(blob.digest.clone(), blob)),
        }
    }

    fn forget_unused(&mut self) {
        let layers = self.config.layers.iter();
        let used: HashSet<&Digest> = layers.map(|layer| &layer.blob).collect();
        self.blobs.retain(|digest, _| used.contains(digest));
    }
}

#[cfg(test)]
mod tests;
