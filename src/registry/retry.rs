//! Trying again: one budget per operation, `Retry-After`, jitter, a clock that tests can hold.
//!
//! Only operations have a [`Budget`]; the layers below them (sending a request, getting a token,
//! following a redirect) try nothing again on their own, so attempts do not multiply.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::error::RegistryError;

/// Time and chance, so that tests need neither.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time for measuring durations.
    fn now(&self) -> Instant;
    /// Returns the time of day, to understand dates of a registry.
    fn wall(&self) -> SystemTime;
    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Returns a random number from 0 up to, not including, 1.
    fn jitter(&self) -> f64;
}

/// The real clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}

/// How often and how long an operation is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts of one operation, the first one included.
    pub attempts: u32,
    /// Wait after the first failure; doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait that is not asked for by the registry.
    pub max_delay: Duration,
    /// The longest wait that is taken from `Retry-After`; a longer one is cut to this.
    pub max_retry_after: Duration,
    /// All waits of one operation together.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    /// Eight attempts over about half a minute, which a restart of a registry takes; a rate limit
    /// may hold an operation for up to five minutes.
    fn default() -> Self {
        Self {
            attempts: 8,
            first_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(15),
            max_retry_after: Duration::from_secs(60),
            max_wait: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// Returns a policy that tries once.
    pub fn never() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }
}

/// Attempts of one operation at a host that was never reached: none is listening, or it has no address. That takes about a
/// second, and after it each further operation has one.
const UNREACHED_ATTEMPTS: u32 = 4;
/// How long such attempts may take together, where a single one takes long.
const UNREACHED_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a host was ever reached. All operations of a client share it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    reached: AtomicBool,
    given_up: AtomicBool,
}

impl Reach {
    /// Notes that the host has taken a connection: from now on every failure may pass.
    pub(super) fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }
}

/// Attempts that may end because a small answer did not come. Each has waited long for it.
const SLOW_ATTEMPTS: u32 = 2;

/// The attempts and waits that one operation has left.
pub struct Budget {
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    failures: u32,
    /// Failures that took their time.
    slow: u32,
    waited: Duration,
    reach: Arc<Reach>,
    begun: Instant,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("policy", &self.policy)
            .field("failures", &self.failures)
            .field("waited", &self.waited)
            .finish_non_exhaustive()
    }
}

impl Budget {
    /// Starts the budget of an operation at a host.
    pub(super) fn new(policy: &RetryPolicy, clock: &Arc<dyn Clock>, reach: &Arc<Reach>) -> Self {
        Self {
            reach: Arc::clone(reach),
            begun: clock.now(),
            policy: policy.clone(),
            clock: Arc::clone(clock),
            failures: 0,
            slow: 0,
            waited: Duration::ZERO,
        }
    }

    /// Counts a failed attempt, waits until the next one may start and gives the failure back for
    /// the record.
    ///
    /// # Errors
    /// Gives the error back when it is of a kind that stays, and as
    /// [`GaveUp`](RegistryError::GaveUp) when nothing is left of the budget.
    pub async fn pause(&mut self, error: RegistryError) -> Result<RegistryError, RegistryError> {
        if !error.is_retryable() {
            self.failures += 1;
            return Err(error);
        }
        self.pause_anyway(error).await
    }

    /// Does the same for a failure of a kind that stays elsewhere, but passes for this request.
    ///
    /// # Errors
    /// Gives the error back as [`GaveUp`](RegistryError::GaveUp) when nothing is left of the budget.
    pub async fn pause_anyway(
        &mut self,
        error: RegistryError,
    ) -> Result<RegistryError, RegistryError> {
        self.failures += 1;
        if matches!(error, RegistryError::Slow { .. }) {
            self.slow += 1;
            if self.slow >= SLOW_ATTEMPTS {
                return Err(self.give_up(error));
            }
        }
        if error.is_unreached() && !self.has_more_for_unreached() {
            return Err(self.give_up(error));
        }
        let delay = self.delay(&error);
        if self.failures >= self.policy.attempts || self.waited + delay > self.policy.max_wait {
            return Err(self.give_up(error));
        }
        tracing::debug!(
            attempt = self.failures,
            of = self.policy.attempts,
            wait_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            error = crate::error::chain(&error),
            "registry request failed, trying again"
        );
        self.waited += delay;
        self.clock.sleep(delay).await;
        Ok(error)
    }

    /// Returns whether it is worth to try again where nobody was there. A host that was reached before is perhaps being
    /// restarted.
    fn has_more_for_unreached(&self) -> bool {
        if self.reach.reached.load(Ordering::Relaxed) {
            return true;
        }
        let taken = self.clock.now().saturating_duration_since(self.begun);
        let has_more = !self.reach.given_up.load(Ordering::Relaxed)
            && self.failures < UNREACHED_ATTEMPTS
            && taken < UNREACHED_PATIENCE;
        if !has_more {
            self.reach.given_up.store(true, Ordering::Relaxed);
        }
        has_more
    }

    fn delay(&self, error: &RegistryError) -> Duration {
        let doubled = 2_u32.saturating_pow((self.failures - 1).min(16));
        let full = (self.policy.first_delay * doubled).min(self.policy.max_delay);
        // Between half and all of it, so that many clients do not come back at once.
        let own = full.mul_f64(0.5 + self.clock.jitter() / 2.0);
        match error.retry_after() {
            // Never sooner than asked; the jitter comes on top of it.
            Some(asked) => asked + own.min(asked / 4),
            None => own,
        }
    }

