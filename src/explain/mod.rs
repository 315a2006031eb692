//! Why the steps of a build ran.
//!
//! | file | holds |
//! |---|---|
//! | [`cause`] | the causes, each with its code |
//! | [`mod@diagnose`] | which steps have a cause of their own, and which only follow from others |
//! | `difference` | the files that differ |
//! | [`recorded`] | causes told more closely by the record that a cache carries |
//! | [`phrase`] | the causes in words |
//! | [`render`] | the lines under the summary of a build |
//! | [`table`] | the table of a forecast |
//! | [`rate`] | how much came out of caches |
//!
//! The way from a build to its lines: [`Plan::of`] the definitions, [`Keys::of`] the plan and the
//! [`Facts`], a [`Comparison`] with each cache config that was read, [`Outcomes::of_build`] what the
//! status stream said (or [`Outcomes::of_forecast`]), [`diagnose()`], [`render::lines`].
//!
//! Everything here is pure: the caller hands over the steps, what became of them, and the caches that
//! were read. Names that others wrote cannot steer a terminal in what is returned.

pub mod cause;
pub mod diagnose;
mod difference;
pub mod phrase;
pub mod rate;
pub mod recorded;
pub mod render;
pub mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::cause::{Cause, FileChange, Files, OwnFiles, Permissions, Variable, VariableChange};
pub use self::diagnose::{Details, Diagnosis, diagnose};
use crate::cache::config::CacheConfig;
use crate::cache::keys::compare::{Comparison, Fate};
use crate::cache::keys::twins::Twins;
use crate::cache::keys::{Facts, Keys, Place, Plan, Vertex};

/// What is to be explained.
#[derive(Debug)]
pub struct Build<'a> {
    /// The steps.
    pub plan: &'a Plan,
    /// Their keys.
    pub keys: &'a Keys,
    /// What the keys were computed of.
    pub facts: &'a Facts<'a>,
    /// What became of the steps, or will.
    pub outcomes: &'a Outcomes,
    /// The caches that were read.
    pub caches: &'a [Cache<'a>],
    /// The option that made steps run, such as `--no-cache`.
    pub asked: Option<&'a str>,
    /// The names of the build arguments that were given.
    pub arguments: &'a [String],
    /// The files that say what is built.
    pub own: &'a OwnFiles,
}

impl Build<'_> {
    /// Returns whether a variable is a build argument: one that was given, or that the Dockerfile declares.
    pub fn is_argument(&self, name: &str) -> bool {
        let is_given = self.arguments.iter().any(|given| given == name);
        is_given || self.plan.arguments().contains(name)
    }
}

/// A cache that was read.
#[derive(Debug)]
pub struct Cache<'a> {
    /// How it is called.
    pub name: String,
    /// How old it is, such as `2 hours`, where that is known.
    pub age: Option<String>,
    /// The commit that it was built from, where that is known.
    pub commit: Option<String>,
    /// What is in it.
    pub config: &'a CacheConfig,
    /// The steps in it.
    pub comparison: Comparison,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came out of a cache. In a forecast also: it is not needed.
    Served,
    /// It ran.
    Ran,
    /// It was made with a [twin](crate::cache::keys::twins) of it that ran, such as the same copy for another platform; of the step itself
    /// nothing was said.
    Twin,
    /// It has not begun: it was not needed, or the build ended before it.
    NotTold,
    /// Whether it will run depends on the files of a step before it.
    Perhaps,
    /// Nothing is known.
    Unknown,
}

/// What became of the steps of a plan.
#[derive(Debug, Clone, Default)]
pub struct Outcomes(Vec<Outcome>);

/// What the builder said of a step, in any of its messages: of a step out of a cache it may say again that
/// it has begun, when the layers are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// It has begun.
    pub started: bool,
    /// It came out of a cache.
    pub cached: bool,
}

impl Outcomes {
    /// Takes what the builder said of its steps, by digest. A builder may give a step another digest than
    /// the definition has; then its name must fit. Of two steps that are the same it tells one only.
    pub fn of_build(plan: &Plan, by_digest: &BTreeMap<String, (String, Status)>) -> Self {
        let by_name: BTreeMap<&str, Status> = by_digest
            .values()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, status)| (name.as_str(), *status))
            .collect();
        let outcome = |status: Status| match status {
            Status { cached: true, .. } => Outcome::Served,
            Status { started: true, .. } => Outcome::Ran,
            // All steps are announced.
            Status { started: false, .. } => Outcome::NotTold,
        };
        let vertices = plan.vertices().iter().map(|vertex| {
            let status = by_digest.get(&vertex.digest).map(|(_, status)| *status);
            let status = status.or_else(|| by_name.get(vertex.told_as.as_str()).copied());
            status.map_or(Outcome::NotTold, outcome)
        });
        let mut outcomes = Self(vertices.collect());
        outcomes.look_at_twins(plan);
        outcomes
    }

    /// Finds out what became of steps that were not told because others are the same.
    fn look_at_twins(&mut self, plan: &Plan) {
        let is_open = |at: &usize| {
            let vertex = plan.vertices().get(*at);
            self.get(*at) == Outcome::NotTold && vertex.is_some_and(Vertex::makes_layers)
        };
        let open: Vec<usize> = (0..self.0.len()).filter(is_open).collect();
        if open.is_empty() {
            return;
        }
        let twins = Twins::of(plan, &Keys::of(plan, &Facts::default()));
        for at in open {
            let of_twins: Vec<Outcome> = twins.of_vertex(at).map(|twin| self.get(twin)).collect();
            let has = |outcome| of_twins.contains(&outcome);
            if let Some(place) = self.0.get_mut(at) {
                *place = if has(Outcome::Ran) {
                    Outcome::Twin
                } else if has(Outcome::Served) {
                    Outcome::Served
                } else {
                    Outcome::NotTold
                };
            }
        }
    }

    /// Takes what will become of the steps.
    pub fn of_forecast(fates: &[Fate]) -> Self {
        let outcome = |fate: &Fate| match fate {
            Fate::Served => Outcome::Served,
            Fate::Perhaps => Outcome::Perhaps,
            Fate::Runs => Outcome::Ran,
            Fate::Unknown => Outcome::Unknown,
        };
        Self(fates.iter().map(outcome).collect())
    }

    /// Returns what became of a vertex.
    pub fn get(&self, vertex: usize) -> Outcome {
        self.0.get(vertex).copied().unwrap_or(Outcome::Unknown)
    }
}

/// A step as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Index of its vertex.
    pub vertex: usize,
    /// Its name, such as `[build 4/6] COPY . .`, as the frontend wrote it.
    pub name: String,
    /// Where it stands.
    pub place: Option<Place>,
}

/// Why a step ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The step.
    pub step: Step,
    /// Why.
    pub cause: Cause,
    /// The steps that ran only because this one did.
    pub followers: Vec<Step>,
}

/// A step that came out of a cache although one before it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reused {
    /// The step.
    pub step: Step,
    /// The step before it.
    pub although: Step,
}
