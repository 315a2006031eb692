//! Answers: their bodies with idle time-outs and limits, their errors.

use std::error::Error as StdError;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::error::{RegistryError, RequestLabel, parse_codes};
use super::limit::Permit;
use super::pace::Pace;

/// How much of an error's body is read (the OCI specification names no limit; 64 KiB is what
/// go-containerregistry takes).
const MAX_ERROR_BODY: usize = 64 * 1024;

/// An answer whose body may not have been read yet. It holds the permit of its request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) label: Box<RequestLabel>,
    /// Where the answer came from, after redirects.
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) body: reqwest::Response,
    pub(super) idle: Duration,
    /// How long a small body may take.
    pub(super) small: Duration,
    pub(super) retry_after: Option<Duration>,
    pub(super) permit: Option<Permit>,
}

impl Reply {
    /// Returns the answer if its status is among the wanted ones, else the registry's error.
    pub(super) async fn expect(self, wanted: &[StatusCode]) -> Result<Self, RegistryError> {
        if wanted.contains(&self.status) {
            Ok(self)
        } else {
            Err(self.into_error().await)
        }
    }

    /// Reads the body of an answer that is not wanted and makes an error of it.
    pub(super) async fn into_error(mut self) -> RegistryError {
        let mut body = Vec::new();
        let mut pace = Pace::new(self.small);
        // A broken error body is no reason to lose the status.
        while let Ok(Some(piece)) = self.small_chunk(&mut pace).await {
            let room = MAX_ERROR_BODY - body.len();
            body.extend(piece.iter().take(room));
            if body.len() == MAX_ERROR_BODY {
                break;
            }
        }
        status_error(self.label, self.status, &body, self.retry_after)
    }

    /// Reads the next piece of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        match tokio::time::timeout(self.idle, self.body.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(transport_error(&self.label, error)),
            Err(_) => Err(RegistryError::Idle {
                request: self.label.clone(),
                after: self.idle,
            }),
        }
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn bytes(mut self, limit: usize) -> Result<Bytes, RegistryError> {
        let mut body = Vec::new();
        let mut pace = Pace::new(self.small);
        while let Some(piece) = self.small_chunk(&mut pace).await? {
            if body.len() + piece.len() > limit {
                return Err(RegistryError::TooLarge {
                    request: self.label,
                    limit,
                });
            }
            body.extend_from_slice(&piece);
        }
        match self.header("content-encoding") {
            None | Some("" | "identity") => Ok(body.into()),
            // Nobody asked for it, and containerd takes it.
            Some("gzip" | "x-gzip") => self.unpacked(GzDecoder::new(&body[..]), limit),
            Some(_) => Err(self.protocol("the answer has an unknown content encoding")),
        }
    }

    /// Reads what a packed body holds, at most `limit` bytes.
    fn unpacked(&self, packed: impl Read, limit: usize) -> Result<Bytes, RegistryError> {
        let mut body = Vec::new();
        let read = packed.take(limit as u64 + 1).read_to_end(&mut body);
        read.map_err(|source| RegistryError::Broken {
            request: self.label.clone(),
            source: Box::new(source),
        })?;
        if body.len() > limit {
            return Err(RegistryError::TooLarge {
                request: self.label.clone(),
                limit,
            });
        }
        Ok(body.into())
    }

    /// Reads the next piece of a small body.
    async fn small_chunk(&mut self, pace: &mut Pace) -> Result<Option<Bytes>, RegistryError> {
        let piece = match pace.within(self.chunk()).await {
            Ok(piece) => piece?,
            Err(after) => {
                return Err(RegistryError::Slow {
                    request: self.label.clone(),
                    after,
                });
            }
        };
        pace.moved(piece.as_ref().map_or(0, Bytes::len));
        Ok(piece)
    }

    /// Reads a short body to its end, so that the connection can be used again.
    pub(super) async fn drain(mut self) {
        let mut read = 0;
        let mut pace = Pace::new(self.small);
        while let Ok(Some(piece)) = self.small_chunk(&mut pace).await {
            read += piece.len();
            if read > MAX_ERROR_BODY {
                return;
            }
        }
    }

    /// Returns a header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Creates the error of an answer that breaks the protocol.
    pub(super) fn protocol(&self, what: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            request: self.label.clone(),
            what: what.into(),
        }
    }
}

/// Creates the error of a status that is not wanted.
pub(super) fn status_error(
    request: Box<RequestLabel>,
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
) -> RegistryError {
    let (codes, excerpt) = match parse_codes(body) {
        Ok(codes) => (codes, String::new()),
        Err(excerpt) => (Vec::new(), excerpt),
    };
    RegistryError::Status {
        request,
        status,
        codes,
        excerpt,
        retry_after,
    }
}

/// Creates the error of an exchange that did not come to its end. The URL is taken out of the
/// cause: it is not redacted there.
pub(super) fn transport_error(label: &RequestLabel, error: reqwest::Error) -> RegistryError {
    let request = Box::new(label.clone());
    let connect = error.is_connect();
    let source: Box<dyn StdError + Send + Sync> = Box::new(error.without_url());
    if connect {
        RegistryError::Connect { request, source }
    } else {
        RegistryError::Broken { request, source }
    }
}
