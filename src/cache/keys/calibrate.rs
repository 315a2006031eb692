//! Whether a builder computes keys as this program does.
//!
//! What a builder has just exported must hold the keys of the steps that it has just built. Where it does
//! not, its version computes them otherwise, and nothing may be concluded from such keys.

use std::collections::BTreeMap;

use super::compare::{Comparison, State};
use super::plan::{Kind, Plan, Vertex};
use super::{Content, Keys, Unknown};

/// Returns whether caches prove that all kinds of keys of a plan are computed here as by who wrote them: of each kind one
/// of them has a step, and of steps that read local files one with the same files. Without that, a step that is not found
/// may be there all the same, under a key that is computed in another way.
pub fn are_proven(plan: &Plan, keys: &Keys, caches: &[Comparison]) -> bool {
    let mut kinds: BTreeMap<Kind, bool> = BTreeMap::new();
    for (at, vertex) in plan.vertices().iter().enumerate() {
        let mut states = caches.iter().map(|cache| cache.state(at));
        let is_there = |state: &State| !matches!(state, State::New | State::Unknown(_));
        let is_source = vertex.kind() == Kind::Image;
        if is_source || (vertex.makes_layers() && !vertex.inputs.is_empty()) {
            *kinds.entry(vertex.kind()).or_default() |= states.clone().any(is_there);
        }
        let mut contents = (0..vertex.inputs.len()).map(|input| keys.content(at, input));
        if contents.any(|content| matches!(content, Content::Keys(_))) {
            let fits =
                |state: &State| matches!(state, State::Hit | State::NoLayer | State::LayerLost(_));
            *kinds.entry(Kind::Local).or_default() |= states.any(fits);
        }
    }
    kinds.values().all(|is_proven| *is_proven)
}

/// How many steps of each kind a fresh export holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calibration {
    kinds: BTreeMap<Kind, Count>,
    /// Steps with a key that the export does not hold.
    missing: Vec<usize>,
}

/// Steps of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that the export holds.
    pub found: usize,
    /// Those whose keys are known.
    pub all: usize,
}

impl Calibration {
    /// Looks at what a fresh export of the build itself holds. `made` says which steps the builder has made, or read:
    /// those must be there.
    pub fn new(plan: &Plan, keys: &Keys, fresh: &Comparison, made: impl Fn(usize) -> bool) -> Self {
        let mut calibration = Self::default();
        for (at, vertex) in plan.vertices().iter().enumerate() {
            let Ok(key) = keys.step(at) else { continue };
            if key.digests.is_empty() || !made(at) {
                continue;
            }
            let kind = vertex.kind();
            match fresh.state(at) {
                State::Hit | State::NoLayer | State::LayerLost(_) => {
                    calibration.count_one(kind, true);
                    let reads = (0..vertex.inputs.len())
                        .filter(|input| matches!(keys.content(at, *input), Content::Keys(_)));
                    for _ in reads {
                        calibration.count_one(Kind::Local, true);
                    }
                }
                State::New => {
                    calibration.count_one(kind, false);
                    calibration.missing.push(at);
                }
                State::OtherInputs(inputs) => {
                    for input in inputs {
                        calibration.count_input(plan, fresh, at, *input);
                    }
                }
                State::Perhaps(_) | State::Unknown(_) => {}
            }
        }
        calibration
    }

    /// Counts a step that the export has on other inputs than ours.
    fn count_input(&mut self, plan: &Plan, fresh: &Comparison, vertex: usize, input: usize) {
        let Some(step) = plan.vertices().get(vertex) else {
            return;
        };
        let Some(Some(edge)) = step.inputs.get(input) else {
            return;
        };
        let source = plan.vertices().get(edge.vertex).map(Vertex::kind);
        let is_found = matches!(fresh.state(edge.vertex), State::Hit | State::NoLayer);
        // A step that lies on one that is missing says nothing about its own kind.
        if source == Some(Kind::Local) {
            self.count_one(Kind::Local, false);
        } else if is_found {
            self.count_one(step.kind(), false);
        } else {
            return;
        }
        self.missing.push(vertex);
    }

    fn count_one(&mut self, kind: Kind, found: bool) {
        let count = self.kinds.entry(kind).or_default();
        count.all += 1;
        count.found += usize::from(found);
    }

    /// Returns the steps of a kind.
    pub fn count(&self, kind: Kind) -> Count {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// Returns whether keys of a kind may be believed: nothing speaks against it.
    pub fn trusts(&self, kind: Kind) -> bool {
        let count = self.count(kind);
        count.all == 0 || count.found > 0
    }

    /// Forgets the keys that the builder computes otherwise.
    pub fn apply(&self, plan: &Plan, keys: &mut Keys) {
        let wrong: Vec<bool> = plan
            .vertices()
            .iter()
            .enumerate()
            .map(|(at, vertex)| {
                let inputs = 0..vertex.inputs.len();
                let mut contents = inputs.map(|input| keys.content(at, input));
                let reads = contents.any(|content| matches!(content, Content::Keys(_)));
                !self.trusts(vertex.kind())
                    || (reads && !self.trusts(Kind::Local))
                    || self.missing.contains(&at)
            })
            .collect();
        keys.forget(|at| wrong.get(at)?.then_some(Unknown::Untrusted));
    }
}
