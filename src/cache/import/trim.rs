//! A cache that is too large for BuildKit made one that it accepts.
//!
//! Results go in the order of their age, the oldest first, with the records and layers that nothing
//! else needs.

use std::collections::{HashMap, HashSet};
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::ImportError;
use crate::cache::config::{CacheConfig, CacheRecord, Parent};
use crate::cache::manifest::CacheManifest;
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
        write!(
            f,
            "the cache is larger than BuildKit reads (1 MiB): the oldest {} of its {} results are left out",
            self.results - self.kept,
            self.results
        )
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

/// One result: its record, and its place among the record's results and, behind them, chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    record: usize,
    result: usize,
}

/// Makes a cache whose manifest and config have at most `limit` bytes each.
pub(super) fn trim(
    config: &CacheConfig,
    manifest: &CacheManifest,
    limit: usize,
) -> Result<Trimmed, ImportError> {
    let places = by_age(config);
    let mut best = make(config, manifest, &places, 0)?;
    // Fewer results are never larger, so the border is found by halving.
    let (mut fits, mut too_many) = (0, places.len() + 1);
    while too_many - fits > 1 {
        let count = fits + (too_many - fits) / 2;
        let made = make(config, manifest, &places, count)?;
        if made.manifest.len().max(made.config.len()) <= limit {
            (fits, best) = (count, made);
        } else {
            too_many = count;
        }
    }
    Ok(best)
}

/// All results, the youngest first; one without a time is the oldest.
fn by_age(config: &CacheConfig) -> Vec<Place> {
    let mut places = Vec::new();
    for (record, content) in config.records.iter().enumerate() {
        let times = content.results.iter().map(|result| &result.created_at);
        let times = times.chain(content.chains.iter().map(|chain| &chain.created_at));
        for (result, time) in times.enumerate() {
            places.push((time.parse::<Timestamp>().ok(), Place { record, result }));
        }
    }
    places.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    places.into_iter().map(|(_, place)| place).collect()
}

fn make(
    config: &CacheConfig,
    manifest: &CacheManifest,
    places: &[Place],
    count: usize,
) -> Result<Trimmed, ImportError> {
    let kept: HashSet<Place> = places.iter().take(count).copied().collect();
    let smaller = reduce(config, &kept);
    smaller.check()?;
    let config = Bytes::from(smaller.to_bytes()?);
    let config_digest = Digest::of(&config);
    let blobs: HashSet<&Digest> = smaller.layers.iter().map(|layer| &layer.blob).collect();
    let mut manifest = manifest.clone();
    manifest
        .layers
        .retain(|layer| blobs.contains(&layer.digest));
    if let Some(descriptor) = &mut manifest.config {
        descriptor.digest = config_digest.clone();
        descriptor.size = config.len() as u64;
    }
    Ok(Trimmed {
        manifest: manifest.to_bytes()?.into(),
        config,
        config_digest,
        what: Trim {
            results: places.len(),
            kept: count,
        },
    })
}

/// Keeps some results, and the records and layers that they need.
fn reduce(config: &CacheConfig, kept: &HashSet<Place>) -> CacheConfig {
    let records = needed_records(config, kept);
    let layers = needed_layers(config, kept);
    let record_at = positions(&records);
    let layer_at = positions(&layers);
    let move_layer = |old: usize| layer_at.get(&old).copied().unwrap_or_default();
    let mut smaller = CacheConfig {
        other: config.other.clone(),
        ..CacheConfig::default()
    };
    for (old, layer) in config.layers.iter().enumerate() {
        if layer_at.contains_key(&old) {
            let mut layer = layer.clone();
            layer.parent = Parent(layer.parent.0.map(move_layer));
            smaller.layers.push(layer);
        }
    }
    for (old, record) in config.records.iter().enumerate() {
        if !record_at.contains_key(&old) {
            continue;
        }
        let mut record = only_kept(record, old, kept);
        for result in &mut record.results {
            result.layer = move_layer(result.layer);
        }
        for layer in record.chains.iter_mut().flat_map(|c| &mut c.layers) {
            *layer = move_layer(*layer);
        }
        for input in record.inputs.iter_mut().flatten() {
            input.link = record_at.get(&input.link).copied().unwrap_or_default();
        }
        smaller.records.push(record);
    }
    smaller
}

fn only_kept(record: &CacheRecord, index: usize, kept: &HashSet<Place>) -> CacheRecord {
    let mut record = record.clone();
    let results = record.results.len();
    let keep = |result| {
        kept.contains(&Place {
            record: index,
            result,
        })
    };
    let mut at = 0..;
    record.results.retain(|_| at.next().is_some_and(keep));
    let mut at = results..;
    record.chains.retain(|_| at.next().is_some_and(keep));
    record
}

/// The records of the results and, of those, all inputs.
fn needed_records(config: &CacheConfig, kept: &HashSet<Place>) -> HashSet<usize> {
    let mut needed = HashSet::new();
    let mut open: Vec<usize> = kept.iter().map(|place| place.record).collect();
    while let Some(index) = open.pop() {
        if needed.insert(index)
            && let Some(record) = config.records.get(index)
        {
            open.extend(record.inputs.iter().flatten().map(|input| input.link));
        }
    }
    needed
}

/// The layers of the results with all below them.
fn needed_layers(config: &CacheConfig, kept: &HashSet<Place>) -> HashSet<usize> {
    let mut needed = HashSet::new();
    for place in kept {
        let Some(record) = config.records.get(place.record) else {
            continue;
        };
        let results = record.results.len();
        let mut open: Vec<usize> = match record.results.get(place.result) {
            Some(result) => vec![result.layer],
            None => record
                .chains
                .get(place.result - results)
                .map(|chain| chain.layers.clone())
                .unwrap_or_default(),
        };
        while let Some(layer) = open.pop() {
            if needed.insert(layer) {
                open.extend(config.layers.get(layer).and_then(|l| l.parent.0));
            }
        }
    }
    needed
}

/// Where each kept index is found afterwards.
fn positions(kept: &HashSet<usize>) -> HashMap<usize, usize> {
    let mut order: Vec<usize> = kept.iter().copied().collect();
    order.sort_unstable();
    order
        .into_iter()
        .enumerate()
        .map(|(new, old)| (old, new))
        .collect()
}

#[cfg(test)]
mod tests;
