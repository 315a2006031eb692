//! When the steps of a build ran: a lane for each stage, and lanes for exports.
//!
//! Positions are per cents of the build's time, so that the drawing fits any screen without a script.

use std::fmt::Write as _;

use super::escaped;
use crate::report::model::{Export, ExportKind, Report, Span, Status, Step};
use crate::report::words;

/// Height of a row of bars, and of a bar, in pixels.
const ROW: usize = 24;
const BAR: usize = 20;
/// Height of the line below a bar that the build waited for.
const MARK: usize = 3;
/// No bar is thinner, in per cents.
const THINNEST: f64 = 0.4;
/// Rows of a lane; what does not fit shares the last one.
const ROWS: usize = 12;

/// A bar.
struct Bar<'a> {
    span: Span,
    class: &'static str,
    is_critical: bool,
    name: &'a str,
    /// What is told of it, where somebody points at it.
    told: String,
}

/// A lane.
struct Lane<'a> {
    label: String,
    /// What stands under the label.
    remark: String,
    bars: Vec<Bar<'a>>,
}

/// Draws the timeline.
pub(super) fn draw(out: &mut String, report: &Report) {
    let lanes = lanes(report);
    if lanes.iter().all(|lane| lane.bars.is_empty()) {
        return;
    }
    let total = report.duration_ms.max(1);
    out.push_str("<section>\n<h2>Timeline</h2>\n<ul class=\"legend\">");
    for (class, word) in [
        ("ran", "ran"),
        ("loaded", "loaded from a cache"),
        ("read", "images and files read"),
        ("failed", "failed"),
        ("canceled", "canceled"),
        ("image", "image"),
        ("cache", "cache"),
        ("critical", "the build waited for it"),
    ] {
        if lanes
            .iter()
            .any(|lane| lane.bars.iter().any(|bar| bar.has(class)))
        {
            _ = write!(out, "<li class=\"{class}\">{word}</li>");
        }
    }
    out.push_str("</ul>\n<div class=\"timeline\">\n");
    axis(out, total);
    for lane in &lanes {
        draw_lane(out, lane, total);
    }
    out.push_str("</div>\n</section>\n");
}

impl Bar<'_> {
    fn has(&self, class: &str) -> bool {
        self.class == class || (class == "critical" && self.is_critical)
    }
}

/// Returns the lanes: stages in the order of the Dockerfile, what is in no stage, then imports and exports.
fn lanes(report: &Report) -> Vec<Lane<'_>> {
    let mut lanes: Vec<(Option<&str>, String, Vec<&Step>)> = Vec::new();
    for step in &report.steps {
        let platform = step.platform.as_deref().filter(|_| report.has_platforms());
        let stage = step.stage.as_deref().unwrap_or("steps");
        let label = [Some(stage), platform].into_iter().flatten();
        let label = label.collect::<Vec<_>>().join(" ");
        let node = step.node.as_deref();
        let lane = lanes
            .iter_mut()
            .find(|lane| lane.0 == node && lane.1 == label);
        match lane {
            Some(lane) => lane.2.push(step),
            None => lanes.push((node, label, vec![step])),
        }
    }
    // An image that several stages begin with has the name of one of them, and the place of the first.
    lanes.sort_by_key(|(.., steps)| {
        let first = steps.iter().find(|step| step.counted);
        first.map_or(usize::MAX, |step| step.id)
    });
    let stages = lanes.into_iter().map(|(node, label, steps)| {
        let counted = steps.iter().filter(|step| step.counted);
        let cached = counted.clone().filter(|step| step.status == Status::Cached);
        let (cached, all) = (cached.count(), counted.count());
        let mut lane = Lane {
            label: with_node(label, node),
            remark: match cached {
                0 => String::new(),
                cached => format!("{cached} of {all} cached"),
            },
            bars: Vec::new(),
        };
        let are_drawn = |step: &&Step| step.status != Status::Cached || step.loading;
        for step in steps.into_iter().filter(are_drawn) {
            let spans = step.spans.iter().filter(|span| span.1 > span.0);
            lane.bars.extend(spans.map(|span| bar(step, *span)));
        }
        lane
    });
    let exports = report.exports.iter().map(export);
    stages.chain(exports).collect()
}

fn with_node(label: String, node: Option<&str>) -> String {
    match node {
        Some(node) => format!("{label} · {node}"),
        None => label,
    }
}

fn bar(step: &Step, span: Span) -> Bar<'_> {
    let mut told = format!(
        "{}\n{} in {}",
        step.name,
        words::status(step),
        words::time(step.duration_ms)
    );
    if let Some(bytes) = step.bytes {
        _ = write!(told, ", {}", words::bytes(bytes));
    }
    if let Some(place) = words::place(step) {
        _ = write!(told, "\n{place}");
    }
    if let Some(cause) = &step.cause {
        _ = write!(told, "\n{}", cause.text);
    }
    Bar {
        span,
        class: words::status(step),
        is_critical: step.critical,
        name: &step.name,
        told,
    }
}

fn export(export: &Export) -> Lane<'_> {
    let (label, class) = match export.kind {
        ExportKind::Import => ("cache import", "loaded"),
        ExportKind::Image => ("image export", "image"),
        ExportKind::Cache => ("cache export", "cache"),
        ExportKind::Mount => ("cache mount", "cache"),
    };
    let class = match export.status {
        Status::Ran | Status::Cached => class,
        Status::Failed => "failed",
        Status::Canceled => "canceled",
    };
    let took = words::time(export.duration_ms);
    let bytes = export.bytes.map(words::bytes);
    let bytes = bytes.map_or_else(String::new, |bytes| format!(", {bytes}"));
    let spans = export.spans.iter().filter(|span| span.1 > span.0);
    let bars = spans.map(|span| Bar {
        span: *span,
        class,
        is_critical: false,
        name: &export.name,
        told: format!("{}\n{took}{bytes}", export.name),
    });
    Lane {
        label: with_node(label.to_owned(), export.node.as_deref()),
        remark: String::new(),
        bars: bars.collect(),
    }
}

