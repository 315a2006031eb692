//! Time-outs for transfers in which nothing moves.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::RegistryError;
use super::host::Timeouts;

/// What the body of a request tells the one that waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Activity {
    moved: AtomicU64,
    waiting_for_source: AtomicBool,
    finished: AtomicBool,
    failure: Mutex<Option<RegistryError>>,
}

impl Activity {
    /// Notes that the body is asked for more and the source has nothing yet.
    pub(super) fn starved(&self, starved: bool) {
        self.waiting_for_source.store(starved, Ordering::Relaxed);
    }

    /// Notes bytes that went on their way.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that the whole body is on its way.
    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    /// Returns whether the whole body is on its way.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Keeps the error that made the body end early; the connection's error says less.
    pub(super) fn fail(&self, error: RegistryError) {
        self.failure.lock().get_or_insert(error);
    }

    /// Takes the error of the body.
    pub(super) fn take_failure(&self) -> Option<RegistryError> {
        self.failure.lock().take()
    }
}

/// Waits for the answer to a request for as long as its body moves; the error is the limit that
/// was reached.
///
/// Time in which the body waits for its own source is not the registry's fault and does not
/// count. After a long body the longer limit for a commit holds.
pub(super) async fn answer<F: Future>(
    exchange: F,
    activity: &Activity,
    timeouts: &Timeouts,
    commit: bool,
) -> Result<F::Output, Duration> {
    let mut exchange = pin!(exchange);
    let mut seen = activity.moved.load(Ordering::Relaxed);
    let mut finished = activity.is_finished();
    loop {
        let limit = if commit && finished {
            timeouts.commit.max(timeouts.idle)
        } else {
            timeouts.idle
        };
        if let Ok(output) = tokio::time::timeout(limit, &mut exchange).await {
            return Ok(output);
        }
        let moved = activity.moved.load(Ordering::Relaxed);
        let now_finished = activity.is_finished();
        let starved = activity.waiting_for_source.load(Ordering::Relaxed) && !now_finished;
        if moved == seen && now_finished == finished && !starved {
            return Err(limit);
        }
        (seen, finished) = (moved, now_finished);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMITS: Timeouts = Timeouts {
        connect: Duration::from_secs(1),
        idle: Duration::from_secs(10),
        small: Duration::from_secs(10),
        commit: Duration::from_secs(100),
        token: Duration::from_secs(1),
        cancel: Duration::from_secs(1),
    };

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_ends_the_wait() {
        let activity = Activity::default();
        activity.moved(5);
        let start = Instant::now();
        let ended = answer(std::future::pending::<()>(), &activity, &LIMITS, true).await;
        assert_eq!(ended, Err(LIMITS.idle));
        assert!(start.elapsed() <= 2 * LIMITS.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_may_take_as_long_as_it_needs() {
        let activity = Arc::new(Activity::default());
        let body = Arc::clone(&activity);
        let exchange = async move {
            for _ in 0..100 {
                sleep(Duration::from_secs(6)).await;
                body.moved(1);
            }
            body.finish();
            sleep(Duration::from_secs(90)).await;
            7
        };
        assert_eq!(answer(exchange, &activity, &LIMITS, true).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_source_is_not_idle() {
        let activity = Arc::new(Activity::default());
        let body = Arc::clone(&activity);
        let exchange = async move {
            body.starved(true);
            sleep(Duration::from_secs(500)).await;
        };
        assert_eq!(answer(exchange, &activity, &LIMITS, false).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_has_its_own_limit() {
        let activity = Activity::default();
        activity.finish();
        let start = Instant::now();
        let ended = answer(std::future::pending::<()>(), &activity, &LIMITS, true).await;
        assert_eq!(ended, Err(LIMITS.commit));
        assert!(start.elapsed() < 2 * LIMITS.commit);
    }
}
