//! The drivers: what a node is and how its BuildKit is reached.
//!
//! | driver | |
//! |---|---|
//! | [`container`] | one container per node; created, booted, stopped and removed here |
//! | [`remote`] | a BuildKit that runs already; only connected to |
//! | [`docker`] | the BuildKit inside the Docker engine; listed, refused for builds |
//! | kubernetes | listed, refused by name |

use std::fmt;
use std::sync::Arc;

use super::ByteStream;
use super::boot::BootSink;
use super::docker_env::DockerEnv;
use super::error::BuilderError;
use super::group::StoredNode;

pub mod config_tar;
pub mod container;
pub mod container_options;
mod cores;
pub mod docker;
mod in_container;
pub mod meter;
pub mod remote;

use container::Container;
use meter::ContainerMeter;
use remote::Remote;

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is nothing yet.
    Inactive,
    /// It answers, or at least runs.
    Running,
    /// It is there and can be started.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => "inactive",
            Self::Running => "running",
            Self::Stopped => "stopped",
        })
    }
}

/// A node with its driver.
#[derive(Debug)]
pub enum Driver {
    /// docker-container.
    Container(Box<Container>),
    /// remote.
    Remote(Box<Remote>),
    /// docker; the endpoint is a docker context.
    Docker {
        /// Where the engine is looked up.
        docker_env: Arc<DockerEnv>,
        /// The docker context.
        endpoint: String,
    },
    /// A driver that is known but not supported, such as kubernetes.
    NotSupported {
        /// The builder.
        builder: String,
        /// The driver.
        driver: String,
    },
}

impl Driver {
    /// Takes a node of a builder. Nothing is started or asked.
    ///
    /// # Errors
    ///
    /// Fails for a bad driver option.
    pub fn new(
        docker_env: &Arc<DockerEnv>,
        builder: &str,
        driver: &str,
        node: &StoredNode,
    ) -> Result<Self, BuilderError> {
        Ok(match driver {
            "docker-container" => Self::Container(Box::new(Container::new(
                Arc::clone(docker_env),
                builder,
                node.clone(),
            )?)),
            "remote" => Self::Remote(Box::new(Remote::new(docker_env, node)?)),
            "docker" => Self::Docker {
                docker_env: Arc::clone(docker_env),
                endpoint: node.endpoint.clone(),
            },
            _ => Self::NotSupported {
                builder: builder.to_owned(),
                driver: driver.to_owned(),
            },
        })
    }

    /// Returns whether a driver can be used here: others are listed only.
    pub fn is_supported(driver: &str) -> bool {
        matches!(driver, "docker" | "docker-container" | "remote")
    }

    fn not_supported(builder: &str, driver: &str) -> BuilderError {
        BuilderError::DriverNotSupported {
            name: builder.to_owned(),
            driver: driver.to_owned(),
        }
    }

