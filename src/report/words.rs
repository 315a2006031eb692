//! Figures in words.

use super::model::{Outcome, Report, Status, Step, Totals};
use crate::progress::units;
use crate::text::counted;

/// Returns a time: `0.2s`, `48.3s`, `3m12s`, `1h02m`.
pub(super) fn time(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    let seconds = ms.saturating_add(500) / 1000;
    match seconds {
        _ if tenths < 600 => format!("{}.{}s", tenths / 10, tenths % 10),
        ..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Returns a number of bytes: `31.20MB`.
pub(super) fn bytes(count: u64) -> String {
    units::bytes(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Returns the title of a report.
pub(super) fn title(report: &Report) -> String {
    match &report.target {
        Some(target) => format!("{} ({target})", report.name),
        None => report.name.clone(),
    }
}

/// Returns what came of a build in one sentence, such as `built in 48.3s, 8 of 12 steps from the cache, saved about
/// 3m12s`.
pub(super) fn verdict(report: &Report) -> String {
    let took = time(report.duration_ms);
    let mut parts = vec![match report.result {
        Outcome::Succeeded => format!("built in {took}"),
        Outcome::Failed => format!("failed after {took}"),
        Outcome::Canceled => format!("canceled after {took}"),
    }];
    let totals = &report.totals;
    if totals.steps > 0 {
        let steps = counted(totals.steps, "step");
        parts.push(format!("{} of {steps} from the cache", totals.cached));
    }
    if let Some(saved) = saved(totals) {
        parts.push(format!("saved about {}", time(saved)));
    }
    parts.join(", ")
}

/// Returns how much time was saved, in milliseconds, where that is worth a word.
pub(super) fn saved(totals: &Totals) -> Option<u64> {
    totals.saved_ms.filter(|saved| *saved >= 1000)
}

/// Returns where a step stands, such as `Dockerfile:9`.
pub(super) fn place(step: &Step) -> Option<String> {
    let file = step.dockerfile.as_deref()?;
    Some(format!("{file}:{}", step.line?))
}

/// Returns what became of a step.
pub(super) fn status(step: &Step) -> &'static str {
    // What steps are made of does not run.
    let is_source = matches!(step.kind, "image" | "git" | "http" | "local");
    match step.status {
        _ if step.loading => "loaded",
        Status::Ran if is_source || step.name.starts_with("[internal]") => "read",
        status => status.word(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        let cases = [
            (0, "0.0s"),
            (49, "0.0s"),
            (250, "0.3s"),
            (59_949, "59.9s"),
            (59_960, "1m00s"),
            (192_400, "3m12s"),
            (3_599_600, "1h00m"),
            (3_725_000, "1h02m"),
        ];
        for (ms, expected) in cases {
            assert_eq!(time(ms), expected, "{ms}");
        }
        assert!(time(u64::MAX).ends_with('m'));
    }
}
