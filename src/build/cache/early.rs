//! Exports the caches while the build runs, and keeps them when it fails.
//!
//! BuildKit compresses and sends a cache after the last step. Here each step that has finished is
//! exported while later ones run: the part of the build's definition that ends at the step is solved
//! beside the build, in the same session. BuildKit shares the results of the running build with it, so
//! nothing runs twice. Layers go on to the registry at once, or, where the builder itself is to send
//! them, are only compressed: a store that claims to have everything makes it do no more. The export at
//! the end finds the work done. The build comes first: an export begins when the builder has a core to
//! spare (`gate`).
//!
//! After the last step BuildKit makes the results, then the cache, one chain of layers after the other.
//! What is left of the chains is exported beside that, too.
//!
//! When a step fails or the user cancels, the builder still holds the results of the others (see
//! [`SolveObserver`](crate::buildkit::solve::SolveObserver)). What has not been exported is exported then, and
//! [`keep`](EarlyExports::keep) publishes the parts as one cache.

mod discard;
mod ending;
mod gate;
mod layer_sizes;
mod observer;
mod parts;
mod queue;
mod settle;

pub use gate::{CpuTime, Gate, Meter};
pub use observer::EarlyObserver;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};
use bollard_buildkit_proto::pb::Definition;
use futures_util::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::layer_sizes::Layers;
use self::queue::{Next, Queue};
use super::cancellation::{AFTER_SIGNAL, Cancellation, FOR_PUBLISHING, before};
use super::export::{EarlyExport, RegistryExport};
use crate::buildkit::Client;
use crate::buildkit::llb::Graph;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::{Entry, SolveRequest};
use crate::cache::export::PartExport;

/// Parts that are exported at the same time.
const PARTS: usize = 2;
/// How long after a failure the caches may still be exported.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// How long the failure of a step may take to show in the status of the build.
const STATUS_DELAY: Duration = Duration::from_millis(500);

/// The caches of one build.
#[derive(Debug)]
pub struct EarlyExports {
    shared: Arc<Shared>,
    /// Nothing runs on when a build is dropped without having been stopped.
    _end: DropGuard,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    stores: ContentStores,
    /// What the solves of parts have in common.
    request: SolveRequest,
    caches: Vec<Arc<RegistryExport>>,
    /// What the build makes beside caches; it makes that first.
    results: Vec<Entry>,
    cancellation: Cancellation,
    gate: Gate,
    state: Mutex<State>,
    changed: Notify,
    tasks: TaskTracker,
    /// Ends the exports of parts.
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    queue: Option<Queue>,
    under_way: usize,
    phase: Phase,
    /// A step of the build has failed.
    saw_failure: bool,
    parts: Vec<Part>,
    /// Steps of the result whose layers have the compression that an image wants.
    settled: HashSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Running,
    /// All steps have run.
    Built,
    /// The build has failed; what is to be kept must be in the registry by then.
    Broken(Instant),
}

/// What one part's export left of one cache.
#[derive(Debug)]
struct Part {
    /// Which of the caches.
    cache: usize,
    step: String,
    export: PartExport,
}

impl EarlyExports {
    /// Prepares for a solve. `request` is the build's own; `None` if there is nothing to do.
    pub fn new(
        caches: Vec<Arc<RegistryExport>>,
        client: Client,
        stores: ContentStores,
        request: &SolveRequest,
        cancellation: Cancellation,
        meter: Option<Arc<dyn Meter>>,
    ) -> Option<Self> {
        let is_useful = |cache: &Arc<RegistryExport>| is_early(cache) || keeps(cache);
        if !caches.iter().any(is_useful) || request.internal {
            return None;
        }
        let results = request.exporters.clone();
        let request = SolveRequest {
            session: request.session.clone(),
            entitlements: request.entitlements.clone(),
            source_policy: request.source_policy.clone(),
            internal: true,
            ..SolveRequest::default()
        };
        let end = CancellationToken::new();
        Some(Self {
            _end: end.clone().drop_guard(),
            shared: Arc::new(Shared {
                client,
                stores,
                request,
                caches,
                results,
                cancellation,
                gate: Gate::new(meter),
                state: Mutex::default(),
                changed: Notify::new(),
                tasks: TaskTracker::new(),
                end,
            }),
        })
    }

