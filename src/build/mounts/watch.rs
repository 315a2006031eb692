//! What is heard of a build, as far as its cache mounts go.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};
use bollard_buildkit_proto::pb::Definition;
use parking_lot::Mutex;

use super::uses::{self, MountUse};
use crate::build::cache::CacheTarget;
use crate::build::cache::import::Imports;
use crate::build::request::BuildRequest;
use crate::cache::extras::mounts::MountName;

/// What is said once of mounts that nobody keeps.
const HINT: &str = "steps used cache mounts, which a fresh builder will not have: mounts=all behind --cache brings them along";

/// Hears of one build, also where it is solved several times.
#[derive(Debug)]
pub struct MountWatch {
    /// Somebody is to be told that mounts could be kept.
    hints: bool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    uses: Vec<MountUse>,
    /// Mounts were looked after before the steps.
    is_prepared: bool,
    /// All steps have run.
    is_built: bool,
    /// The steps that use mounts.
    steps: BTreeMap<String, Step>,
    remarks: Vec<String>,
}

/// What is heard of a step.
#[derive(Debug, Default)]
struct Step {
    /// It has no inputs: then the builder says that it has ended before it knows whether it runs at all (BuildKit
    /// `solver/jobs.go`), and only the end of the build tells.
    is_bare: bool,
    phase: Phase,
    /// How often it ran to its end, in all solves of the build.
    runs: usize,
    /// When it began that ran last.
    began: Option<(i64, i32)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Unheard,
    Began,
    /// It has a result.
    Ended,
    Failed,
}

/// A mount of which steps ran that use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// The mount.
    pub mount: MountUse,
    /// What caches know it by: a name for each platform of which a step ran.
    pub names: Vec<MountName>,
    /// How often steps ran that use it: a mount that was saved at this count has not changed since.
    pub runs: usize,
}

impl Step {
    /// Hears of it, and returns whether it has ended by that.
    fn hear(&mut self, vertex: &Vertex) -> bool {
        let before = self.phase;
        let started = vertex.started.map(|at| (at.seconds, at.nanos));
        self.phase = match vertex.completed {
            Some(_) if !vertex.error.is_empty() => Phase::Failed,
            Some(_) => Phase::Ended,
            None if started.is_some() => Phase::Began,
            None => before,
        };
        if vertex.cached && self.is_bare && self.began.is_some() {
            // What ended before was only the question whether it runs.
            self.runs = self.runs.saturating_sub(1);
            self.began = None;
        } else if self.phase == Phase::Ended && !vertex.cached && self.began != started {
            // A report may come twice, and a step without inputs ends twice.
            self.runs += usize::from(!self.is_bare || self.began.is_none());
            self.began = started;
        }
        self.phase == Phase::Ended && before != Phase::Ended
    }
}

impl Heard {
    /// Returns a mount if steps ran that use it.
    fn used(&self, mount: &MountUse) -> Option<Used> {
        let runs = |digest: &String| self.steps.get(digest).map_or(0, |step| step.runs);
        let ran = |steps: &BTreeSet<String>| steps.iter().any(|digest| runs(digest) > 0);
        let names = mount.steps.iter().filter(|(_, steps)| ran(steps));
        let names: Vec<MountName> = names.map(|(name, _)| name.clone()).collect();
        (!names.is_empty()).then(|| Used {
            names,
            runs: mount.all_steps().map(runs).sum(),
            mount: mount.clone(),
        })
    }

    /// Returns the mounts of steps that ran, of which all steps that use them are as wanted. The builder tells of a mount
    /// in use only its id: so these are all steps that use one of the same id.
    fn used_where(&self, is_wanted: impl Fn(&Step) -> bool) -> Vec<Used> {
        let is_kept = |digest: &String| self.steps.get(digest).is_none_or(&is_wanted);
        let others = self.uses.iter();
        let others = others.filter(|mount| !mount.all_steps().all(is_kept));
        let open: BTreeSet<&str> = others.map(MountUse::builder_id).collect();
        let kept = self.uses.iter();
        let kept = kept.filter(|mount| !open.contains(mount.builder_id()));
        kept.filter_map(|mount| self.used(mount)).collect()
    }
}

