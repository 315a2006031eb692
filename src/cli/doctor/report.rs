//! The lines of the report, as a table and as JSON.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::cli::table;
use crate::error::chain;

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    Table,
    /// One JSON object.
    Json,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It was not tried: another line says why, or there is nothing that could be tried.
    Untried,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Untried => "-",
        })
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// What was looked at.
    pub(super) check: &'static str,
    /// Whether it is there.
    pub(super) answer: Answer,
    /// Without it a build with a registry cache fails.
    pub(super) needed: bool,
    /// What was found, or why not.
    pub(super) reason: String,
    /// What to do about it; empty where there is nothing to do.
    pub(super) advice: String,
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Notes that something is there.
    pub(super) fn yes(&mut self, check: &'static str, reason: impl Into<String>) {
        self.add(check, Answer::Yes, reason, "");
    }

    /// Notes that something is not there and that builds with a registry cache can do without. The advice is a way out, or
    /// says why none is needed.
    pub(super) fn no(
        &mut self,
        check: &'static str,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(check, Answer::No, reason, advice);
    }

    /// Notes that something is not there that builds with a registry cache need.
    pub(super) fn missing(
        &mut self,
        check: &'static str,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(check, Answer::No, reason, advice);
        if let Some(line) = self.lines.last_mut() {
            line.needed = true;
        }
    }

    /// Notes that something was not tried.
    pub(super) fn untried(&mut self, check: &'static str, reason: impl Into<String>) {
        self.add(check, Answer::Untried, reason, "");
    }

    fn add(
        &mut self,
        check: &'static str,
        answer: Answer,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) {
        // Others' words can have several lines.
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.lines.push(Line {
            check,
            answer,
            needed: false,
            reason: one_line(reason.into()),
            advice: one_line(advice.into()),
        });
    }

    /// Returns whether nothing that is needed is missing.
    pub(super) fn is_fine(&self) -> bool {
        !self.lines.iter().any(|line| line.needed)
    }

    /// Returns the whole text, a new line at its end.
    pub(super) fn render(&self, format: Format) -> String {
        match format {
            Format::Json => {
                let version = env!("CARGO_PKG_VERSION");
                let json = serde_json::json!({
                    "version": version, "ok": self.is_fine(), "checks": self.lines,
                });
                format!("{json:#}\n")
            }
            Format::Table => self.table(),
        }
    }

    fn table(&self) -> String {
        let row = |line: &Line| format!("{}\t{}\t{}\n", line.check, line.answer, line.reason);
        let rows: String = self.lines.iter().map(row).collect();
        let mut text = table::columns(&rows, 0, 3);
        let advice = self.lines.iter().filter(|line| !line.advice.is_empty());
        for line in advice {
            let mark = if line.needed { "needed" } else { "advice" };
            let _ = write!(text, "\n{mark}: {}: {}", line.check, line.advice);
        }
        if text.ends_with('\n') {
            text.push_str("\nadvice: none");
        }
        text + "\n"
    }
}

/// Returns what an error itself says can be done, or else this.
pub(super) fn way_out(hints: &[String], otherwise: &str) -> String {
    if hints.is_empty() {
        otherwise.to_owned()
    } else {
        hints.join("; ")
    }
}

/// Returns an error with its causes.
pub(super) fn because(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.yes("engine", "Docker 28");
        report.missing("push", "401\n  unauthorized", "log in");
        report.no("zstd layers", "400", "use compression=gzip");
        report.untried("mount", "nothing was pushed");
        report
    }

    #[test]
    fn the_table_has_a_line_each_and_advice_below() {
        assert_eq!(
            report().render(Format::Table),
            "engine        yes   Docker 28\npush          no    401 unauthorized\nzstd layers   no    400\n\
             mount         -     nothing was pushed\n\nneeded: push: log in\nadvice: zstd layers: use compression=gzip\n"
        );
        let mut fine = Report::default();
        fine.yes("a", "b");
        assert_eq!(fine.render(Format::Table), "a   yes   b\n\nadvice: none\n");
    }

    #[test]
    fn what_is_needed_decides() {
        assert!(!report().is_fine());
        let json: serde_json::Value = serde_json::from_str(&report().render(Format::Json)).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["checks"][1]["answer"], "no");
        assert_eq!(json["checks"][1]["needed"], true);
        assert_eq!(json["checks"][3]["answer"], "untried");
        let mut fine = Report::default();
        fine.no("zstd layers", "", "");
        assert!(fine.is_fine());
    }
}
