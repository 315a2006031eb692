//! What the registries say about the caches, asked before anything else needs to know.
//!
//! The probes go out together when the build begins, beside the connection to the builder. One request
//! a cache, and nothing is tried again: where there is no answer BuildKit may still get one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::sources::{CacheImport, RegistrySource};
use crate::cache::descriptor::CREATED_AT;
use crate::cache::extras::age::written;
use crate::cache::manifest::CacheManifest;
use crate::cache::media::algorithm_of;
use crate::cache::registries::Registries;
use crate::cache::sign::CacheName;
use crate::cache::sign::keyring::Keyring;
use crate::cache::sign::verdict::{Policy, Signed};
use crate::compress::Algorithm;
use crate::error::chain;
use crate::later::{Later, later};
use crate::registry::{Access, RawManifest, RegistryError, Repository};

/// How long a registry that takes connections may be silent. A build does not wait longer for a cache.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// How long an answer may take before it is looked whether the registry can be reached from here.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may be silent after that.
const REST: Duration = DEADLINE.saturating_sub(PATIENCE);
/// How long the manifest of a cache may take that only this program can read: its request is tried again.
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);

/// What a registry said.
#[derive(Debug)]
pub(super) enum ProbeResult {
    /// There is a manifest; who signed it, where that was asked for.
    Found(Repository, RawManifest, Option<Signed>),
    /// There is a manifest that is not signed as it must be.
    Refused(String),
    /// There is nothing.
    Missing,
    /// It cannot be told from here, which says nothing about the builder.
    Unknown(String),
    /// The registry takes connections and does not answer.
    Silent,
}

/// A cache that must be verified is not signed as it must be.
#[derive(Debug, thiserror::Error)]
#[error("the cache {reference} cannot be verified (verify-required): {why}")]
pub struct NotVerified {
    /// The cache.
    reference: String,
    /// Why.
    why: String,
}

/// What a cache to read holds, as far as it can be told from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// There is none.
    Nothing,
    /// There is one.
    Cache(Option<Age>),
    /// Nobody knows.
    Unknown,
}

/// How old a cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It was written then.
    Written(Timestamp),
    /// Nobody says when it was written; its newest layer was made then.
    Made(Timestamp),
}

/// The caches to read, in the order of the flags, and the probes that are on their way. Dropping
/// this aborts them.
#[derive(Debug, Clone, Default)]
pub struct Probes(Vec<Probe>);

/// One cache, and its registry's answer where it has one.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) import: CacheImport,
    answer: Option<Later<Arc<ProbeResult>>>,
}

impl Probes {
    /// Asks for every registry cache.
    pub fn start(
        imports: &[CacheImport],
        registries: &Arc<Registries>,
        keyring: &Arc<Keyring>,
    ) -> Self {
        let ask = |import: &CacheImport| {
            let (source, through_session) = match import {
                CacheImport::Registry(source, _) => (source.clone(), false),
                CacheImport::Client(source) => (source.clone(), true),
                CacheImport::Builder(_) | CacheImport::Layout(_) => return None,
            };
            let registries = Arc::clone(registries);
            let policy = keyring.policy(&source.verification);
            let asked = async move {
                // Nobody else may read what must be verified here.
                let answer = if through_session || policy.is_some() {
                    probe_patiently(&source, &registries).await
                } else {
                    probe_once(&source, &registries).await
                };
                Arc::new(answer.verified(&source, policy.as_ref()).await)
            };
            let lost = |error| Arc::new(ProbeResult::Unknown(chain(&error)));
            Some(later(asked, lost))
        };
        let probe = |import: &CacheImport| Probe {
            import: import.clone(),
            answer: ask(import),
        };
        Self(imports.iter().map(probe).collect())
    }

    /// Returns whether there are caches that this program can look into, too.
    pub fn reads_known(&self) -> bool {
        let is_known = |probe: &Probe| !matches!(probe.import, CacheImport::Builder(_));
        self.0.iter().any(is_known)
    }

    /// Waits for the answers, and returns whether a cache holds layers as zstd.
    pub async fn hold_zstd(&self) -> bool {
        let asked = self.0.iter().map(async |probe| {
            let answer = probe.result().await;
            let manifest = answer.as_deref().and_then(ProbeResult::manifest);
            manifest.is_some_and(|manifest| {
                let mut layers = manifest.layers.iter();
                layers.any(|layer| algorithm_of(&layer.media_type) == Some(Algorithm::Zstd))
            })
        });
        let asked = futures_util::future::join_all(asked).await;
        asked.contains(&true)
    }

    /// Waits for the answer about a registry cache, and returns what it holds; nothing where it is not among them.
    pub async fn holding(&self, raw_ref: &str) -> Option<Holding> {
        let is_it = |probe: &&Probe| match &probe.import {
            CacheImport::Registry(source, _) | CacheImport::Client(source) => {
                source.raw_ref == raw_ref
            }
            CacheImport::Builder(_) | CacheImport::Layout(_) => false,
        };
        let answer = self.0.iter().find(is_it)?.result().await?;
        Some(match &*answer {
            ProbeResult::Missing => Holding::Nothing,
            ProbeResult::Refused(_) | ProbeResult::Unknown(_) | ProbeResult::Silent => {
                Holding::Unknown
            }
            ProbeResult::Found(_, raw, _) => {
                let manifest = answer.manifest();
                Holding::Cache(manifest.and_then(|manifest| age(raw, &manifest)))
            }
        })
    }

