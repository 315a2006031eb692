//! The Engine API of one daemon: JSON calls by bollard, upgraded connections by hyper.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptions;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;

use super::context::Endpoint;
use super::dial::DialError;
use super::hijack::UpgradedStream;
use super::http::{HttpClient, HttpError, headers_of};
use super::secret::Secret;

/// Time for the first answer of a daemon; as docker/cli.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// bollard's limit for an answer to begin, in seconds. Loading an image or stopping a container may
/// take any time, and the user can cancel.
const REQUEST_TIMEOUT: u64 = 24 * 60 * 60;

/// A call to the daemon that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The daemon cannot be reached.
    #[error("cannot connect to the Docker daemon at {host}; is it running?")]
    Connect {
        /// Its address.
        host: String,
        /// What happened.
        #[source]
        source: HttpError,
    },
    /// The daemon did not answer in time.
    #[error("the Docker daemon at {host} does not answer")]
    Silent {
        /// Its address.
        host: String,
    },
    /// The daemon answered with an error.
    #[error("cannot {action}: {message}")]
    Refused {
        /// What was asked for.
        action: String,
        /// Status of the answer.
        status: StatusCode,
        /// The daemon's own words.
        message: String,
    },
    /// The call failed in another way.
    #[error("cannot {action}")]
    Call {
        /// What was asked for.
        action: String,
        /// What happened.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// An upgraded connection failed.
    #[error("cannot {action}")]
    Http {
        /// What was asked for.
        action: String,
        /// What happened.
        #[source]
        source: HttpError,
    },
}

impl EngineError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        let source = match self {
            Self::Connect { source, .. } => source,
            Self::Silent { .. } => {
                return Some(
                    "start the Docker daemon again, or choose another one with \"docker context use\"",
                );
            }
            _ => return None,
        };
        match source {
            HttpError::Dial(DialError::Io(error))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(
                    "add your user to the group \"docker\", or use a context of a daemon that you may use",
                )
            }
            HttpError::Dial(DialError::Scheme { .. }) => {
                Some("use an address of the form unix://, tcp:// or ssh://")
            }
            HttpError::Dial(DialError::Tls(_)) => {
                Some("check the TLS files of the context, or DOCKER_CERT_PATH")
            }
            _ => Some(
                "\"docker context ls\" shows the daemons, \"docker version\" tests the current one",
            ),
        }
    }

    /// Returns whether the daemon said that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Returns whether the daemon could say something else a moment later: a container is being
    /// started, stopped or restarted.
    pub fn may_pass(&self) -> bool {
        let refused = |status: &StatusCode| status.is_server_error();
        self.is_conflict() || matches!(self, Self::Refused { status, .. } if refused(status))
    }

    /// Returns whether the daemon said that the thing is there already, or in the wrong state.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::CONFLICT)
    }
}

/// One daemon. Clones share connections; these close with the last clone.
#[derive(Clone)]
pub struct Engine {
    http: Arc<HttpClient>,
    api: Docker,
    endpoint: Arc<Endpoint>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.endpoint.host)
    }
}

impl Engine {
    /// Connects to a daemon and agrees on the API version. `http_headers` are those of the
    /// configuration file.
    ///
    /// # Errors
    ///
    /// Fails if the daemon cannot be reached or does not answer within 10 seconds.
    pub async fn connect(
        endpoint: &Endpoint,
        http_headers: &BTreeMap<String, Secret>,
    ) -> Result<Self, EngineError> {
        let connect_error = |source| EngineError::Connect {
            host: endpoint.host.clone(),
            source,
        };
        let http = HttpClient::new(endpoint, headers_of(http_headers))
            .map_err(|error| connect_error(error.into()))?;
        let http = Arc::new(http);
        let theirs = tokio::time::timeout(PING_TIMEOUT, api_version(&http))
            .await
            .map_err(|_| EngineError::Silent {
                host: endpoint.host.clone(),
            })?
            .map_err(connect_error)?;
        let version = common_version(&theirs);
        http.set_version(version.to_string());
        let transport = Arc::clone(&http);
        let api = Docker::connect_with_custom_transport(
            move |request: BollardRequest| {
                let http = Arc::clone(&transport);
                async move { http.send(request).await.map_err(into_bollard) }
            },
            Some("http://docker"),
            REQUEST_TIMEOUT,
            &version,
        )
        .map_err(|source| EngineError::Call {
            action: "set up the client of the Docker API".to_owned(),
            source: Box::new(source),
        })?;
        Ok(Self {
            http,
            api,
            endpoint: Arc::new(endpoint.clone()),
        })
    }

    /// Returns the client for calls that have no method here; [`error`](Self::error) names their
    /// failures.
    pub fn api(&self) -> &Docker {
        &self.api
    }

