//! Sums, causes, caches and steps of a build in tables.

use std::fmt::Write as _;

use super::escaped;
use crate::report::model::{ReadStatus, Report, Step, WriteStatus};
use crate::report::words;
use crate::text::counted;

/// Causes that are seen at once.
const CAUSES: usize = 20;

/// Writes the figures.
pub(super) fn sums(out: &mut String, report: &Report) {
    let totals = &report.totals;
    let number = |count: usize| Some(count).filter(|c| *c > 0).map(|c| c.to_string());
    let figures = [
        ("steps", number(totals.steps)),
        (
            "cached",
            (totals.steps > 0).then(|| totals.cached.to_string()),
        ),
        ("ran", (totals.steps > 0).then(|| totals.ran.to_string())),
        ("failed", number(totals.failed)),
        ("not reached", number(totals.canceled)),
        ("saved, about", words::saved(totals).map(words::time)),
        ("sent to caches", totals.sent_bytes.map(words::bytes)),
        (
            "received from caches",
            totals.received_bytes.map(words::bytes),
        ),
        (
            "cache mounts sent",
            totals.mounts_sent_bytes.map(words::bytes),
        ),
        (
            "cache mounts received",
            totals.mounts_received_bytes.map(words::bytes),
        ),
    ];
    out.push_str("<dl class=\"sums\">");
    for (word, figure) in figures {
        if let Some(figure) = figure {
            _ = write!(out, "<div><dt>{word}</dt><dd>{figure}</dd></div>");
        }
    }
    out.push_str("</dl>\n");
}

/// Writes why steps ran.
pub(super) fn causes(out: &mut String, report: &Report) {
    if report.causes().next().is_none() {
        return;
    }
    out.push_str("<section id=\"causes\">\n<h2>Why steps ran</h2>\n<ul>\n");
    let count = report.causes().count();
    for (at, (step, cause)) in report.causes().enumerate() {
        if at == CAUSES {
            let more = counted(count - at, "more cause");
            _ = write!(out, "</ul>\n<details><summary>{more}</summary>\n<ul>\n");
        }
        _ = write!(
            out,
            "<li><code>{}</code> {}<p>{}</p>",
            escaped(&step.name),
            place(step),
            escaped(&cause.text)
        );
        if !step.followers.is_empty() {
            let verb = if step.followers.len() == 1 {
                "follows"
            } else {
                "follow"
            };
            _ = write!(
                out,
                "<p class=\"quiet\">{} {verb} from it, {}</p>",
                counted(step.followers.len(), "step"),
                words::time(report.behind_ms(step))
            );
        }
        out.push_str("</li>\n");
    }
    let end = if count > CAUSES { "</details>\n" } else { "" };
    _ = write!(out, "</ul>\n{end}</section>\n");
}

