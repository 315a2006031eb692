//! `moby.sshforward.v1.SSH`: SSH agents for `RUN --mount=type=ssh` and Git sources.
//!
//! Only listing keys and signing pass through to an agent, as in BuildKit
//! (`session/sshforward/sshprovider`): a build must not add, remove or lock keys.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::{Ssh, SshServer};
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::MAX_MESSAGE;
use super::tasks::{Tasks, WorkStream};

mod agent;

pub(super) const METHODS: &[&str] = &[
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
];

/// The identifier of an agent that is named by no other.
pub const DEFAULT_ID: &str = "default";

/// Metadata key of the agent (BuildKit `session/sshforward`).
const KEY_ID: &str = "buildkit.ssh.id";
/// Messages that wait for the connection.
const QUEUE: usize = 8;

/// Why an agent cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Two agents have one identifier.
    #[error("there are two SSH agents with the id {id:?}")]
    Duplicate {
        /// The identifier.
        id: String,
    },
    /// The socket cannot be looked at.
    #[error("cannot use the SSH agent {id:?} at {}", path.display())]
    Path {
        /// Identifier of the agent.
        id: String,
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The path is a file, so a key.
    #[error(
        "cannot use {} for the SSH agent {id:?}: it is no socket of an agent, and key files are not \
         supported; add the key to an agent with ssh-add and pass the agent's socket",
        path.display()
    )]
    KeyFile {
        /// Identifier of the agent.
        id: String,
        /// The file.
        path: PathBuf,
    },
}

/// An agent of the machine.
#[derive(Debug, Clone)]
struct Agent {
    socket: PathBuf,
    raw: bool,
}

/// The agents of a build by identifier.
#[derive(Debug, Default)]
pub struct SshAgents {
    agents: HashMap<String, Agent>,
}

impl SshAgents {
    /// Adds the agent that listens on a socket. An empty identifier is [`DEFAULT_ID`]. With `raw`
    /// all bytes pass through unlooked at, for sockets that are no SSH agents.
    ///
    /// # Errors
    ///
    /// Fails where the identifier is taken, or the path is not there or no socket.
    pub fn add(&mut self, id: &str, socket: &Path, raw: bool) -> Result<(), SshError> {
        use std::os::unix::fs::FileTypeExt as _;

        let id = if id.is_empty() { DEFAULT_ID } else { id };
        if self.agents.contains_key(id) {
            return Err(SshError::Duplicate { id: id.to_owned() });
        }
        let meta = fs_err::metadata(socket).map_err(|source| SshError::Path {
            id: id.to_owned(),
            path: socket.to_owned(),
            source,
        })?;
        if !meta.file_type().is_socket() {
            return Err(SshError::KeyFile {
                id: id.to_owned(),
                path: socket.to_owned(),
            });
        }
        let agent = Agent {
            socket: socket.to_owned(),
            raw,
        };
        self.agents.insert(id.to_owned(), agent);
        Ok(())
    }

    /// Tells whether there are no agents.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    fn get(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        self.agents
            .get(id)
            .ok_or_else(|| Status::unknown(format!("unset ssh forward key {id}")))
    }
}

/// Makes the service.
pub(super) fn service(agents: SshAgents, tasks: Tasks) -> SshServer<SshService> {
    SshServer::new(SshService { agents, tasks }).max_decoding_message_size(MAX_MESSAGE)
}

#[derive(Debug)]
pub(super) struct SshService {
    agents: SshAgents,
    tasks: Tasks,
}

#[tonic::async_trait]
impl Ssh for SshService {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.agents.get(&request.get_ref().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream =
        futures_util::stream::BoxStream<'static, Result<BytesMessage, Status>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(KEY_ID);
        let id = id.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = self.agents.get(id)?;
        let socket = UnixStream::connect(&agent.socket).await.map_err(|error| {
            Status::unknown(format!(
                "cannot connect to the SSH agent at {}: {error}",
                agent.socket.display()
            ))
        })?;
        let raw = agent.raw;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let requests = request.into_inner();
        let work = self.tasks.spawn(async move {
            if raw {
                agent::copy(socket, requests, sender).await
            } else {
                agent::filter(socket, requests, sender).await
            }
        });
        Ok(Response::new(WorkStream::new(receiver, work).boxed()))
    }
}
