//! What is heard of a build, as far as its cache mounts go.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Definition;
use parking_lot::Mutex;

use super::uses::{self, MountUse};
use crate::build::cache::CacheTarget;
use crate::build::cache::import::Imports;
use crate::build::request::BuildRequest;

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
    /// The steps that ran to their end.
    ran: BTreeSet<String>,
    remarks: Vec<String>,
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
        if std::mem::replace(&mut heard.is_prepared, true) {
            return Vec::new();
        }
        heard.uses.clone()
    }

    /// Hears what the build reports.
    pub fn observe(&self, status: &StatusResponse) {
        let mut heard = self.heard.lock();
        for vertex in &status.vertexes {
            if vertex.cached {
                heard.ran.remove(&vertex.digest);
            } else if vertex.started.is_some()
                && vertex.completed.is_some()
                && vertex.error.is_empty()
            {
                heard.ran.insert(vertex.digest.clone());
            }
        }
    }

    /// Takes remarks for the user.
    pub fn remark(&self, remarks: Vec<String>) {
        self.heard.lock().remarks.extend(remarks);
    }

    /// Returns the mounts that steps used which ran.
    pub fn used(&self) -> Vec<MountUse> {
        let heard = self.heard.lock();
        let is_used = |one: &&MountUse| !one.steps.is_disjoint(&heard.ran);
        heard.uses.iter().filter(is_used).cloned().collect()
    }

    /// Returns what there is to tell the user.
    pub fn take_remarks(&self) -> Vec<String> {
        let hint = self.hints && !self.used().is_empty();
        let mut remarks = std::mem::take(&mut self.heard.lock().remarks);
        remarks.extend(hint.then(|| HINT.to_owned()));
        remarks
    }
}
