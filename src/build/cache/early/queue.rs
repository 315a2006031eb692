//! Which finished step is exported next.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::buildkit::llb::Graph;

/// A step, or several that are exported together, that took so long is exported at once.
const LONG: Duration = Duration::from_secs(1);
/// A short step waits so long for another to ride along with.
const PATIENCE: Duration = Duration::from_secs(1);
/// Exports of short steps alone are so far apart.
const GAP: Duration = Duration::from_secs(2);
/// All exports are so far apart for each step below them. The builder walks through all of those, a millisecond or so each:
/// without a distance that grows with them such walks would cost the square of the number of steps.
const FOR_EACH: Duration = Duration::from_millis(25);

/// The finished steps of a build.
#[derive(Debug)]
pub(super) struct Queue {
    graph: Graph,
    /// The steps whose layers are in the result.
    chain: HashSet<String>,
    /// Only those are wanted.
    chain_only: bool,
    finished: HashMap<String, Finished>,
    /// Steps that an export has, whether it is over or not.
    taken: HashSet<String>,
    last_start: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Finished {
    /// How long it ran; nothing if its result was found.
    ran: Option<Duration>,
    at: Instant,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Export the part that ends at this step.
    Export(String),
    /// Ask again at this time.
    Wait(Instant),
    /// Wait until another step has finished.
    Nothing,
}

impl Queue {
    /// Creates an empty queue. With `chain_only` the steps whose layers are not in the result do not
    /// count, because no cache is of `mode=max`.
    pub(super) fn new(graph: Graph, chain_only: bool) -> Self {
        let chain = graph.result_chain().into_iter().map(str::to_owned);
        Self {
            chain: chain.collect(),
            graph,
            chain_only,
            finished: HashMap::new(),
            taken: HashSet::new(),
            last_start: None,
        }
    }

    /// Takes note of a step that has finished. `ran` is nothing if its result was found.
    pub(super) fn finish(&mut self, digest: &str, ran: Option<Duration>, now: Instant) {
        if self.graph.makes_layers(digest) && (!self.chain_only || self.in_result(digest)) {
            let step = Finished { ran, at: now };
            self.finished.entry(digest.to_owned()).or_insert(step);
        }
    }

    /// Returns whether a step's layers are in the result.
    pub(super) fn in_result(&self, digest: &str) -> bool {
        self.chain.contains(digest)
    }

    /// Returns the graph of the build.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Chooses the step to export: of those that no other waiting step is made of, the one that took
    /// longest with all that ride along. Steps that were found and not run wait for the end.
    pub(super) fn next(&self, now: Instant) -> Next {
        let waiting: HashMap<&str, Finished> = self
            .finished
            .iter()
            .filter(|(digest, step)| step.ran.is_some() && !self.taken.contains(*digest))
            .map(|(digest, step)| (digest.as_str(), *step))
            .collect();
        let Some(first) = waiting.values().map(|step| step.at).min() else {
            return Next::Nothing;
        };
        let mut best: Option<(Duration, &str, usize)> = None;
        let with_inputs = |step| self.graph.with_inputs(step);
        for last in last_of(waiting.keys().copied(), with_inputs) {
            let together = self.graph.with_inputs(last);
            let ran = together.iter().filter_map(|step| waiting.get(step)?.ran);
            let found = (ran.sum(), last, together.len());
            best = best.max(Some(found));
        }
        let Some((ran, step, below)) = best else {
            return Next::Nothing;
        };
        let apart = FOR_EACH * u32::try_from(below).unwrap_or(u32::MAX);
        let (patient, apart) = if ran >= LONG {
            (now, apart)
        } else {
            (first + PATIENCE, apart.max(GAP))
        };
        let due = self
            .last_start
            .map_or(patient, |last| patient.max(last + apart));
        if due <= now {
            Next::Export(step.to_owned())
        } else {
            Next::Wait(due)
        }
    }

    /// Takes note of an export that has begun, with all steps that it has.
    pub(super) fn start(&mut self, digest: &str, now: Instant) {
        let steps = self.graph.with_inputs(digest).into_iter();
        self.taken.extend(steps.map(str::to_owned));
        self.last_start = Some(now);
    }

    /// Returns the finished steps that no other finished step is made of: all others come along with
    /// them. With `in_result` only steps count whose layers are in the result.
    pub(super) fn last_finished(&self, in_result: bool) -> Vec<String> {
        let counted = self.finished.keys().map(String::as_str);
        let counted = counted.filter(|step| !in_result || self.in_result(step));
        sorted(last_of(counted, |step| self.graph.with_inputs(step)).into_iter())
    }

