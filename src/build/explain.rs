//! Why the steps of a build ran: what is needed to tell it, and the telling.
//!
//! | file | holds |
//! |---|---|
//! | [`watch`] | what is heard of the steps while they run, and a build that may run none |
//! | `early` | what is asked while steps run |
//! | `files` | the checksums of the files that steps read |
//! | `bases` | the layers of base images |
//! | `caches` | the caches that were read |
//! | `findings` | the steps looked up in them |
//! | `fresh` | what the builder has just exported, to see whether its keys are ours |
//! | `heard` | what the builder says of one step |
//! | [`forecast`] | what will become of the steps of a build that has not run |
//! | [`usable`] | what a build that has not run can use of its caches |
//! | `known` | what a report is told of the steps |
//! | `own_files` | where the Dockerfile is, and what leaves files out of the context |
//! | [`tell`] | why the steps of a build that has ended ran |
//! | [`recorder`] | what the build tells about itself in the caches that it writes |
//!
//! Nothing here makes a build fail. Files are read and questions asked beside the steps, once one of them has run and some
//! cache was to be read; whatever is not known by the [`DEADLINE`] is told as unknown, or not at all.

mod bases;
mod caches;
mod early;
mod files;
mod findings;
pub mod forecast;
mod fresh;
mod heard;
mod known;
mod own_files;
pub mod recorder;
pub mod tell;
pub mod usable;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Definition;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::early::Early;
use self::files::{Limits, Reader};
use self::tell::Evidence;
pub use self::tell::Explanation;
use self::watch::Watch;
use super::cache::CacheTarget;
use super::cache::import::found::FoundCache;
use super::context::inputs::Folders;
use super::request::BuildRequest;
use crate::buildkit::Client;
use crate::cache::keys::Tree;
use crate::cache::registries::Registries;
use crate::options::explain::Explain;
use crate::report::Known;

/// How long a build that has ended waits for each half of its explanation: what is found out while the caches are
/// written, and after that.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long after the first step more is heard before files are read and questions are asked.
const PAUSE: Duration = Duration::from_millis(100);

/// The builder, which is asked for base images.
#[derive(Debug, Clone)]
pub struct Builder {
    /// The connection.
    pub client: Client,
    /// Identifier of the session, which has the credentials for base images.
    pub session: String,
}

/// What an explanation is found out from.
#[derive(Debug)]
pub struct Sources {
    /// The folders of the contexts, by name.
    pub folders: Folders,
    /// The caches that the build reads, as far as they can be looked at.
    pub caches: Vec<FoundCache>,
    /// The builder.
    pub builder: Builder,
}

/// The caches that a build writes.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Registry clients.
    pub registries: &'a Registries,
    /// The caches that the build has written.
    pub targets: &'a [CacheTarget],
}

/// Explains one build.
#[derive(Debug)]
pub struct Explainer {
    request: BuildRequest,
    watch: Arc<Watch>,
    reader: Reader,
    builder: Builder,
    early: Early,
    /// The names of the steps, for a report.
    names: Mutex<Vec<String>>,
}

impl Explainer {
    /// Makes ready for a build. `reads_caches` is whether it reads some that can be looked at, and `tells_files` whether
    /// a cache that it writes tells the files of its contexts. Where nothing is wanted there is `None`. A build that may
    /// run no step is cancelled through `cancel`.
    pub fn new(
        request: &BuildRequest,
        reads_caches: bool,
        tells_files: bool,
        sources: Sources,
        cancel: &CancellationToken,
    ) -> Option<Self> {
        let steps = &request.steps;
        let is_told = steps.explain != Explain::Off && reads_caches;
        let is_told = is_told || steps.is_reported;
        let is_counted = steps.require_cached || steps.min_hit_rate.is_some();
        if request.call.is_some() || !(is_told || is_counted || tells_files) {
            return None;
        }
        let cancel = steps.require_cached.then(|| cancel.clone());
        let watch = Arc::new(Watch::new(cancel));
        let Sources {
            folders,
            caches,
            builder,
        } = sources;
        let early = if tell::is_told(request) && !caches.is_empty() {
            Early::start(Arc::clone(&watch), caches, builder.clone())
        } else {
            Early::default()
        };
        Some(Self {
            request: request.clone(),
            reader: Reader::start(Arc::clone(&watch), folders, reads_caches || tells_files),
            watch,
            builder,
            early,
            names: Mutex::default(),
        })
    }

    /// A solve begins.
    pub fn solve_begins(&self) {
        self.watch.solve_begins();
    }

    /// The frontend has made the definitions.
    pub fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        self.watch.begin(definitions);
        if self.request.steps.is_reported {
            let (plan, _) = self.watch.outcomes();
            *self.names.lock() = known::names(&plan);
        }
    }

    /// Hears what the build reports.
    pub fn observe(&self, status: &StatusResponse) {
        self.watch.observe(status);
    }

    /// The builder says nothing more: nobody waits for a step that runs.
    pub fn end(&self) {
        self.watch.end();
    }

    /// Returns the name of the step for which the build was ended, because it would have run.
    pub fn refused(&self) -> Option<String> {
        self.watch.refused()
    }

    /// Returns the files of the contexts, with the contents of those that steps have read which ran. Where no step did there
    /// are none, but for a cache that tells of the build for the `first` time: then those of all steps, if they are few.
    pub async fn trees(&self, is_first: impl Future<Output = bool>) -> BTreeMap<String, Arc<Tree>> {
        let (plan, outcomes) = self.watch.outcomes();
        let ran = findings::that_ran(&plan, &outcomes);
        let read = async {
            if !ran.is_empty() {
                return self.reader.trees(&plan, &ran).await;
            }
            if !is_first.await {
                return BTreeMap::new();
            }
            let all = (0..plan.vertices().len()).collect();
            self.reader.trees_within(Limits::FEW, &plan, &all).await
        };
        let trees = tokio::time::timeout(DEADLINE, read).await;
        trees.unwrap_or_default()
    }

    /// Returns what a report is told of the steps of a build that nothing is found out about; none where there is no
    /// report.
    pub fn known(&self) -> Option<Arc<Known>> {
        if !self.request.steps.is_reported {
            return None;
        }
        let (plan, _) = self.watch.outcomes();
        let names = self.names.lock().clone();
        Some(Arc::new(known::known(&plan, names, None)))
    }

    /// Collects what is known when the steps have run.
    pub async fn collect(&self, found: Vec<FoundCache>) -> Evidence {
        Box::pin(Evidence::collect(self, found)).await
    }
}
