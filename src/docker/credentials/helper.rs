//! Credential helpers: the program `docker-credential-NAME`, asked on its standard input.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use zeroize::Zeroizing;

use super::Credential;
use crate::child;
use crate::docker::go_json;
use crate::docker::secret::Secret;

/// A helper may ask the user to unlock a key, so it gets some time.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// How every helper says that it knows nothing (docker-credential-helpers).
const NOT_FOUND: &str = "credentials not found";

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The name in the configuration is not one.
    #[error("{name:?} is not the name of a credential helper")]
    Name {
        /// The name.
        name: String,
    },
    /// The program is not installed.
    #[error("the credential helper {program} is not installed")]
    Missing {
        /// The program.
        program: String,
    },
    /// The program cannot be run or its pipes broke.
    #[error("cannot run the credential helper {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("the credential helper {program} failed: {message}")]
    Failed {
        /// The program.
        program: String,
        /// Its last words on standard error. Standard output is where secrets come.
        message: String,
    },
    /// The program did not end.
    #[error("the credential helper {program} did not answer within {} seconds", TIMEOUT.as_secs())]
    Timeout {
        /// The program.
        program: String,
    },
    /// The answer is not what a helper prints.
    #[error("the credential helper {program} gave an answer that cannot be understood")]
    Answer {
        /// The program.
        program: String,
    },
}

impl HelperError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Name { .. } => {
                "correct credsStore or credHelpers in the docker configuration file".to_owned()
            }
            Self::Missing { program } => format!(
                "install {program}, or take it out of credsStore or credHelpers in the docker configuration file"
            ),
            Self::Run { program, .. }
            | Self::Failed { program, .. }
            | Self::Timeout { program }
            | Self::Answer { program } => {
                format!("try it: echo REGISTRY | {program} get")
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: Secret,
}

/// Asks the helper `name` for the credentials of `key`.
pub(super) async fn get(
    name: &str,
    key: &str,
    path: Option<&Path>,
) -> Result<Credential, HelperError> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(valid) {
        return Err(HelperError::Name {
            name: name.to_owned(),
        });
    }
    let program = format!("docker-credential-{name}");
    let mut command = child::command(&program);
    command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => HelperError::Missing {
            program: program.clone(),
        },
        _ => HelperError::Run {
            program: program.clone(),
            source,
        },
    })?;
    let talk = tokio::time::timeout(TIMEOUT, talk(&mut child, key)).await;
    let (success, stdout, stderr) = match talk {
        Err(_) => return Err(HelperError::Timeout { program }),
        Ok(Err(source)) => return Err(HelperError::Run { program, source }),
        Ok(Ok(output)) => output,
    };
    if success {
        return parse(&stdout).ok_or(HelperError::Answer { program });
    }
    let stderr = String::from_utf8_lossy(&stderr);
    if String::from_utf8_lossy(&stdout).contains(NOT_FOUND) || stderr.contains(NOT_FOUND) {
        return Ok(Credential::Anonymous);
    }
    let message = match stderr.trim() {
        "" => "it says nothing on standard error".to_owned(),
        said => said.chars().take(1000).collect(),
    };
    Err(HelperError::Failed { program, message })
}

type Output = (bool, Zeroizing<Vec<u8>>, Vec<u8>);

async fn talk(child: &mut Child, key: &str) -> io::Result<Output> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let ask = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input is judged by its answer.
            match stdin.write_all(key.as_bytes()).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(stdin),
            }
        }
        Ok(())
    };
    let mut out = Zeroizing::new(Vec::new());
    let mut err = Vec::new();
    let read_out = async {
        match stdout {
            Some(pipe) => pipe.take(MAX_ANSWER).read_to_end(&mut out).await,
            None => Ok(0),
        }
    };
    let read_err = async {
        match stderr {
            Some(pipe) => pipe.take(MAX_ANSWER).read_to_end(&mut err).await,
            None => Ok(0),
        }
    };
    tokio::try_join!(ask, read_out, read_err)?;
    let status = child.wait().await?;
    Ok((status.success(), out, err))
}

fn parse(answer: &[u8]) -> Option<Credential> {
    let answer: Answer = go_json::from_slice(answer).ok()?;
    Some(if answer.username == TOKEN_USER {
        Credential::IdentityToken(answer.secret)
    } else if answer.username.is_empty() && answer.secret.is_empty() {
        Credential::Anonymous
    } else {
        Credential::Basic {
            username: answer.username,
            password: answer.secret,
        }
    })
}
