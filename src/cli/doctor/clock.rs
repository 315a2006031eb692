//! Whether other machines have the same time: tokens, signatures and the ages of caches depend on it.

use super::report::Report;

/// Tokens of registries and signatures hold for minutes.
const MOST_SECONDS: u64 = 60;

/// Notes how far a clock is ahead of this machine's, in seconds, less than zero where it is behind.
pub(super) fn compare(check: &'static str, lead: Option<i64>, report: &mut Report) {
    let Some(lead) = lead else {
        return report.untried(check, "it does not tell its time");
    };
    let seconds = lead.unsigned_abs();
    if seconds <= MOST_SECONDS {
        return report.yes(check, "agrees with this machine's");
    }
    let direction = if lead > 0 { "ahead of" } else { "behind" };
    report.no(
        check,
        format!("{seconds} seconds {direction} this machine's"),
        "set the one that is wrong, for example with timedatectl set-ntp true; logins, signatures and the ages of caches depend on it",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Format;

    #[test]
    fn a_minute_is_allowed() {
        for (lead, says) in [
            (None, "untried"),
            (Some(0), "yes"),
            (Some(60), "yes"),
            (Some(-60), "yes"),
            (Some(61), "61 seconds ahead of this machine's"),
            (Some(-3600), "3600 seconds behind this machine's"),
            (Some(i64::MIN), "behind"),
        ] {
            let mut report = Report::default();
            compare("clock", lead, &mut report);
            assert!(report.render(Format::Json).contains(says), "{lead:?}");
            assert!(report.is_fine());
        }
    }
}
