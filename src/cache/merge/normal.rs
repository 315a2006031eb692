//! Several configs made one, in a form that does not depend on their order.
//!
//! Two records are the same where their digest is, and for each input the set of (selector, record)
//! that it may come from, recursively. What this program does not know of them does not count: it is
//! merged. So each record has a hash of all that is below it, and merging
//! is putting records into a table by that hash: nothing is lost, and no key leads to a result that it
//! did not lead to before.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::record::{Found, Hash, Link, Record};
use super::subsume;
use super::times::Times;
use crate::cache::config::{
    CacheConfig, CacheInput, CacheLayer, CacheRecord, CacheResult, ChainedResult, LayerAnnotations,
    Parent,
};
use crate::cache::unknown::Unknown;
use crate::digest::Digest;

/// A layer on its parent.
struct Layer {
    blob: Digest,
    parent: Option<usize>,
    hash: Hash,
    annotations: Option<LayerAnnotations>,
    other: Unknown,
}

/// The table that configs are put into.
#[derive(Default)]
pub(super) struct Table {
    layers: Vec<Layer>,
    layer_at: HashMap<(Digest, Option<usize>), usize>,
    records: Vec<Record>,
    record_at: HashMap<Hash, usize>,
    other: Unknown,
}

impl Table {
    /// Adds a config that was checked. Results with a layer whose blob is not `listed` by the
    /// manifest are left out, as BuildKit does.
    pub(super) fn add(&mut self, config: &CacheConfig, listed: impl Fn(&Digest) -> bool) {
        self.other.merge(&config.other);
        let layers = self.add_layers(config, &listed);
        let mut at = vec![usize::MAX; config.records.len()];
        for index in config.inputs_first() {
            let Some(record) = config.records.get(index) else {
                continue;
            };
            let place = self.record(record, &at);
            if let Some(slot) = at.get_mut(index) {
                *slot = place;
            }
            for result in &record.results {
                if let Some(layer) = layers.get(result.layer).copied().flatten() {
                    let times = Times::of(&result.created_at, &result.last_used);
                    self.found(place, Some(layer), times, &result.other);
                }
            }
            for chain in &record.chains {
                if let Some(top) = self.chain(config, &chain.layers, &listed) {
                    let times = Times::of(&chain.created_at, &chain.last_used);
                    self.found(place, top, times, &chain.other);
                }
            }
        }
    }

    /// Adds the layers; `None` for those that cannot be used.
    fn add_layers(
        &mut self,
        config: &CacheConfig,
        listed: &impl Fn(&Digest) -> bool,
    ) -> Vec<Option<usize>> {
        let mut at: Vec<Option<Option<usize>>> = vec![None; config.layers.len()];
        for start in 0..config.layers.len() {
            // Down to a layer that was added, and up again: without recursion, because a hostile
            // config may be as deep as it is long.
            let mut open = Vec::new();
            let mut next = Some(start);
            while let Some(index) = next.filter(|index| at.get(*index) == Some(&None)) {
                open.push(index);
                next = config.layers.get(index).and_then(|layer| layer.parent.0);
            }
            for index in open.into_iter().rev() {
                let Some(layer) = config.layers.get(index) else {
                    continue;
                };
                let parent = match layer.parent.0 {
                    None => Some(None),
                    Some(parent) => at.get(parent).copied().flatten().flatten().map(Some),
                };
                let place = parent
                    .filter(|_| listed(&layer.blob))
                    .map(|parent| self.layer(layer, parent));
                if let Some(slot) = at.get_mut(index) {
                    *slot = Some(place);
                }
            }
        }
        at.into_iter().map(Option::flatten).collect()
    }

