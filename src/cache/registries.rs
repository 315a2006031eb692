//! The registry clients of a build, one for each host, so that tokens and connections are shared.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::docker::token::Tokens;
use crate::reference::Reference;
use crate::registry::{
    Access, HostConfig, ProxySettings, RegistryClient, RegistryError, Repository, RetryPolicy,
    SystemClock,
};

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct NetworkSettings {
    /// Proxies of the environment.
    pub proxy: ProxySettings,
    /// Folders with one folder of TLS files for each host, such as `/etc/docker/certs.d`.
    pub cert_dirs: Vec<PathBuf>,
}

/// Creates registry clients and keeps them.
pub struct Registries {
    tokens: Arc<Tokens>,
    settings: NetworkSettings,
    retries: RetryPolicy,
    clients: Mutex<HashMap<(String, bool), RegistryClient>>,
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Registries {
    /// Creates the pool. Nothing is sent.
    pub fn new(tokens: Arc<Tokens>, settings: NetworkSettings) -> Self {
        Self {
            tokens,
            settings,
            retries: RetryPolicy::default(),
            clients: Mutex::default(),
        }
    }

    /// Creates another pool with the same settings and tokens that tries again as often and as long as this policy says.
    #[must_use]
    pub fn with_retries(&self, retries: RetryPolicy) -> Self {
        Self {
            retries,
            ..Self::new(Arc::clone(&self.tokens), self.settings.clone())
        }
    }

    /// Returns the repository of a reference. `insecure` is `registry.insecure=true`.
    ///
    /// # Errors
    ///
    /// Fails if the host's name, certificates or proxies cannot be used.
    pub fn repository(
        &self,
        reference: &Reference,
        insecure: bool,
        access: Access,
    ) -> Result<Repository, RegistryError> {
        self.client(&reference.domain, insecure)?
            .repository(&reference.path, access)
    }

    /// Returns an HTTP client for a host that is no registry, with the proxies and certificates of the registries'.
    ///
    /// # Errors
    ///
    /// Fails if its certificates or proxies cannot be used.
    pub fn web(&self, host: &str) -> Result<reqwest::Client, RegistryError> {
        self.host(host).http(true)
    }

    fn host(&self, host: &str) -> HostConfig {
        let mut config = HostConfig::new(host);
        config.proxy = self.settings.proxy.clone();
        config.cert_dirs.clone_from(&self.settings.cert_dirs);
        config
    }

    fn client(&self, host: &str, insecure: bool) -> Result<RegistryClient, RegistryError> {
        let mut clients = self.clients.lock();
        let key = (host.to_owned(), insecure);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let config = self.host(host).insecure(insecure);
        let client = RegistryClient::new(
            config,
            Arc::clone(&self.tokens),
            self.retries.clone(),
            Arc::new(SystemClock),
        )?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// Waits until abandoned uploads are cancelled in their registries, for a bounded time.
    pub async fn close(&self) {
        let clients: Vec<RegistryClient> = {
            let clients = self.clients.lock();
            clients.values().cloned().collect()
        };
        futures_util::future::join_all(clients.iter().map(RegistryClient::close)).await;
    }
}
