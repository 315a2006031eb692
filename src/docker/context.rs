//! Docker contexts: which daemon to talk to, and with which TLS files.
//!
//! The order of choice is that of docker/cli: `--context`, `-H`, `DOCKER_HOST`, `DOCKER_CONTEXT`,
//! `currentContext` of the configuration file, the default context.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::config::{ConfigFile, is_missing};
use super::host::{self, HostError};
use super::{go_json, settings};
use crate::env::{DOCKER_CERT_PATH, DOCKER_CONTEXT, DOCKER_HOST, DOCKER_TLS_VERIFY, Env};

/// Name of the context that is made of flags and variables.
pub const DEFAULT_CONTEXT: &str = "default";

/// Set to anything but nothing: TLS to `DOCKER_HOST`, without verification.
const DOCKER_TLS: &str = "DOCKER_TLS";

/// Why no endpoint can be found.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// `--host` and `--context` together.
    #[error("conflicting options: cannot specify both --host and --context")]
    HostAndContext,
    /// More than one `--host`.
    #[error("specify only one -H")]
    ManyHosts,
    /// The address is wrong.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No such context.
    #[error("docker context {name:?} not found")]
    NotFound {
        /// The name.
        name: String,
    },
    /// Neither a context nor an address.
    #[error("{name:?} is neither a docker context nor the address of a Docker daemon")]
    NeitherContextNorHost {
        /// The text as given.
        name: String,
    },
    /// The context has no Docker endpoint, for example one made for Kubernetes only.
    #[error("docker context {name:?} has no Docker endpoint")]
    NoEndpoint {
        /// The name.
        name: String,
    },
    /// A file of the context store cannot be read.
    #[error("cannot read {} of the docker contexts", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A meta file is broken.
    #[error("the docker context file {} is broken", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl ContextError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } | Self::NeitherContextNorHost { .. } => {
                Some("\"docker context ls\" lists the contexts")
            }
            Self::Host(_) => Some("for example unix:///var/run/docker.sock or tcp://HOST:2376"),
            Self::Parse { .. } => {
                Some("remove the context with \"docker context rm\" and create it again")
            }
            Self::NoEndpoint { .. } => {
                Some("choose a context with a Docker endpoint: \"docker context use default\"")
            }
            Self::Read { .. } => Some("check the permissions of the file"),
            Self::HostAndContext | Self::ManyHosts => None,
        }
    }
}

/// Files for TLS to a daemon, PEM each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that are trusted; without it those of the system.
    pub ca: Option<PathBuf>,
    /// Certificate shown to the daemon.
    pub cert: Option<PathBuf>,
    /// Key of that certificate.
    pub key: Option<PathBuf>,
}

/// A daemon and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address: `unix://PATH`, `tcp://HOST:PORT` or `ssh://[USER@]HOST[:PORT]`.
    pub host: String,
    /// TLS files; with a `unix://` or `ssh://` address they are not used.
    pub tls: Option<TlsFiles>,
    /// TLS without checking the certificate of the daemon.
    pub skip_verify: bool,
    /// Name of the context, or the address where there is no context.
    pub context_name: String,
}

impl Endpoint {
    /// Returns whether the daemon is reached over a socket of this machine.
    pub fn is_local(&self) -> bool {
        let local = ["unix://", "npipe://", "fd://"];
        local.iter().any(|scheme| self.host.starts_with(scheme))
    }

    /// Returns the path of the daemon's socket, if it is reached by one that is a file.
    pub fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }
}

/// The flags that choose a daemon.
#[derive(Debug, Clone, Default)]
pub struct EndpointOptions {
    /// `--context`.
    pub context: Option<String>,
    /// `--host`, at most one.
    pub hosts: Vec<String>,
    /// `--tls`.
    pub tls: bool,
    /// `--tlsverify`: given at all it switches TLS on; false means no verification.
    pub tls_verify: Option<bool>,
    /// `--tlscacert`.
    pub tls_ca_cert: Option<PathBuf>,
    /// `--tlscert`.
    pub tls_cert: Option<PathBuf>,
    /// `--tlskey`.
    pub tls_key: Option<PathBuf>,
}