    /// A list of layers is the same result as the layers on each other. The inner `None` is the empty
    /// list.
    #[expect(
        clippy::option_option,
        reason = "no result, or a result that has no layer"
    )]
    fn chain(
        &mut self,
        config: &CacheConfig,
        layers: &[usize],
        listed: &impl Fn(&Digest) -> bool,
    ) -> Option<Option<usize>> {
        let mut top = None;
        for index in layers {
            let layer = config.layers.get(*index)?;
            if !listed(&layer.blob) {
                return None;
            }
            top = Some(self.layer(layer, top));
        }
        Some(top)
    }

    fn layer(&mut self, layer: &CacheLayer, parent: Option<usize>) -> usize {
        let key = (layer.blob.clone(), parent);
        let place = *self.layer_at.entry(key).or_insert_with(|| {
            let below = parent.and_then(|parent| self.layers.get(parent));
            let mut hasher = Sha256::new();
            put(&mut hasher, layer.blob.as_str().as_bytes());
            put(&mut hasher, below.map_or(&[][..], |below| &below.hash));
            self.layers.push(Layer {
                blob: layer.blob.clone(),
                parent,
                hash: hasher.finalize().into(),
                annotations: None,
                other: Unknown::default(),
            });
            self.layers.len() - 1
        });
        if let Some(known) = self.layers.get_mut(place) {
            known.other.merge(&layer.other);
            if text(&layer.annotations) > text(&known.annotations) {
                known.annotations.clone_from(&layer.annotations);
            }
        }
        place
    }

    /// Adds a record whose inputs are `at` these places already.
    fn record(&mut self, record: &CacheRecord, at: &[usize]) -> usize {
        let inputs: Vec<Vec<Link>> = record
            .inputs
            .iter()
            .map(|input| self.links(input, at))
            .collect();
        let hash = self.hash(record, &inputs);
        let place = match self.record_at.get(&hash).copied() {
            Some(place) => {
                self.know_more(place, &inputs);
                place
            }
            None => self.new_record(hash, &record.digest, inputs),
        };
        if let Some(known) = self.records.get_mut(place) {
            known.other.merge(&record.other);
        }
        place
    }

    fn new_record(&mut self, hash: Hash, digest: &str, inputs: Vec<Vec<Link>>) -> usize {
        let place = self.records.len();
        self.record_at.insert(hash, place);
        self.records.push(Record {
            hash,
            digest: digest.to_owned(),
            inputs,
            results: HashMap::new(),
            other: Unknown::default(),
        });
        place
    }

    /// Takes over what another writer knew of the same links in the same order.
    fn know_more(&mut self, record: usize, inputs: &[Vec<Link>]) {
        if let Some(known) = self.records.get_mut(record) {
            let known = known.inputs.iter_mut().flatten();
            for (known, link) in known.zip(inputs.iter().flatten()) {
                known.other.merge(&link.other);
            }
        }
    }

    /// The alternatives of one input, each once, in an order that depends on what they are alone.
    fn links(&self, input: &[CacheInput], at: &[usize]) -> Vec<Link> {
        let mut links: Vec<Link> = input
            .iter()
            .map(|link| Link {
                selector: link.selector.clone(),
                record: at.get(link.link).copied().unwrap_or(usize::MAX),
                other: link.other.clone(),
            })
            .collect();
        let hash = |link: &Link| self.records.get(link.record).map(|record| record.hash);
        links.sort_by(|a, b| (&a.selector, hash(a)).cmp(&(&b.selector, hash(b))));
        links.dedup_by(|next, kept| {
            let same = (&next.selector, next.record) == (&kept.selector, kept.record);
            if same {
                kept.other.merge(&next.other);
            }
            same
        });
        links
    }

    fn hash(&self, record: &CacheRecord, inputs: &[Vec<Link>]) -> Hash {
        let mut hasher = Sha256::new();
        put(&mut hasher, record.digest.as_bytes());
        for input in inputs {
            put(&mut hasher, &input.len().to_le_bytes());
            for link in input {
                put(&mut hasher, link.selector.as_bytes());
                let hash = self.records.get(link.record).map(|record| record.hash);
                put(&mut hasher, &hash.unwrap_or_default());
            }
        }
        hasher.finalize().into()
    }

    fn found(&mut self, record: usize, layer: Option<usize>, times: Times, other: &Unknown) {
        if let Some(record) = self.records.get_mut(record) {
            let other = other.clone();
            let found = Found { times, other };
            match record.results.get_mut(&layer) {
                Some(known) => known.merge(found),
                None => drop(record.results.insert(layer, found)),
            }
        }
    }

    /// Writes the config: results that another record has under at least the same keys are left to
    /// it, as are records that lead to no result.
    pub(super) fn finish(mut self) -> CacheConfig {
        subsume::fold(&mut self.records);
        let records = self.needed();
        let (layers, layer_at) = self.write_layers();
        let record_at = places(&records, self.records.len());
        let move_record = |old: usize| record_at.get(old).copied().unwrap_or_default();
        let mut config = CacheConfig {
            layers,
            other: self.other,
            ..CacheConfig::default()
        };
        let mut old: Vec<Option<Record>> = self.records.into_iter().map(Some).collect();
        for index in records {
            let Some(record) = old.get_mut(index).and_then(Option::take) else {
                continue;
            };
            let input = |links: Vec<Link>| -> Vec<CacheInput> {
                let link = |link: Link| CacheInput {
                    selector: link.selector,
                    link: move_record(link.record),
                    other: link.other,
                };
                links.into_iter().map(link).collect()
            };
            let (results, chains) = write_results(record.results, &layer_at);
            config.records.push(CacheRecord {
                results,
                chains,
                digest: record.digest,
                inputs: record.inputs.into_iter().map(input).collect(),
                other: record.other,
            });
        }
        config
    }

    /// The records with results and all that they come from, in the order of the output.
    fn needed(&self) -> Vec<usize> {
        let mut needed = HashSet::new();
        let with_results = self.records.iter().enumerate();
        let with_results = with_results.filter(|(_, record)| !record.results.is_empty());
        let mut open: Vec<usize> = with_results.map(|(index, _)| index).collect();
        while let Some(index) = open.pop() {
            if needed.insert(index)
                && let Some(record) = self.records.get(index)
            {
                open.extend(record.inputs.iter().flatten().map(|link| link.record));
            }
        }
        let mut needed: Vec<usize> = needed.into_iter().collect();
        needed.sort_unstable_by_key(|index| {
            let record = self.records.get(*index);
            record.map(|record| (record.digest.as_str(), record.hash))
        });
        needed
    }

    /// The layers of all results, and where each old one is now.
    fn write_layers(&self) -> (Vec<CacheLayer>, Vec<usize>) {
        let mut needed = HashSet::new();
        for result in self.records.iter().flat_map(|r| r.results.keys()) {
            let mut next = *result;
            while let Some(index) = next.filter(|index| needed.insert(*index)) {
                next = self.layers.get(index).and_then(|layer| layer.parent);
            }
        }
        let mut needed: Vec<usize> = needed.into_iter().collect();
        needed.sort_unstable_by_key(|index| {
            let layer = self.layers.get(*index);
            layer.map(|layer| (&layer.blob, layer.hash))
        });
        let at = places(&needed, self.layers.len());
        let write = |layer: &Layer| CacheLayer {
            blob: layer.blob.clone(),
            parent: Parent(layer.parent.and_then(|parent| at.get(parent).copied())),
            annotations: layer.annotations.clone(),
            other: layer.other.clone(),
        };
        let kept = needed.iter().filter_map(|index| self.layers.get(*index));
        (kept.map(write).collect(), at)
    }
}

