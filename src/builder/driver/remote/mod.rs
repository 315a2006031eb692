//! The remote driver: a BuildKit that runs already, at an address.
//!
//! | file | holds |
//! |---|---|
//! | [`address`] | the forms of addresses |
//! | [`tls`] | the driver options for TLS |
//! | [`preflight`] | whether what answers at an address is BuildKit, and if not, what it is |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::builder::ByteStream;
use crate::builder::boot::BootSink;
use crate::builder::docker_env::DockerEnv;
use crate::builder::error::BuilderError;
use crate::builder::group::StoredNode;
use crate::docker::process::ProcessStream;
use crate::platform::sockets;

use super::container_options::{OptionError, boolean};
use super::in_container;

pub mod address;
pub mod preflight;
pub mod tls;

use address::Address;
use tls::RemoteTls;

/// Longest wait for a connection to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a bootstrap waits for a BuildKit that is not there yet; as buildx.
const BOOT_TIMEOUT: Duration = Duration::from_secs(20);
const BOOT_PAUSE: Duration = Duration::from_millis(500);

/// A node of the remote driver.
#[derive(Debug)]
pub struct Remote {
    docker_env: Arc<DockerEnv>,
    node: String,
    endpoint: String,
    address: Address,
    tls: Option<RemoteTls>,
}

impl Remote {
    /// Takes a node of a builder. Nothing is connected.
    ///
    /// # Errors
    ///
    /// Fails for a bad address or driver option, and for files or flags, which only a container can
    /// be given.
    pub fn new(docker_env: &Arc<DockerEnv>, node: &StoredNode) -> Result<Self, BuilderError> {
        let setting = |what| Err(BuilderError::RemoteSetting { what });
        if !node.files.is_empty() {
            return setting("config file");
        }
        if !node.flags.is_empty() {
            return setting("buildkit flags");
        }
        let address =
            Address::parse(&node.endpoint).map_err(|reason| BuilderError::RemoteAddress {
                address: Address::redacted(&node.endpoint),
                reason,
            })?;
        let mut options = tls::Options::default();
        for (key, value) in &node.driver_opts {
            match key.as_str() {
                // The build reads it; here it is only checked.
                "default-load" => drop(boolean(key, value)?),
                _ if options.take(key, value)? => {}
                _ => {
                    return Err(OptionError::Unknown {
                        key: key.clone(),
                        driver: "remote",
                    }
                    .into());
                }
            }
        }
        Ok(Self {
            docker_env: Arc::clone(docker_env),
            node: node.name.clone(),
            endpoint: node.endpoint.clone(),
            tls: options.finish(address.host())?,
            address,
        })
    }

    /// Connects to BuildKit.
    ///
    /// # Errors
    ///
    /// Fails for an address that cannot be reached. That a program which connects, such as ssh, does
    /// not get through is seen only when the stream is used.
    pub async fn dial(&self) -> Result<ByteStream, BuilderError> {
        match timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(self.unreachable(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
            ))),
        }
    }

    async fn open(&self) -> Result<ByteStream, BuilderError> {
        match &self.address {
            Address::Container { name, context } => self.exec(name, context.as_deref()).await,
            Address::Program { program, arguments } => {
                let stream = ProcessStream::spawn(program, arguments);
                Ok(Box::new(stream.map_err(|error| self.unreachable(error))?))
            }
            Address::Unix(path) => {
                let stream = sockets::connect(path).await;
                self.secured(stream.map_err(|error| self.unreachable(error))?)
                    .await
            }
            Address::Tcp { authority, .. } => {
                let connect = async {
                    let stream = TcpStream::connect(authority.as_str()).await?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                };
                self.secured(connect.await.map_err(|error| self.unreachable(error))?)
                    .await
            }
        }
    }

    async fn secured<S>(&self, stream: S) -> Result<ByteStream, BuilderError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let connector = tls.connector().map_err(|source| BuilderError::RemoteTls {
            node: self.node.clone(),
            source,
        })?;
        let secured = connector.connect(tls.server_name(), stream).await;
        Ok(Box::new(secured.map_err(|error| self.unreachable(error))?))
    }

    async fn exec(
        &self,
        container: &str,
        context: Option<&str>,
    ) -> Result<ByteStream, BuilderError> {
        let current = self.docker_env.contexts().current_name();
        let engine = self.docker_env.engine(context.unwrap_or(current)).await?;
        Ok(in_container::dial(&engine, container, &self.docker_env).await?)
    }

    fn unreachable(&self, source: io::Error) -> BuilderError {
        BuilderError::RemoteConnect {
            address: self.endpoint.clone(),
            source,
        }
    }

    /// Returns the name of the TLS options, or host and port of the address.
    pub fn authority(&self) -> Option<&str> {
        let named = self.tls.as_ref().and_then(RemoteTls::given_name);
        named.or(match &self.address {
            Address::Tcp { authority, .. } => Some(authority),
            _ => None,
        })
    }

    /// Explains why the node does not speak BuildKit's protocol; `None` if it seems well.
    pub async fn diagnose(&self) -> Option<BuilderError> {
        let stream = match self.dial().await {
            Ok(stream) => stream,
            Err(error) => return Some(error),
        };
        let reason = preflight::check(stream).await.err()?;
        Some(BuilderError::RemoteNotBuildKit {
            address: self.endpoint.clone(),
            wants_tls: self.tls.is_none() && self.address.can_have_tls() && reason.may_want_tls(),
            reason,
        })
    }

    /// Waits until BuildKit answers.
    ///
    /// # Errors
    ///
    /// Fails with the last reason if it does not within 20 seconds.
    pub async fn boot(&self, sink: &BootSink<'_>) -> Result<(), BuilderError> {
        let step = "waiting for connection".to_owned();
        sink.node(
            &self.node,
            sink.step(&self.node, step, Box::pin(self.ready())),
        )
        .await
    }

    /// Waits until BuildKit answers.
    ///
    /// # Errors
    ///
    /// Fails with the last reason if it does not within 20 seconds.
    pub async fn ready(&self) -> Result<(), BuilderError> {
        let end = Instant::now() + BOOT_TIMEOUT;
        loop {
            match self.diagnose().await {
                None => return Ok(()),
                Some(error) if !error.may_pass() || Instant::now() + BOOT_PAUSE > end => {
                    return Err(error);
                }
                Some(_) => sleep(BOOT_PAUSE).await,
            }
        }
    }
}

#[cfg(test)]
mod tests;