/// The context store, the default context and the choice between them.
#[derive(Debug, Clone)]
pub struct Contexts {
    dir: PathBuf,
    current: String,
    default: Endpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoints: BTreeMap<String, MetaEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetaEndpoint {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

impl Contexts {
    /// Takes the flags, the environment and the configuration together.
    ///
    /// `config_dir` is the folder of the configuration file, `cert_dir` the folder where TLS files are
    /// looked for without a flag or `DOCKER_CERT_PATH` (docker/cli: the configuration folder that it
    /// would use without `--config`).
    ///
    /// # Errors
    ///
    /// Fails on flags that exclude each other and on an address that is wrong.
    pub fn new(
        config_dir: &Path,
        cert_dir: &Path,
        config: &ConfigFile,
        options: &EndpointOptions,
        env: &Env,
    ) -> Result<Self, ContextError> {
        let context = options.context.as_deref().filter(|c| !c.is_empty());
        if context.is_some() && !options.hosts.is_empty() {
            return Err(ContextError::HostAndContext);
        }
        if options.hosts.len() > 1 {
            return Err(ContextError::ManyHosts);
        }
        Ok(Self {
            dir: config_dir.join("contexts"),
            current: current_name(context, options, config, env),
            default: default_endpoint(cert_dir, options, env)?,
        })
    }

    /// Returns the name of the chosen context. Whether it exists is not checked.
    pub fn current_name(&self) -> &str {
        &self.current
    }

    /// Returns the endpoint of the chosen context.
    ///
    /// # Errors
    ///
    /// Fails if the context does not exist or is broken.
    pub fn current(&self) -> Result<Endpoint, ContextError> {
        self.get(&self.current)?
            .ok_or_else(|| ContextError::NotFound {
                name: self.current.clone(),
            })
    }

    /// Returns the key under which the buildx store keeps the builder chosen for this daemon: the name
    /// of the context, or for the default context the address of the daemon
    /// (buildx util/dockerutil, `GetCurrentEndpoint`).
    pub fn context_key(&self) -> &str {
        if self.current == DEFAULT_CONTEXT {
            &self.default.host
        } else {
            &self.current
        }
    }

    /// Returns the endpoint of a context, or `None` if there is no context of that name.
    ///
    /// # Errors
    ///
    /// Fails if the context is broken or has no Docker endpoint.
    pub fn get(&self, name: &str) -> Result<Option<Endpoint>, ContextError> {
        if name == DEFAULT_CONTEXT {
            return Ok(Some(self.default.clone()));
        }
        let id = hex::encode(Sha256::digest(name.as_bytes()));
        let Some(meta) = read_meta(&self.dir.join("meta").join(&id).join("meta.json"))? else {
            return Ok(None);
        };
        let endpoint = meta
            .endpoints
            .get("docker")
            .ok_or_else(|| ContextError::NoEndpoint {
                name: name.to_owned(),
            })?;
        Ok(Some(Endpoint {
            host: host::complete(&endpoint.host, false)?,
            tls: tls_files_of(&self.dir.join("tls").join(&id).join("docker")),
            skip_verify: endpoint.skip_tls_verify,
            context_name: name.to_owned(),
        }))
    }

    /// Resolves the endpoint text of a builder node: the name of a context first, then an address
    /// (buildx util/dockerutil, `NewClientAPI`). An empty text is the chosen context.
    ///
    /// # Errors
    ///
    /// Fails if the text is neither, or the context is broken.
    pub fn resolve(&self, name_or_host: &str) -> Result<Endpoint, ContextError> {
        if name_or_host.is_empty() {
            return self.current();
        }
        if let Some(endpoint) = self.get(name_or_host)? {
            return Ok(endpoint);
        }
        if !name_or_host.contains("://") {
            return Err(ContextError::NeitherContextNorHost {
                name: name_or_host.to_owned(),
            });
        }
        Ok(Endpoint {
            host: host::complete(name_or_host, false)?,
            tls: None,
            skip_verify: false,
            context_name: name_or_host.to_owned(),
        })
    }

    /// Returns the names of all contexts: the default one first, the others sorted.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read or a context in it is broken.
    pub fn names(&self) -> Result<Vec<String>, ContextError> {
        let root = self.dir.join("meta");
        let read_error = |source| ContextError::Read {
            path: root.clone(),
            source,
        };
        let mut names = Vec::new();
        let entries = match fs_err::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(vec![DEFAULT_CONTEXT.to_owned()]),
            Err(error) => return Err(read_error(error)),
        };
        for entry in entries {
            let path = entry.map_err(read_error)?.path().join("meta.json");
            if let Some(meta) = read_meta(&path)? {
                names.push(meta.name);
            }
        }
        names.sort_unstable();
        names.insert(0, DEFAULT_CONTEXT.to_owned());
        Ok(names)
    }
}

fn current_name(
    context: Option<&str>,
    options: &EndpointOptions,
    config: &ConfigFile,
    env: &Env,
) -> String {
    let name = if let Some(context) = context {
        context
    } else if !options.hosts.is_empty() || env.non_empty(DOCKER_HOST).is_some() {
        DEFAULT_CONTEXT
    } else if let Some(context) = env.non_empty(DOCKER_CONTEXT) {
        context
    } else if config.current_context.is_empty() {
        DEFAULT_CONTEXT
    } else {
        &config.current_context
    };
    name.to_owned()
}

fn default_endpoint(
    cert_dir: &Path,
    options: &EndpointOptions,
    env: &Env,
) -> Result<Endpoint, ContextError> {
    let verify = options
        .tls_verify
        .unwrap_or_else(|| env.non_empty(DOCKER_TLS_VERIFY).is_some());
    let tls = options.tls
        || verify
        || options.tls_verify.is_some()
        || env.non_empty(DOCKER_TLS).is_some();
    let given = options.hosts.first().map(String::as_str);
    let text = given.or(env.get(DOCKER_HOST)).unwrap_or_default();
    let dir = env
        .path(DOCKER_CERT_PATH)
        .map_or_else(|| cert_dir.to_owned(), PathBuf::from);
    let optional = |flag: &Option<PathBuf>, name: &str| {
        flag.clone()
            .or_else(|| Some(dir.join(name)).filter(|path| path.exists()))
    };
    Ok(Endpoint {
        host: host::complete(text, tls)?,
        tls: tls.then(|| TlsFiles {
            ca: options.tls_ca_cert.clone().or(Some(dir.join("ca.pem"))),
            cert: optional(&options.tls_cert, "cert.pem"),
            key: optional(&options.tls_key, "key.pem"),
        }),
        skip_verify: tls && !verify,
        context_name: DEFAULT_CONTEXT.to_owned(),
    })
}

fn read_meta(path: &Path) -> Result<Option<Meta>, ContextError> {
    let text = match settings::read(path) {
        Ok(text) => text,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(source) => {
            return Err(ContextError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    go_json::from_slice(&text)
        .map(Some)
        .map_err(|source| ContextError::Parse {
            path: path.to_owned(),
            source,
        })
}

fn tls_files_of(dir: &Path) -> Option<TlsFiles> {
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
    let files = TlsFiles {
        ca: file("ca.pem"),
        cert: file("cert.pem"),
        key: file("key.pem"),
    };
    (files != TlsFiles::default()).then_some(files)
}

#[cfg(test)]
mod tests;
