//! What is heard of a build's steps while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Definition;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::heard::Heard;
use crate::cache::keys::{self, Plan};
use crate::explain::{Outcomes, Status};

/// Hears of the steps of one build, also where it is solved several times.
#[derive(Debug)]
pub struct Watch {
    /// Ends the build at the first step that runs, where none may.
    cancel: Option<CancellationToken>,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
}

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// No step has begun to run.
    #[default]
    Waiting,
    /// One has.
    Runs,
    /// The builder says nothing more.
    Ended,
}

#[derive(Debug, Default)]
struct State {
    plan: Arc<Plan>,
    /// What was said of the steps of this solve, by digest.
    steps: BTreeMap<String, Heard>,
    /// The steps that ran to their end in earlier solves, with their names.
    ran_before: BTreeMap<String, String>,
    /// The step for which the build was ended.
    refused: Option<String>,
}

impl Watch {
    /// Begins to watch. With `cancel` no step may run.
    pub fn new(cancel: Option<CancellationToken>) -> Self {
        Self {
            cancel,
            state: Mutex::default(),
            phase: watch::Sender::default(),
        }
    }

    /// A solve begins; what ran in an earlier one is in the builder by now.
    pub fn solve_begins(&self) {
        let mut state = self.state.lock();
        for (digest, heard) in std::mem::take(&mut state.steps) {
            if heard.runs() && heard.is_done {
                state.ran_before.insert(digest, heard.name);
            }
        }
    }

    /// The frontend has made the definitions.
    pub fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        self.state.lock().plan = Arc::new(Plan::of(definitions.values()));
    }

    /// Takes a report.
    pub fn observe(&self, status: &StatusResponse) {
        let mut state = self.state.lock();
        let mut runs = false;
        for vertex in &status.vertexes {
            let heard = state.steps.entry(vertex.digest.clone()).or_default();
            heard.hear(vertex);
            if !heard.runs() {
                continue;
            }
            let name = heard.name.clone();
            if state.is_step(&vertex.digest, &name) {
                runs = true;
                if let Some(cancel) = &self.cancel {
                    state.refused.get_or_insert(name);
                    cancel.cancel();
                }
            }
        }
        drop(state);
        if runs {
            self.phase.send_if_modified(|phase| {
                let is_first = *phase == Phase::Waiting;
                if is_first {
                    *phase = Phase::Runs;
                }
                is_first
            });
        }
    }

    /// The builder says nothing more of this build.
    pub fn end(&self) {
        self.phase.send_replace(Phase::Ended);
    }

    /// Waits until a step runs, and then a while for what comes after it. Returns whether one does: not if the build has
    /// ended before.
    pub async fn step_runs(&self, pause: Duration) -> bool {
        let mut phase = self.phase.subscribe();
        let begun = phase.wait_for(|phase| *phase != Phase::Waiting).await;
        if !begun.is_ok_and(|phase| *phase == Phase::Runs) {
            return false;
        }
        let ended = phase.wait_for(|phase| *phase == Phase::Ended);
        // With an end there is nothing to wait for.
        let _ended = tokio::time::timeout(pause, ended).await;
        true
    }

    /// Returns the steps.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.state.lock().plan)
    }

    /// Returns the name of the step for which the build was ended.
    pub fn refused(&self) -> Option<String> {
        self.state.lock().refused.clone()
    }

    /// Returns the steps, and what became of them.
    pub fn outcomes(&self) -> (Arc<Plan>, Outcomes) {
        let state = self.state.lock();
        let of_this = state.steps.iter();
        let mut statuses: BTreeMap<_, _> = of_this
            .map(|(digest, heard)| (digest.clone(), (heard.name.clone(), heard.status)))
            .collect();
        let ran = Status {
            started: true,
            cached: false,
        };
        let before = state.ran_before.iter();
        statuses.extend(before.map(|(digest, name)| (digest.clone(), (name.clone(), ran))));
        let outcomes = Outcomes::of_build(&state.plan, &statuses);
        (Arc::clone(&state.plan), outcomes)
    }

    /// Returns the steps that run, and those after them that may have to.
    pub fn due(&self) -> (Arc<Plan>, BTreeSet<usize>) {
        let state = self.state.lock();
        let mut due = BTreeSet::new();
        for (at, vertex) in state.plan.vertices().iter().enumerate() {
            let heard = state.steps.get(&vertex.digest);
            let mut inputs = vertex.inputs.iter().flatten();
            let follows = inputs.any(|edge| due.contains(&edge.vertex));
            let runs = match heard {
                Some(heard) if heard.status.cached => false,
                heard => follows || heard.is_some_and(Heard::runs),
            };
            if vertex.makes_layers() && runs {
                due.insert(at);
            }
        }
        (Arc::clone(&state.plan), due)
    }
}

