//! How many requests to a host run at once: rises slowly, halves when the host is overloaded.
//!
//! There is one limiter per class of request. A copy inside one host holds a download while it
//! waits for an upload, and an upload never waits for a download permit, so no circle of waiting
//! can form; with a single limiter it could.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::retry::Clock;

/// What a request moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Small answers, read at once.
    Control,
    /// The content of a blob from the registry.
    Download,
    /// The content of a blob to the registry.
    Upload,
}

/// Limits of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Requests at once in the beginning.
    pub start: usize,
    /// Never fewer than this.
    pub min: usize,
    /// Never more than this.
    pub max: usize,
}

impl Default for Concurrency {
    /// BuildKit moves four blobs at once; an unloaded registry takes more, and a home line fewer
    /// than eight does not fill.
    fn default() -> Self {
        Self {
            start: 8,
            min: 1,
            max: 32,
        }
    }
}

/// The three limiters of a host and the pause that it asked for.
pub(super) struct Limits {
    control: Arc<Limiter>,
    download: Arc<Limiter>,
    upload: Arc<Limiter>,
    hold: Mutex<Option<Instant>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}

impl Limits {
    pub(super) fn new(concurrency: Concurrency, clock: &Arc<dyn Clock>) -> Self {
        Self {
            control: Limiter::new(concurrency),
            download: Limiter::new(concurrency),
            upload: Limiter::new(concurrency),
            hold: Mutex::new(None),
            clock: Arc::clone(clock),
        }
    }

    fn class(&self, class: Class) -> &Arc<Limiter> {
        match class {
            Class::Control => &self.control,
            Class::Download => &self.download,
            Class::Upload => &self.upload,
        }
    }

    /// Waits for a permit, and for the end of a pause that the host asked for.
    pub(super) async fn acquire(&self, class: Class) -> Permit {
        let permit = self.class(class).acquire().await;
        loop {
            let until = *self.hold.lock();
            match until.and_then(|u| u.checked_duration_since(self.clock.now())) {
                Some(left) if !left.is_zero() => self.clock.sleep(left).await,
                _ => return permit,
            }
        }
    }

    /// Notes that a request of the class went well.
    pub(super) fn succeeded(&self, class: Class) {
        self.class(class).raise();
    }

    /// Notes that the host is overloaded or out of reach, and how long it wants to be left alone.
    pub(super) fn overloaded(&self, class: Class, pause: Option<Duration>) {
        let now = self.clock.now();
        self.class(class).halve(now);
        if let Some(until) = pause.and_then(|p| now.checked_add(p)) {
            let mut hold = self.hold.lock();
            *hold = Some(hold.map_or(until, |old| old.max(until)));
        }
    }

    /// Returns how many requests of the class may run now.
    #[cfg(test)]
    pub(super) fn limit(&self, class: Class) -> usize {
        self.class(class).state.lock().limit
    }
}

/// Additive increase, multiplicative decrease over a semaphore.
struct Limiter {
    semaphore: Arc<Semaphore>,
    state: Mutex<State>,
    concurrency: Concurrency,
}

struct State {
    limit: usize,
    /// Successes since the limit last changed.
    successes: usize,
    /// Permits that are out and must not come back.
    debt: usize,
    last_halved: Option<Instant>,
}

/// Failures within this time after a decrease belong to the same overload.
const SAME_OVERLOAD: Duration = Duration::from_secs(1);

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("limit", &self.state.lock().limit)
            .finish_non_exhaustive()
    }
}

impl Limiter {
    fn new(concurrency: Concurrency) -> Arc<Self> {
        let min = concurrency.min.max(1);
        let max = concurrency.max.max(min);
        let limit = concurrency.start.clamp(min, max);
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(limit)),
            state: Mutex::new(State {
                limit,
                successes: 0,
                debt: 0,
                last_halved: None,
            }),
            concurrency: Concurrency {
                start: limit,
                min,
                max,
            },
        })
    }

    async fn acquire(self: &Arc<Self>) -> Permit {
        // The semaphore is never closed; without a permit the request runs unlimited.
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        Permit {
            permit,
            limiter: Arc::clone(self),
        }
    }

    fn raise(&self) {
        let mut state = self.state.lock();
        state.successes += 1;
        if state.successes < state.limit || state.limit >= self.concurrency.max {
            return;
        }
        state.successes = 0;
        state.limit += 1;
        if state.debt > 0 {
            state.debt -= 1;
        } else {
            self.semaphore.add_permits(1);
        }
    }

    fn halve(&self, now: Instant) {
        let mut state = self.state.lock();
        if state
            .last_halved
            .is_some_and(|t| now.saturating_duration_since(t) < SAME_OVERLOAD)
        {
            return;
        }
        state.last_halved = Some(now);
        state.successes = 0;
        let limit = (state.limit / 2).max(self.concurrency.min);
        let fewer = state.limit - limit;
        state.limit = limit;
        state.debt += fewer - self.semaphore.forget_permits(fewer);
    }
}

/// The right to have one request under way; lives as long as the body of the answer.
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    limiter: Arc<Limiter>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock();
        if state.debt > 0
            && let Some(permit) = self.permit.take()
        {
            state.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::testing::TestClock;
    use super::*;

    fn limits(start: usize, min: usize, max: usize) -> (Arc<TestClock>, Limits) {
        let clock = TestClock::new();
        let dynamic: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        (
            clock,
            Limits::new(Concurrency { start, min, max }, &dynamic),
        )
    }

    #[tokio::test]
    async fn overload_halves_once_and_success_adds_one_per_round() {
        let (clock, limits) = limits(8, 2, 9);
        limits.overloaded(Class::Upload, None);
        limits.overloaded(Class::Upload, None);
        assert_eq!(limits.limit(Class::Upload), 4);
        assert_eq!(limits.limit(Class::Control), 8);
        clock.advance(Duration::from_secs(2));
        limits.overloaded(Class::Upload, None);
        clock.advance(Duration::from_secs(2));
        limits.overloaded(Class::Upload, None);
        assert_eq!(limits.limit(Class::Upload), 2);
        limits.succeeded(Class::Upload);
        assert_eq!(limits.limit(Class::Upload), 2);
        limits.succeeded(Class::Upload);
        assert_eq!(limits.limit(Class::Upload), 3);
        for _ in 0..1000 {
            limits.succeeded(Class::Upload);
        }
        assert_eq!(limits.limit(Class::Upload), 9);
    }

    #[tokio::test]
    async fn permits_that_are_out_are_taken_back_when_they_end() {
        let (_clock, limits) = limits(4, 1, 4);
        let mut out = Vec::new();
        for _ in 0..4 {
            out.push(limits.acquire(Class::Download).await);
        }
        limits.overloaded(Class::Download, None);
        out.truncate(2);
        // Two of four are still out and the limit is two.
        assert!(limits.acquire(Class::Download).now_or_never().is_none());
        out.truncate(1);
        let again = limits.acquire(Class::Download).now_or_never();
        assert!(again.is_some());
        assert!(limits.acquire(Class::Download).now_or_never().is_none());
        assert!(limits.acquire(Class::Upload).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_pause_that_the_host_asked_for_holds_every_class() {
        let (clock, limits) = limits(4, 1, 4);
        limits.overloaded(Class::Upload, Some(Duration::from_secs(9)));
        let _permit = limits.acquire(Class::Control).await;
        assert_eq!(clock.sleeps(), [Duration::from_secs(9)]);
        let _permit = limits.acquire(Class::Control).await;
        assert_eq!(clock.sleeps().len(), 1);
    }
}
