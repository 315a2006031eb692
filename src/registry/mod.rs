//! The registry client: everything between this program and an OCI registry.
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `host` | address, TLS files (`certs.d`), proxies and time-outs of one host |
//! | `http` | the HTTP clients: only the host that the user named may be insecure |
//! | `client` | [`RegistryClient`]: one per host; sends a request with login, redirects and limits |
//! | `repository` | [`Repository`]: a name below the host and the scopes of its tokens |
//! | `manifest`, `blob`, `upload`, `download` | the operations of a repository |
//! | `source`, `outgoing` | where an upload's bytes come from; the body that counts and checks them |
//! | `spool_dir` | [`SpoolDir`]: where an upload keeps what it has read |
//! | `auth` | challenges, logins |
//! | `retry`, `limit` | one budget per operation; concurrency |
//! | `idle`, `pace` | transfers that stand still; small answers that take too long |
//! | `redirect`, `reply`, `content_range` | where a redirect may lead; reading answers |
//! | `error`, `redact` | [`RegistryError`]; what may be shown |
//!
//! # Layers
//!
//! An *operation* (read a manifest, upload a blob) has a budget and tries again. It stands on
//! `RegistryClient::send`, which tries nothing again: it logs in on a 401, once more where
//! what it had kept has ended, and follows redirects. Below it one request is sent and watched for progress.
//!
//! # What comes from `oci-client`
//!
//! The media types of manifests and the registry's error form. Not used are:
//!
//! * its HTTP client: its errors keep no `Retry-After`, redirects and time-outs are not ours to set, an
//!   upload location given with a refused mount is lost, and its tokens are asked for once per request that
//!   is under way;
//! * its manifest and descriptor types: a cache that another client wrote would lose the fields that they do
//!   not know when it is stored again, and they hold a digest as unchecked text and a size as a signed
//!   number; those of [`crate::cache::manifest`] keep all fields in their order and bound what is read;
//! * its references: their errors do not show what is wrong in the text, and they do not give names back as
//!   people write them; see [`mod@crate::reference`].
//!
//! # Promises
//!
//! * Digest and size are verified while bytes move, in both directions; no blob is held whole.
//! * A login is sent to the registry's own scheme, host and port only, and to the token server
//!   that it names. No secret is in a message or a log line.
//! * Nothing waits for ever: connecting and standing still have limits, and a small answer as a whole; the transfer of a
//!   layer has none.

pub mod auth;
pub mod blob;
pub mod client;
mod content_range;
pub mod download;
pub mod error;
pub mod host;
mod http;
mod idle;
pub mod limit;
pub mod manifest;
mod outgoing;
mod pace;
mod redact;
mod redirect;
mod reply;
pub mod repository;
pub mod retry;
pub mod source;
mod spool_dir;
pub mod tags;
#[cfg(test)]
mod testing;
#[cfg(test)]
pub(crate) mod tests;
mod upload;

pub use auth::scope::Access;
pub use client::RegistryClient;

pub use download::Download;
pub use error::RegistryError;
pub use host::{HostConfig, ProxySettings, Timeouts, Transport};
pub use manifest::RawManifest;
pub use repository::Repository;
pub use retry::{RetryPolicy, SystemClock};
pub use source::BlobSource;
pub use spool_dir::SpoolDir;
pub use upload::{Arrival, UploadOptions, Uploaded};
