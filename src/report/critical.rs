//! The steps that a build had to wait for.

use std::collections::BTreeSet;

use super::model::{Status, Step};

/// A step begins a little after the one that it waits for, in milliseconds.
const PAUSE: u64 = 10;

/// Marks the chain of steps that ends with the last one that ran, or was loaded where none ran: of all that a step is made
/// of, the one that it had to wait for longest. Layers that are fetched after a step has begun, such as for an export, held
/// nothing up. Steps that took no time are passed through and not marked.
pub(super) fn mark(steps: &mut [Step]) {
    let Some(last) = last(steps) else { return };
    let mut seen = BTreeSet::new();
    let mut limit = u64::MAX;
    let mut next = Some(last);
    while let Some(at) = next.filter(|at| seen.insert(*at)) {
        let Some(step) = steps.get_mut(at) else {
            return;
        };
        let waited = step.spans.iter().rfind(|span| span.1 <= limit);
        if let Some((from, to)) = waited.filter(|(from, to)| to > from) {
            step.critical = true;
            limit = from.saturating_add(PAUSE).min(*to);
        }
        let inputs = step.inputs.clone();
        let inputs = inputs.into_iter().filter(|input| !seen.contains(input));
        next = inputs.max_by_key(|input| {
            let spans = steps.get(*input).map(|step| &step.spans);
            let ends = spans.into_iter().flatten().map(|span| span.1);
            ends.filter(|end| *end <= limit).max()
        });
    }
}

/// Returns the step that the build ended with.
fn last(steps: &[Step]) -> Option<usize> {
    let took_time = steps.iter();
    let took_time = took_time.filter(|step| step.counted && step.duration_ms > 0);
    let key = |step: &&Step| {
        let is_made = step.status != Status::Cached;
        (is_made, step.spans.last().map(|span| span.1))
    };
    took_time.max_by_key(key).map(|step| step.id)
}
