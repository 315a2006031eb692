//! The report for machines.

use super::model::Report;
use crate::text::foreign;

/// Returns the JSON form.
pub fn render(report: &Report) -> String {
    // Only maps with keys that are no text cannot be written, and there are none.
    let mut json = serde_json::to_string_pretty(report).unwrap_or_default();
    json.push('\n');
    foreign::json(&json)
}
