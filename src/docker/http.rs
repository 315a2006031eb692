//! HTTP/1.1 to a daemon: requests over a small pool of connections, and upgraded connections.
//!
//! bollard gets this as its transport, so one dialer serves unix sockets, TLS and ssh alike.

use std::pin::pin;
use std::sync::OnceLock;

use bollard::BollardRequest;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::context::Endpoint;
use super::dial::{DialError, Dialer};
use super::hijack::UpgradedStream;
use super::secret::Secret;

/// Body type of bollard's requests.
pub(super) type Body = <BollardRequest as IntoBody>::Body;

/// Connections kept open while idle. More are only opened by requests at the same time.
const MAX_IDLE: usize = 4;

/// Longest error answer that is read, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Names the body type of a request type.
pub(super) trait IntoBody {
    /// The body.
    type Body;
}

impl<B> IntoBody for Request<B> {
    type Body = B;
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke, or the other side speaks no HTTP.
    #[error("the connection broke")]
    Hyper(#[from] hyper::Error),
    /// The path or a header is not valid.
    #[error("invalid request")]
    Request(#[from] http::Error),
    /// The daemon refused the upgrade.
    #[error("{status}: {message}")]
    Refused {
        /// Status of the answer.
        status: StatusCode,
        /// Message of the answer.
        message: String,
    },
}

/// Sends requests to one daemon.
pub(super) struct HttpClient {
    dialer: Dialer,
    headers: HeaderMap,
    version: OnceLock<String>,
    idle: Mutex<Vec<SendRequest<Body>>>,
    connections: Mutex<JoinSet<()>>,
}

impl HttpClient {
    /// Prepares a client; nothing is connected. `headers` are sent with every request.
    pub(super) fn new(endpoint: &Endpoint, mut headers: HeaderMap) -> Result<Self, DialError> {
        let dialer = Dialer::new(endpoint)?;
        let agent = concat!("docker-cachex/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let host = HeaderValue::from_str(dialer.authority()).map_err(|_| DialError::Address {
            reason: "the host has characters that no header can hold",
        })?;
        headers.insert(HOST, host);
        Ok(Self {
            dialer,
            headers,
            version: OnceLock::new(),
            idle: Mutex::default(),
            connections: Mutex::default(),
        })
    }

    /// Sets the API version of the paths, `1.51`. The first call decides.
    pub(super) fn set_version(&self, version: String) {
        self.version.get_or_init(|| version);
    }

    /// Sends a request and returns the answer, its body still on the way.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut request = self.prepare(request)?;
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.keep(sender, response)),
                Err(mut failed) => match failed.take_message() {
                    // The daemon closed the idle connection; nothing was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(failed.into_error().into()),
                },
            }
        }
        let io = TokioIo::new(self.dialer.dial().await?);
        let (mut sender, connection) = http1::handshake(io).await?;
        {
            let mut connections = self.connections.lock();
            while connections.try_join_next().is_some() {}
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection to the docker daemon ended");
                }
            });
        }
        let response = sender.send_request(request).await?;
        Ok(self.keep(sender, response))
    }

    /// Sends a POST that turns the connection into a plain byte stream.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        protocol: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<UpgradedStream, HttpError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, protocol)
            .body(Full::new(body))?;
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        let request = self.prepare(request)?;
        let io = TokioIo::new(self.dialer.dial().await?);
        let (mut sender, connection) = http1::handshake(io).await?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(hyper::upgrade::on(response).await?);
            }
            Err(refusal(response).await)
        };
        let mut exchange = pin!(exchange);
        let mut connection = pin!(connection.with_upgrades());
        let upgraded = tokio::select! {
            result = &mut exchange => result?,
            // The exchange knows the error of a broken connection, too.
            _ = &mut connection => exchange.await?,
        };
        UpgradedStream::from_hyper(upgraded).ok_or(HttpError::Refused {
            status: StatusCode::SWITCHING_PROTOCOLS,
            message: "the connection is of an unknown kind".to_owned(),
        })
    }

    fn prepare<B>(&self, request: Request<B>) -> Result<Request<B>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let given = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let version = self
            .version
            .get()
            .map(|version| format!("/v{version}"))
            .filter(|prefix| !given.starts_with(prefix.as_str()))
            .unwrap_or_default();
        let path = format!("{}{version}{given}", self.dialer.base_path());
        parts.uri = Uri::try_from(path).map_err(http::Error::from)?;
        for (name, value) in &self.headers {
            parts.headers.insert(name, value.clone());
        }
        Ok(Request::from_parts(parts, body))
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        idle.retain(|sender| !sender.is_closed());
        let at = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(at))
    }

    fn keep(&self, sender: SendRequest<Body>, response: Response<Incoming>) -> Response<Incoming> {
        let mut idle = self.idle.lock();
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(sender);
        }
        response
    }
}

/// Turns pairs of the configuration file into headers; pairs that no header can hold are left out, as
/// is `User-Agent`, which docker does not let the file set either.
pub(super) fn headers_of<'a>(
    pairs: impl IntoIterator<Item = (&'a String, &'a Secret)>,
) -> HeaderMap {
    pairs
        .into_iter()
        .filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
        .collect()
}

async fn refusal(response: Response<Incoming>) -> HttpError {
    let status = response.status();
    let text = match Limited::new(response.into_body(), MAX_ERROR_BODY)
        .collect()
        .await
    {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(error) => format!("the answer could not be read: {error}"),
    };
    let message = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("message")?.as_str().map(str::to_owned))
        .unwrap_or(text);
    HttpError::Refused { status, message }
}