    /// Hears what the build reports.
    pub fn observe(&self, status: &StatusResponse) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        for vertex in status.vertexes.iter().filter(|v| v.completed.is_some()) {
            if !vertex.error.is_empty() {
                state.saw_failure = true;
            } else if let Some(queue) = &mut state.queue {
                queue.finish(&vertex.digest, ran(vertex), now);
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Ends what is under way. Layers on their way to the registry go on.
    pub async fn stop(&self) {
        self.shared.end.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Returns until when the caches of a build that has failed may be stored.
    pub fn deadline(&self) -> Instant {
        match self.shared.state.lock().phase {
            Phase::Broken(deadline) => deadline,
            Phase::Running | Phase::Built => self.shared.deadline(),
        }
    }

    /// Publishes what has finished before the build failed, merged with what the references hold.
    pub async fn keep(&self) {
        self.stop().await;
        let shared = &self.shared;
        let deadline = self.deadline();
        let parts = std::mem::take(&mut shared.state.lock().parts);
        let mut of_cache: BTreeMap<usize, Vec<PartExport>> = BTreeMap::new();
        for part in parts.into_iter().filter(|part| shared.keeps(part)) {
            of_cache.entry(part.cache).or_default().push(part.export);
        }
        let enough = async || {
            let deadline = before(deadline, FOR_PUBLISHING);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                () = shared.cancellation.force.cancelled() => {}
            }
        };
        let kept = of_cache.into_iter().filter_map(|(cache, parts)| {
            let cache = shared.caches.get(cache)?;
            Some(cache.keep(parts, enough()))
        });
        let kept = futures_util::future::join_all(kept);
        tokio::select! {
            _ = kept => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = shared.cancellation.force.cancelled() => {}
        }
    }
}

/// What is heard of the build.
impl EarlyExports {
    fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        let graph = match Graph::of(definitions.values()) {
            Ok(graph) => graph,
            Err(error) => {
                tracing::debug!(%error, "the definition cannot be read, nothing is exported early");
                return;
            }
        };
        let mut caches = self.shared.caches.iter();
        let chain_only = !caches.any(|cache| cache.target().is_max());
        self.shared.state.lock().queue = Some(Queue::new(graph, chain_only));
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move { shared.run().await });
    }

    fn built(&self) {
        self.shared.state.lock().phase = Phase::Built;
        self.shared.changed.notify_waiters();
        let shared = Arc::clone(&self.shared);
        self.shared
            .tasks
            .spawn(async move { shared.export_chains().await });
    }

    async fn broken(&self) {
        let shared = &self.shared;
        let deadline = shared.deadline();
        let phase = std::mem::replace(&mut shared.state.lock().phase, Phase::Broken(deadline));
        if matches!(phase, Phase::Broken(_)) {
            // The user cancels a build that has failed: what is there is kept, and no more.
            return;
        }
        shared.changed.notify_waiters();
        let failed_before = !shared.cancellation.graceful.is_cancelled();
        tokio::select! {
            () = shared.export_rest() => {}
            () = tokio::time::sleep_until(before(deadline, FOR_PUBLISHING)) => {}
            () = shared.cancellation.force.cancelled() => {}
            () = shared.cancellation.graceful.cancelled(), if failed_before => {}
        }
    }
}

impl Shared {
    fn keeps(&self, part: &Part) -> bool {
        self.caches
            .get(part.cache)
            .is_some_and(|cache| keeps(cache))
    }

