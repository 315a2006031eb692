//! What the display shows at a moment: a pure function of the build, the size of the terminal and
//! the time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use unicode_width::UnicodeWidthStr as _;

use super::frame::{Frame, Line, Look, Size};
use super::row::{self, Row, cut};
use super::summary;
use crate::progress::model::{Model, Vertex};
use crate::progress::time::{self, Time};
use crate::text::foreign;

const LOG_PREFIX: &str = " => => # ";
/// This many rows are left to steps that are done when windows are opened, if there are as many.
const KEPT_DONE: usize = 3;
/// With fewer rows for steps that are done, the remark about hidden ones is not worth its row.
const REMARK_ROOM: usize = 4;

/// What the display says about itself.
#[derive(Debug, Clone)]
pub struct Labels {
    /// First word of the head line.
    pub phase: String,
    /// Right end of the head line, such as `docker-container:name`; may be empty.
    pub description: String,
    /// Rows of a log window, at most.
    pub log_rows: usize,
    /// The last picture ends with a summary.
    pub summary: bool,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            phase: "Building".to_owned(),
            description: String::new(),
            log_rows: 6,
            summary: false,
        }
    }
}

/// Returns the picture of a running build: the head, what runs now with the last lines of its
/// log, and as many of the steps that are done as fit. It is at least one row less high than the
/// terminal, and its lines at least one column less wide, so that nothing scrolls or wraps.
pub fn live(model: &Model, size: Size, now: Time, labels: &Labels) -> Frame {
    let width = size.width.saturating_sub(1);
    let height = size.height.saturating_sub(1);
    if width == 0 || height == 0 {
        return Frame::default();
    }
    let rows = row::rows(model, model.to_remote(now));
    let mut lines = vec![head(model, width, now, labels, false)];
    lines.extend(body(&rows, width, height - 1, labels));
    Frame { lines }
}

/// Returns the picture of a build that is over: the head, every row, however many, and the summary.
pub fn complete(model: &Model, size: Size, now: Time, labels: &Labels) -> Frame {
    let width = size.width.saturating_sub(1);
    let rows = row::rows(model, model.to_remote(now));
    let mut lines = vec![head(model, width, now, labels, true)];
    lines.extend(rows.iter().map(|row| row.line(width)));
    if labels.summary {
        lines.extend(summary::lines(model, width, now));
    }
    Frame { lines }
}

fn head(model: &Model, width: usize, now: Time, labels: &Labels, ended: bool) -> Line {
    let counts = model.counts();
    let took = model.start().map_or(0, |start| now.since(start).max(0));
    let finished = if ended && counts.total > 0 && counts.completed == counts.total {
        " FINISHED"
    } else {
        ""
    };
    let left = format!(
        "[+] {} {:.1}s ({}/{}){finished}",
        labels.phase,
        time::seconds(took),
        counts.completed,
        counts.total
    );
    let right = foreign::line(&labels.description);
    let used = left.width() + right.width();
    let text = if !right.is_empty() && used < width {
        format!("{left}{}{right}", " ".repeat(width - used))
    } else {
        cut(&left, width).to_owned()
    };
    Line {
        text,
        look: Look::Plain,
    }
}

/// Chooses the rows that fit into `height` lines.
fn body(rows: &[Row<'_>], width: usize, height: usize, labels: &Labels) -> Vec<Line> {
    let (running, done): (Vec<usize>, Vec<usize>) =
        (0..rows.len()).partition(|index| rows[*index].running);
    if running.len() >= height {
        return crowded(rows, &running, width, height);
    }
    let mut free = height - running.len();
    let windows = windows(rows, &running, width, &mut free, done.len(), labels);
    let hidden = done.len().saturating_sub(free);
    let remark = hidden > 0 && free >= REMARK_ROOM;
    let hidden = hidden + usize::from(remark);
    let mut chosen: Vec<usize> = done[hidden..].to_vec();
    chosen.extend(&running);
    chosen.sort_unstable();
    let mut lines = Vec::with_capacity(height);
    if remark {
        lines.push(remark_line(hidden, "done", width));
    }
    for index in chosen {
        lines.push(rows[index].line(width));
        for text in windows.get(&index).into_iter().flatten() {
            lines.push(Line {
                text: cut(&format!("{LOG_PREFIX}{text}"), width).to_owned(),
                look: Look::Faint,
            });
        }
    }
    lines
}

/// More runs than there are rows: the latest ones are shown.
fn crowded(rows: &[Row<'_>], running: &[usize], width: usize, height: usize) -> Vec<Line> {
    let hidden = running.len() - height;
    let remark = hidden > 0 && height >= REMARK_ROOM;
    let hidden = hidden + usize::from(remark);
    let mut lines = Vec::with_capacity(height);
    if remark {
        lines.push(remark_line(hidden, "running", width));
    }
    lines.extend(
        running[hidden..]
            .iter()
            .map(|index| rows[*index].line(width)),
    );
    lines
}

fn remark_line(count: usize, what: &str, width: usize) -> Line {
    Line {
        text: cut(&format!(" => ... {count} more {what}"), width).to_owned(),
        look: Look::Faint,
    }
}

/// Opens log windows for the running steps that wrote last, as long as there are rows.
fn windows(
    rows: &[Row<'_>],
    running: &[usize],
    width: usize,
    free: &mut usize,
    done: usize,
    labels: &Labels,
) -> BTreeMap<usize, Vec<String>> {
    let text_width = width.saturating_sub(LOG_PREFIX.len());
    let kept = done.min(KEPT_DONE);
    let mut writers: Vec<(usize, &Vertex)> = running
        .iter()
        .filter_map(|index| Some((*index, rows[*index].step?)))
        .filter(|(_, vertex)| vertex.log.window().is_some())
        .collect();
    writers.sort_by_key(|(index, vertex)| (Reverse(vertex.last_log), *index));
    let mut windows = BTreeMap::new();
    for (index, vertex) in writers {
        let room = free.saturating_sub(kept).min(labels.log_rows);
        let Some(window) = vertex.log.window().filter(|_| room > 0) else {
            continue;
        };
        let lines = window.tail(text_width, room);
        *free -= lines.len();
        windows.insert(index, lines);
    }
    windows
}
