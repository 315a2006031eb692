//! What builders depend on outside themselves: the store, docker's contexts and credentials, and the
//! environment.

use std::sync::Arc;

use crate::docker::config::ConfigFile;
use crate::docker::context::Contexts;
use crate::docker::credentials::CredentialStore;
use crate::docker::engine::Engine;
use crate::env::Env;

use super::error::BuilderError;
use super::store::Store;

/// The store of builders, docker's configuration and the environment.
pub struct DockerEnv {
    store: Store,
    contexts: Contexts,
    config: ConfigFile,
    credentials: Arc<CredentialStore>,
    env: Env,
}

impl std::fmt::Debug for DockerEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerEnv")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl DockerEnv {
    /// Takes them together.
    pub fn new(
        store: Store,
        contexts: Contexts,
        config: ConfigFile,
        credentials: CredentialStore,
        env: Env,
    ) -> Self {
        Self {
            store,
            contexts,
            config,
            credentials: Arc::new(credentials),
            env,
        }
    }

    /// Returns the store of builders.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the docker contexts.
    pub fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// Returns docker's configuration.
    pub fn config(&self) -> &ConfigFile {
        &self.config
    }

    /// Returns docker's credentials. Whoever needs some shares these: a helper is asked once.
    pub fn credentials(&self) -> &Arc<CredentialStore> {
        &self.credentials
    }

    /// Returns the environment.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Connects to the Docker engine of an endpoint: a docker context or a host.
    ///
    /// # Errors
    ///
    /// Fails if it is neither, or the engine cannot be reached.
    pub async fn engine(&self, endpoint: &str) -> Result<Engine, BuilderError> {
        let endpoint = self.contexts.resolve(endpoint)?;
        Ok(Engine::connect(&endpoint, &self.config.http_headers).await?)
    }
}

#[cfg(test)]
impl DockerEnv {
    /// Returns one without anything: its folders are not there, and no engine answers.
    pub(in crate::builder) fn of_nobody() -> Self {
        let dir = std::path::Path::new("/nonexistent");
        let env = Env::from_pairs([("DOCKER_HOST", "unix:///nonexistent/docker.sock")], dir);
        let config = ConfigFile::default();
        let options = crate::docker::context::EndpointOptions::default();
        let contexts = Contexts::new(dir, dir, &config, &options, &env).unwrap();
        let credentials = CredentialStore::new(config.clone(), &env);
        let store = Store::new(dir, None);
        Self::new(store, contexts, config, credentials, env)
    }
}
