//! `create`: turns its arguments into a changed builder. Nothing is written or started here.

use crate::docker::context::{ContextError, Contexts, DEFAULT_CONTEXT};
use crate::docker::host;
use crate::options::OptionError;

use super::buildkitd::{self, BuildkitdError, Config};
use super::group::{GroupError, NodeChange, NodeGroup};
use super::platform::Platform;
use super::store::{StoreError, Transaction};
use super::text::{self, TextError};

/// The arguments of `create`.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// `--name`; empty: a random one.
    pub name: String,
    /// `--driver`; empty: that of the existing builder, else docker-container, or remote if
    /// [`buildkit_host`](Self::buildkit_host) is set and there is no endpoint.
    pub driver: String,
    /// `--node`.
    pub node: String,
    /// `--platform`, each may hold several.
    pub platforms: Vec<String>,
    /// `--driver-opt`, each may hold several.
    pub driver_opts: Vec<String>,
    /// `--buildkitd-flags`, one shell line.
    pub buildkitd_flags: String,
    /// `--buildkitd-config`, or the default configuration of the store.
    pub buildkitd_config: Option<std::path::PathBuf>,
    /// The endpoint argument: a docker context or host; for the remote driver BuildKit's address.
    pub endpoint: String,
    /// `--append`.
    pub append: bool,
    /// `BUILDKIT_HOST`.
    pub buildkit_host: String,
}

