//! The steps of a build, looked up in its caches.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::bases::{self, Bases};
use super::caches::{Caches, newest};
use super::files::{Reader, Trees};
use super::{Builder, own_files};
use crate::build::request::{BuildRequest, NoCache};
use crate::cache::config::CacheConfig;
use crate::cache::keys::calibrate::Calibration;
use crate::cache::keys::compare::{Comparison, State};
use crate::cache::keys::{Facts, Keys, Plan, Unknown};
use crate::explain::recorded::Recorded;
use crate::explain::{Build, Cache, Diagnosis, Outcome, Outcomes, OwnFiles, diagnose};
use crate::text::human;

/// The steps, what is known of them, and what the caches have of them.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) plan: Arc<Plan>,
    pub(super) caches: Caches,
    trees: Trees,
    bases: Bases,
    own: OwnFiles,
    pub(super) keys: Keys,
    /// One for each cache that was read.
    pub(super) comparisons: Vec<Comparison>,
}

impl Findings {
    /// Reads the files of the wanted steps, and what else must be known, and looks up all steps. The builder is asked for the
    /// base images that are not known already.
    pub(super) async fn find(
        plan: Arc<Plan>,
        caches: Caches,
        wanted: &BTreeSet<usize>,
        reader: &Reader,
        (builder, bases): (&Builder, Bases),
    ) -> Self {
        let trees = reader.trees(&plan, wanted).await;
        let mut findings = Self {
            keys: Keys::of(&plan, &Facts::default()),
            own: own_files::of(&plan, reader.folders()),
            plan,
            caches,
            trees,
            bases,
            comparisons: Vec::new(),
        };
        findings.look_up();
        let next = findings.with_next(wanted);
        let is_open = |at: &usize| findings.is_unread(*at) || findings.is_unexplained(*at, wanted);
        if next.iter().any(is_open) {
            // A cache has the step, and what is before it decides.
            let all = findings.with_all_before(&next);
            findings.trees = reader.trees(&findings.plan, &all).await;
            findings.look_up();
        }
        let known = &findings.bases;
        let more = bases::ask(&findings.plan, &findings.comparisons, builder, known).await;
        if !more.is_empty() {
            findings.bases.extend(more);
            findings.look_up();
        }
        findings
    }

    fn look_up(&mut self) {
        let keys = Keys::of(&self.plan, &self.facts());
        self.keys = keys;
        self.compare();
    }

    fn compare(&mut self) {
        let caches = self.caches.read.iter();
        let compared =
            caches.map(|cache| Comparison::new(&self.plan, &self.keys, &cache.config, &cache.lost));
        self.comparisons = compared.collect();
    }