    /// Waits for the answers about the caches that must be verified (`verify-required`). A cache that is not there is no
    /// error, nor is one whose registry does not answer: nothing is read of them.
    ///
    /// # Errors
    ///
    /// Fails with the first cache that is there and not signed as it must be.
    pub async fn required(&self) -> Result<(), NotVerified> {
        for probe in &self.0 {
            let (CacheImport::Registry(source, _) | CacheImport::Client(source)) = &probe.import
            else {
                continue;
            };
            if source.verification.is_required
                && let Some(answer) = probe.result().await
                && let ProbeResult::Refused(why) = &*answer
            {
                return Err(NotVerified {
                    reference: source.raw_ref.clone(),
                    why: why.clone(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Probe> {
        self.0.iter()
    }
}

impl ProbeResult {
    /// Judges what was found by the policy for the cache.
    pub(super) async fn verified(self, source: &RegistrySource, policy: Option<&Policy>) -> Self {
        let (Some(policy), Self::Found(repository, raw, _)) = (policy, &self) else {
            return self;
        };
        let name = CacheName::of(&source.reference);
        match policy.judge(&raw.bytes, &name, Timestamp::now()).await {
            Ok(signed) => Self::Found(repository.clone(), raw.clone(), signed),
            Err(refusal) => Self::Refused(chain(&refusal)),
        }
    }

    fn manifest(&self) -> Option<CacheManifest> {
        match self {
            Self::Found(_, raw, _) => CacheManifest::parse(&raw.bytes, &raw.media_type).ok(),
            Self::Missing | Self::Refused(_) | Self::Unknown(_) | Self::Silent => None,
        }
    }
}

/// Returns how old a cache is, as far as its manifest tells.
fn age(raw: &RawManifest, manifest: &CacheManifest) -> Option<Age> {
    if let Some(written) = written(&raw.bytes, manifest) {
        return Some(Age::Written(written));
    }
    let layers = manifest.layers.iter();
    let made = layers.filter_map(|layer| layer.annotation(CREATED_AT)?.parse().ok());
    made.max().map(Age::Made)
}

impl Probe {
    /// Waits for what the registry says.
    pub(super) async fn result(&self) -> Option<Arc<ProbeResult>> {
        Some(self.answer.clone()?.await)
    }
}

async fn probe_once(source: &RegistrySource, registries: &Registries) -> ProbeResult {
    let repository = match repository(source, registries) {
        Ok(repository) => repository,
        Err(error) => return ProbeResult::Unknown(chain(&error)),
    };
    let silence = silence(repository.clone());
    tokio::select! {
        found = repository.manifest_at_once(source.named()) => answer(repository.clone(), found),
        answer = silence => answer,
    }
}

async fn probe_patiently(source: &RegistrySource, registries: &Registries) -> ProbeResult {
    let repository = match repository(source, registries) {
        Ok(repository) => repository,
        Err(error) => return ProbeResult::Unknown(chain(&error)),
    };
    match tokio::time::timeout(CLIENT_DEADLINE, repository.manifest(source.named())).await {
        Ok(found) => answer(repository.clone(), found),
        Err(_) => ProbeResult::Unknown(no_answer(CLIENT_DEADLINE)),
    }
}

fn repository(
    source: &RegistrySource,
    registries: &Registries,
) -> Result<Repository, RegistryError> {
    registries.repository(&source.reference, source.insecure, Access::Pull)
}

fn answer(
    repository: Repository,
    found: Result<Option<RawManifest>, RegistryError>,
) -> ProbeResult {
    match found {
        Ok(Some(raw)) => ProbeResult::Found(repository, raw, None),
        Ok(None) => ProbeResult::Missing,
        Err(error) => ProbeResult::Unknown(chain(&error)),
    }
}

/// Waits until an answer is due no more. A registry that cannot be reached from here, perhaps behind
/// a firewall, is not waited for as long as one that can: the builder may be on the other side.
async fn silence(repository: Repository) -> ProbeResult {
    tokio::time::sleep(PATIENCE).await;
    let reached = tokio::time::timeout(PATIENCE, repository.client().takes_connections()).await;
    if reached != Ok(true) {
        return ProbeResult::Unknown("it cannot be reached from here".to_owned());
    }
    tokio::time::sleep(REST).await;
    ProbeResult::Silent
}

/// What is said about a registry that does not answer.
pub(super) fn no_answer(deadline: Duration) -> String {
    format!("no answer within {} s", deadline.as_secs())
}

/// What is said about a registry that answers, but too slowly.
pub(super) fn not_read(deadline: Duration) -> String {
    format!("its config did not come within {} s", deadline.as_secs())
}
