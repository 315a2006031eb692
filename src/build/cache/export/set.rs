//! The caches of a build that go through this program: opened before the solve, exported beside it,
//! published after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::layout::{LayoutExport, LayoutExportError};
use super::registry::{CacheReport, RegistryExport, RegistryExportError};
use super::targets::{CacheTarget, Carrier};
use crate::build::cache::cancellation::{Cancellation, deadlines};
use crate::build::cache::ends::WriteEnd;
use crate::build::cache::import::Imports;
use crate::build::cache::tools::{CacheObserver, CacheTools};
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::{self, Entry, SolveRequest};
use crate::buildkit::{Client, RpcError};
use crate::cache::descriptor::Descriptor;
use crate::cache::extras::mounts::Mounts;
use crate::cache::record::observe::Observed;
use crate::registry::manifest::ManifestDescriptor;

/// What BuildKit's answer calls the manifest of the cache that it has written; of several caches the last.
const WRITTEN: &str = "cache.manifest";
/// How long a build waits for its record and signature to be added.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why the caches of a build are not opened or not published.
#[derive(Debug, Error)]
pub enum CacheSetError {
    /// A registry cache failed.
    #[error(transparent)]
    Registry(#[from] RegistryExportError),
    /// A layout folder failed.
    #[error(transparent)]
    Layout(#[from] LayoutExportError),
    /// The user has cancelled.
    #[error("the build was cancelled")]
    Cancelled,
}

/// The caches of a build.
#[derive(Debug)]
pub struct CacheSet {
    /// Registry caches, those that the builder stores among them: this program does if the build fails.
    registries: Vec<Arc<RegistryExport>>,
    layouts: Vec<LayoutExport>,
    /// The builder sends caches, too, and does not tell how much.
    builder_sends: bool,
}

impl CacheSet {
    /// Opens them.
    ///
    /// # Errors
    ///
    /// Fails if a registry cannot be addressed, or a folder cannot be made.
    pub fn open(
        targets: &[CacheTarget],
        current_dir: &Path,
        tools: &CacheTools,
    ) -> Result<Self, CacheSetError> {
        let mut caches = Self {
            registries: Vec::new(),
            layouts: Vec::new(),
            builder_sends: targets.iter().any(CacheTarget::is_sent_by_builder),
        };
        for target in targets {
            match target {
                CacheTarget::Registry(target) => {
                    let cache = RegistryExport::open(target, tools)?;
                    caches.registries.push(Arc::new(cache));
                }
                CacheTarget::Layout(target) => {
                    caches
                        .layouts
                        .push(LayoutExport::open(target, current_dir)?);
                }
                CacheTarget::Builder(_) => {}
            }
        }
        Ok(caches)
    }

    /// Returns the registry caches.
    pub fn registries(&self) -> &[Arc<RegistryExport>] {
        &self.registries
    }

    /// Returns those that this program stores.
    fn carried(&self) -> impl Iterator<Item = &Arc<RegistryExport>> {
        let registries = self.registries.iter();
        registries.filter(|cache| cache.target().via == Carrier::Client)
    }

    /// Offers their stores in the session.
    pub fn offer(&self, stores: &ContentStores) {
        for cache in self.carried() {
            cache.offer(stores);
        }
        for cache in &self.layouts {
            cache.offer(stores);
        }
    }

    /// Returns the cache whose export broke the solve: BuildKit knows only that it broke.
    pub async fn failure(&self) -> Option<RegistryExportError> {
        for cache in self.carried() {
            if let Some(error) = cache.failure().await {
                return Some(error);
            }
        }
        None
    }

    /// Returns what became of the caches that this program was to store, as far as it is known.
    pub fn ends(&self) -> Vec<(String, WriteEnd)> {
        let ends = self.registries.iter().filter_map(|cache| {
            let name = cache.target().cache.raw_ref.clone();
            Some((name, cache.end()?))
        });
        ends.collect()
    }

    /// Returns whether the answer of a solve says that the builder has written a cache.
    pub fn is_written_by_builder(response: &BTreeMap<String, String>) -> bool {
        response.contains_key(WRITTEN)
    }

    /// Gives up what is still on its way. Whoever owns the registry clients waits for the end of its upload sessions
    /// ([`Registries::close`](crate::cache::registries::Registries::close)).
    pub async fn stop(&self) {
        for cache in &self.registries {
            cache.stop().await;
        }
    }

    /// Tells the caches that are written which layers their repositories have in those that were read, and has scopes take
    /// in those that were read beside them.
    pub fn take_in(&self, read: &Imports) {
        for cache in &self.registries {
            cache.set_neighbours(read.layers_in(&cache.target().cache.reference));
        }
        let takes_in = |cache: &&Arc<RegistryExport>| cache.target().cache.takes_in;
        for cache in self.registries.iter().filter(takes_in) {
            if let Some(others) = read.beside(&cache.target().cache.reference) {
                cache.take_in(others);
            }
        }
    }

    /// Returns whether one of the caches tells files, and its reference holds nothing that tells of builds.
    pub async fn tell_first(&self) -> bool {
        let firsts = self.registries().iter().map(|cache| cache.tells_first());
        futures_util::future::join_all(firsts).await.contains(&true)
    }

    /// Takes what is to be told of the build in the caches. It is told when they are published.
    pub fn set_record(&self, observed: &Arc<Observed>) {
        for cache in &self.registries {
            cache.set_record(observed);
        }
    }

    /// Learns what the caches tell that BuildKit is about to write anew, and waits for it, but not long.
    pub async fn hold_records(&self) {
        let held = self.registries.iter().map(|cache| cache.hold_record());
        futures_util::future::join_all(held).await;
    }

    /// Takes the names of caches that the build reads and that are not verified.
    pub fn reads_unverified(&self, caches: &[String]) {
        for cache in &self.registries {
            cache.reads_unverified(caches);
        }
    }

    /// Adds record and signature to the caches that BuildKit has written, and corrects what the answer of the solve
    /// says of them.
    pub async fn add_extras(&self, response: &mut BTreeMap<String, String>) {
        let written = response.get(WRITTEN);
        let written = written.and_then(|json| serde_json::from_str::<Descriptor>(json).ok());
        let by_builder = self.registries.iter();
        let by_builder = by_builder.filter(|cache| cache.target().via == Carrier::Builder);
        let digest = written.as_ref().map(|written| &written.digest);
        let added = by_builder.map(|cache| cache.add_extras(digest));
        let added = tokio::time::timeout(PATIENCE, futures_util::future::join_all(added)).await;
        let Ok(added) = added else {
            tracing::debug!("the registry takes too long to take record and signature");
            for cache in &self.registries {
                cache.gives_up_signature();
            }
            return;
        };
        if let Some(manifest) = added.into_iter().flatten().next_back() {
            tell(response, manifest);
        }
    }

    /// Adds signatures as objects of their own, where that is asked for.
    pub async fn add_referrers(&self) {
        let added = self.registries.iter().map(|cache| cache.add_referrer());
        let added = futures_util::future::join_all(added);
        if tokio::time::timeout(PATIENCE, added).await.is_err() {
            tracing::debug!("the registry takes too long to take signatures of their own");
        }
    }

    /// Adds cache mounts to the registry caches, of which these are for each, in their order; `of_failed`, where the build
    /// has failed, only to those that outlive that.
    pub async fn add_mounts(
        &self,
        new: &[Mounts],
        of_failed: bool,
        response: &mut BTreeMap<String, String>,
    ) {
        let none = Mounts::default();
        let new = new.iter().chain(std::iter::repeat(&none));
        let added = self.registries.iter().zip(new);
        let added = added.filter(|(cache, _)| !of_failed || cache.target().survives_failure());
        let added = added.map(async |(cache, new)| {
            let is_by_builder = cache.target().via == Carrier::Builder;
            cache.add_mounts(new).await.filter(|_| is_by_builder)
        });
        let added = tokio::time::timeout(PATIENCE, futures_util::future::join_all(added)).await;
        let Ok(added) = added else {
            tracing::debug!("the registry takes too long to take the mounts");
            return;
        };
        if let Some(manifest) = added.into_iter().flatten().next_back() {
            tell(response, manifest);
        }
    }

    /// Publishes them after the build, when the image is safe. The session must still be there. Where the user
    /// cancels, what has arrived is kept within each cache's `on-failure-timeout`.
    ///
    /// # Errors
    ///
    /// Fails if a cache without `ignore-error` cannot be published, or if the user cancels.
    pub async fn publish(
        &self,
        request: &SolveRequest,
        client: &Client,
        observer: &dyn CacheObserver,
        cancellation: &Cancellation,
    ) -> Result<Vec<CacheReport>, CacheSetError> {
        for cache in &self.layouts {
            cache.publish(observer).await?;
        }
        let cancel = &cancellation.graceful;
        let again = async |entry| export_again(client, request, entry, cancel).await;
        let published = self.carried();
        let published = published.map(|cache| publish_one(cache, &again, cancellation));
        // One that fails does not keep the others from being published.
        let reports = futures_util::future::join_all(published).await;
        if cancel.is_cancelled() {
            return Err(CacheSetError::Cancelled);
        }
        let reports = reports.into_iter().collect::<Result<Vec<_>, _>>()?;
        let reports: Vec<_> = reports.into_iter().flatten().collect();
        self.tell_sent(&reports, observer);
        Ok(reports)
    }

    /// A part of what was sent is not told for the whole.
    fn tell_sent(&self, reports: &[CacheReport], observer: &dyn CacheObserver) {
        if reports.is_empty() || self.builder_sends {
            return;
        }
        let published = reports
            .iter()
            .filter_map(|report| report.outcome.as_ref().ok()?.as_ref());
        observer.sent(published.map(|published| published.sent_bytes).sum());
    }
}

/// Corrects what the answer of a solve says of the manifest that BuildKit has written.
fn tell(response: &mut BTreeMap<String, String>, manifest: ManifestDescriptor) {
    let written = response.get(WRITTEN);
    let written = written.and_then(|json| serde_json::from_str::<Descriptor>(json).ok());
    let Some(written) = written else { return };
    let manifest = Descriptor {
        media_type: manifest.media_type,
        digest: manifest.digest,
        size: manifest.size,
        ..written
    };
    if let Ok(json) = serde_json::to_string(&manifest) {
        response.insert(WRITTEN.to_owned(), json);
    }
}

/// Publishes one cache; nothing comes back where the user has cancelled.
async fn publish_one<E>(
    cache: &RegistryExport,
    again: impl AsyncFn(Entry) -> Result<(), E>,
    cancellation: &Cancellation,
) -> Result<Option<CacheReport>, RegistryExportError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let keeps = cache.target().survives_failure();
    let timeout = cache.target().cache.on_failure_timeout;
    let enough = async {
        cancellation.graceful.cancelled().await;
        tokio::time::sleep_until(deadlines(timeout).0).await;
    };
    let end = async {
        cancellation.graceful.cancelled().await;
        if keeps {
            tokio::select! {
                () = tokio::time::sleep_until(deadlines(timeout).1) => {}
                () = cancellation.force.cancelled() => {}
            }
        }
    };
    tokio::select! {
        published = cache.publish_until(again, enough) => published,
        () = end => Ok(None),
    }
}

/// Has the builder export one cache once more. It has every step's result; nothing runs, nothing
/// else is exported and nothing is shown.
async fn export_again(
    client: &Client,
    request: &SolveRequest,
    entry: Entry,
    cancel: &CancellationToken,
) -> Result<(), RpcError> {
    let mut request = SolveRequest {
        build_ref: crate::buildkit::new_id(),
        exporters: Vec::new(),
        cache_exports: vec![entry],
        internal: true,
        ..request.clone()
    };
    request.attrs.remove("no-cache");
    solve::solve(client, &request, None, cancel, drop)
        .await
        .map(drop)
}
