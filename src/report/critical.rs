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
    let mut waiting: BTreeSet<usize> = BTreeSet::new();
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
        // A step out of a cache is loaded when all else is there that the step after it needs.
        if step.status != Status::Cached {
            waiting.clear();
        }
        waiting.extend(step.inputs.iter().filter(|input| !seen.contains(input)));
        next = waiting.iter().copied().max_by_key(|input| {
            let spans = steps.get(*input).map(|step| &step.spans);
            let ends = spans.into_iter().flatten().map(|span| span.1);
            ends.filter(|end| *end <= limit).max()
        });
        if let Some(next) = next {
            waiting.remove(&next);
        }
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

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

    use crate::report::testing::{Build, cached, facts};
    use crate::report::{Ending, NodeFacts, collect};

    #[test]
    fn layers_that_are_loaded_when_all_else_is_there_hide_nothing() {
        let mut build = Build::new();
        let names = [
            ("[build 1/2] FROM debian", 1, &[][..]),
            ("[build 2/2] RUN make", 2, &[0]),
            ("[stage-1 2/3] RUN useradd", 4, &[0]),
            ("[stage-1 3/3] COPY --from=build /out /out", 5, &[2, 1]),
        ];
        for (name, line, inputs) in names {
            build.step(name, line, inputs);
        }
        build.report(0, names[0].0, (0, 50), Vertex::default());
        build.report(1, names[1].0, (50, 1_000), Vertex::default());
        build.report(2, names[2].0, (60, 60), cached());
        build.report(2, names[2].0, (1_005, 1_100), Vertex::default());
        build.report(3, names[3].0, (1_102, 1_200), Vertex::default());
        let known = build.known();
        let node = NodeFacts {
            name: None,
            model: &build.model,
            known: Some(&known),
        };
        let report = collect(facts(Ending::Succeeded, 1_300), &[node]);
        let critical = report.steps.iter().filter(|step| step.critical);
        let lines: Vec<_> = critical.filter_map(|step| step.line).collect();
        assert_eq!(lines, [1, 2, 4, 5]);
    }
}
