//! A small line emulator: what a log would show at the end of a terminal's screen.
//!
//! It knows carriage returns, backspaces, tabs, and the sequences with which progress bars move
//! and erase inside the last lines. All other sequences are passed over. A character takes one
//! cell here, whatever its width; the width counts where lines are cut for the screen.

use crate::text::foreign;
use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar as _;

/// This many lines are kept; the cursor cannot move above them.
const MAX_LINES: usize = 32;
/// Characters behind this column are dropped.
const MAX_COLUMNS: usize = 1024;
/// Numbers kept of a sequence; those behind them are never of use here.
const MAX_NUMBERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one more byte follows.
    Charset,
    /// In a control sequence.
    Csi,
    /// In a text for the terminal itself (title, link): passed over.
    Text,
    /// In such a text, after ESC.
    TextEscape,
}

/// The last lines of a log.
#[derive(Debug)]
pub struct Window {
    lines: VecDeque<Vec<char>>,
    row: usize,
    column: usize,
    state: State,
    numbers: Vec<usize>,
    /// Bytes of a character that is not complete yet.
    cut: Vec<u8>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            lines: VecDeque::from([Vec::new()]),
            row: 0,
            column: 0,
            state: State::Ground,
            numbers: Vec::new(),
            cut: Vec::new(),
        }
    }
}

impl Window {
    /// Takes log text, in pieces of any kind.
    pub fn write(&mut self, data: &[u8]) {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(data);
        let mut rest = bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    text.chars().for_each(|c| self.take(c));
                    return;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    String::from_utf8_lossy(good)
                        .chars()
                        .for_each(|c| self.take(c));
                    let Some(length) = error.error_len() else {
                        self.cut = bad.to_vec();
                        return;
                    };
                    self.take(char::REPLACEMENT_CHARACTER);
                    rest = bad.get(length..).unwrap_or_default();
                }
            }
        }
    }

    fn take(&mut self, c: char) {
        match self.state {
            State::Ground => self.ground(c),
            State::Escape => self.escape(c),
            State::Charset => self.state = State::Ground,
            State::Csi => self.csi(c),
            State::Text => match c {
                '\u{7}' | '\u{9c}' | '\n' => self.state = State::Ground,
                '\u{1b}' => self.state = State::TextEscape,
                _ => {}
            },
            State::TextEscape => {
                self.state = State::Ground;
                if c != '\\' {
                    self.escape(c);
                }
            }
        }
    }

    fn ground(&mut self, c: char) {
        match c {
            '\u{1b}' => self.state = State::Escape,
            '\u{9b}' => self.begin_csi(),
            '\n' => self.new_line(),
            '\r' => self.column = 0,
            '\u{8}' => self.column = self.column.saturating_sub(1),
            '\t' => self.column = (self.column / 8 + 1) * 8,
            c if c.is_control() || foreign::is_hidden(c) => {}
            c => self.put(c),
        }
    }

    fn escape(&mut self, c: char) {
        self.state = match c {
            '[' => {
                self.begin_csi();
                return;
            }
            ']' | 'P' | 'X' | '^' | '_' => State::Text,
            ' '..='/' => State::Charset,
            '\u{1b}' => State::Escape,
            _ => State::Ground,
        };
    }

    fn begin_csi(&mut self) {
        self.state = State::Csi;
        self.numbers.clear();
        self.numbers.push(0);
    }

    fn csi(&mut self, c: char) {
        match c {
            '0'..='9' => {
                if let Some(number) = self.numbers.last_mut() {
                    let digit = c.to_digit(10).unwrap_or(0) as usize;
                    *number = (*number * 10 + digit).min(MAX_COLUMNS);
                }
            }
            ';' | ':' => {
                if self.numbers.len() < MAX_NUMBERS {
                    self.numbers.push(0);
                }
            }
            ' '..='?' => {}
            '\u{1b}' => self.state = State::Escape,
            c if c.is_control() => self.ground(c),
            c => {
                self.state = State::Ground;
                self.control(c);
            }
        }
    }

    /// Does what a complete control sequence asks for.
    fn control(&mut self, action: char) {
        let number = self.numbers.first().copied().unwrap_or(0);
        let steps = number.max(1);
        match action {
            'A' => self.row = self.row.saturating_sub(steps),
            'B' => self.row = (self.row + steps).min(self.lines.len() - 1),
            'C' => self.column = (self.column + steps).min(MAX_COLUMNS),
            'D' => self.column = self.column.saturating_sub(steps),
            'E' => {
                self.column = 0;
                self.row = (self.row + steps).min(self.lines.len() - 1);
            }
            'F' => {
                self.column = 0;
                self.row = self.row.saturating_sub(steps);
            }
            'G' => self.column = steps - 1,
            'J' => self.erase_lines(number),
            'K' => self.erase_in_line(number),
            _ => {}
        }
    }

    fn erase_lines(&mut self, kind: usize) {
        match kind {
            0 => {
                self.lines.truncate(self.row + 1);
                self.erase_in_line(0);
            }
            1 => {
                self.lines.iter_mut().take(self.row).for_each(Vec::clear);
                self.erase_in_line(1);
            }
            _ => self.lines.iter_mut().for_each(Vec::clear),
        }
    }

    fn erase_in_line(&mut self, kind: usize) {
        let column = self.column;
        let Some(line) = self.lines.get_mut(self.row) else {
            return;
        };
        match kind {
            0 => line.truncate(column),
            1 => line.iter_mut().take(column + 1).for_each(|c| *c = ' '),
            _ => line.clear(),
        }
    }

    fn new_line(&mut self) {
        self.column = 0;
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push_back(Vec::new());
        }
        if self.lines.len() > MAX_LINES {
            self.lines.pop_front();
            self.row -= 1;
        }
    }

    fn put(&mut self, c: char) {
        if self.column >= MAX_COLUMNS {
            return;
        }
        if let Some(line) = self.lines.get_mut(self.row) {
            if line.len() <= self.column {
                line.resize(self.column + 1, ' ');
            }
            line[self.column] = c;
        }
        self.column += 1;
    }

    /// Returns the last rows of the log on a screen of `width` columns, oldest first: long lines
    /// are wrapped, empty ones left out.
    pub fn tail(&self, width: usize, rows: usize) -> Vec<String> {
        let mut out: VecDeque<String> = VecDeque::new();
        for line in self.lines.iter().rev() {
            for row in wrap(line, width).into_iter().rev() {
                if out.len() == rows {
                    return out.into();
                }
                out.push_front(row);
            }
        }
        out.into()
    }
}

