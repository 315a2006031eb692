//! Loads from caches what steps will need, while the steps before them run.
//!
//! BuildKit fetches and unpacks the layers of a result that it has found in a cache when a step uses them, and not before:
//! what a last stage is made of waits for the longest of the stages that it copies from.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Definition;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::buildkit::llb::Graph;
use crate::buildkit::solve::Loader;

/// So long a step runs before anything is loaded because of it: what follows a short one comes soon enough.
const PATIENCE: Duration = Duration::from_millis(200);

/// Loads for one solve.
#[derive(Debug, Default)]
pub struct Ahead {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    graph: Graph,
    /// The steps that run, with what is waited for before they count.
    running: BTreeMap<String, Instant>,
    /// Steps that have begun, and those that follow from a step which counted.
    known: HashSet<String>,
    /// Results that are to be loaded.
    due: VecDeque<Definition>,
}

impl Ahead {
    /// The frontend has made the definitions.
    pub fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        match Graph::of(definitions.values()) {
            Ok(graph) => self.state.lock().graph = graph,
            Err(error) => {
                tracing::debug!(%error, "the definition cannot be read, nothing is loaded ahead");
            }
        }
    }

    /// Hears what the build reports.
    pub fn observe(&self, status: &StatusResponse) {
        let mut state = self.state.lock();
        for vertex in &status.vertexes {
            if vertex.completed.is_some() {
                state.running.remove(&vertex.digest);
            } else if vertex.started.is_some() && state.graph.makes_layers(&vertex.digest) {
                state.begins(&vertex.digest, Instant::now());
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Loads what is due. It never ends; dropping it leaves to the builder what has not come.
    pub async fn run(&self, loader: &Loader) {
        let mut loads = FuturesUnordered::new();
        loop {
            tokio::select! {
                definition = self.next() => loads.push(loader.load(definition)),
                Some(ended) = loads.next(), if !loads.is_empty() => if let Err(error) = ended {
                    // Whoever needs it meets the error, too.
                    tracing::debug!(%error, "a result is not loaded ahead");
                },
            }
        }
    }

    async fn next(&self) -> Definition {
        loop {
            let soonest = {
                let mut state = self.state.lock();
                state.count(Instant::now());
                if let Some(definition) = state.due.pop_front() {
                    return definition;
                }
                state.running.values().min().copied()
            };
            let soonest = async {
                match soonest {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending::<()>().await,
                }
            };
            tokio::select! {
                () = soonest => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

impl State {
    /// A step runs.
    fn begins(&mut self, digest: &str, now: Instant) {
        // What follows from one that counted needs nothing else.
        if self.known.insert(digest.to_owned()) {
            self.running.insert(digest.to_owned(), now + PATIENCE);
        }
    }

    /// Finds what the followers of the steps need that have run long enough.
    fn count(&mut self, now: Instant) {
        let long = self.running.iter().filter(|(_, at)| **at <= now);
        let long: Vec<String> = long.map(|(digest, _)| digest.clone()).collect();
        for step in long {
            self.running.remove(&step);
            let (needed, following) = self.graph.needed_beside(&step);
            let is_new = |digest: &str| !self.known.contains(digest);
            let has_layers =
                |digest: &str| self.graph.makes_layers(digest) || self.graph.is_image(digest);
            let needed = needed
                .into_iter()
                .filter(|(digest, _)| is_new(digest) && has_layers(digest));
            let needed: Vec<(&str, i64)> = needed.collect();
            // The layers of one come with those that lie on them.
            let below = |digest: &str| {
                needed.iter().any(|(other, _)| {
                    *other != digest && self.graph.chain_of(other).contains(digest)
                })
            };
            let tops: Vec<(&str, i64)> = needed
                .iter()
                .filter(|(digest, _)| !below(digest))
                .copied()
                .collect();
            let loads = tops
                .iter()
                .filter_map(|(digest, output)| self.graph.ending_at_output(digest, *output));
            self.due.extend(loads);
            let known = tops.iter().map(|(digest, _)| *digest).chain(following);
            let known: Vec<String> = known.map(str::to_owned).collect();
            self.known.extend(known);
        }
    }
}
