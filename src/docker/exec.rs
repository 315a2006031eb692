//! A process in a running container, with its standard input and output as a byte stream.

use std::time::Duration;

use bollard::exec::CreateExecOptions;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::demux::{Demux, Tail};
use super::engine::{Engine, EngineError};
use super::hijack::UpgradedStream;

/// The daemon closes the stream a moment before it knows the exit code.
const EXIT_CODE_TRIES: u32 = 100;
const EXIT_CODE_PAUSE: Duration = Duration::from_millis(20);

/// How much output [`Engine::exec_output`] takes, in bytes.
const MAX_OUTPUT: u64 = 1024 * 1024;

/// Standard input (write) and standard output (read) of a process in a container.
///
/// Shutting it down closes standard input. Dropping it closes the connection, which a process that
/// reads its standard input takes as the end; docker itself kills nothing.
pub type ExecStream = Demux<UpgradedStream>;

/// What is known of a process beside its stream, also when that has ended.
pub struct ExecHandle {
    engine: Engine,
    id: String,
    stderr: Tail,
}

/// What a short command printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// The end of standard error, trimmed.
    pub stderr: String,
    /// Exit code; `None` if the daemon did not report it.
    pub exit_code: Option<i64>,
}

impl Engine {
    /// Starts a process in a running container, without a terminal, and connects to it.
    ///
    /// `env` holds `NAME=value` texts; `user` is docker's `user[:group]`.
    ///
    /// # Errors
    ///
    /// Fails if the container is not there or not running. A program that is not there is known
    /// only from [`ExecHandle::stderr`] and the exit code.
    pub async fn exec_stdio(
        &self,
        container: &str,
        command: &[&str],
        env: &[String],
        user: Option<&str>,
    ) -> Result<(ExecStream, ExecHandle), EngineError> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            cmd: Some(command.iter().map(|&text| text.to_owned()).collect()),
            env: (!env.is_empty()).then(|| env.to_vec()),
            user: user.map(str::to_owned),
            ..CreateExecOptions::default()
        };
        let id = self
            .api()
            .create_exec(container, options)
            .await
            .map_err(|error| {
                let program = command.first().copied().unwrap_or_default();
                self.error(format!("run {program} in container {container}"), error)
            })?
            .id;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from_static(br#"{"Detach":false,"Tty":false}"#);
        let upgraded = self
            .hijack(&format!("/exec/{id}/start"), "tcp", &headers, body)
            .await?;
        let stream = Demux::new(upgraded);
        let handle = ExecHandle {
            engine: self.clone(),
            id,
            stderr: stream.stderr(),
        };
        Ok((stream, handle))
    }

    /// Runs a command in a container to its end, with nothing on standard input.
    ///
    /// # Errors
    ///
    /// Fails as [`exec_stdio`](Self::exec_stdio), and where the stream breaks. A command that fails is
    /// no error here. Output beyond 1 MiB is cut off.
    pub async fn exec_output(
        &self,
        container: &str,
        command: &[&str],
    ) -> Result<ExecOutput, EngineError> {
        let (mut stream, handle) = self.exec_stdio(container, command, &[], None).await?;
        let mut stdout = Vec::new();
        let read = async {
            stream.shutdown().await?;
            (&mut stream)
                .take(MAX_OUTPUT)
                .read_to_end(&mut stdout)
                .await
        };
        read.await.map_err(|err| {
            self.error(
                format!("read the output of a command in container {container}"),
                bollard::errors::Error::IOError { err },
            )
        })?;
        Ok(ExecOutput {
            stdout,
            stderr: handle.stderr(),
            exit_code: handle.exit_code().await?,
        })
    }
}

impl ExecHandle {
    /// Returns the end of what the process wrote to standard error so far, trimmed.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Returns the exit code once the stream has ended, or `None` if the process still runs two
    /// seconds later.
    ///
    /// # Errors
    ///
    /// Fails if the daemon cannot be asked.
    pub async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        for _ in 0..EXIT_CODE_TRIES {
            let state = self
                .engine
                .api()
                .inspect_exec(&self.id)
                .await
                .map_err(|error| {
                    self.engine
                        .error("inspect the process in the container", error)
                })?;
            if state.running != Some(true)
                && let Some(code) = state.exit_code
            {
                return Ok(Some(code));
            }
            tokio::time::sleep(EXIT_CODE_PAUSE).await;
        }
        Ok(None)
    }
}
