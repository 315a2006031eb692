//! A config with some of its results.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::cache::config::{CacheConfig, CacheRecord, Parent};

/// One result: its record, and its place among the record's results and, behind them, chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) record: usize,
    pub(super) result: usize,
}

/// The layers of a result, the lowest ones possibly left out, as they are below the others.
pub(super) fn layers_of(record: &CacheRecord, result: usize) -> Vec<usize> {
    if let Some(result) = record.results.get(result) {
        return vec![result.layer];
    }
    let chain = result.checked_sub(record.results.len());
    let chain = chain.and_then(|chain| record.chains.get(chain));
    chain.map(|chain| chain.layers.clone()).unwrap_or_default()
}

/// Keeps some results, and the records and layers that they need, in the order they have.
pub(super) fn reduce(config: &CacheConfig, kept: &HashSet<Place>) -> CacheConfig {
    let record_at = moved(&needed_records(config, kept));
    let layer_at = moved(&needed_layers(config, kept));
    let mut smaller = CacheConfig {
        other: config.other.clone(),
        ..CacheConfig::default()
    };
    let new_place = |at: &[Option<usize>], old: usize| at.get(old).copied().flatten();
    let move_layer = |old| new_place(&layer_at, old).unwrap_or_default();
    for (old, layer) in config.layers.iter().enumerate() {
        if new_place(&layer_at, old).is_some() {
            let mut layer = layer.clone();
            layer.parent = Parent(layer.parent.0.map(move_layer));
            smaller.layers.push(layer);
        }
    }
    for (old, record) in config.records.iter().enumerate() {
        if new_place(&record_at, old).is_none() {
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
            input.link = new_place(&record_at, input.link).unwrap_or_default();
        }
        smaller.records.push(record);
    }
    smaller
}

/// Keeps some records by their indexes, with the contents of files that they lead to. Links to all others go, and with
/// them what no result of these records needs.
pub(super) fn only(config: &CacheConfig, wanted: &BTreeSet<usize>) -> CacheConfig {
    let record = |at: &usize| Some((*at, config.records.get(*at)?));
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (at, record) in wanted.iter().filter_map(record) {
        kept.insert(at);
        let links = record.inputs.iter().flatten().map(|input| input.link);
        let is_root = |at: &usize| {
            let record = config.records.get(*at);
            record.is_some_and(|record| record.inputs.is_empty())
        };
        kept.extend(links.filter(is_root));
    }
    let new_at: HashMap<usize, usize> =
        kept.iter().zip(0..).map(|(old, new)| (*old, new)).collect();
    let moved = |record: &CacheRecord| {
        let mut record = record.clone();
        for links in &mut record.inputs {
            links.retain_mut(|link| match new_at.get(&link.link) {
                Some(new) => {
                    link.link = *new;
                    true
                }
                None => false,
            });
        }
        record
    };
    let records = kept.iter().filter_map(record);
    let smaller = CacheConfig {
        layers: config.layers.clone(),
        records: records.map(|(_, record)| moved(record)).collect(),
        other: config.other.clone(),
    };
    let results = smaller.records.iter().enumerate();
    let results = results.flat_map(|(record, content)| {
        let count = content.results.len() + content.chains.len();
        (0..count).map(move |result| Place { record, result })
    });
    let results: HashSet<Place> = results.collect();
    reduce(&smaller, &results)
}

fn only_kept(record: &CacheRecord, index: usize, kept: &HashSet<Place>) -> CacheRecord {
    let keep = |result| {
        kept.contains(&Place {
            record: index,
            result,
        })
    };
    let results = record.results.iter().enumerate();
    let chains = (record.results.len()..).zip(&record.chains);
    CacheRecord {
        results: results
            .filter(|(result, _)| keep(*result))
            .map(|(_, result)| result.clone())
            .collect(),
        chains: chains
            .filter(|(result, _)| keep(*result))
            .map(|(_, chain)| chain.clone())
            .collect(),
        digest: record.digest.clone(),
        inputs: record.inputs.clone(),
        other: record.other.clone(),
    }
}

/// The records of the results and, of those, all inputs: true where one is needed.
fn needed_records(config: &CacheConfig, kept: &HashSet<Place>) -> Vec<bool> {
    let mut needed = vec![false; config.records.len()];
    let mut open: Vec<usize> = kept.iter().map(|place| place.record).collect();
    while let Some(index) = open.pop() {
        if let Some(slot) = needed.get_mut(index).filter(|slot| !**slot)
            && let Some(record) = config.records.get(index)
        {
            *slot = true;
            open.extend(record.inputs.iter().flatten().map(|input| input.link));
        }
    }
    needed
}

/// The layers of the results with all below them: true where one is needed.
fn needed_layers(config: &CacheConfig, kept: &HashSet<Place>) -> Vec<bool> {
    let mut needed = vec![false; config.layers.len()];
    for place in kept {
        let Some(record) = config.records.get(place.record) else {
            continue;
        };
        let mut open = layers_of(record, place.result);
        while let Some(layer) = open.pop() {
            if let Some(slot) = needed.get_mut(layer).filter(|slot| !**slot) {
                *slot = true;
                open.extend(config.layers.get(layer).and_then(|l| l.parent.0));
            }
        }
    }
    needed
}

/// Where each one that is needed is found afterwards.
fn moved(needed: &[bool]) -> Vec<Option<usize>> {
    let mut next = 0..;
    needed
        .iter()
        .map(|needed| needed.then(|| next.next()).flatten())
        .collect()
}
