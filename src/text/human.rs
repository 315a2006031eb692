//! Rough durations in words, as `docker/go-units` writes them.

use std::time::Duration;

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24;
const WEEK: u64 = 7 * DAY;
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;

/// Writes a duration: `4 seconds`, `About an hour`, `3 weeks`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // Hours are rounded to the next one, all else down.
    let hours = (seconds + HOUR / 2) / HOUR;
    match (seconds, hours) {
        (0, _) => "Less than a second".to_owned(),
        (1, _) => "1 second".to_owned(),
        (2..MINUTE, _) => format!("{seconds} seconds"),
        (MINUTE..120, _) => "About a minute".to_owned(),
        (120..HOUR, _) => format!("{} minutes", seconds / MINUTE),
        (_, 1) => "About an hour".to_owned(),
        (_, ..48) => format!("{hours} hours"),
        (_, hours) if hours < 2 * WEEK => format!("{} days", hours / DAY),
        (_, hours) if hours < 2 * MONTH => format!("{} weeks", hours / WEEK),
        (_, hours) if hours < 2 * YEAR => format!("{} months", hours / MONTH),
        _ => format!("{} years", seconds / HOUR / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_words() {
        const DAYS: u64 = 24 * HOUR;
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * HOUR, "47 hours"),
            (47 * HOUR + 1800, "2 days"),
            (13 * DAYS, "13 days"),
            (14 * DAYS, "2 weeks"),
            (59 * DAYS, "8 weeks"),
            (60 * DAYS, "2 months"),
            (729 * DAYS, "24 months"),
            (730 * DAYS, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), want, "{seconds}");
        }
        assert_eq!(duration(Duration::from_millis(999)), "Less than a second");
    }
}
