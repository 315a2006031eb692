//! The session that serves a build: which folders, secrets, agents, credentials and sinks it offers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::build::context::inputs::Inputs;
use crate::build::context::stdin::Stdin;
use crate::build::output::exporters::{Export, Sink};
use crate::build::output::load::{ImageLoader, LoadSink};
use crate::build::plan::SessionNames;
use crate::buildkit::session::Session;
use crate::buildkit::session::auth::Auth;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::session::file_send::{Exports, FileSink, Target, WriterSink};
use crate::buildkit::session::file_sync::{DirFailures, LocalDirs};
use crate::buildkit::session::secrets::{SecretError, SecretSource, Secrets};
use crate::buildkit::session::ssh::{SshAgents, SshError};
use crate::buildkit::session::upload::Uploads;
use crate::docker::token::Tokens;
use crate::env::{BUILDKIT_NO_CLIENT_TOKEN, Env, SSH_AUTH_SOCK};
use crate::options::boolean::parse_bool;
use crate::options::secret::{Secret, SecretSource as SecretOption};
use crate::options::ssh::Ssh;

/// What the session is made of besides the build's own inputs.
pub(super) struct SessionParts<'a> {
    /// Secrets of the build.
    pub secrets: &'a [Secret],
    /// SSH agents of the build.
    pub ssh: &'a [Ssh],
    /// Exporters in the order of their identifiers.
    pub exports: &'a [Export],
    /// Registry credentials, and the tokens got with them.
    pub tokens: Arc<Tokens>,
    /// Takes images that are loaded into an engine.
    pub loader: Arc<dyn ImageLoader>,
    /// Stores of blobs that the daemon writes caches to.
    pub stores: ContentStores,
    /// Folder of the docker config file, where the proof of identity towards the daemon is kept.
    pub config_dir: &'a Path,
    /// Where secrets of variables and the agent's socket come from.
    pub env: &'a Env,
}

/// A session ready to be announced, and where its sinks' failures are kept.
#[derive(Debug)]
pub(super) struct ReadySession {
    /// The session.
    pub session: Session,
    /// What takes the results, to be asked after the build.
    pub results: Exports,
    /// Failures to send local folders, to be read after the build.
    pub dir_failures: DirFailures,
    /// How a solve names it.
    pub names: SessionNames,
}

/// Why a session cannot be made.
#[derive(Debug, Error)]
pub enum SessionSetupError {
    /// A secret cannot be offered.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is neither variable nor file for a secret that names no source.
    #[error("the environment variable {id} is not set")]
    NoSource {
        /// Identifier of the secret, which is the name of both.
        id: String,
        /// Why there is no file.
        #[source]
        source: SecretError,
    },
    /// An SSH agent cannot be offered.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// `--ssh default` without an agent.
    #[error("--ssh {0} needs an SSH agent, and SSH_AUTH_SOCK is not set")]
    NoAgent(String),
}

/// Creates the session. `upload` is a context that comes by standard input.
///
/// # Errors
///
/// Fails if a secret or an agent that was named is not there.
pub(super) fn prepare(
    inputs: &Inputs,
    upload: Option<Stdin>,
    parts: &SessionParts<'_>,
) -> Result<ReadySession, SessionSetupError> {
    let mut builder = Session::builder()
        .shared_key(&inputs.shared_key)
        .auth(auth(parts))
        .secrets(secrets(parts.secrets, parts.env)?)
        .ssh(agents(parts.ssh, parts.env)?);
    let mut dirs = LocalDirs::default();
    let dir_failures = dirs.failures();
    if !inputs.local_dirs.is_empty() {
        let folders = inputs.folders();
        dirs.set_attributes(folders.attributes);
        for (name, dir) in folders.by_name {
            dirs.add(name, dir);
        }
        builder = builder.file_sync(dirs);
    }
    let mut upload_url = None;
    if let Some(stdin) = upload {
        let uploads = Uploads::default();
        upload_url = Some(uploads.add(stdin.into_async()));
        builder = builder.upload(uploads);
    }
    // Stores may be added while the build runs.
    builder = builder.content(parts.stores.clone());
    let results = targets(parts.exports, &parts.loader);
    if !results.is_empty() {
        builder = builder.exports(results.clone());
    }
    let session = builder.build();
    Ok(ReadySession {
        names: SessionNames {
            id: session.id().to_owned(),
            upload_url,
        },
        session,
        results,
        dir_failures,
    })
}

