//! How much of a build came out of caches.

use std::collections::BTreeMap;

use super::{Outcome, Outcomes};
use crate::cache::keys::Plan;

/// Steps of a build: those of the Dockerfile that make layers, on all platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Those that did not run.
    pub served: usize,
    /// All.
    pub all: usize,
}

impl Rate {
    /// Counts the steps. Those that the frontend adds are not counted, nor are steps on nothing, which no
    /// cache keeps; a step of two vertices is one, and so are twins of which the builder made one.
    pub fn of(plan: &Plan, outcomes: &Outcomes) -> Self {
        let mut steps: BTreeMap<&str, bool> = BTreeMap::new();
        for (at, vertex) in plan.vertices().iter().enumerate() {
            let is_own = !vertex.name.is_empty() && !vertex.name.starts_with("[internal]");
            let outcome = outcomes.get(at);
            let counts = is_own && !vertex.inputs.is_empty() && outcome != Outcome::Twin;
            if vertex.makes_layers() && counts {
                let served = matches!(outcome, Outcome::Served | Outcome::NotTold);
                *steps.entry(&vertex.name).or_insert(true) &= served;
            }
        }
        Self {
            served: steps.values().filter(|served| **served).count(),
            all: steps.len(),
        }
    }

    /// Returns whether at least this share was served, in per cent. Of no steps all were.
    pub fn is_at_least(&self, percent: f64) -> bool {
        self.percent() >= percent
    }

    /// Returns the share that was served, in per cent.
    pub fn percent(&self) -> f64 {
        let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
        if self.all == 0 {
            return 100.0;
        }
        number(self.served) * 100.0 / number(self.all)
    }
}