fn wrap(line: &[char], width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = String::new();
    let mut used = 0;
    for c in line {
        let columns = c.width().unwrap_or(0);
        if used + columns > width && used > 0 {
            rows.push(std::mem::take(&mut row));
            used = 0;
        }
        if columns <= width {
            row.push(*c);
            used += columns;
        }
    }
    rows.push(row);
    for row in &mut rows {
        row.truncate(row.trim_end().len());
    }
    rows.retain(|row| !row.is_empty());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &[u8]) -> Vec<String> {
        let mut window = Window::default();
        window.write(text);
        window.tail(200, 100)
    }

    #[test]
    fn progress_bars_overwrite_themselves() {
        assert_eq!(shown(b"10%\r20%\r100%\nnext\n"), ["100%", "next"]);
        assert_eq!(shown(b"a long line\rshort\x1b[K\n"), ["short"]);
        assert_eq!(
            shown(b"one\ntwo\n\x1b[2A\x1b[2Kuno\n\x1b[2Kdue\n"),
            ["uno", "due"]
        );
        assert_eq!(shown(b"windows\r\nlines\r\n"), ["windows", "lines"]);
        assert_eq!(shown(b"ab\x08c\tx"), ["ac      x"]);
        assert_eq!(shown(b"x\x1b[3Cy\x1b[2Gz"), ["xz  y"]);
        assert_eq!(shown(b"gone\ngone\x1b[2J\rhere"), ["here"]);
    }

    #[test]
    fn other_sequences_leave_no_trace() {
        assert_eq!(
            shown(b"\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x1b(Bend\x1b[?25l"),
            ["red link end"]
        );
    }

    #[test]
    fn long_lines_wrap_and_old_ones_go() {
        let mut window = Window::default();
        window.write("日本語abc\n".as_bytes());
        assert_eq!(window.tail(4, 10), ["日本", "語ab", "c"]);
        assert_eq!(window.tail(4, 2), ["語ab", "c"]);
        assert_eq!(window.tail(1, 10), ["a", "b", "c"]);
        assert!(window.tail(0, 10).is_empty());
        for i in 0..500 {
            window.write(format!("line {i}\n").as_bytes());
        }
        assert_eq!(window.lines.len(), MAX_LINES);
        assert_eq!(window.tail(80, 1), ["line 499"]);
    }

    fn logs() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[a-z ]{1,8}",
            1 => Just("\r\n".to_owned()),
            1 => Just("\r".to_owned()),
            1 => Just("\u{8}".to_owned()),
            1 => Just("\t".to_owned()),
            1 => Just("\u{1b}[K".to_owned()),
            1 => Just("\u{1b}[2K".to_owned()),
            1 => Just("\u{1b}[1A".to_owned()),
            1 => Just("\u{1b}[2D".to_owned()),
            1 => Just("\u{1b}[C".to_owned()),
            1 => Just("\u{1b}[5G".to_owned()),
            1 => Just("\u{1b}[32m".to_owned()),
            1 => Just("\u{1b}[J".to_owned()),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn agrees_with_a_real_emulator(log in logs(), cut in 0..200usize) {
            let size = |n: u16| std::num::NonZeroU16::new(n).unwrap();
            let mut screen = vt100::Parser::new(size(30), size(300), 0);
            screen.process(&log);
            let want: Vec<String> = screen
                .screen()
                .contents()
                .lines()
                .map(|l| l.trim_end().to_owned())
                .filter(|l| !l.is_empty())
                .collect();
            let mut window = Window::default();
            let cut = cut.min(log.len());
            window.write(&log[..cut]);
            window.write(&log[cut..]);
            prop_assert_eq!(window.tail(300, 100), want);
        }

        #[test]
        fn any_bytes_are_safe(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10),
            width in 0..30usize,
        ) {
            let mut window = Window::default();
            for piece in pieces {
                window.write(&piece);
            }
            for row in window.tail(width, 5) {
                prop_assert!(!row.chars().any(char::is_control));
            }
        }
    }
}
