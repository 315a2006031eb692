//! `moby.sshforward.v1.SSH`: SSH agents for `RUN --mount=type=ssh` and Git sources.
//!
//! Only listing keys and signing pass through to an agent, as in BuildKit
//! (`session/sshforward/sshprovider`): a build must not add, remove or lock keys.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::{Ssh, SshServer};
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use self::agent::Agent;
use self::key::Key;
pub use self::key::KeyError;
use super::MAX_MESSAGE;
use super::tasks::{Tasks, WorkStream};
use crate::platform::files::{self, Kind};
use crate::platform::sockets;

mod agent;
mod key;
mod wire;

pub(super) const METHODS: &[&str] = &[
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
];

/// The identifier of an agent that is named by no other.
pub const DEFAULT_ID: &str = "default";

/// Metadata key of the agent (BuildKit `session/sshforward`).
const KEY_ID: &str = "buildkit.ssh.id";
/// Longest key file that is read, as in BuildKit.
const MAX_KEY_FILE: u64 = 100 << 10;
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
    /// The file is not a usable key.
    #[error("cannot use the key {} for the SSH agent {id:?}", path.display())]
    KeyFile {
        /// Identifier of the agent.
        id: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// Sockets and keys do not go together, nor two sockets.
    #[error("the SSH agent {id:?} must be one socket, or only key files")]
    Mixed {
        /// Identifier of the agent.
        id: String,
    },
    /// A raw agent is not a socket.
    #[error("the raw SSH agent {id:?} must be exactly one socket")]
    Raw {
        /// Identifier of the agent.
        id: String,
    },
}

/// Where requests go.
#[derive(Debug, Clone)]
enum Source {
    Socket { path: PathBuf, raw: bool },
    Keys(Arc<[Key]>),
}

/// The agents of a build by identifier.
#[derive(Debug, Default)]
pub struct SshAgents {
    agents: HashMap<String, Source>,
}

impl SshAgents {
    /// Adds the agent that listens on a socket, or one with the private key in a file, with which this
    /// process then signs itself. An empty identifier is [`DEFAULT_ID`]. With `raw` all bytes pass
    /// through a socket unlooked at, for sockets that are no SSH agents.
    ///
    /// # Errors
    ///
    /// Fails if the identifier is taken, or the path is not there, or neither socket nor usable key.
    pub fn add(&mut self, id: &str, path: &Path, raw: bool) -> Result<(), SshError> {
        self.insert(id, &[path.to_owned()], raw)
    }

    /// Adds an agent with the private keys of several files.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_keys(&mut self, id: &str, paths: &[PathBuf]) -> Result<(), SshError> {
        self.insert(id, paths, false)
    }

    fn insert(&mut self, id: &str, paths: &[PathBuf], raw: bool) -> Result<(), SshError> {
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        if self.agents.contains_key(id) {
            return Err(SshError::Duplicate { id: id.to_owned() });
        }
        let source = open(id, paths, raw)?;
        self.agents.insert(id.to_owned(), source);
        Ok(())
    }

    fn get(&self, id: &str) -> Result<&Source, Status> {
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        self.agents
            .get(id)
            .ok_or_else(|| Status::unknown(format!("unset ssh forward key {id}")))
    }
}

/// Looks at the paths of an agent.
fn open(id: &str, paths: &[PathBuf], raw: bool) -> Result<Source, SshError> {
    let mut keys = Vec::new();
    for path in paths {
        let failed = |source| SshError::Path {
            id: id.to_owned(),
            path: path.clone(),
            source,
        };
        let found = fs_err::metadata(path).map_err(failed)?;
        if files::kind(found.file_type()) == Kind::Socket {
            if paths.len() != 1 {
                return Err(SshError::Mixed { id: id.to_owned() });
            }
            let path = path.clone();
            return Ok(Source::Socket { path, raw });
        }
        let file = fs_err::File::open(path).map_err(failed)?;
        let mut text = Zeroizing::new(String::new());
        match file.take(MAX_KEY_FILE).read_to_string(&mut text) {
            Ok(_) => {}
            // Not UTF-8, so no PEM.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => text.clear(),
            Err(error) => return Err(failed(error)),
        }
        let key = Key::parse(&text).map_err(|source| SshError::KeyFile {
            id: id.to_owned(),
            path: path.clone(),
            source,
        })?;
        keys.push(key);
    }
    if raw || keys.is_empty() {
        return Err(SshError::Raw { id: id.to_owned() });
    }
    Ok(Source::Keys(keys.into()))
}

/// Creates the service.
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
        let source = self.agents.get(id)?.clone();
        let agent = match &source {
            Source::Keys(keys) => Agent::Keys(Arc::clone(keys)),
            Source::Socket { path, .. } => {
                Agent::Socket(sockets::connect(path).await.map_err(|error| {
                    Status::unknown(format!(
                        "cannot connect to the SSH agent at {}: {error}",
                        path.display()
                    ))
                })?)
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let requests = request.into_inner();
        let work = self.tasks.spawn(async move {
            match (agent, source) {
                (Agent::Socket(socket), Source::Socket { raw: true, .. }) => {
                    agent::copy(socket, requests, sender).await
                }
                (agent, _) => agent::serve(agent, requests, sender).await,
            }
        });
        Ok(Response::new(WorkStream::new(receiver, work).boxed()))
    }
}
