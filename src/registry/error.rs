//! What can go wrong between this program and a registry.

pub(super) mod cause;
mod codes;
mod hint;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use url::Url;

use super::redact::SafeUrl;
use crate::digest::Digest;

pub use codes::ApiError;
pub(super) use codes::parse_codes;

use codes::Details;

/// The request that an error is about, with its URL redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLabel {
    /// Method of the request.
    pub method: Method,
    /// Redacted URL of the request.
    pub url: String,
}

impl RequestLabel {
    /// Takes the label of a request.
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "every error holds it in a box, to stay small"
    )]
    pub fn new(method: &Method, url: &Url) -> Box<Self> {
        Box::new(Self {
            method: method.clone(),
            url: SafeUrl(url).to_string(),
        })
    }
}

impl fmt::Display for RequestLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// An error of a registry operation.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry answered with a status that the operation did not want.
    #[error("{request}: {status}{}", Details(.codes, .excerpt))]
    Status {
        /// The request.
        request: Box<RequestLabel>,
        /// Status of the answer.
        status: StatusCode,
        /// The registry's own errors; empty when the body had none.
        codes: Vec<ApiError>,
        /// Start of a body which is not the registry's JSON, made safe for a terminal.
        excerpt: String,
        /// What `Retry-After` asked for, already capped.
        retry_after: Option<Duration>,
    },
    /// No connection could be made.
    #[error("{request}: cannot connect")]
    Connect {
        /// The request.
        request: Box<RequestLabel>,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The connection broke before the whole answer was there.
    #[error("{request}: the connection broke")]
    Broken {
        /// The request.
        request: Box<RequestLabel>,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Nothing moved for too long.
    #[error("{request}: no progress for {} s", .after.as_secs_f32())]
    Idle {
        /// The request.
        request: Box<RequestLabel>,
        /// The limit that was reached.
        after: Duration,
    },
    /// A small answer did not come, or came too slowly.
    #[error("{request}: no whole answer within {} s", .after.as_secs_f32())]
    Slow {
        /// The request.
        request: Box<RequestLabel>,
        /// The limit that was reached.
        after: Duration,
    },
    /// The answer breaks the protocol.
    #[error("{request}: {what}")]
    Protocol {
        /// The request.
        request: Box<RequestLabel>,
        /// What is wrong.
        what: String,
    },
    /// An upload session is gone or lost data; the upload must start again.
    #[error("{request}: the registry lost the upload")]
    UploadLost {
        /// The request.
        request: Box<RequestLabel>,
        /// The answer that said so, if there was one.
        #[source]
        source: Option<Box<Self>>,
    },
    /// A redirect or an upload location leads where it must not.
    #[error("{request}: {why}: {to}")]
    Redirect {
        /// The request.
        request: Box<RequestLabel>,
        /// Why it is not followed.
        why: &'static str,
        /// The redacted target.
        to: String,
    },
    /// The registry or its token server asks for a kind of login that is not supported.
    #[error("{host}: {what}")]
    Challenge {
        /// Host of the registry.
        host: String,
        /// What is wrong.
        what: String,
    },
    /// The stored credentials could not be read.
    #[error("cannot get the credentials of {host}")]
    Credentials {
        /// Host of the registry.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Content has another digest than promised.
    #[error("{what}: content has digest {actual}, expected {expected}")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// The promise.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content has another size than promised.
    #[error("{what}: content has {actual} bytes, expected {expected}")]
    SizeMismatch {
        /// What was read.
        what: String,
        /// The promise.
        expected: u64,
        /// What came; at least this many bytes.
        actual: u64,
    },
    /// An answer is larger than this program takes.
    #[error("{request}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// The request.
        request: Box<RequestLabel>,
        /// The limit in bytes.
        limit: usize,
    },
    /// The data to upload could not be read.
    #[error("cannot read the data to upload")]
    Source(#[source] io::Error),
    /// An upload broke and its data cannot be read a second time.
    ///
    /// The caller may get the data again and start again.
    #[error("the upload must start again, but its data can be read only once")]
    SourceSpent {
        /// What broke the upload; `None` when the data was gone from the start.
        #[source]
        source: Option<Box<Self>>,
    },
    /// A repository name, tag or digest cannot be part of a request.
    #[error("invalid {kind} {value:?}")]
    Name {
        /// "repository", "tag or digest".
        kind: &'static str,
        /// The value, made safe for a terminal.
        value: String,
    },
    /// A certificate, key or proxy setting cannot be used.
    #[error("cannot use {what}")]
    Config {
        /// The file or setting.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A file of certificates cannot be read.
    #[error("cannot read {}", .path.display())]
    CertFile {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every attempt failed.
    #[error("gave up after {attempts} attempts")]
    GaveUp {
        /// Number of attempts, the first one included; at least 2.
        attempts: u32,
        /// What the last attempt failed with.
        #[source]
        source: Box<Self>,
    },
}

impl RegistryError {
    /// Returns the error of the last attempt.
    pub fn last(&self) -> &Self {
        match self {
            Self::GaveUp { source, .. }
            | Self::SourceSpent {
                source: Some(source),
            } => source.last(),
            other => other,
        }
    }

    /// Returns whether the same request may succeed when it is sent again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } => retryable_status(*status),
            Self::Connect { source, .. } => !cause::is_final_tls_error(source.as_ref()),
            Self::Broken { source, .. } => !cause::is_not_http(source.as_ref()),
            Self::Idle { .. } | Self::Slow { .. } | Self::UploadLost { .. } => true,
            _ => false,
        }
    }

    /// Returns whether the caller must give the data again ([`SourceSpent`](Self::SourceSpent)).
    #[cfg(test)]
    pub fn needs_source(&self) -> bool {
        match self {
            Self::SourceSpent { .. } => true,
            Self::GaveUp { source, .. } => source.needs_source(),
            _ => false,
        }
    }

    /// Returns the status that the registry answered with last.
    pub fn status(&self) -> Option<StatusCode> {
        match self.last() {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns whether the registry's own errors hold the code.
    pub fn has_code(&self, wanted: &str) -> bool {
        match self.last() {
            Self::Status { codes, .. } => codes.iter().any(|c| c.code == wanted),
            _ => false,
        }
    }

    /// Returns whether an answer did not come in time, or stood still.
    pub fn is_slow(&self) -> bool {
        matches!(self.last(), Self::Slow { .. } | Self::Idle { .. })
    }

    /// Returns whether nobody was there: the host has no address, or nobody takes connections at it.
    pub fn is_unreached(&self) -> bool {
        matches!(self.last(), Self::Connect { source, .. } if cause::is_unreached(source.as_ref()))
    }

    /// Returns whether the registry does not know the manifest, blob or repository.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Returns what the registry asked to wait, already capped.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn retryable_status(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        other => other.is_server_error(),
    }
}

#[cfg(test)]
mod tests;
