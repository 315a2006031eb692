//! The HTTP clients of one registry: for itself, and for the other hosts that it names.

use std::sync::OnceLock;

use url::Url;

use super::error::RegistryError;
use super::host::HostConfig;

/// Sends to a registry and to the hosts that it names: token servers, redirects, upload locations.
///
/// An insecure registry may have any certificate, because the user said so of this host and port. Nobody
/// said it of the others: theirs are verified.
#[derive(Debug)]
pub(super) struct HttpClients {
    host: HostConfig,
    /// The roots of the registry, by TLS and without.
    roots: [Url; 2],
    own: reqwest::Client,
    /// Made for the first host that needs it, because it reads the system's certificates.
    others: OnceLock<reqwest::Client>,
}

impl HttpClients {
    /// Creates the clients of a host.
    ///
    /// # Errors
    /// The host's name, certificates or proxies cannot be used.
    pub(super) fn new(host: &HostConfig) -> Result<Self, RegistryError> {
        Ok(Self {
            roots: [host.root("https")?, host.root("http")?],
            own: host.http(false)?,
            others: OnceLock::new(),
            host: host.clone(),
        })
    }

    /// Returns the client for an address.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub(super) fn to(&self, url: &Url) -> Result<&reqwest::Client, RegistryError> {
        let verified = !self.host.takes_any_certificate();
        if verified || url.scheme() != "https" || self.is_own(url) {
            return Ok(&self.own);
        }
        if let Some(client) = self.others.get() {
            return Ok(client);
        }
        let client = self.host.http(true)?;
        Ok(self.others.get_or_init(|| client))
    }

    /// Returns whether an address is on the host and port that the user named.
    fn is_own(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let same = |root: &Url| root.host() == url.host() && root.port_or_known_default() == port;
        self.roots.iter().any(same)
    }
}
