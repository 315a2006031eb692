//! One picture of the display, and how it is written over the one before.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;

use crate::progress::colors::{Color, Colors};

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As the terminal's own text.
    Plain,
    /// A step or part that is done.
    Done,
    /// A step that was cancelled.
    Canceled,
    /// A step that failed.
    Failed,
    /// A warning.
    Warning,
    /// Log text and remarks.
    Faint,
}

/// A line without control characters that fits the width of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text.
    pub text: String,
    /// Its look.
    pub look: Look,
}

/// The lines of a picture, from the top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The lines.
    pub lines: Vec<Line>,
}

/// Writes frames, each over the one before.
#[derive(Debug, Default)]
pub(super) struct Painter {
    /// Columns of each line of the frame on the screen.
    widths: Vec<usize>,
    last: Option<(Frame, Size)>,
}

impl Painter {
    /// Returns the bytes that replace the last frame by this one, to be written at once so that
    /// no half-painted frame is seen. Nothing if the frame is the same.
    pub(super) fn paint(&mut self, frame: Frame, size: Size, colors: &Colors) -> String {
        let now = Some((frame, size));
        if self.last == now {
            return String::new();
        }
        let mut out = String::from("\r");
        let rows = self.rows(size.width);
        if rows > 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "\u{1b}[{rows}A");
        }
        self.widths.clear();
        for line in now.iter().flat_map(|(frame, _)| &frame.lines) {
            self.widths.push(line.text.width());
            push_line(&mut out, line, colors);
        }
        out.push_str("\u{1b}[J");
        self.last = now;
        out
    }

    /// How many rows the last frame takes on a screen of `width` columns. A terminal that became
    /// narrower has wrapped its lines.
    fn rows(&self, width: usize) -> usize {
        let width = width.max(1);
        self.widths.iter().map(|w| w.div_ceil(width).max(1)).sum()
    }
}

fn push_line(out: &mut String, line: &Line, colors: &Colors) {
    let on = match line.look {
        _ if !colors.enabled => None,
        Look::Plain => None,
        Look::Done => Some(colors.run.on()),
        Look::Canceled => Some(colors.cancel.on()),
        Look::Failed => Some(colors.error.on()),
        Look::Warning => Some(colors.warning.on()),
        Look::Faint => Some(Color::faint()),
    };
    match on {
        Some(on) => {
            out.push_str(&on);
            out.push_str(&line.text);
            out.push_str("\u{1b}[0m");
        }
        None => out.push_str(&line.text),
    }
    // The line's old rest is erased before the line end; lines are shorter than the screen, so
    // the cursor is behind the text and not on its last character.
    out.push_str("\u{1b}[K\r\n");
}
