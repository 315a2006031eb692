//! The caches of a report.

use super::facts::{Found, NodeFacts, WrittenCache};
use super::model::{
    Export, ExportKind, Outcome, ReadCache, ReadStatus, Status, WriteStatus, Written,
};
use super::step::{shown, told};

/// Returns the caches that were to be read. Several nodes read the same ones.
pub(super) fn read(nodes: &[NodeFacts<'_>], steps: &[Found]) -> Vec<ReadCache> {
    let mut read: Vec<ReadCache> = Vec::new();
    let known = nodes.iter().enumerate();
    let known = known.filter_map(|(number, node)| Some((number, node.known?)));
    let caches = known.flat_map(|(number, known)| known.caches.iter().map(move |c| (number, c)));
    for (number, cache) in caches {
        let hits = cache.has.as_ref().map(|has| {
            let of_node = steps.iter().filter(|found| found.node == number);
            let hits = of_node.filter(|found| {
                let is_cached = found.step.counted && found.step.status == Status::Cached;
                is_cached && found.members.iter().any(|at| has.contains(at))
            });
            hits.count()
        });
        let name = shown(&cache.name);
        if let Some(same) = read.iter_mut().find(|same| same.name == name) {
            same.hits = same.hits.into_iter().chain(hits).reduce(|a, b| a + b);
            continue;
        }
        let status = match (&cache.has, &cache.error) {
            (Some(_), _) => ReadStatus::Read,
            (None, None) => ReadStatus::Missing,
            (None, Some(_)) => ReadStatus::Unreadable,
        };
        let of_it = steps.iter().map(|found| &found.step);
        let of_it = of_it.filter(|step| step.cache.as_ref() == Some(&cache.name));
        let bytes = of_it.filter_map(|step| step.bytes);
        read.push(ReadCache {
            status,
            error: cache.error.as_deref().map(told),
            age: cache.age.clone(),
            commit: cache.commit.as_deref().map(shown),
            hits,
            bytes: bytes.reduce(u64::saturating_add),
            name,
        });
    }
    read
}

/// Returns the caches that were to be written. This program's exports have the names of their caches; the builder's have
/// not, and are taken in order.
pub(super) fn written(
    caches: &[WrittenCache],
    exports: &[Export],
    steps: &[Found],
    result: Outcome,
) -> Vec<Written> {
    let exports = || exports.iter().filter(|e| e.kind == ExportKind::Cache);
    let own = |cache: &WrittenCache| format!("exporting cache to {}", shown(&cache.name));
    let names: Vec<String> = caches.iter().map(own).collect();
    let mut others = exports().filter(|export| !names.contains(&export.name));
    let steps_end = steps_end(steps);
    let one = |(cache, name): (&WrittenCache, &String)| {
        let own = exports().filter(|export| export.name == *name);
        let mut of_it: Vec<&Export> = own.collect();
        if of_it.is_empty() {
            of_it.extend(others.next());
        }
        let failed = of_it.iter().find(|export| export.status != Status::Ran);
        let is_inside = cache.is_inline && result == Outcome::Succeeded;
        let status = match failed {
            Some(_) => WriteStatus::Failed,
            None if !of_it.is_empty() || is_inside => WriteStatus::Written,
            None => WriteStatus::Skipped,
        };
        let bytes = of_it.iter().filter_map(|export| export.bytes);
        let ends = of_it
            .iter()
            .filter_map(|export| Some(export.spans.last()?.1));
        let after = ends.max().zip(steps_end);
        Written {
            name: shown(&cache.name),
            status,
            error: failed.and_then(|export| export.error.clone()),
            bytes: bytes.reduce(u64::saturating_add),
            after_steps_ms: after.map(|(end, steps)| end.saturating_sub(steps)),
        }
    };
    caches.iter().zip(&names).map(one).collect()
}

/// Returns when the last step ended that ran. Layers of cached steps may be fetched later, for the exports.
fn steps_end(steps: &[Found]) -> Option<u64> {
    let counted = steps.iter().map(|found| &found.step);
    let counted = counted.filter(|step| step.counted);
    let ends = counted.filter_map(|step| {
        let end = step.spans.last()?.1;
        Some((step.status != Status::Cached, end))
    });
    ends.max().map(|(_, end)| end)
}
