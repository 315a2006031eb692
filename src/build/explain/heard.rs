//! What the builder says of one step, in all its messages.

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

use crate::explain::Status;

/// The end of the error of what was cancelled (Go's `context.Canceled`).
const CANCELED: &str = "context canceled";

/// A step as it was reported so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Its name.
    pub(super) name: String,
    /// What became of it.
    pub(super) status: Status,
    /// It has ended without an error.
    pub(super) is_done: bool,
    /// The longest time between its begin and its end, in milliseconds.
    milliseconds: Option<u64>,
}

impl Heard {
    /// Takes a report. A step out of a cache may be told to begin again while its layers are loaded.
    pub(super) fn hear(&mut self, vertex: &Vertex) {
        if !vertex.name.is_empty() {
            self.name.clone_from(&vertex.name);
        }
        // When BuildKit drops one of two equal steps it cancels what it asks for that one, and tells the step as begun and
        // cancelled in one (`solver/jobs.go`, `CalcSlowCache`). What is cancelled while it runs was told before.
        let is_dropped = vertex.completed.is_some() && vertex.error.ends_with(CANCELED);
        self.status.started |= vertex.started.is_some() && !is_dropped;
        if vertex.cached {
            // A result that could not be loaded is made after all, but for one that nobody waits for any more.
            self.status.cached = vertex.error.is_empty() || is_dropped;
            self.milliseconds = None;
        } else {
            self.milliseconds = self.milliseconds.max(milliseconds(vertex));
        }
        self.is_done |= vertex.completed.is_some() && vertex.error.is_empty();
    }

    /// Returns whether it runs, or has run.
    pub(super) fn runs(&self) -> bool {
        self.status.started && !self.status.cached
    }

    /// Returns how long it ran, in milliseconds, if it did and has succeeded. The time that the layers of a cached step
    /// take to load is none.
    pub(super) fn ran_for(&self) -> Option<u64> {
        self.milliseconds.filter(|_| self.runs() && self.is_done)
    }
}

/// Returns how long a step took that has succeeded.
fn milliseconds(vertex: &Vertex) -> Option<u64> {
    let time =
        |time: &Timestamp| i128::from(time.seconds) * 1000 + i128::from(time.nanos) / 1_000_000;
    let (started, completed) = (vertex.started.as_ref()?, vertex.completed.as_ref()?);
    if !vertex.error.is_empty() {
        return None;
    }
    u64::try_from(time(completed) - time(started)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cached: bool, end: Option<i64>, error: &str) -> Vertex {
        let at = |seconds| Timestamp {
            seconds,
            nanos: 5_000_000,
        };
        Vertex {
            cached,
            started: Some(at(1)),
            completed: end.map(at),
            error: error.to_owned(),
            ..Vertex::default()
        }
    }

    fn ran_for(reports: &[Vertex]) -> Option<u64> {
        let mut heard = Heard::default();
        for report in reports {
            heard.hear(report);
        }
        heard.ran_for()
    }

    #[test]
    fn only_steps_that_ran_to_their_end_have_a_time() {
        let running = report(false, None, "");
        assert_eq!(ran_for(std::slice::from_ref(&running)), None);
        assert_eq!(ran_for(&[running, report(false, Some(3), "")]), Some(2000));
        assert_eq!(ran_for(&[report(false, Some(3), "x")]), None);
    }

    #[test]
    fn a_step_that_is_dropped_for_an_equal_one_does_not_run() {
        let canceled = report(false, Some(1), "context canceled: context canceled");
        let runs = |reports: &[Vertex]| {
            let mut heard = Heard::default();
            for report in reports {
                heard.hear(report);
            }
            heard.runs()
        };
        assert!(!runs(std::slice::from_ref(&canceled)));
        assert!(runs(&[report(false, None, ""), canceled]));
        let unloaded = report(true, Some(2), "context canceled");
        assert!(!runs(&[report(true, None, ""), unloaded]));
        assert!(runs(&[report(false, Some(1), "exit code: 1")]));
    }

    #[test]
    fn loading_a_cached_step_is_no_run() {
        let (cached, loaded) = (report(true, Some(2), ""), report(false, Some(9), ""));
        assert_eq!(ran_for(std::slice::from_ref(&cached)), None);
        assert_eq!(ran_for(&[cached.clone(), loaded.clone()]), None);
        assert_eq!(ran_for(&[loaded.clone(), cached]), None);
        // What cannot be loaded is made after all.
        let broken = report(true, Some(2), "a blob is lost");
        assert_eq!(ran_for(&[broken, loaded]), Some(8000));
    }
}