/// Why a builder is not created. The texts are those of buildx.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// `default` is the name of docker's own context.
    #[error("default is a reserved name and cannot be used to identify builder instance")]
    ReservedName,
    /// `--append` without `--name`.
    #[error("append requires a builder name")]
    AppendName,
    /// A docker context has the name.
    #[error("instance name {name:?} already exists as context builder")]
    IsContext {
        /// The name.
        name: String,
    },
    /// `--append` to a builder that is not there.
    #[error("failed to find instance {name:?} for append")]
    NothingToAppend {
        /// The name.
        name: String,
    },
    /// The builder exists.
    #[error(
        "existing instance for {name:?} but no append mode, specify the node name to make changes for existing instances"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// The builder exists with another driver.
    #[error("existing instance for {name:?} but has mismatched driver {driver:?}")]
    Driver {
        /// The name.
        name: String,
        /// Its driver.
        driver: String,
    },
    /// The docker driver is not for named builders.
    #[error("additional instances of driver {driver:?} cannot be created")]
    NoInstances {
        /// The driver.
        driver: String,
    },
    /// There is no such driver.
    #[error("failed to find driver {driver:?}")]
    NoDriver {
        /// The driver.
        driver: String,
    },
    /// The kubernetes driver is not made yet.
    #[error(
        "driver \"kubernetes\" is not supported yet: its builders are listed but cannot be created or used"
    )]
    Kubernetes,
    /// The remote driver needs an address.
    #[error("no remote endpoint provided")]
    NoRemote,
    /// The address of the remote driver has an unknown scheme.
    #[error("unrecognized url scheme {scheme}")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The endpoint is neither a context nor a host.
    #[error("failed to parse endpoint {endpoint}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// The cause.
        #[source]
        source: host::HostError,
    },
    /// A builder outlives the environment, so TLS files from it are not enough.
    #[error(
        "could not create a builder instance with TLS data loaded from environment. Please use `docker context create <context-name>` to create a context for current environment and then create a builder instance with context set to <context-name>"
    )]
    TlsFromEnvironment,
    /// A platform is wrong.
    #[error(transparent)]
    Platform(#[from] OptionError),
    /// A driver option is no `key=value`.
    #[error("bad driver option")]
    DriverOpt(#[source] TextError),
    /// The buildkitd configuration or flags are wrong.
    #[error(transparent)]
    Buildkitd(#[from] BuildkitdError),
    /// The change of the nodes is refused.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The docker contexts cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
}

/// What `create` is about to save.
#[derive(Debug)]
pub struct CreatePlan {
    /// The builder with the new or changed node.
    pub group: NodeGroup,
    /// The builder as it was.
    pub original: Option<NodeGroup>,
    /// A running container does not see the change.
    pub needs_restart: bool,
}

/// The schemes of the remote driver.
const REMOTE_SCHEMES: &[&str] = &[
    "docker-container",
    "kube-pod",
    "npipe",
    "ssh",
    "tcp",
    "unix",
];

impl CreateRequest {
    /// Works out the builder to save.
    ///
    /// # Errors
    ///
    /// Fails if buildx refuses the arguments too, and for the kubernetes driver.
    pub fn plan(&self, txn: &Transaction, contexts: &Contexts) -> Result<CreatePlan, CreateError> {
        if self.name == "default" {
            return Err(CreateError::ReservedName);
        }
        if self.append && self.name.is_empty() {
            return Err(CreateError::AppendName);
        }
        let name = if self.name.is_empty() {
            txn.free_name()?
        } else {
            self.name.clone()
        };
        if !self.append && contexts.names()?.contains(&name) {
            return Err(CreateError::IsContext { name });
        }
        let original = txn.get(&name)?;
        if original.is_none() && self.append {
            return Err(CreateError::NothingToAppend { name });
        }
        let driver = self.driver(&name, original.as_ref())?;
        let change = self.change(&driver, contexts)?;
        let mut group = original.clone().unwrap_or_else(|| NodeGroup {
            name,
            driver,
            ..NodeGroup::default()
        });
        let needs_restart = group.update(change)?;
        Ok(CreatePlan {
            group,
            original,
            needs_restart,
        })
    }

    fn driver(&self, name: &str, existing: Option<&NodeGroup>) -> Result<String, CreateError> {
        let driver = match existing {
            _ if !self.driver.is_empty() => self.driver.clone(),
            Some(group) => group.driver.clone(),
            None if self.endpoint.is_empty() && !self.buildkit_host.is_empty() => {
                "remote".to_owned()
            }
            // buildx asks each driver for its priority; an address that BuildKit could have makes
            // it choose the remote driver.
            None if remote_scheme(&self.endpoint).is_ok() => "remote".to_owned(),
            None => "docker-container".to_owned(),
        };
        if let Some(group) = existing {
            if self.node.is_empty() && !self.append {
                return Err(CreateError::Exists {
                    name: name.to_owned(),
                });
            }
            if driver != group.driver {
                return Err(CreateError::Driver {
                    name: name.to_owned(),
                    driver: group.driver.clone(),
                });
            }
        }
        match driver.as_str() {
            "docker-container" | "remote" => Ok(driver),
            "docker" => Err(CreateError::NoInstances { driver }),
            "kubernetes" => Err(CreateError::Kubernetes),
            _ => Err(CreateError::NoDriver { driver }),
        }
    }

    fn change(&self, driver: &str, contexts: &Contexts) -> Result<NodeChange, CreateError> {
        let driver_opts = match self.driver_opts.as_slice() {
            [] => None,
            texts => Some(text::csv_map(texts).map_err(CreateError::DriverOpt)?),
        };
        let config = self.buildkitd_config.as_deref().map(Config::read);
        let config = config.transpose()?;
        let line = &self.buildkitd_flags;
        let flags = buildkitd::flags(line, driver, driver_opts.as_ref(), config.as_ref())?;
        let (endpoint, endpoint_set) = self.endpoint(driver, contexts)?;
        Ok(NodeChange {
            node: self.node.clone(),
            endpoint,
            endpoint_set,
            append: self.append,
            platforms: Platform::parse_list(&self.platforms)?,
            flags,
            driver_opts,
            files: config.map(Config::into_files).transpose()?,
        })
    }

    /// Returns the endpoint of the node, and whether the user named it.
    fn endpoint(&self, driver: &str, contexts: &Contexts) -> Result<(String, bool), CreateError> {
        if driver == "remote" {
            let given = [&self.endpoint, &self.buildkit_host];
            let address = given.into_iter().find(|text| !text.is_empty());
            let address = address.ok_or(CreateError::NoRemote)?;
            remote_scheme(address)?;
            return Ok((address.clone(), true));
        }
        if self.endpoint.is_empty() {
            let from_environment = contexts.current_name() == DEFAULT_CONTEXT;
            if from_environment && contexts.current()?.tls.is_some() {
                return Err(CreateError::TlsFromEnvironment);
            }
            return Ok((contexts.context_key().to_owned(), false));
        }
        match contexts.get(&self.endpoint) {
            Ok(Some(endpoint)) if self.endpoint == DEFAULT_CONTEXT => Ok((endpoint.host, true)),
            Ok(Some(_)) => Ok((self.endpoint.clone(), true)),
            _ => host::complete(&self.endpoint, true)
                .map(|host| (host, true))
                .map_err(|source| CreateError::Endpoint {
                    endpoint: self.endpoint.clone(),
                    source,
                }),
        }
    }
}

fn remote_scheme(address: &str) -> Result<(), CreateError> {
    let scheme = address.split_once("://").map_or("", |(scheme, _)| scheme);
    if REMOTE_SCHEMES.contains(&scheme) {
        return Ok(());
    }
    Err(CreateError::Scheme {
        scheme: scheme.to_owned(),
    })
}

#[cfg(test)]
mod tests;
