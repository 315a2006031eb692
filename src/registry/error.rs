//! What can go wrong between this program and a registry.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use oci_client::errors::{OciEnvelope, OciErrorCode};
use url::Url;

use super::redact::{SafeUrl, clean};
use crate::digest::Digest;
use crate::docker::CredentialError;
use crate::error::CommandError;

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

/// One entry of the error list that a registry answers with (OCI distribution spec, "Error codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Code such as `DENIED`, `MANIFEST_UNKNOWN`; registries have codes of their own too.
    pub code: String,
    /// The registry's text, made safe for a terminal; may be empty.
    pub message: String,
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
        /// What came; at least so many bytes.
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
    /// The caller may get the data anew and start again.
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

    /// Tells whether the same request may succeed when it is sent again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } => retryable_status(*status),
            Self::Connect { source, .. } => !is_certificate_error(source.as_ref()),
            Self::Broken { .. } | Self::Idle { .. } | Self::UploadLost { .. } => true,
            _ => false,
        }
    }

    /// Tells whether the caller must give the data again ([`SourceSpent`](Self::SourceSpent)).
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

    /// Tells whether the registry's own errors hold the code.
    pub fn has_code(&self, wanted: &str) -> bool {
        match self.last() {
            Self::Status { codes, .. } => codes.iter().any(|c| c.code == wanted),
            _ => false,
        }
    }

    /// Tells whether the registry does not know the manifest, blob or repository.
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

    /// Returns what the user can do about it, one sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self.last() {
            Self::Status { status, .. } => self.status_hint(*status),
            Self::Connect { source, .. } if is_certificate_error(source.as_ref()) => Some(
                "put the certificate of the registry's authority into certs.d, or set registry.insecure=true for a registry that you trust",
            ),
            Self::Connect { .. } => {
                Some("check the name of the registry, the network and the proxy settings")
            }
            Self::Credentials { .. } => {
                Some("check the credential helper of the docker config file")
            }
            _ => None,
        }
    }

    fn status_hint(&self, status: StatusCode) -> Option<&'static str> {
        match status {
            StatusCode::UNAUTHORIZED => Some("log in with `docker login` to the registry"),
            StatusCode::FORBIDDEN => {
                Some("the account that is logged in may not do this in the repository")
            }
            StatusCode::NOT_FOUND if self.has_code("NAME_UNKNOWN") => {
                Some("the repository does not exist; some registries want it created first")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Some("the registry or a proxy in front of it limits the size of an upload")
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Some("the registry limits the rate of requests; log in or try again later")
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Some("the proxy wants a login; check the proxy settings")
            }
            _ => None,
        }
    }
}

impl From<RegistryError> for CommandError {
    /// Takes the hint along; for credentials it is that of the credential store.
    fn from(error: RegistryError) -> Self {
        let hint = match error.last() {
            RegistryError::Credentials { source, .. } => source
                .downcast_ref::<CredentialError>()
                .map(CredentialError::hint),
            _ => None,
        };
        let hint = hint.or_else(|| error.hint().map(str::to_owned));
        let command = Self::failed(error);
        match hint {
            Some(hint) => command.hint(hint),
            None => command,
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

/// Looks for a refused certificate in the chain of causes: trying again does not help.
fn is_certificate_error(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) =
            error.downcast_ref::<rustls::Error>()
        {
            return true;
        }
        // The source of an I/O error skips the error that it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

/// Reads the registry's own errors out of a body; `Err` gives a short excerpt of another body.
pub(super) fn parse_codes(body: &[u8]) -> Result<Vec<ApiError>, String> {
    let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) else {
        return Err(clean(String::from_utf8_lossy(body).trim(), 200));
    };
    let errors = envelope.errors.into_iter().take(16).map(|error| ApiError {
        code: clean(&code_text(&error.code), 60),
        message: clean(&error.message, 300),
    });
    Ok(errors.collect())
}

fn code_text(code: &OciErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

struct Details<'a>(&'a [ApiError], &'a str);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.0 {
            write!(f, ": {}", error.code)?;
            if !error.message.is_empty() {
                write!(f, ": {}", error.message)?;
            }
        }
        if self.0.is_empty() && !self.1.is_empty() {
            write!(f, ": {}", self.1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, body: &str) -> RegistryError {
        let (codes, excerpt) = match parse_codes(body.as_bytes()) {
            Ok(codes) => (codes, String::new()),
            Err(excerpt) => (Vec::new(), excerpt),
        };
        RegistryError::Status {
            request: RequestLabel::new(
                &Method::PUT,
                &"https://a:b@r.example/v2/x/manifests/t?sig=1"
                    .parse()
                    .unwrap(),
            ),
            status: StatusCode::from_u16(status).unwrap(),
            codes,
            excerpt,
            retry_after: None,
        }
    }

    #[test]
    fn the_message_has_method_redacted_url_status_and_codes() {
        let error = status(
            403,
            r#"{"errors":[{"code":"DENIED","message":"no\u001bpush","detail":{"a":1}},{"code":"OWN_CODE"}]}"#,
        );
        assert_eq!(
            error.to_string(),
            "PUT https://***@r.example/v2/x/manifests/t?sig=***: 403 Forbidden: DENIED: no push: OWN_CODE"
        );
        assert!(error.has_code("OWN_CODE") && !error.has_code("UNSUPPORTED"));
        assert!(error.hint().unwrap().contains("may not"));
    }

    #[test]
    fn a_command_ends_with_the_chain_and_the_hint() {
        let error = RegistryError::GaveUp {
            attempts: 3,
            source: Box::new(status(429, "")),
        };
        let command = CommandError::from(error);
        assert!(
            command
                .message()
                .starts_with("gave up after 3 attempts: PUT https://")
        );
        assert!(command.hints[0].contains("rate"), "{:?}", command.hints);
        assert!(CommandError::from(status(418, "")).hints.is_empty());
    }

    #[test]
    fn a_body_of_another_kind_is_quoted_shortly() {
        let error = status(502, "<html>\n<b>Bad Gateway</b>");
        assert!(
            error
                .to_string()
                .ends_with("502 Bad Gateway: <html> <b>Bad Gateway</b>")
        );
        assert!(status(500, &"x".repeat(10_000)).to_string().len() < 400);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (code, again) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (408, true),
            (413, false),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            assert_eq!(status(code, "").is_retryable(), again, "{code}");
        }
    }

    #[test]
    fn a_refused_certificate_is_found_inside_other_errors() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let connect = |source| RegistryError::Connect {
            request: RequestLabel::new(&Method::GET, &"https://r.example/".parse().unwrap()),
            source,
        };
        let refused = connect(Box::new(io::Error::other(io::Error::other(tls))));
        assert!(!refused.is_retryable());
        assert!(refused.hint().unwrap().contains("certs.d"));
        assert!(connect(Box::new(io::Error::other("refused"))).is_retryable());
    }

    #[test]
    fn a_spent_source_is_seen_through_the_last_attempt() {
        let spent = RegistryError::SourceSpent {
            source: Some(Box::new(status(503, ""))),
        };
        let error = RegistryError::GaveUp {
            attempts: 2,
            source: Box::new(spent),
        };
        assert!(error.needs_source());
        assert_eq!(error.status().unwrap().as_u16(), 503);
    }
}