    /// Returns the steps of the result that a step is made of, itself among them: those with which all others come
    /// along, lying below them. They have all finished if the step has.
    pub(super) fn result_below(&self, step: &str) -> Vec<String> {
        let below = self.graph.with_inputs(step).into_iter();
        let counted = below.filter(|step| self.in_result(step) && self.graph.makes_layers(step));
        sorted(last_of(counted, |step| self.graph.chain_of(step)).into_iter())
    }

    /// Returns the last steps of the chains of layers that no export has whole: finished steps whose layers
    /// lie on each other.
    pub(super) fn chains(&self) -> Vec<String> {
        let is_open = |last: &&str| {
            let mut chain = self.graph.chain_of(last).into_iter();
            chain.any(|step| self.finished.contains_key(step) && !self.taken.contains(step))
        };
        let finished = self.finished.keys().map(String::as_str);
        let last = last_of(finished, |step| self.graph.chain_of(step));
        sorted(last.into_iter().filter(is_open))
    }
}

/// Returns the steps that are not below another one.
fn last_of<'a>(
    steps: impl Iterator<Item = &'a str>,
    with_below: impl Fn(&'a str) -> HashSet<&'a str>,
) -> HashSet<&'a str> {
    let steps: HashSet<&str> = steps.collect();
    let mut last = steps.clone();
    for step in steps {
        // One that is below another has all that is below itself below that one too.
        if last.contains(step) {
            let below = with_below(step);
            last.retain(|other| *other == step || !below.contains(other));
        }
    }
    last
}

