//! A container that the builder runs for this program, with one cache mount in it (BuildKit `frontend/gateway`,
//! `NewContainer` and `ExecProcess`).
//!
//! It belongs to an internal build of its own, and ends with it at the latest: also if this side goes away.

use std::collections::VecDeque;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::exec_message::Input;
use bollard_buildkit_proto::pb::{CacheOpt, Definition, Meta, Mount, MountType, NetMode, Platform};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::ask::ask;
use super::client::{Client, GatewayClient};
use super::error::RpcError;
use super::read_file::is_missing;
use super::solve::parts;

/// What runs scripts.
const SHELL: &str = "/bin/sh";
/// The error of a container whose image has no shell.
pub const NO_SHELL: &str = "the image has no /bin/sh";
/// Messages to the process that wait to be sent.
const QUEUE: usize = 4;
/// Bytes that are sent to a process at a time: more than a message may have would end the connection.
pub const PIECE: usize = 128 << 10;
/// What is kept of what a process says on standard error, in bytes.
const ERRORS: usize = 4096;
/// How long a container may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// The code of a process that did not come to run, or whose code is not known.
const UNKNOWN: u32 = 255;

/// The container that is wanted.
#[derive(Debug, Clone)]
pub struct Container {
    /// Identifier of the container, which is in the description of a mount that it makes.
    pub id: String,
    /// Identifier of a session that serves the definitions.
    pub session: String,
    /// Its root file system.
    pub root: Definition,
    /// For which platform.
    pub platform: Option<Platform>,
    /// The cache mount.
    pub mount: CacheOpt,
    /// Where it is mounted.
    pub dest: String,
    /// What a new one begins with, and which folder of that.
    pub base: Option<(Definition, String)>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Process {
    input: Stdin,
    output: Streaming<gateway::ExecMessage>,
    errors: VecDeque<u8>,
    /// The code that it has ended with.
    code: Option<u32>,
    /// All its output has come.
    is_silent: bool,
}

impl Container {
    /// Runs a shell script as the container's only process, and lets `work` talk to it. The container is removed when that
    /// returns. Dropping the future removes it, too.
    ///
    /// # Errors
    ///
    /// Fails if the builder cannot make the container, with its error or that of `work`.
    pub async fn run<T>(
        &self,
        client: &Client,
        script: &str,
        work: impl AsyncFnOnce(Process) -> Result<T, Status>,
    ) -> Result<T, RpcError> {
        ask(client, self.solve(), drop, async |mut gateway| {
            self.make(&mut gateway).await?;
            let process = self.start(&mut gateway, script).await?;
            let done = work(process).await;
            self.remove(&mut gateway).await;
            done
        })
        .await
    }

    /// Makes the container and removes it again, without a process: the builder counts how often the mount was opened.
    ///
    /// # Errors
    ///
    /// Fails if the builder cannot make the container.
    pub async fn open(&self, client: &Client) -> Result<(), RpcError> {
        let opened = ask(client, self.solve(), drop, async |mut gateway| {
            self.make(&mut gateway).await?;
            self.remove(&mut gateway).await;
            Ok::<(), Status>(())
        });
        Box::pin(opened).await
    }

    /// The internal build that the container belongs to.
    fn solve(&self) -> control::SolveRequest {
        control::SolveRequest {
            r#ref: super::new_id(),
            session: self.session.clone(),
            internal: true,
            cache: Some(control::CacheOptions::default()),
            ..Default::default()
        }
    }

    async fn make(&self, gateway: &mut GatewayClient) -> Result<(), Status> {
        let request = self.request(gateway).await?;
        let made = tokio::time::timeout(PATIENCE, gateway.new_container(request)).await;
        made.map_err(|_| Status::deadline_exceeded("the mount is used by another build"))??;
        Ok(())
    }

    async fn remove(&self, gateway: &mut GatewayClient) {
        let release = gateway::ReleaseContainerRequest {
            container_id: self.id.clone(),
        };
        // A process that has not ended is killed, and that is an error.
        if let Err(status) = gateway.release_container(release).await {
            tracing::debug!(error = %status, "the container ended with an error");
        }
    }

    /// Solves what the container is made of.
    async fn request(
        &self,
        gateway: &mut GatewayClient,
    ) -> Result<gateway::NewContainerRequest, Status> {
        let root = Mount {
            dest: "/".to_owned(),
            result_id: solved(gateway, &self.root).await?,
            ..Mount::default()
        };
        look_for_shell(gateway, &root.result_id).await?;
        let mut mount = Mount {
            dest: self.dest.clone(),
            mount_type: MountType::Cache.into(),
            cache_opt: Some(self.mount.clone()),
            ..Mount::default()
        };
        if let Some((base, selector)) = &self.base {
            mount.result_id = solved(gateway, base).await?;
            mount.selector.clone_from(selector);
        }
        Ok(gateway::NewContainerRequest {
            container_id: self.id.clone(),
            mounts: vec![root, mount],
            network: NetMode::None.into(),
            platform: self.platform.clone(),
            ..Default::default()
        })
    }