    fn give_up(&self, error: RegistryError) -> RegistryError {
        if self.failures < 2 {
            return error;
        }
        RegistryError::GaveUp {
            attempts: self.failures,
            source: Box::new(error),
        }
    }
}

/// Reads `Retry-After`, seconds or an HTTP date, cut to `cap`.
pub(super) fn retry_after(
    headers: &HeaderMap,
    clock: &dyn Clock,
    cap: Duration,
) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit are a long time too.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(clock.wall()).unwrap_or(Duration::ZERO)
    };
    Some(asked.min(cap))
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestClock;
    use super::*;
    use crate::registry::error::RequestLabel;

    fn failure(status: u16, retry_after: Option<u64>) -> RegistryError {
        RegistryError::Status {
            request: RequestLabel::new(&http::Method::GET, &"http://r/".parse().unwrap()),
            status: http::StatusCode::from_u16(status).unwrap(),
            codes: Vec::new(),
            excerpt: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn budget(clock: &Arc<TestClock>) -> Budget {
        of(clock, &Arc::default())
    }

    fn of(clock: &Arc<TestClock>, reach: &Arc<Reach>) -> Budget {
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
        Budget::new(&RetryPolicy::default(), &clock, reach)
    }

    fn unreached(kind: std::io::ErrorKind) -> RegistryError {
        RegistryError::Connect {
            request: RequestLabel::new(&http::Method::GET, &"http://r/".parse().unwrap()),
            source: Box::new(std::io::Error::from(kind)),
        }
    }

    /// Tries until it gives up; returns how often.
    async fn tried(mut budget: Budget, kind: std::io::ErrorKind) -> u32 {
        let mut attempts = 1;
        while budget.pause(unreached(kind)).await.is_ok() {
            attempts += 1;
        }
        attempts
    }

    #[tokio::test]
    async fn a_host_that_was_never_reached_is_not_asked_again_and_again() {
        use std::io::ErrorKind::{ConnectionRefused, ConnectionReset};
        let (clock, reach) = (TestClock::new(), Arc::<Reach>::default());
        // What says nothing about the host does not count.
        assert_eq!(tried(of(&clock, &reach), ConnectionReset).await, 8);
        let before = clock.sleeps().len();
        assert_eq!(tried(of(&clock, &reach), ConnectionRefused).await, 4);
        let waits: Duration = clock.sleeps()[before..].iter().sum();
        assert!(waits < Duration::from_secs(2), "{waits:?}");
        assert_eq!(tried(of(&clock, &reach), ConnectionRefused).await, 1);
        // One that was reached is perhaps being restarted.
        reach.reached();
        assert_eq!(tried(of(&clock, &reach), ConnectionRefused).await, 8);
    }

    #[tokio::test]
    async fn a_host_that_swallows_connections_is_given_up_sooner() {
        let clock = TestClock::new();
        let mut budget = budget(&clock);
        clock.sleep(Duration::from_secs(30)).await;
        let error = budget.pause(unreached(std::io::ErrorKind::TimedOut)).await;
        assert!(
            matches!(error, Err(RegistryError::Connect { .. })),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn waits_double_up_to_the_limit_and_then_it_gives_up() {
        let clock = TestClock::new();
        let mut budget = budget(&clock);
        let error = loop {
            if let Err(error) = budget.pause(failure(503, None)).await {
                break error;
            }
        };
        assert!(
            matches!(error, RegistryError::GaveUp { attempts: 8, .. }),
            "{error}"
        );
        let millis: Vec<_> = clock.sleeps().iter().map(Duration::as_millis).collect();
        // The test clock's jitter is one half: three quarters of the full delay.
        assert_eq!(millis, [150, 300, 600, 1200, 2400, 4800, 9600]);
    }

    #[tokio::test]
    async fn retry_after_is_never_undercut() {
        let clock = TestClock::new();
        let mut budget = budget(&clock);
        budget.pause(failure(429, Some(7))).await.unwrap();
        assert!(clock.sleeps()[0] >= Duration::from_secs(7));
        assert!(clock.sleeps()[0] < Duration::from_secs(9));
    }

    #[tokio::test]
    async fn the_sum_of_waits_is_bounded() {
        let clock = TestClock::new();
        let mut budget = budget(&clock);
        budget.policy.attempts = 1000;
        while budget.pause(failure(429, Some(60))).await.is_ok() {}
        assert!(clock.sleeps().iter().sum::<Duration>() <= Duration::from_secs(300));
    }

    #[tokio::test]
    async fn an_error_that_stays_is_given_back_as_it_is() {
        let clock = TestClock::new();
        let error = budget(&clock).pause(failure(403, None)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Status { .. }));
        assert!(clock.sleeps().is_empty());
    }

    #[test]
    fn retry_after_forms() {
        let clock = TestClock::new();
        let cap = Duration::from_secs(60);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, &*clock, cap)
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(read("86400"), Some(cap));
        assert_eq!(read("99999999999999999999999"), Some(cap));
        let date =
            |offset: u64| httpdate::fmt_http_date(clock.wall() + Duration::from_secs(offset));
        assert_eq!(read(&date(30)), Some(Duration::from_secs(30)));
        assert_eq!(read(&date(3000)), Some(cap));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read(""), None);
        assert_eq!(retry_after(&HeaderMap::new(), &*clock, cap), None);
    }
}
