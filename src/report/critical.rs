//! The steps that a build had to wait for.

use std::collections::BTreeSet;

use super::model::Step;

/// Marks the chain of steps that ends with the one that ended last: of all that a step is made of, the one that ended
/// last. Steps that took no time are passed through and not marked.
pub(super) fn mark(steps: &mut [Step]) {
    let end = |step: &Step| step.spans.last().map(|span| span.1);
    let took_time = steps
        .iter()
        .filter(|step| step.duration_ms > 0 && step.counted);
    let Some(last) = took_time.max_by_key(|step| end(step)).map(|step| step.id) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let mut next = Some(last);
    while let Some(at) = next.filter(|at| seen.insert(*at)) {
        let Some(step) = steps.get_mut(at) else {
            return;
        };
        step.critical = step.duration_ms > 0;
        let inputs = step.inputs.clone();
        let inputs = inputs.into_iter().filter(|input| !seen.contains(input));
        next = inputs.max_by_key(|input| steps.get(*input).and_then(end));
    }
}
