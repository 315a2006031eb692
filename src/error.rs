//! The one error type of commands: what failed, why, and what the user can do.

use std::error::Error as StdError;
use std::fmt;

use crate::exit;

/// What kind of failure a [`CommandError`] is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A flag is wrong ([`exit::USAGE`]).
    Usage,
    /// The world failed ([`exit::FAILED`]).
    Failed,
    /// The build is not cached as well as it must be ([`exit::NOT_CACHED`]).
    NotCached,
    /// BuildKit's own internal error ([`exit::INTERNAL`]).
    Internal,
    /// BuildKit ran out of a resource ([`exit::RESOURCE_EXHAUSTED`]).
    ResourceExhausted,
    /// A signal or the docker command line cancelled the command ([`exit::CANCELLED`]).
    Cancelled,
    /// The command did its work and printed all there is to say; the program ends with this code.
    Status(u8),
}

impl ErrorKind {
    /// Returns the exit code of the program for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => exit::USAGE,
            Self::Failed => exit::FAILED,
            Self::NotCached => exit::NOT_CACHED,
            Self::Internal => exit::INTERNAL,
            Self::ResourceExhausted => exit::RESOURCE_EXHAUSTED,
            Self::Cancelled => exit::CANCELLED,
            Self::Status(code) => code,
        }
    }
}

/// An error that a command ends with.
///
/// It is printed as `ERROR: message: cause: cause`, preceded by the detail (for example the source
/// lines of the failing Dockerfile step) and followed by one `hint:` line per hint.
#[derive(Debug)]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What failed, with its chain of causes.
    pub source: Box<dyn StdError + Send + Sync>,
    /// What the user can do about it, one sentence each.
    pub hints: Vec<String>,
    /// Lines printed before the message; empty for most errors.
    pub detail: String,
    /// Lines printed after all else; empty for most errors.
    pub footer: String,
}

impl CommandError {
    /// Creates an error of the given kind from anything that is an error or a text.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
            hints: Vec::new(),
            detail: String::new(),
            footer: String::new(),
        }
    }

    /// Creates an error of kind [`ErrorKind::Failed`].
    pub fn failed(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Failed, source)
    }

    /// Adds a sentence that tells the user what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Lets the hints call the program by another name, such as `docker buildx` for `docker cachex`.
    #[must_use]
    pub fn with_hints_for(mut self, from: &str, to: &str) -> Self {
        for hint in &mut self.hints {
            *hint = hint.replace(from, to);
        }
        self
    }

    /// Returns the message with all its causes, joined by `: `, each cause once.
    pub fn message(&self) -> String {
        chain(self.source.as_ref())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl StdError for CommandError {}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Joins an error and its causes with `: `, leaving out a cause that its parent already ends with.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn message_names_every_cause_once() {
        let error = CommandError::failed(Outer(std::io::Error::other("disk is full")));
        assert_eq!(error.message(), "cannot open the store: disk is full");
    }

    #[test]
    fn repeated_cause_is_left_out() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading x: gone")]
        struct Repeats(#[source] std::io::Error);
        let error = CommandError::failed(Repeats(std::io::Error::other("gone")));
        assert_eq!(error.message(), "reading x: gone");
    }

    #[test]
    fn every_kind_has_the_documented_code() {
        assert_eq!(ErrorKind::Usage.exit_code(), 125);
        assert_eq!(ErrorKind::Failed.exit_code(), 1);
        assert_eq!(ErrorKind::NotCached.exit_code(), 3);
        assert_eq!(ErrorKind::Internal.exit_code(), 100);
        assert_eq!(ErrorKind::ResourceExhausted.exit_code(), 102);
        assert_eq!(ErrorKind::Cancelled.exit_code(), 130);
    }
}
