//! The client against a registry that does wrong what it is told to.

#[path = "../../tests/it/support/scripted_registry/mod.rs"]
mod scripted_registry;

mod auth;
mod faults;
mod operations;
mod transport;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use self::scripted_registry::{Fault, Login, ScriptedRegistry, TokenServer, digest_of};
use super::limit::Concurrency;
use super::manifest::MANIFEST_TYPES;
use super::retry::Clock;
use super::testing::TestClock;
use super::*;
use crate::docker::credentials::CredentialSource;
use crate::docker::credentials::source::Found;
use crate::docker::token::Tokens;
use crate::docker::{Credential, Secret};

/// The name of the repository of most tests.
const REPO: &str = "team/app";

/// Credentials by host.
struct Logins(HashMap<String, Credential>);

impl CredentialSource for Logins {
    fn credential<'a>(&'a self, host: &'a str, _scopes: &'a [String]) -> BoxFuture<'a, Found> {
        Box::pin(async move { Ok(self.0.get(host).cloned().unwrap_or_default()) })
    }
}

fn user(name: &str, password: &str) -> Credential {
    Credential::Basic {
        username: name.to_owned(),
        password: Secret::new(password),
    }
}

/// A client whose waits between attempts take no time and whose idle time-outs are short.
fn client_with(
    registry: &ScriptedRegistry,
    credential: Credential,
) -> (RegistryClient, Arc<TestClock>) {
    let mut host = HostConfig::new(registry.host());
    host.transport = Transport::Http;
    host.timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(400),
        small: Duration::from_millis(400),
        commit: Duration::from_millis(400),
        token: Duration::from_secs(5),
        cancel: Duration::from_secs(2),
    };
    let logins = Logins(HashMap::from([(registry.host(), credential)]));
    let tokens = Arc::new(Tokens::new(Arc::new(logins)));
    let clock = TestClock::new();
    let dynamic: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
    (
        RegistryClient::new(host, tokens, RetryPolicy::default(), dynamic).unwrap(),
        clock,
    )
}

fn client(registry: &ScriptedRegistry) -> RegistryClient {
    client_with(registry, Credential::Anonymous).0
}

pub(crate) fn pushable(registry: &ScriptedRegistry) -> Repository {
    client(registry).repository(REPO, Access::Push).unwrap()
}

/// Bytes that are not all alike.
fn data(length: usize) -> Bytes {
    (0..length)
        .map(|n| u8::try_from((n * 7 + n / 251) % 256).unwrap())
        .collect::<Vec<_>>()
        .into()
}

fn digest(bytes: &[u8]) -> crate::digest::Digest {
    digest_of(bytes).parse().unwrap()
}

/// A stream of pieces that can be read once.
fn once(bytes: &Bytes) -> BlobSource {
    let pieces: Vec<_> = bytes
        .chunks(64 * 1024)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    once_from(futures_util::stream::iter(pieces))
}

/// A stream that can be read once, as it has no spool file.
fn once_from(
    stream: impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> BlobSource {
    let nowhere = std::path::Path::new("/does/not/exist");
    BlobSource::spooled(stream, &nowhere.into(), u64::MAX)
}

/// An upload that may take the blob from another repository.
fn mounting() -> UploadOptions {
    UploadOptions {
        mount_from: Some("team/base".into()),
        ..UploadOptions::default()
    }
}

/// Ends a test that hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("the test hangs")
}

async fn read(mut download: Download) -> Result<Vec<u8>, RegistryError> {
    let mut out = Vec::new();
    while let Some(piece) = download.next().await? {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}
