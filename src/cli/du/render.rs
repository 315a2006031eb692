//! The output of `du`: a table, JSON lines, texts or a template, and the totals.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::buildkit::disk::UsageRecord;
use crate::cli::disk::record::{created_at, details, human_size, last_used};
use crate::cli::disk::tabs;
use crate::cli::format;
use crate::cli::template::TemplateError;
use crate::text::go_json;

const DEFAULT: &str = "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "ID"),
    ("Parents", "PARENTS"),
    ("CreatedAt", "CREATED AT"),
    ("Mutable", "MUTABLE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Shared", "SHARED"),
    ("Size", "SIZE"),
    ("Description", "DESCRIPTION"),
    ("UsageCount", "USAGE COUNT"),
    ("LastUsedAt", "LAST ACCESSED"),
    ("Type", "TYPE"),
];

/// A parsed `--format`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// Lines of names and values, an empty line behind each record.
    Pretty,
    /// One of the forms that all lists have; the flag is whether it is the default table.
    Common(format::Format, bool),
}

impl Format {
    /// Reads `--format` and `--verbose`.
    pub(super) fn parse(text: Option<&str>, verbose: bool) -> Result<Self, TemplateError> {
        match text {
            None if verbose => Ok(Self::Pretty),
            Some("pretty") => Ok(Self::Pretty),
            text => {
                let text = text.unwrap_or("table");
                let parsed = format::Format::parse(text, DEFAULT)?;
                Ok(Self::Common(parsed, text == "table"))
            }
        }
    }

    /// Returns whether the totals stand below.
    pub(super) fn has_totals(&self) -> bool {
        matches!(self, Self::Pretty | Self::Common(_, true))
    }

    /// Renders the records.
    pub(super) fn render(
        &self,
        records: &[UsageRecord],
        now: Timestamp,
    ) -> Result<String, TemplateError> {
        let lines = |template: &crate::cli::template::Template, table: bool| {
            let mut out = String::new();
            for record in records {
                out.push_str(&template.render(&fields(record, now, table), &json(record, now))?);
                out.push('\n');
            }
            Ok(out)
        };
        match self {
            Self::Pretty => Ok(records.iter().map(|record| pretty(record, now)).collect()),
            Self::Common(format::Format::Json, _) => Ok(records
                .iter()
                .map(|record| go_json::encode(&json(record, now)) + "\n")
                .collect()),
            Self::Common(format::Format::Lines(template), _) => lines(template, false),
            Self::Common(format::Format::Table(template), _) => {
                Ok(format::table(template, HEADERS, &lines(template, true)?))
            }
        }
    }
}

/// The fields of a row. In a table a star marks what is mutable or shared.
fn fields(record: &UsageRecord, now: Timestamp, table: bool) -> Value {
    let star = |marked: bool| if table && marked { "*" } else { "" };
    json!({
        "CreatedAt": created_at(record),
        "Description": record.description,
        "ID": format!("{}{}", record.id, star(record.mutable)),
        "LastUsedAt": last_used(record, now),
        "Mutable": record.mutable,
        "Parents": record.parents,
        "Reclaimable": !record.in_use,
        "Shared": record.shared,
        "Size": format!("{}{}", human_size(record.size), star(record.shared)),
        "Type": record.record_type,
        "UsageCount": record.usage_count,
    })
}

fn json(record: &UsageRecord, now: Timestamp) -> Value {
    let mut fields = fields(record, now, false);
    if record.parents.is_empty() {
        fields["Parents"] = Value::Null;
    }
    fields
}

fn pretty(record: &UsageRecord, now: Timestamp) -> String {
    let mut out = String::new();
    // The name stands alone, the identifiers below it.
    let parents = format!("\n - {}", record.parents.join("\n - "));
    for (name, value) in details(record, now, ("Parents", parents)) {
        let _ = writeln!(out, "{:<14}{value}", format!("{name}:"));
    }
    out.push('\n');
    out.replace("Parents:      \n", "Parents:\n")
}

