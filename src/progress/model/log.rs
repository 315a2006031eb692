//! The log of one step: what is still to be printed, and the last lines for the error block.

use std::collections::VecDeque;

use crate::progress::time;
use crate::progress::tty::window::Window;

/// A line longer than this loses its beginning, once printed.
const MAX_LINE: usize = 64 * 1024;

/// This many lines of a hidden step are kept until it shows.
const MAX_HIDDEN: usize = 1000;

/// What is kept of the logs.
#[derive(Debug, Clone, Copy)]
pub struct LogPolicy {
    /// Lines wait for a printer that takes them.
    pub pending: bool,
    /// The text goes through a line emulator for the windows of the terminal display.
    pub window: bool,
    /// This many lines, at most, are kept for the error block.
    pub tail_lines: usize,
    /// This many bytes, at most, are kept for the error block.
    pub tail_bytes: usize,
}

impl LogPolicy {
    /// For the plain printer, and for displays that print no logs: the last ten lines, as in
    /// BuildKit.
    pub fn lines(pending: bool) -> Self {
        Self {
            pending,
            window: false,
            tail_lines: 10,
            tail_bytes: MAX_LINE,
        }
    }

    /// For the terminal display. The log is not on the screen when a step fails, so far more of
    /// it is kept than the plain printer needs.
    pub fn terminal() -> Self {
        Self {
            pending: false,
            window: true,
            tail_lines: 1000,
            tail_bytes: 256 * 1024,
        }
    }
}

/// The log of one step. Lines carry their time: `0.312 text`.
#[derive(Debug, Default)]
pub struct Log {
    /// Lines not printed yet; where `open`, the last one is kept although it was printed.
    pub(in crate::progress) pending: Vec<Vec<u8>>,
    /// The last line has no line end yet.
    pub(in crate::progress) open: bool,
    /// This many bytes of the first pending line are printed already.
    pub(in crate::progress) printed: usize,
    /// All that is pending was printed once.
    pub(in crate::progress) seen: bool,
    tail: VecDeque<Vec<u8>>,
    tail_bytes: usize,
    dropped: usize,
    window: Option<Window>,
}

impl Log {
    /// Adds text that the step wrote `offset` nanoseconds after its start.
    pub(super) fn add(&mut self, data: &[u8], offset: i64, policy: LogPolicy) {
        if data.is_empty() {
            return;
        }
        self.seen = false;
        if policy.window {
            self.window.get_or_insert_default().write(data);
        }
        let body = data.strip_suffix(b"\n").unwrap_or(data);
        for piece in body.split(|byte| *byte == b'\n') {
            if self.open {
                self.extend(piece, policy);
                self.open = false;
            } else {
                let mut line = time::log_offset(offset).into_bytes();
                line.push(b' ');
                line.extend_from_slice(piece);
                self.push(line, policy);
            }
        }
        self.open = body.len() == data.len();
        self.bound(policy);
    }

    fn push(&mut self, line: Vec<u8>, policy: LogPolicy) {
        if policy.pending {
            self.pending.push(line.clone());
        }
        self.tail_bytes += line.len();
        self.tail.push_back(line);
    }

    fn extend(&mut self, piece: &[u8], policy: LogPolicy) {
        if policy.pending
            && let Some(line) = self.pending.last_mut()
        {
            line.extend_from_slice(piece);
        }
        if let Some(line) = self.tail.back_mut() {
            line.extend_from_slice(piece);
            self.tail_bytes += piece.len();
        }
    }

    fn bound(&mut self, policy: LogPolicy) {
        if let [line] = self.pending.as_mut_slice()
            && line.len() > MAX_LINE
        {
            let cut = self.printed.min(line.len() - MAX_LINE / 2);
            line.drain(..cut);
            self.printed -= cut;
        }
        while self.tail.len() > 1
            && (self.tail.len() > policy.tail_lines || self.tail_bytes > policy.tail_bytes)
        {
            if let Some(line) = self.tail.pop_front() {
                self.tail_bytes -= line.len();
                self.dropped += 1;
            }
        }
        if let Some(line) = self.tail.front_mut()
            && line.len() > policy.tail_bytes
        {
            let cut = line.len() - policy.tail_bytes / 2;
            line.drain(..cut);
            self.tail_bytes -= cut;
        }
    }

    /// Returns whether there is text that was never printed.
    pub(in crate::progress) fn has_news(&self) -> bool {
        match self.pending.as_slice() {
            [] => false,
            // After the printer turned away, an open line that was printed is printed again, but
            // that alone is no news.
            [_] if self.open && self.seen => false,
            _ => true,
        }
    }

    /// Forgets old lines of a step that is hidden, and perhaps never printed.
    pub(super) fn bound_hidden(&mut self) {
        let excess = self.pending.len().saturating_sub(MAX_HIDDEN);
        self.pending.drain(..excess);
    }

    /// Returns how many bytes wait to be printed.
    pub(in crate::progress) fn pending_bytes(&self) -> usize {
        self.pending.iter().map(Vec::len).sum()
    }

    /// Returns the last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &[u8]> {
        self.tail.iter().map(Vec::as_slice)
    }

    /// Returns how many lines before [`Self::tail`] are gone.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Returns the emulated last lines, where the policy keeps them.
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    /// Forgets what is only of use while the step runs or when it fails.
    pub(super) fn forget(&mut self) {
        self.tail = VecDeque::new();
        self.tail_bytes = 0;
        self.dropped = 0;
        self.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(log: &Log) -> Vec<String> {
        log.tail()
            .map(|l| String::from_utf8_lossy(l).into_owned())
            .collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut log = Log::default();
        let policy = LogPolicy::lines(true);
        log.add(b"one\ntw", 0, policy);
        log.add(b"", 0, policy);
        log.add(b"o\n\nfour", 1_000_000_000, policy);
        assert_eq!(
            tail(&log),
            ["0.000 one", "0.000 two", "1.000 ", "1.000 four"]
        );
        assert!(log.open);
        log.add(b"\n", 2_000_000_000, policy);
        assert!(!log.open);
        assert_eq!(log.pending.len(), 4);
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes() {
        let mut log = Log::default();
        for i in 0..50 {
            log.add(format!("line {i}\n").as_bytes(), 0, LogPolicy::lines(false));
        }
        assert_eq!(tail(&log).len(), 10);
        assert_eq!(tail(&log)[9], "0.000 line 49");
        assert_eq!(log.dropped(), 40);
        for _ in 0..100 {
            log.add(&[b'x'; 10_000], 0, LogPolicy::lines(false));
        }
        let kept: usize = log.tail().map(<[u8]>::len).sum();
        assert!(kept <= MAX_LINE, "{kept}");
        assert!(log.pending.is_empty());
    }

    #[test]
    fn a_printed_endless_line_does_not_grow() {
        let mut log = Log::default();
        for _ in 0..100 {
            log.add(&[b'x'; 10_000], 0, LogPolicy::lines(true));
            log.printed = log.pending[0].len();
        }
        assert!(log.pending_bytes() <= MAX_LINE + 10_000);
        assert_eq!(log.printed, log.pending[0].len());
    }
}