fn auth(parts: &SessionParts<'_>) -> Auth {
    let refused = parts.env.get(BUILDKIT_NO_CLIENT_TOKEN).and_then(parse_bool);
    Auth::new(Arc::clone(&parts.tokens))
        .seed_folder(parts.config_dir)
        .client_tokens(refused != Some(true))
}

fn targets(list: &[Export], loader: &Arc<dyn ImageLoader>) -> Exports {
    let mut exports = Exports::default();
    for (id, export) in list.iter().enumerate() {
        let target = match &export.sink {
            // A layout folder is written through a content store.
            Sink::None | Sink::Layout(_) => continue,
            Sink::File(path) => Target::Stream(Arc::new(FileSink::new(path))),
            Sink::Stdout => Target::Stream(Arc::new(WriterSink::new(tokio::io::stdout()))),
            Sink::Folder { path, delete } => Target::Directory {
                dest: path.clone(),
                delete: *delete,
            },
            Sink::Load { context } => {
                Target::Stream(Arc::new(LoadSink::new(context.clone(), Arc::clone(loader))))
            }
        };
        exports.add(id, target);
    }
    exports
}

fn secrets(options: &[Secret], env: &Env) -> Result<Secrets, SessionSetupError> {
    let mut secrets = Secrets::default();
    for secret in options {
        let value = |bytes: &[u8]| SecretSource::Value(Zeroizing::new(bytes.to_vec()));
        let file = |path: &Path| SecretSource::File(env.current_dir().join(path));
        let id = &secret.id;
        match &secret.source {
            SecretOption::File(path) => secrets.add(id, file(path))?,
            // A variable that is not set is an empty secret, as in buildx.
            SecretOption::Env(name) => {
                secrets.add(id, value(env.bytes(name).unwrap_or_default()))?;
            }
            // As buildx: a variable of the secret's name, else a file of that name.
            SecretOption::Auto => match env.bytes(id) {
                Some(bytes) => secrets.add(id, value(bytes))?,
                None => secrets.add(id, file(Path::new(id))).map_err(|source| {
                    let id = id.clone();
                    SessionSetupError::NoSource { id, source }
                })?,
            },
        }
    }
    Ok(secrets)
}

fn agents(options: &[Ssh], env: &Env) -> Result<SshAgents, SessionSetupError> {
    let mut agents = SshAgents::default();
    for ssh in options {
        match ssh.paths.as_slice() {
            [] => {
                let socket = env
                    .path(SSH_AUTH_SOCK)
                    .ok_or_else(|| SessionSetupError::NoAgent(ssh.id.clone()))?;
                agents.add(&ssh.id, socket, false)?;
            }
            paths => {
                let paths: Vec<PathBuf> = paths
                    .iter()
                    .map(|path| env.current_dir().join(path))
                    .collect();
                agents.add_keys(&ssh.id, &paths)?;
            }
        }
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(dir: &Path) -> Env {
        Env::from_pairs([("TOKEN", "s3cret")], dir)
    }

    #[test]
    fn secrets_come_from_variables_and_files() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("file"), "x").unwrap();
        let parse = |values: &[&str]| Secret::parse_list(values).unwrap();
        let env = env(dir.path());
        assert!(
            secrets(
                &parse(&["id=a,env=TOKEN", "id=b,src=file", "id=TOKEN"]),
                &env
            )
            .is_ok()
        );
        assert!(secrets(&parse(&["id=a,env=NOPE"]), &env).is_ok());
        let error = secrets(&parse(&["id=NOPE"]), &env).unwrap_err();
        let text = crate::error::chain(&error);
        let expected =
            "the environment variable NOPE is not set: cannot read secret \"NOPE\" from ";
        assert!(text.starts_with(expected), "{text}");
        assert!(matches!(
            secrets(&parse(&["id=a,src=nope"]), &env),
            Err(SessionSetupError::Secret(_))
        ));
    }

    #[test]
    fn an_agent_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let parse = |values: &[&str]| Ssh::parse_list(values).unwrap();
        assert!(matches!(
            agents(&parse(&["default"]), &env(dir.path())),
            Err(SessionSetupError::NoAgent(_))
        ));
        let socket = dir.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let with = Env::from_pairs([(SSH_AUTH_SOCK, socket.to_str().unwrap())], dir.path());
        assert!(agents(&parse(&["default"]), &with).is_ok());
        assert!(agents(&parse(&["x=agent"]), &with).is_ok());
        fs_err::write(dir.path().join("key"), "").unwrap();
        assert!(matches!(
            agents(&parse(&["x=key"]), &with),
            Err(SessionSetupError::Ssh(_))
        ));
    }
}
