//! Where credentials come from, for all who log in.

use std::error::Error as StdError;

use futures_util::future::BoxFuture;

use super::{Credential, CredentialStore};

/// A credential, or why it could not be looked up.
pub type Found = Result<Credential, Box<dyn StdError + Send + Sync>>;

/// Where credentials come from.
pub trait CredentialSource: Send + Sync + 'static {
    /// Returns the credential of a registry host as it is named in references (`docker.io`) or as
    /// `BuildKit` names it (`registry-1.docker.io`), for scopes such as `repository:a/b:pull`. It is asked
    /// for each token, and for each request where the registry wants a password; the source remembers what
    /// is slow to get.
    ///
    /// # Errors
    /// The store could not be read. A host without a credential is
    /// [`Credential::Anonymous`], not an error.
    fn credential<'a>(&'a self, host: &'a str, scopes: &'a [String]) -> BoxFuture<'a, Found>;

    /// Learns that a credential was refused, so that the next one is found again. A source that remembers
    /// nothing has nothing to do.
    fn refused<'a>(&'a self, _credential: &'a Credential) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

impl CredentialSource for CredentialStore {
    fn credential<'a>(&'a self, host: &'a str, scopes: &'a [String]) -> BoxFuture<'a, Found> {
        Box::pin(async move { Ok(self.get(host, scopes).await?) })
    }

    fn refused<'a>(&'a self, credential: &'a Credential) -> BoxFuture<'a, ()> {
        Box::pin(self.forget(credential))
    }
}

/// No credentials: everything is asked for anonymously.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn credential<'a>(&'a self, _host: &'a str, _scopes: &'a [String]) -> BoxFuture<'a, Found> {
        Box::pin(async { Ok(Credential::Anonymous) })
    }
}