/// The sums of all records.
pub(super) fn totals(records: &[UsageRecord]) -> String {
    let sum = |wanted: &dyn Fn(&UsageRecord) -> bool| -> i64 {
        let sizes = records.iter().filter(|r| r.size > 0 && wanted(r));
        sizes.map(|record| record.size).sum()
    };
    let total = sum(&|_| true);
    let reclaimable = sum(&|record| !record.in_use);
    let shared = sum(&|record| record.shared);
    let mut text = String::new();
    let mut line = |name: &str, bytes: i64| {
        let _ = writeln!(text, "{name}:\t{}", human_size(bytes));
    };
    if shared > 0 {
        line("Shared", shared);
        line("Private", total - shared);
    }
    line("Reclaimable", reclaimable);
    line("Total", total);
    tabs::columns(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<UsageRecord> {
        let first = UsageRecord {
            id: "aaa".to_owned(),
            size: 1500,
            mutable: true,
            in_use: true,
            description: "local source".to_owned(),
            record_type: "source.local".to_owned(),
            usage_count: 3,
            parents: vec!["p1".to_owned(), "p2".to_owned()],
            ..UsageRecord::default()
        };
        let second = UsageRecord {
            id: "b".to_owned(),
            size: 2_000_000,
            shared: true,
            ..UsageRecord::default()
        };
        vec![first, second]
    }

    fn render(format: Option<&str>, verbose: bool) -> String {
        let format = Format::parse(format, verbose).unwrap();
        format.render(&records(), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn the_table_marks_mutable_and_shared() {
        let want = "ID        RECLAIMABLE   SIZE      LAST ACCESSED\n\
                    aaa*      false         1.5kB     \n\
                    b         true          2MB*      \n";
        assert_eq!(render(None, false), want);
        assert_eq!(render(Some("table"), false), want);
        assert_eq!(
            render(Some("table {{.ID}}\\t{{.Type}}"), false),
            "ID        TYPE\naaa*      source.local\nb         \n"
        );
        assert_eq!(
            render(Some("{{.ID}} {{.Size}}"), false),
            "aaa 1.5kB\nb 2MB\n"
        );
    }

    #[test]
    fn json_has_all_fields_sorted() {
        let text = render(Some("json"), false);
        assert_eq!(
            text.lines().next(),
            Some(concat!(
                r#"{"CreatedAt":"1970-01-01 00:00:00 +0000 UTC","Description":"local source","ID":"aaa","#,
                r#""LastUsedAt":"","Mutable":true,"Parents":["p1","p2"],"Reclaimable":false,"#,
                r#""Shared":false,"Size":"1.5kB","Type":"source.local","UsageCount":3}"#
            ))
        );
        assert!(text.contains(r#""Parents":null"#), "{text}");
    }

    #[test]
    fn the_long_form_leaves_out_what_is_not_there() {
        let want = "ID:           aaa\nParents:\n - p1\n - p2\n\
                    Created at:   1970-01-01 00:00:00 +0000 UTC\nMutable:      true\n\
                    Reclaimable:  false\nShared:       false\nSize:         1.5kB\n\
                    Description:  local source\nUsage count:  3\nType:         source.local\n\n\
                    ID:           b\nCreated at:   1970-01-01 00:00:00 +0000 UTC\n\
                    Mutable:      false\nReclaimable:  true\nShared:       true\n\
                    Size:         2MB\nUsage count:  0\n\n";
        assert_eq!(render(None, true), want);
        assert_eq!(render(Some("pretty"), false), want);
    }

    #[test]
    fn totals_are_below_the_default_forms_only() {
        for (format, verbose, has) in [
            (None, false, true),
            (Some("table"), false, true),
            (None, true, true),
            (Some("json"), false, false),
            (Some("table {{.ID}}"), false, false),
        ] {
            assert_eq!(Format::parse(format, verbose).unwrap().has_totals(), has);
        }
        assert_eq!(
            totals(&records()),
            "Shared:\t\t2MB\nPrivate:\t1.5kB\nReclaimable:\t2MB\nTotal:\t\t2.002MB\n"
        );
        assert_eq!(totals(&[]), "Reclaimable:\t0B\nTotal:\t\t0B\n");
    }
}