    fn facts(&self) -> Facts<'_> {
        let trees = self.trees.iter();
        Facts {
            trees: trees.map(|(name, tree)| (name.clone(), &**tree)).collect(),
            images: self.bases.clone(),
            ..Facts::default()
        }
    }

    /// Returns whether nothing can be said of a step because files were not read.
    fn is_unread(&self, at: usize) -> bool {
        let mut states = self.comparisons.iter().map(|cache| cache.state(at));
        states.any(|state| matches!(state, State::Unknown(Unknown::NotRead)))
    }

    /// Returns whether a step ran that no other one made run, and that a cache may have: as long as not all files are read
    /// that steps before it read, it cannot be told whether it does.
    fn is_unexplained(&self, at: usize, ran: &BTreeSet<usize>) -> bool {
        let Some(vertex) = self.plan.vertices().get(at).filter(|_| ran.contains(&at)) else {
            return false;
        };
        let mut inputs = vertex.inputs.iter().flatten();
        let mut states = self.comparisons.iter().map(|cache| cache.state(at));
        !inputs.any(|edge| ran.contains(&edge.vertex))
            && states.any(|state| matches!(state, State::Perhaps(_)))
    }

    /// Returns the steps with those that read them: they may have been served all the same.
    fn with_next(&self, steps: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut next = steps.clone();
        for (at, vertex) in self.plan.vertices().iter().enumerate() {
            let mut inputs = vertex.inputs.iter().flatten();
            if inputs.any(|edge| steps.contains(&edge.vertex)) {
                next.insert(at);
            }
        }
        next
    }

    /// Returns the steps with all that they are made of.
    fn with_all_before(&self, steps: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut all = steps.clone();
        let vertices = self.plan.vertices().iter().enumerate().rev();
        for (at, vertex) in vertices {
            if all.contains(&at) {
                all.extend(vertex.inputs.iter().flatten().map(|edge| edge.vertex));
            }
        }
        all
    }

    /// Forgets the keys that the builder computes otherwise, as the cache shows that it has just exported with these
    /// steps.
    pub(super) fn calibrate(&mut self, fresh: &CacheConfig, ran: &BTreeSet<usize>) {
        let comparison = Comparison::new(&self.plan, &self.keys, fresh, &HashSet::new());
        let bases = bases::of_steps(&self.plan, ran);
        let made = |at: usize| ran.contains(&at) || bases.contains(&at);
        let calibration = Calibration::new(&self.plan, &self.keys, &comparison, made);
        calibration.apply(&self.plan, &mut self.keys);
        self.compare();
    }

    /// Returns why the steps ran, and the caches as they are told.
    pub(super) fn diagnose<T>(
        &mut self,
        request: &BuildRequest,
        outcomes: &Outcomes,
        tell: impl FnOnce(&Build<'_>, &Diagnosis) -> T,
    ) -> T {
        let comparisons = std::mem::take(&mut self.comparisons);
        let caches = self.caches.read.iter().zip(comparisons);
        let caches = caches.map(|(cache, comparison)| Cache {
            name: cache.name.clone(),
            age: age(&cache.config),
            commit: cache.commit(),
            config: &cache.config,
            comparison,
        });
        let caches: Vec<Cache<'_>> = caches.collect();
        let arguments: Vec<String> = request.build_args.keys().cloned().collect();
        let asked = asked(&request.no_cache);
        let build = Build {
            plan: &self.plan,
            keys: &self.keys,
            facts: &self.facts(),
            outcomes,
            caches: &caches,
            asked: asked.as_deref(),
            arguments: &arguments,
            own: &self.own,
        };
        // Of those that tell something the one counts that knows most of the build.
        let read = self.caches.read.iter().zip(&caches).rev();
        let told = read.filter_map(|(read, cache)| Some((read.record.as_ref()?, cache)));
        let best = told.max_by_key(|(_, cache)| cache.comparison.known(build.plan));
        let diagnosis = match best {
            Some((record, _)) => diagnose(&build, &Recorded::new(record, &build)),
            None => diagnose(&build, &()),
        };
        tell(&build, &diagnosis)
    }
}

/// Returns the option that makes steps run.
fn asked(no_cache: &NoCache) -> Option<String> {
    match no_cache {
        NoCache::Never => None,
        NoCache::Always => Some("--no-cache".to_owned()),
        NoCache::Stages(stages) => Some(format!("--no-cache-filter {}", stages.join(","))),
    }
}

/// Returns how old a cache is in words that stand in a sentence.
pub(super) fn age(config: &CacheConfig) -> Option<String> {
    let since = jiff::Timestamp::now().duration_since(newest(config)?);
    let words = human::duration(since.try_into().unwrap_or_default());
    let (first, rest) = words.split_at_checked(1)?;
    Some(format!("{}{rest}", first.to_lowercase()))
}

/// Returns the steps that ran.
pub(super) fn that_ran(plan: &Plan, outcomes: &Outcomes) -> BTreeSet<usize> {
    let vertices = plan.vertices().iter().enumerate();
    let ran = vertices.filter(|(at, vertex)| {
        vertex.makes_layers() && !vertex.inputs.is_empty() && outcomes.get(*at) == Outcome::Ran
    });
    ran.map(|(at, _)| at).collect()
}
