//! The report for a page that shows GitHub's Markdown, such as the summary of a job.
//!
//! All that others wrote is escaped: as character references, which are neither Markdown nor HTML, and in tables no end
//! of a cell.

use std::fmt::Write as _;

use super::model::{ExportKind, Outcome, ReadStatus, Report, Step, WriteStatus};
use super::words;
use crate::text::{counted, foreign};

/// How large it gets, in bytes: GitHub takes 1 MiB of all that a step of a job writes.
pub const MAX: usize = 64 * 1024;

/// Where the list of causes ends, and the one of caches.
const CAUSES_END: usize = MAX / 2;
const CACHES_END: usize = MAX / 4 * 3;
/// Characters of a cause or an error in a table or list.
const TEXT: usize = 400;

/// Returns the Markdown form.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let title = escaped(&words::title(report));
    line(
        &mut out,
        &format!("### docker cachex: {title}: {}", words::verdict(report)),
    );
    failure(&mut out, report);
    causes(&mut out, report);
    caches(&mut out, report);
    steps(&mut out, report);
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push_str("\n\n");
}

/// Writes where and why the build failed.
fn failure(out: &mut String, report: &Report) {
    if report.result != Outcome::Failed {
        return;
    }
    if let Some(step) = report.failed_step() {
        line(out, &format!("Failed: {}", named(step, report)));
    }
    if let Some(error) = &report.error {
        line(out, &format!("<pre>{}</pre>", escaped(error)));
    }
}

/// Writes the table of the causes.
fn causes(out: &mut String, report: &Report) {
    let count = report.causes().count();
    if count == 0 {
        return;
    }
    out.push_str("| step that ran | why | took | steps behind it |\n|---|---|---:|---:|\n");
    let mut left = count;
    for (step, cause) in report.causes() {
        if out.len() > CAUSES_END {
            break;
        }
        left -= 1;
        let behind = match step.followers.len() {
            0 => String::new(),
            count => format!("{count}, {}", words::time(report.behind_ms(step))),
        };
        let (step_name, why) = (named(step, report), excerpt(&cause.text));
        let took = words::time(step.duration_ms);
        _ = writeln!(out, "| {step_name} | {why} | {took} | {behind} |");
    }
    out.push('\n');
    if left > 0 {
        line(out, &format!("and {}", counted(left, "more cause")));
    }
}

/// Writes a list of the caches.
fn caches(out: &mut String, report: &Report) {
    let (read, written) = (&report.caches.read, &report.caches.written);
    for cache in read {
        if out.len() > CACHES_END {
            break;
        }
        let mut told = match cache.status {
            ReadStatus::Missing => "does not exist".to_owned(),
            ReadStatus::Unreadable => {
                let error = cache.error.as_deref().unwrap_or_default();
                format!("could not be read: {}", excerpt(error))
            }
            ReadStatus::Read => {
                let age = cache.age.as_ref();
                let age = age.map(|age| format!("{} old", escaped(age)));
                let hits = cache
                    .hits
                    .map(|hits| format!("has {hits} of the cached steps"));
                let parts: Vec<String> = age.into_iter().chain(hits).collect();
                parts.join(", ")
            }
        };
        if let Some(bytes) = cache.bytes {
            _ = write!(told, ", {} loaded", words::bytes(bytes));
        }
        _ = writeln!(out, "- read {}: {told}", code(&cache.name));
    }
    for cache in written {
        if out.len() > CACHES_END {
            break;
        }
        let mut told = match cache.status {
            WriteStatus::Written => "done".to_owned(),
            WriteStatus::Skipped => "nothing was sent".to_owned(),
            WriteStatus::Failed => {
                let error = cache.error.as_deref().unwrap_or_default();
                format!("failed: {}", excerpt(error))
            }
        };
        if let Some(bytes) = cache.bytes {
            _ = write!(told, ", {} sent", words::bytes(bytes));
        }
        if let Some(after) = cache
            .after_steps_ms
            .filter(|_| cache.status == WriteStatus::Written)
        {
            _ = write!(told, ", {} after the last step", words::time(after));
        }
        _ = writeln!(out, "- write {}: {told}", code(&cache.name));
    }
    if !(read.is_empty() && written.is_empty()) {
        out.push('\n');
    }
}

/// Writes the table of all steps, as many as there is room for.
fn steps(out: &mut String, report: &Report) {
    let shown = || {
        report
            .steps
            .iter()
            .filter(|s| s.line.is_some() || s.duration_ms >= 1000)
    };
    let count = shown().count();
    if count == 0 {
        return;
    }
    _ = write!(
        out,
        "<details><summary>{}</summary>\n\n| step | | took | size |\n|---|---|---:|---:|\n",
        counted(count, "step")
    );
    let end = end(report);
    for (at, step) in shown().enumerate() {
        let size = step.bytes.map(words::bytes).unwrap_or_default();
        let row = format!(
            "| {} | {} | {} | {size} |\n",
            named(step, report),
            words::status(step),
            words::time(step.duration_ms)
        );
        if out.len() + row.len() + end.len() + 64 > MAX {
            _ = writeln!(out, "| and {} | | | |", counted(count - at, "more step"));
            break;
        }
        out.push_str(&row);
    }
    out.push_str(&end);
}

/// Returns the lines about exports, and the end of the details.
fn end(report: &Report) -> String {
    let mut out = "\n".to_owned();
    let exports = report.exports.iter();
    for export in exports.filter(|e| e.kind != ExportKind::Import).take(20) {
        let took = words::time(export.duration_ms);
        let bytes = export.bytes.filter(|_| export.kind == ExportKind::Mount);
        let bytes = bytes.map_or_else(String::new, |bytes| format!(", {}", words::bytes(bytes)));
        _ = writeln!(out, "- {}: {took}{bytes}", escaped(&export.name));
    }
    out.push_str("\n</details>\n");
    out
}

/// Returns the name of a step with what tells it from others.
fn named(step: &Step, report: &Report) -> String {
    let mut name = code(&step.name);
    let platform = step
        .platform
        .as_ref()
        .filter(|platform| report.has_platforms() && !step.name.contains(platform.as_str()));
    let more = [words::place(step), platform.cloned(), step.node.clone()];
    let more: Vec<String> = more
        .into_iter()
        .flatten()
        .map(|text| escaped(&text))
        .collect();
    if !more.is_empty() {
        _ = write!(name, " ({})", more.join(", "));
    }
    name
}

fn excerpt(text: &str) -> String {
    escaped(&foreign::excerpt(text, TEXT))
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Replaces all that could be Markdown, HTML, a mention or the end of a cell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let is_plain = !c.is_ascii_punctuation() || matches!(c, '.' | ',' | '/' | '-' | '\'');
        if c.is_control() {
            out.push(' ');
        } else if is_plain {
            out.push(c);
        } else {
            _ = write!(out, "&#{};", u32::from(c));
        }
    }
    out
}
