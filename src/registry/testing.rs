//! What the tests of this room share.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::retry::Clock;

/// A clock that does not wait: a sleep moves it on at once and is noted.
pub(crate) struct TestClock {
    start: Instant,
    state: Mutex<(Duration, Vec<Duration>)>,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// Moves the clock on.
    pub(crate) fn advance(&self, by: Duration) {
        self.state.lock().0 += by;
    }

    /// Returns all sleeps so far.
    pub(crate) fn sleeps(&self) -> Vec<Duration> {
        self.state.lock().1.clone()
    }
}

impl Clock for Arc<TestClock> {
    fn now(&self) -> Instant {
        (**self).now()
    }

    fn wall(&self) -> SystemTime {
        (**self).wall()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        (**self).sleep(duration)
    }

    fn jitter(&self) -> f64 {
        (**self).jitter()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.start + self.state.lock().0
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.state.lock().0
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock();
        state.0 += duration;
        state.1.push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}