    /// Returns the endpoint that the engine was connected with.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Gives a failure of [`api`](Self::api) its name: `action` follows "cannot".
    pub fn error(&self, action: impl Into<String>, error: bollard::errors::Error) -> EngineError {
        use bollard::errors::Error;
        let action = action.into();
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => EngineError::Refused {
                action,
                status: StatusCode::from_u16(status_code)
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                message: message.trim().to_owned(),
            },
            Error::IOError { err } => match downcast(err) {
                Ok(source @ HttpError::Dial(_)) => EngineError::Connect {
                    host: self.endpoint.host.clone(),
                    source,
                },
                Ok(source) => EngineError::Http { action, source },
                Err(err) => EngineError::Call {
                    action,
                    source: Box::new(Error::IOError { err }),
                },
            },
            source => EngineError::Call {
                action,
                source: Box::new(source),
            },
        }
    }

    /// Returns what the daemon knows of a container; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Fails if the daemon cannot be asked.
    pub async fn inspect_container(
        &self,
        container: &str,
    ) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let found = self
            .api
            .inspect_container(container, None::<InspectContainerOptions>)
            .await
            .map_err(|error| self.error(format!("inspect container {container}"), error));
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// POSTs to `path` (without version) and turns the connection into a byte stream of the given
    /// protocol: `tcp` for exec and attach, `h2c` for `/grpc` and `/session`.
    ///
    /// # Errors
    ///
    /// Fails if the daemon cannot be reached or refuses the upgrade.
    pub async fn hijack(
        &self,
        path: &str,
        protocol: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<UpgradedStream, EngineError> {
        self.http
            .upgrade(path, protocol, headers, body)
            .await
            .map_err(|source| match source {
                HttpError::Refused { status, message } => EngineError::Refused {
                    action: format!("open a stream at {path}"),
                    status,
                    message,
                },
                HttpError::Dial(_) => EngineError::Connect {
                    host: self.endpoint.host.clone(),
                    source,
                },
                source => EngineError::Http {
                    action: format!("open a stream at {path}"),
                    source,
                },
            })
    }
}

/// Asks the daemon for its highest API version, such as `1.51`.
async fn api_version(http: &HttpClient) -> Result<String, HttpError> {
    let request = Request::builder()
        .method(Method::GET)
        .uri("/_ping")
        .body(bollard::body_full(Bytes::new()))?;
    let response = http.send(request).await?;
    let version = response.headers().get("Api-Version");
    let version = version
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return Ok(version);
    }
    Err(HttpError::Refused {
        status,
        message: String::from_utf8_lossy(&body).trim().to_owned(),
    })
}

/// Returns the lower one of the daemon's and bollard's API versions.
fn common_version(server: &str) -> ClientVersion {
    let ours = *API_DEFAULT_VERSION;
    let parsed = server.split_once('.').and_then(|(major, minor)| {
        Some(ClientVersion {
            major_version: major.parse().ok()?,
            minor_version: minor.parse().ok()?,
        })
    });
    match parsed {
        Some(theirs) if theirs < ours => theirs,
        _ => ours,
    }
}

// bollard's errors have no place for a foreign one but this.
fn into_bollard(error: HttpError) -> bollard::errors::Error {
    match error {
        HttpError::Hyper(err) => bollard::errors::Error::HyperResponseError { err },
        error => bollard::errors::Error::IOError {
            err: io::Error::other(error),
        },
    }
}

fn downcast(error: io::Error) -> Result<HttpError, io::Error> {
    error.downcast::<HttpError>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_api_version_is_used() {
        assert_eq!(common_version("1.24").to_string(), "1.24");
        for newer in ["9.99", "", "x", "1"] {
            assert_eq!(
                common_version(newer).to_string(),
                API_DEFAULT_VERSION.to_string(),
                "{newer}"
            );
        }
    }

    #[tokio::test]
    async fn missing_daemon_is_named_with_a_hint() {
        let endpoint = Endpoint {
            host: "unix:///nowhere/docker.sock".to_owned(),
            tls: None,
            skip_verify: false,
            context_name: "default".to_owned(),
        };
        let Err(error) = Engine::connect(&endpoint, &BTreeMap::new()).await else {
            panic!("there is no daemon")
        };
        let text = crate::error::chain(&error);
        assert!(
            text.starts_with(
                "cannot connect to the Docker daemon at unix:///nowhere/docker.sock; is it running?: "
            ),
            "{text}"
        );
        assert!(error.hint().is_some());
    }

    #[tokio::test]
    async fn foreign_schemes_are_refused_by_name() {
        for scheme in ["npipe", "fd"] {
            let endpoint = Endpoint {
                host: format!("{scheme}:////./pipe/docker_engine"),
                tls: None,
                skip_verify: false,
                context_name: "default".to_owned(),
            };
            let Err(error) = Engine::connect(&endpoint, &BTreeMap::new()).await else {
                panic!("there is no such daemon")
            };
            assert!(crate::error::chain(&error).contains(&format!("{scheme}://")));
            assert!(error.hint().is_some_and(|hint| hint.contains("ssh://")));
        }
    }
}
