//! Whether a host speaks TLS, found out by the first request to it.

use std::sync::atomic::Ordering;

use http::StatusCode;
use url::Url;

use super::{Call, HTTPS, PLAIN, RegistryClient, Target, UNDECIDED, resolve};
use crate::registry::auth::Authorization;
use crate::registry::error::{RegistryError, cause};
use crate::registry::host::Transport;
use crate::registry::reply::Reply;

/// Where the request went, what it logged in with, and the answer.
type Answered = (Url, (Authorization, Reply));

impl RegistryClient {
    /// Sends a request for the first time. Where it is not known yet whether the host has TLS, both are
    /// tried: on loopback, where TLS is rare, plain HTTP first, elsewhere TLS.
    pub(super) async fn first(&self, call: &Call<'_>) -> Result<Answered, RegistryError> {
        let undecided = self.inner.scheme.load(Ordering::Relaxed) == UNDECIDED;
        if undecided && matches!(call.target, Target::Path(_)) {
            return if self.inner.host.transport == Transport::Loopback {
                self.plain_or_tls(call).await
            } else {
                self.tls_or_plain(call).await
            };
        }
        self.once_at(call, self.home()).await
    }

    async fn tls_or_plain(&self, call: &Call<'_>) -> Result<Answered, RegistryError> {
        let tls = match self.once_by_tls(call).await {
            Err(tls) if has_no_tls(&tls) => tls,
            result => return result,
        };
        match self.once_plain(call).await {
            Ok(found) => Ok(self.is_plain(found)),
            // Neither came about; a refused port says the same for both.
            Err(RegistryError::Connect { .. }) => Err(tls),
            Err(error) => Err(error),
        }
    }

    async fn plain_or_tls(&self, call: &Call<'_>) -> Result<Answered, RegistryError> {
        let plain = match self.once_plain(call).await {
            // How servers with TLS answer one who does not speak it, those that do not hang up.
            Ok(found) if found.1.1.status == StatusCode::BAD_REQUEST => Ok(found),
            Ok(found) => return Ok(self.is_plain(found)),
            // A server with TLS does not take such a request in silence.
            Err(error) if error.is_slow() => return Err(error),
            Err(error) => Err(error),
        };
        match (plain, self.once_by_tls(call).await) {
            (Ok(found), Err(tls)) if has_no_tls(&tls) => Ok(self.is_plain(found)),
            // The attempt by TLS hides what is wrong with a host that has none.
            (Err(plain), Err(tls)) if has_no_tls(&tls) => Err(plain),
            (_, result) => result,
        }
    }

    async fn once_by_tls(&self, call: &Call<'_>) -> Result<Answered, RegistryError> {
        let found = self.once_at(call, &self.inner.https).await?;
        self.inner.scheme.store(HTTPS, Ordering::Relaxed);
        Ok(found)
    }

    async fn once_at(&self, call: &Call<'_>, root: &Url) -> Result<Answered, RegistryError> {
        let url = resolve(&call.target, root)?;
        let login = self.login(call, &url).await?;
        let reply = self.once(call, &url, login).await?;
        Ok((url, reply))
    }

    /// Nothing secret is sent before it is known that the host has no TLS.
    async fn once_plain(&self, call: &Call<'_>) -> Result<Answered, RegistryError> {
        let url = resolve(&call.target, &self.inner.plain)?;
        let reply = self.once(call, &url, Authorization::default()).await?;
        Ok((url, reply))
    }

    fn is_plain<T>(&self, found: T) -> T {
        tracing::debug!(
            host = self.host(),
            "the registry has no TLS, using plain HTTP"
        );
        self.inner.scheme.store(PLAIN, Ordering::Relaxed);
        found
    }
}

/// Returns whether the host does not speak TLS, or gives no sign of it.
fn has_no_tls(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Connect { source, .. } if !cause::speaks_tls(source.as_ref()))
}