    /// Until when the caches may be exported, if the build ends now.
    fn deadline(&self) -> Instant {
        let usual = if self.cancellation.graceful.is_cancelled() {
            AFTER_SIGNAL
        } else {
            AFTER_FAILURE
        };
        let kept = self.caches.iter().filter(|cache| keeps(cache));
        let longest = kept.map(|cache| cache.target().cache.on_failure_timeout.unwrap_or(usual));
        let longest = longest.max().unwrap_or(usual);
        Instant::now() + longest.max(FOR_PUBLISHING)
    }

    /// Exports the steps one after the other as they finish, until all have run.
    async fn run(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What happens from here on is not missed.
            changed.as_mut().enable();
            let next = {
                let state = self.state.lock();
                if state.phase != Phase::Running || self.end.is_cancelled() {
                    return;
                }
                self.next(&state)
            };
            let due = async {
                match next {
                    // What finishes until then may come along.
                    Next::Export(_) => self.gate.opened().await,
                    Next::Wait(until) => tokio::time::sleep_until(until.into()).await,
                    Next::Nothing => changed.await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.until(|state| state.phase != Phase::Running) => return,
                () = self.end.cancelled() => return,
            }
            if matches!(next, Next::Export(_)) {
                self.start();
            }
        }
    }

    /// Begins to export the step whose turn it is.
    fn start(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let Next::Export(step) = self.next(&state) else {
            return;
        };
        if let Some(queue) = &mut state.queue {
            queue.start(&step, Instant::now());
        }
        state.under_way += 1;
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            shared.export(&step, Phase::Running).await;
            shared.state.lock().under_way -= 1;
            shared.changed.notify_waiters();
        });
    }

    fn next(&self, state: &State) -> Next {
        let early = self.caches.iter().any(|cache| is_early(cache));
        let queue = state.queue.as_ref();
        let queue = queue.filter(|_| early && state.under_way < PARTS);
        queue.map_or(Next::Nothing, |queue| queue.next(Instant::now()))
    }

    /// Exports what has finished and is not exported yet, for the caches that outlive a failure.
    async fn export_rest(&self) {
        if !self.cancellation.graceful.is_cancelled() {
            // The error of a step comes by another way than the status, which tells what has finished
            // before. A build may also fail without a step that does.
            let seen = self.until(|state| state.saw_failure);
            drop(tokio::time::timeout(STATUS_DELAY, seen).await);
        }
        // Those under way may have some of it.
        self.until(|state| state.under_way == 0).await;
        let rest = self.rest();
        let phase = self.state.lock().phase;
        self.export_all(stream::iter(rest), phase, |_| ()).await;
    }

    async fn export_all(
        &self,
        steps: impl Stream<Item = String>,
        phase: Phase,
        exported: impl Fn(Layers),
    ) {
        let exports = steps
            .map(|step| async move { self.export(&step, phase).await })
            .buffer_unordered(PARTS);
        let told = exports.for_each(|layers| {
            exported(layers);
            ready(())
        });
        told.await;
    }

    /// Waits for a change of the state.
    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What happens from here on is not missed.
            changed.as_mut().enable();
            if done(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn rest(&self) -> BTreeSet<String> {
        let state = self.state.lock();
        let Some(queue) = &state.queue else {
            return BTreeSet::new();
        };
        let kept = self.caches.iter().filter(|cache| keeps(cache));
        kept.flat_map(|cache| queue.last_finished(!cache.target().is_max()))
            .collect()
    }
}

/// Returns whether something is done for a cache while the build runs.
fn is_early(cache: &RegistryExport) -> bool {
    cache.target().early != EarlyExport::Off
}

/// Returns whether a cache is published when the build fails.
fn keeps(cache: &RegistryExport) -> bool {
    cache.target().survives_failure()
}

/// How long a step ran; nothing if its result was found.
fn ran(vertex: &Vertex) -> Option<Duration> {
    if vertex.cached {
        return None;
    }
    let (started, completed) = (vertex.started?, vertex.completed?);
    let nanos = |seconds: i64, nanos: i32| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let ran = nanos(completed.seconds, completed.nanos) - nanos(started.seconds, started.nanos);
    Some(Duration::from_nanos(u64::try_from(ran).unwrap_or(0)))
}
