//! All that the program writes to the terminal: data to standard output, the rest to standard error.
//!
//! Much of it holds [text of others](foreign), which must not steer the terminal. What goes through
//! a pipe is data and stays as it is.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::error::{CommandError, ErrorKind};
use crate::text::foreign;

/// Nobody reads standard output any more: `docker cachex … | head`.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
struct StdoutClosed;

/// Returns whether an error, or a cause of it, is that nobody reads standard output any more. A pipe or
/// socket that broke elsewhere is not meant.
pub fn is_stdout_closed(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io_error = error.downcast_ref::<io::Error>();
        let inner = io_error.and_then(io::Error::get_ref);
        if inner.is_some_and(<dyn StdError + Send + Sync>::is::<StdoutClosed>) {
            return true;
        }
        next = error.source();
    }
    false
}

/// How long something may take before it is said what it is.
const LONG: Duration = Duration::from_secs(2);

/// Standard output and standard error, and what they are connected to.
#[derive(Debug, Clone)]
pub struct Ui {
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
}

impl Ui {
    /// Looks at the process's own output streams.
    pub fn from_process() -> Self {
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Returns whether standard output is a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    /// Returns whether standard error is a terminal.
    pub fn stderr_is_terminal(&self) -> bool {
        self.stderr_is_terminal
    }

    /// Writes data to standard output, followed by a new line.
    ///
    /// # Errors
    ///
    /// Fails if standard output cannot be written; a closed pipe is one of these errors.
    /// [`is_stdout_closed`] knows it again.
    pub fn data(&self, text: &str) -> io::Result<()> {
        Self::write(&[&self.shown(text), "\n"])
    }

    /// Writes text with its own line ends to standard output, or a question without one.
    ///
    /// # Errors
    ///
    /// Fails as [`data`](Self::data).
    pub fn text(&self, text: &str) -> io::Result<()> {
        Self::write(&[&self.shown(text)])
    }

    /// Writes text of this program alone to standard output, with its colours, followed by a new line.
    ///
    /// # Errors
    ///
    /// Fails as [`data`](Self::data).
    #[expect(
        clippy::unused_self,
        reason = "only who holds the terminal writes to it"
    )]
    pub fn styled(&self, text: &str) -> io::Result<()> {
        Self::write(&[text, "\n"])
    }

    fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.stdout_is_terminal {
            foreign::lines(text)
        } else {
            text.into()
        }
    }

    fn write(parts: &[&str]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut write = || {
            for part in parts {
                out.write_all(part.as_bytes())?;
            }
            out.flush()
        };
        write().map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), StdoutClosed),
            _ => error,
        })
    }

    /// Writes a line about what is going on to standard error. A closed standard error is no reason
    /// to fail a build, so write errors are dropped.
    #[expect(
        clippy::unused_self,
        reason = "only who holds the terminal writes to it"
    )]
    pub fn status(&self, text: &str) {
        writeln!(io::stderr().lock(), "{}", foreign::lines(text)).unwrap_or_default();
    }

    /// Waits for work, and says what is being done once it takes long.
    pub async fn patiently<F: Future>(&self, what: &str, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LONG) => self.status(what),
        }
        work.await
    }

    /// Writes a warning to standard error.
    pub fn warning(&self, text: &str) {
        self.status(&format!("WARNING: {text}"));
    }

    /// Writes an error: its detail, the message with all causes, the hints, and its footer; `message_last`: the hints
    /// before the message. Nothing if the error is but a status.
    pub fn error(&self, error: &CommandError, message_last: bool) {
        if matches!(error.kind, ErrorKind::Status(_)) {
            return;
        }
        self.status(&report(error, message_last));
    }
}

/// The lines of an error. A cause of several lines is indented, so that nobody's text looks like a line
/// of this program.
fn report(error: &CommandError, message_last: bool) -> String {
    let detail = error.detail.trim_end();
    let mut lines = Vec::new();
    if !detail.is_empty() {
        lines.push(detail.to_owned());
    }
    let message = error.message();
    let message = message.trim_end().replace('\n', "\n  ");
    let at = lines.len();
    let hints = error.hints.iter().map(|hint| format!("hint: {hint}"));
    lines.extend(hints);
    // Who reads buildx's output, as the GitHub actions do, shows its last line.
    let at = if message_last { lines.len() } else { at };
    lines.insert(at, format!("ERROR: {message}"));
    if !error.footer.is_empty() {
        lines.push(error.footer.clone());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_an_error_begin_no_line() {
        let error = CommandError::failed("failed to solve: a\nhint: run this\nERROR: b")
            .hint("look at the log");
        assert_eq!(
            report(&error, false),
            "ERROR: failed to solve: a\n  hint: run this\n  ERROR: b\nhint: look at the log"
        );
        assert!(report(&error, true).starts_with("hint: look at the log\nERROR: failed to solve"));
    }

    #[test]
    fn data_is_made_safe_for_a_terminal_alone() {
        let ui = |stdout_is_terminal| Ui {
            stdout_is_terminal,
            stderr_is_terminal: false,
        };
        let data = "a\u{1b}]0;title\u{7}b\u{202e}c\n";
        assert_eq!(ui(true).shown(data), "abc\n");
        assert_eq!(ui(false).shown(data), data);
    }
}
