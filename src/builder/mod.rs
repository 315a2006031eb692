//! Builder instances in the store shared with buildx, their drivers and how they are booted.
//!
//! | file | holds |
//! |---|---|
//! | [`store`], [`group`], [`refs`] | the files of the store and their JSON |
//! | [`mod@resolve`] | which builder is meant: by flag, variable, current choice or docker context |
//! | [`create`], [`buildkitd`], [`name`], [`platform`], [`text`] | the arguments of `create` |
//! | [`assign`] | which node builds which platform |
//! | [`driver`], [`boot`], [`gha`] | what a node is, and making it run |
//! | `verified` | images whose signature would have to be checked |
//! | [`reach`] | connecting to a node's BuildKit, also while it is coming up |
//! | [`load`] | asking all nodes for their state, for `ls` and `inspect` |
//! | [`docker_env`] | docker's configuration, contexts and the environment, passed in |

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

pub mod assign;
pub mod boot;
pub mod buildkitd;
pub mod create;
pub mod docker_env;
pub mod driver;
pub mod error;
pub mod gha;
pub mod group;
pub mod load;
mod marks;
pub mod name;
pub mod platform;
pub mod reach;
pub mod refs;
pub mod resolve;
pub mod store;
pub mod text;
mod verified;

pub use boot::{BootEvent, BootSink};
pub use docker_env::DockerEnv;
pub use driver::{Driver, Status};
pub use error::BuilderError;
pub use group::{NodeGroup, StoredNode};
pub use reach::{Absent, ReachError, Unanswered};
pub use refs::BuildRef;
pub use resolve::resolve;
pub use store::Store;

/// Anything that bytes go through both ways.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncReadWrite for T {}

/// A connection to a BuildKit daemon, on which its gRPC API is spoken.
pub type ByteStream = Box<dyn AsyncReadWrite>;

/// A builder whose nodes can be booted and connected to.
#[derive(Debug)]
pub struct Builder {
    docker_env: Arc<DockerEnv>,
    name: String,
    driver: String,
    nodes: Vec<Node>,
}

/// A node of a [`Builder`].
#[derive(Debug)]
pub struct Node {
    stored: StoredNode,
    driver: Driver,
}

impl Builder {
    /// Takes a builder of the store. Nothing is started or asked.
    ///
    /// # Errors
    ///
    /// Fails for a node with a bad driver option.
    pub fn new(docker_env: &Arc<DockerEnv>, group: NodeGroup) -> Result<Self, BuilderError> {
        let nodes = group.nodes.into_iter().map(|stored| {
            let driver = Driver::new(docker_env, &group.name, &group.driver, &stored)?;
            Ok(Node { stored, driver })
        });
        Ok(Self {
            docker_env: Arc::clone(docker_env),
            nodes: nodes.collect::<Result<_, BuilderError>>()?,
            name: group.name,
            driver: group.driver,
        })
    }

    /// Returns the name as it is in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Returns the nodes, at least one in a builder from the store.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the store that the builder is in.
    pub fn store(&self) -> &Store {
        self.docker_env.store()
    }

    /// Starts every node that does not run, all at the same time. Returns true if there was one.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first node that cannot be booted, after all have been tried.
    pub async fn boot(
        &self,
        progress: &mut (dyn FnMut(BootEvent) + Send),
    ) -> Result<bool, BuilderError> {
        let sink = BootSink::new(progress);
        let boots = self.nodes.iter().map(|node| async {
            if node.driver.status().await? == Status::Running {
                match node.driver.ready().await {
                    // It has ended since.
                    Err(BuilderError::NotRunning { .. }) => {}
                    ready => return ready.map(|()| false),
                }
            }
            node.driver.boot(&sink).await.map(|()| true)
        });
        let mut any = false;
        for booted in futures_util::future::join_all(boots).await {
            any |= booted?;
        }
        Ok(any)
    }
}

impl Node {
    /// Returns the name; the container is `buildx_buildkit_<name>`.
    pub fn name(&self) -> &str {
        &self.stored.name
    }

    /// Returns the node as it is in the store.
    pub fn stored(&self) -> &StoredNode {
        &self.stored
    }

    /// Returns the driver.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Connects to the node's BuildKit and speaks to it; see [`Driver::reach`].
    ///
    /// # Errors
    ///
    /// Fails if the node can be neither reached nor booted, or with what was said at last.
    pub async fn reach<T, E, Said>(
        &self,
        absent: Absent,
        progress: &mut (dyn FnMut(BootEvent) + Send),
        speak: impl Fn(ByteStream) -> Said,
    ) -> Result<T, ReachError<E>>
    where
        E: Unanswered,
        Said: Future<Output = Result<T, E>>,
    {
        let sink = BootSink::new(progress);
        let reached = self.driver.reach(self.name(), absent, &sink, speak);
        reached.await
    }
}