fn draw_lane(out: &mut String, lane: &Lane<'_>, total: u64) {
    _ = write!(
        out,
        "<div class=\"lane\"><div class=\"label\"><b>{}</b> <span>{}</span></div>",
        escaped(&lane.label),
        escaped(&lane.remark)
    );
    let rows = rows(&lane.bars);
    let height = rows.iter().max().map_or(1, |row| row + 1) * ROW;
    _ = write!(
        out,
        "<svg width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"{}\">",
        escaped(&lane.label)
    );
    for tick in ticks(total) {
        let x = percent(tick, total);
        _ = write!(
            out,
            "<line class=\"tick\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{height}\"/>"
        );
    }
    for (bar, row) in lane.bars.iter().zip(rows) {
        draw_bar(out, bar, row, total);
    }
    out.push_str("</svg></div>\n");
}

fn draw_bar(out: &mut String, bar: &Bar<'_>, row: usize, total: u64) {
    let (from, to) = bar.span;
    let x = percent(from, total).min(100.0 - THINNEST);
    let width = (percent(to, total) - x).max(THINNEST);
    let critical = if bar.is_critical { " critical" } else { "" };
    _ = write!(
        out,
        "<svg class=\"bar {}{critical}\" x=\"{x:.2}%\" y=\"{}\" width=\"{width:.2}%\" height=\"{BAR}\">\
         <title>{}</title><rect width=\"100%\" height=\"100%\" rx=\"3\"/>",
        bar.class,
        row * ROW + (ROW - BAR) / 2,
        escaped(&bar.told)
    );
    if bar.is_critical {
        let y = BAR - MARK;
        _ = write!(
            out,
            "<rect class=\"mark\" width=\"100%\" y=\"{y}\" height=\"{MARK}\"/>"
        );
    }
    // A name that cannot be read is left out.
    if width >= 3.0 {
        _ = write!(out, "<text x=\"6\" y=\"14\">{}</text>", escaped(bar.name));
    }
    out.push_str("</svg>");
}

/// Returns the row of each bar, so that no two of a row are at the same time, as long as there are rows.
fn rows(bars: &[Bar<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bars.len()).collect();
    let span = |at: usize| bars.get(at).map_or((0, 0), |bar| bar.span);
    order.sort_by_key(|at| span(*at));
    let mut rows = vec![0; bars.len()];
    let mut ends: Vec<u64> = Vec::new();
    for at in order {
        let (from, to) = span(at);
        let free = ends.iter().position(|end| *end <= from);
        let row = free.unwrap_or(ends.len()).min(ROWS - 1);
        match ends.get_mut(row) {
            Some(end) => *end = to.max(*end),
            None => ends.push(to),
        }
        if let Some(place) = rows.get_mut(at) {
            *place = row;
        }
    }
    rows
}

/// Draws the times above the lanes.
fn axis(out: &mut String, total: u64) {
    out.push_str("<div class=\"lane axis\"><div class=\"label\"></div><svg width=\"100%\" height=\"18\" aria-hidden=\"true\">");
    for tick in ticks(total) {
        let x = percent(tick, total);
        let anchor = match tick {
            0 => "start",
            _ if x > 90.0 => "end",
            _ => "middle",
        };
        let text = words::time(tick);
        _ = write!(
            out,
            "<text x=\"{x:.2}%\" y=\"13\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }
    out.push_str("</svg></div>\n");
}

/// Returns the moments that are marked: five at most, in round steps.
fn ticks(total: u64) -> Vec<u64> {
    let units = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    let tenths = [100, 200, 500].into_iter();
    let steps = tenths.chain(units.into_iter().map(|seconds| seconds * 1000));
    let step = steps.into_iter().find(|step| total / step <= 4);
    let step = step.unwrap_or(total.div_ceil(4).max(1));
    (0..=total / step).map(|tick| tick * step).collect()
}

/// Returns which part of the time this is.
fn percent(ms: u64, total: u64) -> f64 {
    // A hundredth of a per cent is less than a pixel.
    let parts = ms.min(total).saturating_mul(10_000) / total.max(1);
    u32::try_from(parts).map_or(100.0, |parts| f64::from(parts) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!(ticks(900), [0, 200, 400, 600, 800]);
        assert_eq!(ticks(48_300), [0, 10_000, 20_000, 30_000, 40_000]);
        assert_eq!(ticks(1), [0]);
        for total in [1, 99, 4_000, 61_000, 3_600_000, 90_000_000, u64::MAX / 2] {
            assert!(ticks(total).len() <= 5, "{total}");
        }
    }

    #[test]
    fn bars_of_one_time_are_in_rows_of_their_own() {
        let bar = |from, to| Bar {
            span: (from, to),
            class: "ran",
            is_critical: false,
            name: "",
            told: String::new(),
        };
        let bars = [bar(0, 10), bar(5, 8), bar(8, 12), bar(10, 11)];
        assert_eq!(rows(&bars), [0, 1, 1, 0]);
        let many: Vec<Bar<'_>> = (0..50).map(|_| bar(0, 10)).collect();
        assert_eq!(rows(&many).into_iter().max(), Some(ROWS - 1));
    }

    #[test]
    fn parts_stay_in_their_bounds() {
        assert!((percent(5, 20) - 25.0).abs() < f64::EPSILON);
        assert!((percent(50, 20) - 100.0).abs() < f64::EPSILON);
        assert!(percent(u64::MAX, u64::MAX) <= 100.0);
    }
}
