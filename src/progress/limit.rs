//! How often a display may print on reports.

use super::time::Time;

/// Reports are printed at most ten times a second.
const INTERVAL: i64 = 100_000_000;

/// Allows one event per interval, the first one at once.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    last: Option<Time>,
}

impl Limiter {
    /// Returns whether an event at `now` is allowed; if it is, the interval starts again.
    pub(super) fn allow(&mut self, now: Time) -> bool {
        let allowed = self
            .last
            .is_none_or(|last| now.since(last) >= INTERVAL || now < last);
        if allowed {
            self.last = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_each_tenth_of_a_second() {
        let mut limiter = Limiter::default();
        let at = |ms: i64| Time::from_nanos(ms * 1_000_000);
        let allowed: Vec<i64> = [1000, 1050, 1099, 1100, 1150, 1210, 1299]
            .into_iter()
            .filter(|ms| limiter.allow(at(*ms)))
            .collect();
        assert_eq!(allowed, [1000, 1100, 1210]);
        // A clock that was set back does not silence the display.
        assert!(limiter.allow(at(5)));
    }
}