    async fn start(&self, gateway: &mut GatewayClient, script: &str) -> Result<Process, Status> {
        let args = [SHELL, "-c", script].map(str::to_owned);
        let begin = gateway::InitMessage {
            container_id: self.id.clone(),
            meta: Some(Meta {
                args: args.into(),
                env: vec!["LC_ALL=C".to_owned()],
                cwd: "/".to_owned(),
                ..Meta::default()
            }),
            fds: vec![0, 1, 2],
            ..Default::default()
        };
        let (input, messages) = mpsc::channel(QUEUE);
        let input = Stdin {
            id: super::new_id(),
            messages: input,
        };
        input.send(Input::Init(begin)).await?;
        let output = gateway.exec_process(ReceiverStream::new(messages)).await?;
        Ok(Process {
            input,
            output: output.into_inner(),
            errors: VecDeque::new(),
            code: None,
            is_silent: false,
        })
    }
}

/// The standard input of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct Stdin {
    id: String,
    messages: mpsc::Sender<gateway::ExecMessage>,
}

impl Stdin {
    async fn send(&self, input: Input) -> Result<(), Status> {
        let message = gateway::ExecMessage {
            process_id: self.id.clone(),
            input: Some(input),
        };
        let sent = self.messages.send(message).await;
        sent.map_err(|_| Status::aborted("the process takes no input any more"))
    }

    /// Writes a piece to it, at most [`PIECE`] bytes.
    ///
    /// # Errors
    ///
    /// Fails if the call has ended.
    pub async fn write(&self, data: Vec<u8>) -> Result<(), Status> {
        let file = gateway::FdMessage {
            data,
            ..Default::default()
        };
        self.send(Input::File(file)).await
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// Fails if the call has ended.
    pub async fn close(&self) -> Result<(), Status> {
        let end = gateway::FdMessage {
            eof: true,
            ..Default::default()
        };
        self.send(Input::File(end)).await
    }
}

/// What a process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Bytes on standard output.
    Output(Vec<u8>),
    /// It has ended with this code, and says nothing any more.
    Ended(u32),
}

impl Process {
    /// Waits for what it says first, within bounds.
    ///
    /// # Errors
    ///
    /// Fails as [`next`](Self::next) does, and if it says nothing.
    pub async fn first(&mut self) -> Result<Said, Status> {
        let said = tokio::time::timeout(PATIENCE, self.next()).await;
        said.map_err(|_| Status::deadline_exceeded("the process says nothing"))?
    }

    /// Waits for what it says next. What it says on standard error is [kept](Self::errors).
    ///
    /// # Errors
    ///
    /// Fails if the builder cannot run it, or the connection breaks.
    pub async fn next(&mut self) -> Result<Said, Status> {
        loop {
            // The end of its output may be told before its code, or after it.
            if let Some(code) = self.code.filter(|_| self.is_silent) {
                return Ok(Said::Ended(code));
            }
            let message = self.output.message().await?;
            let message = message.ok_or_else(|| Status::aborted("the process has no end"))?;
            match message.input {
                Some(Input::File(file)) if file.fd == 1 && !file.data.is_empty() => {
                    return Ok(Said::Output(file.data));
                }
                Some(Input::File(file)) if file.fd == 2 => {
                    self.errors.extend(file.data);
                    let more = self.errors.len().saturating_sub(ERRORS);
                    self.errors.drain(..more);
                }
                Some(Input::Exit(exit)) => {
                    let is_own = (1..UNKNOWN).contains(&exit.code);
                    if let Some(error) = exit.error.filter(|_| !is_own) {
                        return Err(Status::unknown(error.message));
                    }
                    self.code = Some(exit.code);
                }
                Some(Input::Done(_)) => self.is_silent = true,
                _ => {}
            }
        }
    }

    /// Returns its standard input. The builder waits for the end of that before it tells how the process ended.
    pub fn stdin(&self) -> Stdin {
        self.input.clone()
    }

    /// Returns the end of what it has said on standard error.
    pub fn errors(&self) -> String {
        let (first, second) = self.errors.as_slices();
        let text = [first, second].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

/// Fails if a root file system has no shell. A process that cannot begin would end only with its standard input.
async fn look_for_shell(gateway: &mut GatewayClient, root: &str) -> Result<(), Status> {
    let request = gateway::StatFileRequest {
        r#ref: root.to_owned(),
        path: SHELL.to_owned(),
        ..Default::default()
    };
    match gateway.stat_file(request).await {
        Err(status) if is_missing(&status) => Err(Status::not_found(NO_SHELL)),
        // A builder that cannot tell finds out.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Solves a definition, and returns the identifier of its result.
async fn solved(gateway: &mut GatewayClient, definition: &Definition) -> Result<String, Status> {
    let request = gateway::SolveRequest {
        definition: Some(definition.clone()),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..Default::default()
    };
    let result = gateway.solve(request).await?.into_inner().result;
    let result = result.unwrap_or_default();
    let id = parts(&result).first().map(|(_, part)| part.id.clone());
    id.filter(|id| !id.is_empty())
        .ok_or_else(|| Status::not_found("it has no files"))
}