impl MountWatch {
    /// Makes ready for a build; `None` where nothing is done about mounts.
    pub fn new(request: &BuildRequest, targets: &[CacheTarget], imports: &Imports) -> Option<Self> {
        let targets = targets.iter().filter_map(|target| match target {
            CacheTarget::Registry(target) => Some(&target.cache),
            CacheTarget::Layout(_) | CacheTarget::Builder(_) => None,
        });
        let (mut hints, mut keeps) = (false, false);
        for cache in targets {
            hints |= cache.hints_at_mounts;
            keeps |= cache.kept_mounts().is_some();
        }
        let is_needed = hints || keeps || !imports.mounts().is_empty();
        (is_needed && request.call.is_none()).then(|| Self {
            hints: hints && !keeps,
            heard: Mutex::default(),
        })
    }

    /// The frontend has made the definitions. Returns the mounts that are to be restored if they can be: none where that
    /// was tried before.
    pub fn begin(&self, definitions: &BTreeMap<String, Definition>) -> Vec<MountUse> {
        let mut heard = self.heard.lock();
        heard.uses = uses::of(definitions);
        heard.is_built = false;
        let uses = heard.uses.clone();
        for digest in uses.iter().flat_map(MountUse::all_steps) {
            let step = heard.steps.entry(digest.clone()).or_default();
            // What ran in an earlier solve has run.
            (step.phase, step.began) = (Phase::Unheard, None);
        }
        for digest in uses.iter().flat_map(|mount| &mount.bare) {
            if let Some(step) = heard.steps.get_mut(digest) {
                step.is_bare = true;
            }
        }
        if std::mem::replace(&mut heard.is_prepared, true) {
            return Vec::new();
        }
        uses
    }

    /// Hears what the build reports, and returns whether a step has ended that uses a mount.
    pub fn observe(&self, status: &StatusResponse) -> bool {
        let mut heard = self.heard.lock();
        let mut has_ended = false;
        for vertex in &status.vertexes {
            if let Some(step) = heard.steps.get_mut(&vertex.digest) {
                has_ended |= step.hear(vertex);
            }
        }
        has_ended
    }

    /// All steps have run.
    pub fn built(&self) {
        self.heard.lock().is_built = true;
    }

    /// Takes remarks for the user.
    pub fn remark(&self, remarks: Vec<String>) {
        self.heard.lock().remarks.extend(remarks);
    }

    /// Returns the mounts that steps used which ran, if no other step of the build will use them.
    pub fn ready(&self) -> Vec<Used> {
        let heard = self.heard.lock();
        heard.used_where(|step| step.phase == Phase::Ended && (!step.is_bare || heard.is_built))
    }

    /// Returns the mounts that steps used which ran, of a build that succeeded.
    pub fn used(&self) -> Vec<Used> {
        self.heard.lock().used_where(|_| true)
    }

    /// Returns them of a build that failed: not those that a step used which did not come to its end.
    pub fn used_before_failure(&self) -> Vec<Used> {
        let heard = self.heard.lock();
        heard.used_where(|step| {
            let is_over = matches!(step.phase, Phase::Unheard | Phase::Ended);
            is_over && (!step.is_bare || heard.is_built || step.runs == 0)
        })
    }

    /// Returns what there is to tell the user.
    pub fn take_remarks(&self) -> Vec<String> {
        let hint = self.hints && !self.used().is_empty();
        let mut remarks = std::mem::take(&mut self.heard.lock().remarks);
        remarks.extend(hint.then(|| HINT.to_owned()));
        remarks
    }
}

#[cfg(test)]
mod tests;
