//! What the hosts of repositories and registries do by APIs of their own.
//!
//! | file | holds |
//! |---|---|
//! | `api` | one request to GitHub's API, and what its answer means |
//! | [`github`] | GHCR, whose registry deletes nothing: versions of packages |
//! | [`pulls`] | which pull requests are open |

mod api;
pub mod github;
pub mod pulls;
#[cfg(test)]
mod testing;

pub use api::{API, Api};

use http::StatusCode;

use crate::digest::Digest;
use crate::text::foreign;

/// Why a forge has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// It cannot be reached, or broke off.
    #[error("{forge} cannot be asked")]
    Http {
        /// Its name.
        forge: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It refuses.
    #[error("{forge} refuses: {status}{}", said(.message))]
    Refused {
        /// Its name.
        forge: &'static str,
        /// Status of the answer.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// Its answer is none.
    #[error("the answer of {forge} cannot be read: {why}")]
    Answer {
        /// Its name.
        forge: &'static str,
        /// Why.
        why: String,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() {
        return String::new();
    }
    format!(" ({})", foreign::excerpt(message, 300))
}

/// The manifests of one repository, as a forge keeps them.
#[tonic::async_trait]
pub trait Packages: std::fmt::Debug + Send + Sync {
    /// Deletes a manifest, with all tags that it has. `false`: it was not there.
    ///
    /// # Errors
    ///
    /// Fails if the forge does not answer, or refuses.
    async fn delete(&self, digest: &Digest) -> Result<bool, ForgeError>;
}
