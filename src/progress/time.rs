//! Points in time and the ways they are printed.

use std::time::{SystemTime, UNIX_EPOCH};

use bollard_buildkit_proto::google::protobuf::Timestamp;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A point in time: nanoseconds since the Unix epoch, saturating at the ends of the range
/// (years 1677 and 2262).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(i64);

impl Time {
    /// Creates a time from nanoseconds since the Unix epoch.
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the present time of the system clock.
    pub fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
            Err(_) => Self(0),
        }
    }

    /// Returns the nanoseconds since the Unix epoch.
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Returns the nanoseconds from `earlier` to this time; negative where `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the time that is `nanos` later.
    #[must_use]
    pub fn plus(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl From<Timestamp> for Time {
    fn from(stamp: Timestamp) -> Self {
        Self(
            stamp
                .seconds
                .saturating_mul(NANOS_PER_SECOND)
                .saturating_add(i64::from(stamp.nanos)),
        )
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self {
            seconds: time.0.div_euclid(NANOS_PER_SECOND),
            // The remainder is below one thousand million, which fits.
            nanos: i32::try_from(time.0.rem_euclid(NANOS_PER_SECOND)).unwrap_or(0),
        }
    }
}

/// Reads an optional protobuf time stamp; a missing one is the epoch, as in Go's `AsTime`.
pub(super) fn or_epoch(stamp: Option<Timestamp>) -> Time {
    stamp.map(Time::from).unwrap_or_default()
}

/// Converts nanoseconds to seconds the way Go's `Duration.Seconds` does, so that the digits
/// printed are the same.
pub(super) fn seconds(nanos: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "whole seconds and nanoseconds are small enough to be exact"
    )]
    let (whole, rest) = (
        (nanos / NANOS_PER_SECOND) as f64,
        (nanos % NANOS_PER_SECOND) as f64,
    );
    whole + rest / 1e9
}

/// Prints the offset of a log line from the start of its step: three decimals below ten seconds,
/// two below a hundred, one above. A line from before the start is one at the start.
pub(super) fn log_offset(nanos: i64) -> String {
    let value = seconds(nanos.max(0));
    let precision = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    format!("{value:.precision$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_offset_loses_decimals_as_it_grows() {
        let cases = [
            (0, "0.000"),
            (312_000_000, "0.312"),
            (9_999_400_000, "9.999"),
            (10_000_000_000, "10.00"),
            (99_990_000_000, "99.99"),
            (100_040_000_000, "100.0"),
            (-5_000_000, "0.000"),
            (i64::MIN, "0.000"),
        ];
        for (nanos, want) in cases {
            assert_eq!(log_offset(nanos), want);
        }
    }

    #[test]
    fn timestamps_convert_both_ways_and_saturate() {
        let stamp = Timestamp {
            seconds: -2,
            nanos: 500_000_000,
        };
        assert_eq!(Time::from(stamp).nanos(), -1_500_000_000);
        assert_eq!(Timestamp::from(Time::from(stamp)), stamp);
        let far = Timestamp {
            seconds: i64::MAX,
            nanos: 5,
        };
        assert_eq!(Time::from(far).nanos(), i64::MAX);
        assert_eq!(
            Time::from_nanos(i64::MIN).since(Time::from_nanos(1)),
            i64::MIN
        );
    }
}
