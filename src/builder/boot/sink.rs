//! Reports while nodes boot.

use std::pin::pin;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a node may take to answer before that is reported.
const QUIET: Duration = Duration::from_secs(2);

/// What happens while nodes boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEvent {
    /// The boot of a node begins.
    Begin {
        /// The node.
        node: String,
    },
    /// A step begins, for example `pulling image IMAGE`.
    StepBegin {
        /// The node.
        node: String,
        /// The step.
        step: String,
    },
    /// The step that began last is done.
    StepEnd {
        /// The node.
        node: String,
        /// The step.
        step: String,
        /// How long it took.
        elapsed: Duration,
        /// It worked.
        ok: bool,
    },
    /// The boot of a node is over.
    End {
        /// The node.
        node: String,
        /// How long it took.
        elapsed: Duration,
        /// It worked.
        ok: bool,
    },
}

/// Where the events of several nodes that boot at the same time go.
pub struct BootSink<'a>(Mutex<&'a mut (dyn FnMut(BootEvent) + Send)>);

impl std::fmt::Debug for BootSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BootSink")
    }
}

impl<'a> BootSink<'a> {
    /// Creates a sink that hands every event to a function.
    pub fn new(emit: &'a mut (dyn FnMut(BootEvent) + Send)) -> Self {
        Self(Mutex::new(emit))
    }

    fn emit(&self, event: BootEvent) {
        let mut emit = self.0.lock();
        emit(event);
    }

    /// Reports that the boot of a node begins and ends.
    pub(in crate::builder) async fn node<T, E>(
        &self,
        node: &str,
        boot: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let node = node.to_owned();
        self.emit(BootEvent::Begin { node: node.clone() });
        let start = Instant::now();
        let result = boot.await;
        self.emit(BootEvent::End {
            node,
            elapsed: start.elapsed(),
            ok: result.is_ok(),
        });
        result
    }

    /// Reports that a step of a boot begins and ends.
    pub(in crate::builder) async fn step<T, E>(
        &self,
        node: &str,
        step: String,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.emit(BootEvent::StepBegin {
            node: node.to_owned(),
            step: step.clone(),
        });
        let start = Instant::now();
        let result = work.await;
        self.emit(BootEvent::StepEnd {
            node: node.to_owned(),
            step,
            elapsed: start.elapsed(),
            ok: result.is_ok(),
        });
        result
    }

    /// Reports work on a node that takes longer than two seconds. Its end is no failure of the node:
    /// what comes after it says that.
    pub(in crate::builder) async fn if_slow<T>(
        &self,
        node: &str,
        step: String,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(QUIET) => {}
        }
        let told = async { Ok::<_, std::convert::Infallible>(work.await) };
        let Ok(done) = self.node(node, self.step(node, step, told)).await;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seen: &[BootEvent]) -> Vec<&str> {
        let word = |event: &BootEvent| match event {
            BootEvent::Begin { .. } => "begin",
            BootEvent::StepBegin { .. } => "step",
            BootEvent::StepEnd { ok: true, .. } => "done",
            BootEvent::StepEnd { .. } => "failed",
            BootEvent::End { .. } => "end",
        };
        seen.iter().map(word).collect()
    }

    #[tokio::test]
    async fn steps_are_reported_in_order() {
        let mut seen = Vec::new();
        let mut emit = |event| seen.push(event);
        let sink = BootSink::new(&mut emit);
        let failed: Result<(), _> = sink.step("n", "s".to_owned(), async { Err("no") }).await;
        assert_eq!(failed, Err("no"));
        assert!(matches!(&seen[0], BootEvent::StepBegin { step, .. } if step == "s"));
        assert_eq!(told(&seen), ["step", "failed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_slow_is_told() {
        for (millis, expected) in [(1900, &[][..]), (2100, &["begin", "step", "done", "end"])] {
            let mut seen = Vec::new();
            let mut emit = |event| seen.push(event);
            let sink = BootSink::new(&mut emit);
            let work = tokio::time::sleep(Duration::from_millis(millis));
            sink.if_slow("n", "s".to_owned(), work).await;
            assert_eq!(told(&seen), expected);
        }
    }
}