/// The results of a record, the youngest first.
fn write_results(
    found: HashMap<Option<usize>, Found>,
    layer_at: &[usize],
) -> (Vec<CacheResult>, Vec<ChainedResult>) {
    let mut results = Vec::new();
    let mut chains = Vec::new();
    for (layer, found) in found {
        let other = found.other;
        let (created_at, last_used) = found.times.write();
        match layer {
            Some(layer) => results.push(CacheResult {
                layer: layer_at.get(layer).copied().unwrap_or_default(),
                created_at,
                last_used,
                other,
            }),
            None => chains.push(ChainedResult {
                layers: Vec::new(),
                created_at,
                last_used,
                other,
            }),
        }
    }
    // Of results with one time and as many layers BuildKit takes the first.
    results.sort_by_cached_key(|result| {
        let times = Times::of(&result.created_at, &result.last_used);
        (std::cmp::Reverse(times.order()), result.layer)
    });
    (results, chains)
}

/// Where each of the kept ones is found; the places of the others mean nothing.
fn places(kept: &[usize], count: usize) -> Vec<usize> {
    let mut at = vec![0; count];
    for (new, old) in kept.iter().enumerate() {
        if let Some(slot) = at.get_mut(*old) {
            *slot = new;
        }
    }
    at
}

fn put(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update(bytes.len().to_le_bytes());
    hasher.update(bytes);
}

/// JSON text as something that has an order; empty for what is empty.
fn text(value: &impl serde::Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) if text != "{}" && text != "null" => text,
        // A map with text keys can always be written.
        _ => String::new(),
    }
}
