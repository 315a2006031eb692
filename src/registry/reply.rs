//! Answers: their bodies with idle time-outs and limits, their errors.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::error::{RegistryError, RequestLabel, parse_codes};
use super::limit::Permit;

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
        // A broken error body is no reason to lose the status.
        while let Ok(Some(piece)) = self.chunk().await {
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
        while let Some(piece) = self.chunk().await? {
            if body.len() + piece.len() > limit {
                return Err(RegistryError::TooLarge {
                    request: self.label,
                    limit,
                });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }

    /// Reads a short body to its end, so that the connection can be used again.
    pub(super) async fn drain(mut self) {
        let mut read = 0;
        while let Ok(Some(piece)) = self.chunk().await {
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

    /// Makes the error of an answer that breaks the protocol.
    pub(super) fn protocol(&self, what: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            request: self.label.clone(),
            what: what.into(),
        }
    }
}

/// Makes the error of a status that is not wanted.
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

/// Makes the error of an exchange that did not come to its end. The URL is taken out of the
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
