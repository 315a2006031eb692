//! The output of `prune`: rows as the records go, and the total.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::buildkit::disk::UsageRecord;
use crate::cli::disk::record::{details, human_size, last_used};
use crate::cli::disk::tabs;

const HEADERS: &str = "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n";

/// Counts the records and renders each.
#[derive(Debug)]
pub(super) struct Report {
    verbose: bool,
    begun: bool,
    total: i64,
}

impl Report {
    /// Begins with nothing freed.
    pub(super) fn new(verbose: bool) -> Self {
        Self {
            verbose,
            begun: false,
            total: 0,
        }
    }

    /// Renders a record that is gone; the first row stands under headers.
    pub(super) fn row(&mut self, record: &UsageRecord, now: Timestamp) -> String {
        self.total += record.size;
        if self.verbose {
            return verbose(record, now);
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            text.push_str(HEADERS);
        }
        let star = |marked: bool| if marked { "*" } else { "" };
        let _ = writeln!(
            text,
            "{:<40}\t{:<5}\t{:<10}\t{}",
            format!("{}{}", record.id, star(record.mutable)),
            !record.in_use,
            format!("{}{}", human_size(record.size), star(record.shared)),
            last_used(record, now)
        );
        tabs::columns(&text)
    }

    /// Renders the sum.
    pub(super) fn total(&self) -> String {
        tabs::columns(&format!("Total:\t{}\n", human_size(self.total)))
    }
}

fn verbose(record: &UsageRecord, now: Timestamp) -> String {
    let mut text = String::new();
    for (name, value) in details(record, now, ("Parent", record.parents.join(","))) {
        let _ = writeln!(text, "{name}:\t{value}");
    }
    text.push('\n');
    tabs::columns(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, size: i64) -> UsageRecord {
        UsageRecord {
            id: id.to_owned(),
            size,
            mutable: true,
            parents: vec!["p".to_owned(), "q".to_owned()],
            ..UsageRecord::default()
        }
    }

    #[test]
    fn rows_stand_under_one_header_and_are_summed() {
        let mut report = Report::new(false);
        assert_eq!(report.total(), "Total:\t0B\n");
        let first = report.row(&record("a", 1000), Timestamp::UNIX_EPOCH);
        assert_eq!(
            first,
            format!(
                "ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n{:<40}\ttrue \t\t1kB       \t\n",
                "a*"
            )
        );
        let second = report.row(&record("b", 500), Timestamp::UNIX_EPOCH);
        assert_eq!(second.lines().count(), 1, "{second}");
        assert_eq!(report.total(), "Total:\t1.5kB\n");
    }

    #[test]
    fn the_long_form_has_an_empty_line_behind_each() {
        let mut report = Report::new(true);
        let text = report.row(&record("a", 1000), Timestamp::UNIX_EPOCH);
        assert!(text.starts_with("ID:\t\ta\nParent:\t\tp,q\n"), "{text}");
        assert!(text.ends_with("Usage count:\t0\n\n"), "{text}");
    }
}
