//! The rows of the tree: steps, their parts and their warnings.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::frame::{Line, Look};
use crate::progress::model::{Model, Outcome, Status, Vertex};
use crate::progress::time::{self, Time};
use crate::progress::units;
use crate::text::foreign;

/// The speed of a transfer is shown after this time.
const SPEED_AFTER: i64 = 1_000_000_000;
/// Names are shown in at least this many columns; what stands behind them goes first.
const MIN_NAME: usize = 12;

/// A row before it is cut to the width of the screen.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// The step it belongs to, on its first row.
    pub(super) step: Option<&'a Vertex>,
    /// It is about something that goes on.
    pub(super) running: bool,
    name: String,
    detail: String,
    took: i64,
    look: Look,
}

/// Returns all rows of a build in their order. `now` is a time of the builder's clock.
pub(super) fn rows(model: &Model, now: Time) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for vertex in model.shown() {
        rows.push(step(vertex, now));
        rows.extend(vertex.statuses().map(|status| part(status, now)));
        rows.extend(
            vertex
                .warnings
                .iter()
                .map(|short| warning(vertex, short, now)),
        );
    }
    rows
}

fn step(vertex: &Vertex, now: Time) -> Row<'_> {
    let (prefix, look) = match vertex.outcome() {
        Outcome::Running => ("", Look::Plain),
        _ if vertex.came_from_cache() => ("CACHED ", Look::Done),
        Outcome::Done => ("", Look::Done),
        Outcome::Cached => ("CACHED ", Look::Done),
        Outcome::Canceled => ("CANCELED ", Look::Canceled),
        Outcome::Failed => ("ERROR ", Look::Failed),
    };
    Row {
        step: Some(vertex),
        running: !vertex.is_completed(),
        name: format!("{prefix}{}", foreign::line(&vertex.name)),
        detail: if vertex.note.is_empty() {
            String::new()
        } else {
            format!(" ({})", foreign::line(&vertex.note))
        },
        took: vertex.intervals.total(now),
        look,
    }
}

fn part<'a>(status: &Status, now: Time) -> Row<'a> {
    let took = status.started.map_or(0, |start| {
        status.completed.unwrap_or(now).since(start).max(0)
    });
    let mut detail = units::amount(status.current, status.total);
    let measured = status
        .started
        .map_or(0, |start| status.timestamp.since(start));
    if status.completed.is_none() && status.current > 0 && measured >= SPEED_AFTER {
        let speed = units::bytes(rate(status.current, measured));
        detail.extend([" ", &speed, "/s"]);
    }
    let done = status.completed.is_some();
    Row {
        step: None,
        running: !done,
        name: format!("=> {}", foreign::line(&status.id)),
        detail,
        took,
        look: if done { Look::Done } else { Look::Plain },
    }
}

/// Bytes a second.
fn rate(bytes: i64, nanos: i64) -> i64 {
    let rate = i128::from(bytes) * 1_000_000_000 / i128::from(nanos.max(1));
    i64::try_from(rate).unwrap_or(i64::MAX)
}

fn warning<'a>(vertex: &Vertex, short: &[u8], now: Time) -> Row<'a> {
    Row {
        step: None,
        running: false,
        name: format!("WARN: {}", foreign::line(&String::from_utf8_lossy(short))),
        detail: String::new(),
        took: vertex.intervals.total(now),
        look: Look::Warning,
    }
}

impl Row<'_> {
    /// Returns the row as a line of at most `width` columns: ` => name amounts      1.2s`.
    pub(super) fn line(&self, width: usize) -> Line {
        const PREFIX: &str = " => ";
        // Times so short that they say nothing show as zero, as in BuildKit.
        let took = if self.took < 50_000_000 { 0 } else { self.took };
        let timer = format!(" {:.1}s", time::seconds(took));
        let room = width.saturating_sub(PREFIX.len());
        let with_timer = room.saturating_sub(timer.len());
        if with_timer < MIN_NAME {
            return self.styled(&format!("{PREFIX}{}", cut(&self.name, room)), width);
        }
        let with_detail = with_timer.saturating_sub(self.detail.width());
        let (name, detail) = if with_detail >= MIN_NAME {
            (cut(&self.name, with_detail), self.detail.as_str())
        } else {
            (cut(&self.name, with_timer), "")
        };
        let used = name.width() + detail.width();
        let gap = " ".repeat(with_timer.saturating_sub(used));
        self.styled(&format!("{PREFIX}{name}{detail}{gap}{timer}"), width)
    }

    fn styled(&self, text: &str, width: usize) -> Line {
        Line {
            text: cut(text, width).to_owned(),
            look: self.look,
        }
    }
}

/// Returns as much of a text's beginning as fits into `width` columns.
pub(super) fn cut(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}