fn sorted<'a>(steps: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut steps: Vec<String> = steps.map(str::to_owned).collect();
    steps.sort();
    steps
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{Definition, ExecOp, Input, Mount, Op, op};
    use prost::Message as _;

    use super::*;
    use crate::digest::Digest;

    /// Adds a step that lies on the first input and reads the others; returns its digest.
    fn step(definition: &mut Definition, name: &str, inputs: &[&str]) -> String {
        let mounts = inputs.iter().enumerate().map(|(at, _)| Mount {
            input: i64::try_from(at).unwrap(),
            dest: if at == 0 {
                "/".into()
            } else {
                format!("/{at}")
            },
            ..Mount::default()
        });
        let inputs = inputs.iter().map(|digest| Input {
            digest: (*digest).to_owned(),
            index: 0,
        });
        let op = Op {
            inputs: inputs.collect(),
            op: (!name.is_empty()).then(|| {
                op::Op::Exec(ExecOp {
                    mounts: mounts.collect(),
                    cdi_devices: vec![bollard_buildkit_proto::pb::CdiDevice {
                        name: name.into(),
                        ..Default::default()
                    }],
                    ..ExecOp::default()
                })
            }),
            ..Op::default()
        };
        let bytes = op.encode_to_vec();
        let digest = Digest::of(&bytes).to_string();
        definition.def.push(bytes);
        digest
    }

    /// one → two → end (which reads tool)
    fn queue(chain_only: bool) -> (Queue, [String; 4]) {
        let mut definition = Definition::default();
        let one = step(&mut definition, "one", &[]);
        let two = step(&mut definition, "two", &[&one]);
        let tool = step(&mut definition, "tool", &[]);
        let end = step(&mut definition, "end", &[&two, &tool]);
        step(&mut definition, "", &[&end]);
        let graph = Graph::of([&definition]).unwrap();
        (Queue::new(graph, chain_only), [one, two, tool, end])
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_long_step_goes_at_once_and_takes_those_below_along() {
        let (mut queue, [one, two, ..]) = queue(false);
        let now = Instant::now();
        assert_eq!(queue.next(now), Next::Nothing);
        queue.finish(&one, Some(SECOND / 10), now);
        queue.finish(&two, Some(SECOND), now);
        assert_eq!(queue.next(now), Next::Export(two.clone()));
        queue.start(&two, now);
        assert_eq!(queue.next(now), Next::Nothing);
    }

    #[test]
    fn a_short_step_waits_for_company() {
        let (mut queue, [one, _, tool, _]) = queue(false);
        let now = Instant::now();
        queue.finish(&one, Some(SECOND / 10), now);
        assert_eq!(queue.next(now), Next::Wait(now + PATIENCE));
        assert_eq!(queue.next(now + PATIENCE), Next::Export(one.clone()));
        queue.start(&one, now + PATIENCE);
        queue.finish(&tool, Some(SECOND / 10), now + PATIENCE);
        let later = now + PATIENCE + GAP;
        assert_eq!(queue.next(now + PATIENCE), Next::Wait(later));
        assert_eq!(queue.next(later), Next::Export(tool));
    }

    #[test]
    fn what_has_many_steps_below_waits_longer_for_its_turn() {
        let mut definition = Definition::default();
        let mut chain = vec![step(&mut definition, "0", &[])];
        for number in 1..200 {
            let below = chain[number - 1].clone();
            chain.push(step(&mut definition, &number.to_string(), &[&below]));
        }
        step(&mut definition, "", &[&chain[199]]);
        let mut queue = Queue::new(Graph::of([&definition]).unwrap(), false);
        let now = Instant::now();
        queue.finish(&chain[198], Some(SECOND * 2), now);
        assert_eq!(queue.next(now), Next::Export(chain[198].clone()));
        queue.start(&chain[198], now);
        queue.finish(&chain[199], Some(SECOND * 2), now + SECOND);
        let due = now + FOR_EACH * 200;
        assert_eq!(queue.next(now + SECOND), Next::Wait(due));
        assert_eq!(queue.next(due), Next::Export(chain[199].clone()));
    }

    #[test]
    fn the_longest_goes_first() {
        let (mut queue, [one, two, tool, _]) = queue(false);
        let now = Instant::now();
        queue.finish(&tool, Some(SECOND * 2), now);
        queue.finish(&one, Some(SECOND * 2), now);
        queue.finish(&two, Some(SECOND), now);
        assert_eq!(queue.next(now), Next::Export(two));
    }

    #[test]
    fn what_was_found_waits_for_the_end() {
        let (mut queue, [one, two, tool, end]) = queue(false);
        let now = Instant::now();
        queue.finish(&one, None, now);
        queue.finish(&two, None, now);
        queue.finish(&tool, None, now);
        queue.finish("sha256:unknown", Some(SECOND), now);
        assert_eq!(queue.next(now + SECOND * 9), Next::Nothing);
        let mut last = vec![two.clone(), tool];
        last.sort();
        assert_eq!(queue.last_finished(false), last);
        assert_eq!(queue.last_finished(true), [two]);
        queue.finish(&end, Some(SECOND), now);
        assert_eq!(queue.last_finished(false), [end]);
    }

    #[test]
    fn each_chain_of_layers_is_exported_by_itself_at_the_end() {
        let (mut queue, [one, two, tool, end]) = queue(false);
        let now = Instant::now();
        queue.finish(&one, None, now);
        queue.finish(&two, None, now);
        assert_eq!(queue.chains(), [two]);
        queue.finish(&tool, Some(SECOND), now);
        queue.finish(&end, Some(SECOND), now);
        let mut both = vec![end.clone(), tool.clone()];
        both.sort();
        assert_eq!(queue.chains(), both, "end lies on two, and reads tool");
        queue.start(&tool, now);
        assert_eq!(queue.chains(), [end.as_str()]);
        queue.start(&end, now);
        assert!(queue.chains().is_empty());
    }

    #[test]
    fn layers_of_the_result_are_found_below_every_step() {
        let mut definition = Definition::default();
        let one = step(&mut definition, "one", &[]);
        let two = step(&mut definition, "two", &[&one]);
        let tool = step(&mut definition, "tool", &[&one]);
        let other = step(&mut definition, "other", &[]);
        let end = step(&mut definition, "end", &[&two, &tool, &other]);
        step(&mut definition, "", &[&end]);
        let queue = Queue::new(Graph::of([&definition]).unwrap(), false);
        assert_eq!(queue.result_below(&tool), [one.as_str()]);
        assert_eq!(queue.result_below(&two), [two.as_str()]);
        assert_eq!(queue.result_below(&end), [end.as_str()]);
        assert!(queue.result_below(&other).is_empty());
    }

    #[test]
    fn only_the_result_counts_without_a_max_cache() {
        let (mut queue, [one, _, tool, _]) = queue(true);
        let now = Instant::now();
        queue.finish(&tool, Some(SECOND * 9), now);
        assert_eq!(queue.next(now), Next::Nothing);
        assert!(queue.chains().is_empty());
        queue.finish(&one, Some(SECOND), now);
        assert_eq!(queue.next(now), Next::Export(one.clone()));
        assert_eq!(queue.chains(), [one]);
    }
}