/// Writes what was read and written.
pub(super) fn caches(out: &mut String, report: &Report) {
    let (read, written) = (&report.caches.read, &report.caches.written);
    if read.is_empty() && written.is_empty() {
        return;
    }
    out.push_str(
        "<section id=\"caches\">\n<h2>Caches</h2>\n<table>\n<thead><tr><th>Cache</th><th></th>\
         <th class=\"number\">Size</th></tr></thead>\n<tbody>\n",
    );
    for cache in read {
        let told = match cache.status {
            ReadStatus::Missing => "does not exist".to_owned(),
            ReadStatus::Unreadable => {
                let error = cache.error.as_deref().unwrap_or_default();
                format!("could not be read: {error}")
            }
            ReadStatus::Read => {
                let age = cache.age.as_ref().map(|age| format!("{age} old"));
                let commit = cache.commit.as_ref();
                let commit =
                    commit.map(|c| format!("commit {}", c.chars().take(12).collect::<String>()));
                let hits = cache
                    .hits
                    .map(|hits| format!("has {hits} of the cached steps"));
                let parts: Vec<String> = age.into_iter().chain(commit).chain(hits).collect();
                parts.join(", ")
            }
        };
        row(out, "read", &cache.name, &told, cache.bytes);
    }
    for cache in written {
        let told = match cache.status {
            WriteStatus::Written => cache.after_steps_ms.map_or_else(
                || "done".to_owned(),
                |after| format!("done {} after the last step", words::time(after)),
            ),
            WriteStatus::Skipped => "nothing was sent".to_owned(),
            WriteStatus::Failed => {
                let error = cache.error.as_deref().unwrap_or_default();
                format!("failed: {error}")
            }
        };
        row(out, "write", &cache.name, &told, cache.bytes);
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

fn row(out: &mut String, what: &str, name: &str, told: &str, bytes: Option<u64>) {
    _ = writeln!(
        out,
        "<tr><td><code>{}</code></td><td><b>{what}</b> {}</td><td class=\"number\">{}</td></tr>",
        escaped(name),
        escaped(told),
        bytes.map(words::bytes).unwrap_or_default()
    );
}

/// Writes all steps.
pub(super) fn steps(out: &mut String, report: &Report) {
    if report.steps.is_empty() {
        return;
    }
    let heads = [
        ("line", "Line", "number"),
        ("step", "Step", ""),
        ("status", "Status", ""),
        ("start", "Began", "number wide"),
        ("took", "Took", "number"),
        ("size", "Size", "number"),
    ];
    out.push_str("<section>\n<h2>Steps</h2>\n<table id=\"steps\" class=\"sortable\">\n<thead><tr>");
    for (key, word, class) in heads {
        _ = write!(
            out,
            "<th class=\"{class}\" data-key=\"{key}\"><button type=\"button\">{word}</button></th>"
        );
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for step in &report.steps {
        step_row(out, step, report);
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

fn step_row(out: &mut String, step: &Step, report: &Report) {
    let line = step.line.map(|line| line.to_string()).unwrap_or_default();
    let status = words::status(step);
    let cell =
        |sort: u64, text: &str| format!("<td class=\"number\" data-sort=\"{sort}\">{text}</td>");
    // Steps that stand in no line are the last ones.
    let place = step.line.map_or(u64::MAX / 2048, u64::from);
    let name = escaped(&step.name);
    _ = write!(
        out,
        "<tr class=\"{status}\">{}<td data-sort=\"{name}\"><code>{name}</code>",
        cell(place, &line)
    );
    for text in remarks(step, report) {
        _ = write!(out, "<small>{}</small>", escaped(&text));
    }
    let start = step.start_ms.map(words::time).unwrap_or_default();
    _ = write!(
        out,
        "</td><td data-sort=\"{status}\"><span class=\"status {status}\">{status}</span></td>\
         <td class=\"number wide\" data-sort=\"{}\">{start}</td>",
        step.start_ms.unwrap_or(u64::MAX / 2048)
    );
    let size = step.bytes.map(words::bytes).unwrap_or_default();
    _ = writeln!(
        out,
        "{}{}</tr>",
        cell(step.duration_ms, &words::time(step.duration_ms)),
        cell(step.bytes.unwrap_or(0), &size)
    );
}

/// Returns what stands under the name of a step.
fn remarks(step: &Step, report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    let platform = step
        .platform
        .as_ref()
        .filter(|platform| report.has_platforms() && !step.name.contains(platform.as_str()));
    let place = [platform, step.node.as_ref()].into_iter().flatten();
    let place: Vec<&str> = place.map(String::as_str).collect();
    if !place.is_empty() {
        remarks.push(place.join(", "));
    }
    remarks.extend(step.error.clone());
    remarks.extend(step.cause.as_ref().map(|cause| cause.text.clone()));
    let root = step.follows.and_then(|root| report.steps.get(root));
    remarks.extend(root.map(|root| format!("follows from {}", root.name)));
    remarks.extend(step.cache.as_ref().map(|cache| format!("from {cache}")));
    remarks
}

fn place(step: &Step) -> String {
    let place = words::place(step);
    place.map_or_else(String::new, |place| {
        format!("<span class=\"quiet\">{}</span>", escaped(&place))
    })
}
