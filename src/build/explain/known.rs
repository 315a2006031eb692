//! What a report is told of the steps of a build.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::caches::{Caches, ReadCache};
use super::findings::age;
use crate::cache::keys::{Facts, Keys, Plan, record};
use crate::cache::outline::Names;
use crate::cache::record::name;
use crate::digest::Digest;
use crate::report::{Known, KnownCache};

/// Returns the names of the steps without the values of variables.
pub(super) fn names(plan: &Plan) -> Vec<String> {
    plan.vertices().iter().map(name::plain).collect()
}

/// Returns what is known of the steps and of the caches, where these were looked into.
pub(super) fn known(plan: &Arc<Plan>, names: Vec<String>, caches: Option<&Caches>) -> Known {
    let mut known = Known {
        plan: Arc::clone(plan),
        names,
        ..Known::default()
    };
    let Some(caches) = caches else { return known };
    // The keys of commands and copies are those of their own bytes: no file must be read for them.
    let keys = Keys::of(plan, &Facts::default());
    let records = records(plan, &keys);
    for cache in &caches.read {
        known.caches.push(KnownCache {
            name: cache.name.clone(),
            age: age(&cache.config),
            commit: cache.commit(),
            has: Some(had(cache, &records)),
            error: None,
        });
        let times = Names::of(cache.record.as_deref());
        for (vertex, records) in &records {
            let took = records
                .iter()
                .find_map(|key| times.get(key.as_str())?.1.milliseconds);
            if let Some(took) = took {
                known.times.entry(*vertex).or_insert(took);
            }
        }
    }
    let unread = caches.unread.iter().map(|(name, error)| KnownCache {
        name: name.clone(),
        error: error.clone(),
        ..KnownCache::default()
    });
    known.caches.extend(unread);
    known
}

/// Returns the digests that the records of the steps have in a cache, by the vertex.
fn records(plan: &Plan, keys: &Keys) -> BTreeMap<usize, Vec<Digest>> {
    let vertices = plan.vertices().iter().enumerate();
    let steps = vertices.filter(|(_, vertex)| vertex.makes_layers());
    let records = steps.filter_map(|(at, _)| {
        let key = keys.step(at).ok()?;
        let outputs = plan.outputs(at).collect::<Vec<_>>();
        let of_key = |key| outputs.iter().map(move |output| record(key, *output));
        Some((at, key.digests.iter().flat_map(of_key).collect()))
    });
    records.collect()
}

/// Returns the steps whose results a cache has.
fn had(cache: &ReadCache, records: &BTreeMap<usize, Vec<Digest>>) -> BTreeSet<usize> {
    let with_result = cache.config.records.iter();
    let with_result = with_result.filter(|r| !(r.results.is_empty() && r.chains.is_empty()));
    let digests: HashSet<&str> = with_result.map(|record| record.digest.as_str()).collect();
    let had = records.iter().filter(|(_, records)| {
        let mut records = records.iter();
        records.any(|record| digests.contains(record.as_str()))
    });
    had.map(|(vertex, _)| *vertex).collect()
}
