//! The sums of a report.

use super::facts::{Found, NodeFacts};
use super::model::{Status, Totals};
use crate::progress::Traffic;

/// Adds up the steps and the bytes.
pub(super) fn totals(steps: &[Found], nodes: &[NodeFacts<'_>]) -> Totals {
    let count = |status: Status| {
        let counted = steps.iter().filter(|found| found.step.counted);
        counted.filter(|found| found.step.status == status).count()
    };
    let (cached, ran) = (count(Status::Cached), count(Status::Ran));
    let (failed, canceled) = (count(Status::Failed), count(Status::Canceled));
    let all = cached + ran + failed + canceled;
    let sum = |of: fn(Traffic) -> Option<u64>| {
        let known = nodes.iter().filter_map(|node| of(node.model.traffic()));
        known.reduce(u64::saturating_add)
    };
    let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    Totals {
        steps: all,
        cached,
        ran,
        failed,
        canceled,
        hit_rate: (all > 0).then(|| (number(cached) * 1000.0 / number(all)).floor() / 10.0),
        saved_ms: saved(steps, nodes),
        sent_bytes: sum(|traffic| traffic.sent),
        received_bytes: sum(|traffic| traffic.received),
        mounts_sent_bytes: sum(|traffic| traffic.mounts_sent),
        mounts_received_bytes: sum(|traffic| traffic.mounts_received),
    }
}

/// Returns about how much time caches have saved.
fn saved(steps: &[Found], nodes: &[NodeFacts<'_>]) -> Option<u64> {
    let cached = steps.iter();
    let cached = cached.filter(|found| found.step.counted && found.step.status == Status::Cached);
    let mut saved: Option<u64> = None;
    let mut loading: u64 = 0;
    for found in cached {
        loading = loading.saturating_add(found.step.duration_ms);
        let known = nodes.get(found.node).and_then(|node| node.known);
        let times = known.map(|known| &known.times);
        let took = found.members.iter().filter_map(|at| times?.get(at)).max();
        if let Some(took) = took {
            saved = Some(saved.unwrap_or(0).saturating_add(*took));
        }
    }
    saved.map(|saved| saved.saturating_sub(loading))
}