impl State {
    /// Returns whether a vertex makes a layer out of something: what it makes out of nothing no cache keeps.
    fn is_step(&self, digest: &str, name: &str) -> bool {
        let is_step = |vertex: &keys::Vertex| vertex.makes_layers() && !vertex.inputs.is_empty();
        if let Some(at) = self.plan.index_of(digest) {
            return self.plan.vertices().get(at).is_some_and(is_step);
        }
        // A builder may give a step another digest than the definition has.
        let mut steps = self.plan.vertices().iter();
        !name.is_empty() && steps.any(|vertex| vertex.told_as == name && is_step(vertex))
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Timestamp;
    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

    use super::*;
    use crate::cache::keys::testing::{BASE, Maker, image, run};
    use crate::explain::Outcome;

    /// A build of two commands on an image, and the digests of the commands.
    fn build() -> (BTreeMap<String, Definition>, [String; 2]) {
        let mut maker = Maker::default();
        let base = maker.add("[1/3] FROM base", image(BASE), &[]);
        let first = maker.add("[2/3] RUN one", run("one", &[], Vec::new()), &[&base]);
        let second = maker.add("[3/3] RUN two", run("two", &[], Vec::new()), &[&first]);
        let definition = maker.end(&second);
        (
            BTreeMap::from([(String::new(), definition)]),
            [first, second],
        )
    }

    fn report(digest: &str, cached: bool, done: bool, error: &str) -> StatusResponse {
        let now = Some(Timestamp::default());
        StatusResponse {
            vertexes: vec![Vertex {
                digest: digest.to_owned(),
                name: format!("name of {digest}"),
                started: now,
                completed: now.filter(|_| done),
                cached,
                error: error.to_owned(),
                ..Vertex::default()
            }],
            ..StatusResponse::default()
        }
    }

    fn outcome(watch: &Watch, digest: &str) -> Outcome {
        let (plan, outcomes) = watch.outcomes();
        outcomes.get(plan.index_of(digest).unwrap())
    }

    #[test]
    fn a_served_step_stays_served_when_its_layers_are_loaded() {
        let (definitions, [first, second]) = build();
        let watch = Watch::new(None);
        watch.solve_begins();
        watch.begin(&definitions);
        watch.observe(&report(&first, true, true, ""));
        watch.observe(&report(&first, false, true, ""));
        watch.observe(&report(&second, true, true, "cannot be loaded"));
        watch.observe(&report(&second, false, true, ""));
        assert_eq!(outcome(&watch, &first), Outcome::Served);
        assert_eq!(outcome(&watch, &second), Outcome::Ran);
    }

    #[test]
    fn what_ran_before_the_build_was_solved_again_ran() {
        let (definitions, [first, second]) = build();
        let watch = Watch::new(None);
        watch.solve_begins();
        watch.begin(&definitions);
        watch.observe(&report(&first, false, true, ""));
        watch.observe(&report(&second, false, true, "a blob is lost"));
        watch.solve_begins();
        watch.begin(&definitions);
        watch.observe(&report(&first, true, true, ""));
        watch.observe(&report(&second, true, true, ""));
        assert_eq!(outcome(&watch, &first), Outcome::Ran);
        assert_eq!(outcome(&watch, &second), Outcome::Served);
    }

    #[tokio::test]
    async fn the_first_step_that_runs_ends_a_build_that_may_run_none() {
        let (definitions, [first, second]) = build();
        let cancel = CancellationToken::new();
        let watch = Watch::new(Some(cancel.clone()));
        watch.begin(&definitions);
        watch.observe(&report("sha256:internal", false, true, ""));
        watch.observe(&report(&first, true, true, ""));
        assert!(!cancel.is_cancelled() && watch.refused().is_none());
        watch.observe(&report(&second, false, false, ""));
        assert!(cancel.is_cancelled());
        assert_eq!(watch.refused(), Some(format!("name of {second}")));
        assert!(watch.step_runs(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_step_of_a_build_that_has_ended() {
        let (definitions, [first, second]) = build();
        let watch = Watch::new(None);
        watch.begin(&definitions);
        watch.observe(&report(&first, true, true, ""));
        watch.observe(&report(&second, true, true, ""));
        let waits = tokio::join!(watch.step_runs(Duration::MAX), async { watch.end() });
        assert!(!waits.0 && !watch.step_runs(Duration::MAX).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_cuts_the_pause_short() {
        let (definitions, [first, _]) = build();
        let watch = Watch::new(None);
        watch.begin(&definitions);
        watch.observe(&report(&first, false, false, ""));
        let waits = tokio::join!(watch.step_runs(Duration::from_secs(3600)), async {
            tokio::task::yield_now().await;
            watch.end();
        });
        assert!(waits.0);
    }

    #[test]
    fn what_follows_from_a_step_that_runs_is_due() {
        let (definitions, [first, second]) = build();
        let watch = Watch::new(None);
        watch.begin(&definitions);
        assert!(watch.due().1.is_empty());
        watch.observe(&report(&first, false, false, ""));
        assert_eq!(watch.due().1.len(), 2);
        watch.observe(&report(&second, true, true, ""));
        assert_eq!(watch.due().1.len(), 1);
    }
}