    /// Asks for the state of the node. A remote node that cannot be connected to is inactive.
    ///
    /// # Errors
    ///
    /// Fails if the Docker engine cannot be asked, and by name for a driver that is not supported.
    pub async fn status(&self) -> Result<Status, BuilderError> {
        match self {
            Self::Container(container) => container.status().await,
            Self::Remote(remote) => match remote.dial().await {
                Ok(_) => Ok(Status::Running),
                Err(error) => {
                    let reason = crate::error::chain(&error);
                    tracing::debug!(reason, "a remote node is inactive");
                    Ok(Status::Inactive)
                }
            },
            Self::Docker {
                docker_env,
                endpoint,
            } => docker_env.engine(endpoint).await.map(|_| Status::Running),
            Self::NotSupported { builder, driver } => Err(Self::not_supported(builder, driver)),
        }
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made to.
    pub async fn boot(&self, sink: &BootSink<'_>) -> Result<(), BuilderError> {
        match self {
            Self::Container(container) => container.boot(sink).await,
            Self::Remote(remote) => remote.boot(sink).await,
            _ => self.dial().await.map(drop),
        }
    }

    /// Connects to the BuildKit of the node.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be reached; with [`BuilderError::NotRunning`] if it has to be booted.
    pub async fn dial(&self) -> Result<ByteStream, BuilderError> {
        match self {
            Self::Container(container) => container.dial().await,
            Self::Remote(remote) => remote.dial().await,
            Self::Docker {
                docker_env,
                endpoint,
            } => docker::dial(&docker_env.engine(endpoint).await?).await,
            Self::NotSupported { builder, driver } => Err(Self::not_supported(builder, driver)),
        }
    }

    /// Waits until a node that runs answers: another process may have started it a moment ago.
    ///
    /// # Errors
    ///
    /// Fails if it does not come up, or is no BuildKit.
    pub async fn ready(&self) -> Result<(), BuilderError> {
        match self {
            Self::Container(container) => container.ready().await,
            Self::Remote(remote) => remote.ready().await,
            _ => Ok(()),
        }
    }

    /// Says why a connection that was made does not speak BuildKit's protocol; `None` if the
    /// node seems well.
    pub async fn diagnose(&self) -> Option<BuilderError> {
        match self {
            Self::Container(container) => container.diagnose().await.err(),
            Self::Remote(remote) => remote.diagnose().await,
            Self::Docker { .. } | Self::NotSupported { .. } => None,
        }
    }

    /// Asks for the version in another way than by BuildKit's API.
    ///
    /// # Errors
    ///
    /// Fails if the Docker engine cannot be asked.
    pub async fn version(&self) -> Result<Option<String>, BuilderError> {
        match self {
            Self::Container(container) => container.version().await,
            _ => Ok(None),
        }
    }

    /// Returns what tells how busy the node is; `None` if nobody can.
    ///
    /// # Errors
    ///
    /// Fails if the Docker engine cannot be reached.
    pub async fn meter(&self) -> Result<Option<ContainerMeter>, BuilderError> {
        match self {
            Self::Container(container) => container.meter().await.map(Some),
            _ => Ok(None),
        }
    }

    /// Stops the node; only a container can be stopped.
    ///
    /// # Errors
    ///
    /// Fails if the Docker engine refuses it, and by name for a driver that is not supported.
    pub async fn stop(&self) -> Result<(), BuilderError> {
        match self {
            Self::Container(container) => container.stop().await,
            Self::Remote(_) | Self::Docker { .. } => Ok(()),
            Self::NotSupported { builder, driver } => Err(Self::not_supported(builder, driver)),
        }
    }

    /// Returns whether [`Self::stop`] must come before [`Self::remove`]: an orderly end takes a second, which
    /// nobody needs of what is thrown away.
    pub fn must_stop_before_removal(&self, keep_state: bool) -> bool {
        match self {
            Self::Container(container) => container.must_stop_before_removal(keep_state),
            // They say by themselves what cannot be stopped.
            Self::Remote(_) | Self::Docker { .. } | Self::NotSupported { .. } => true,
        }
    }

    /// Removes what belongs to the node; the state of a container is kept if asked for.
    ///
    /// # Errors
    ///
    /// Fails if the Docker engine refuses it, and by name for a driver that is not supported.
    pub async fn remove(&self, keep_state: bool) -> Result<(), BuilderError> {
        match self {
            Self::Container(container) => container.remove(keep_state).await,
            Self::Remote(_) | Self::Docker { .. } => Ok(()),
            Self::NotSupported { builder, driver } => Err(Self::not_supported(builder, driver)),
        }
    }

    /// Returns the name that requests to the node are addressed to, if it has one: a proxy may choose
    /// the BuildKit by it.
    pub fn authority(&self) -> Option<&str> {
        match self {
            Self::Remote(remote) => remote.authority(),
            Self::Container(_) | Self::Docker { .. } | Self::NotSupported { .. } => None,
        }
    }

    /// Returns the name of the node's container, if it is one.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Container(container) => Some(container.container()),
            Self::Remote(_) | Self::Docker { .. } | Self::NotSupported { .. } => None,
        }
    }
}
