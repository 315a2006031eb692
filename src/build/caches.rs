//! The caches of a build that go through this program: opened before the solve, exported beside it,
//! published after it.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::alongside::{Stops, after_cancel};
use super::cache::{CacheTarget, Carrier};
use super::client_cache::{CacheObserver, CacheReport, ClientCache, ClientCacheError, ClientTools};
use super::layout_cache::{LayoutCache, LayoutCacheError};
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::{self, Entry, SolveRequest};
use crate::buildkit::{Client, RpcError};

/// Why the caches of a build are not opened or not published.
#[derive(Debug, Error)]
pub(super) enum CachesError {
    /// A registry cache failed.
    #[error(transparent)]
    Registry(#[from] ClientCacheError),
    /// A layout folder failed.
    #[error(transparent)]
    Layout(#[from] LayoutCacheError),
    /// The user has cancelled.
    #[error("the build was cancelled")]
    Cancelled,
}

/// The caches of a build.
pub(super) struct Caches {
    /// Registry caches, those that the builder stores among them: this program does if the build fails.
    registries: Vec<Arc<ClientCache>>,
    layouts: Vec<LayoutCache>,
    /// The builder sends caches, too, and does not tell how much.
    builder_sends: bool,
}

impl Caches {
    /// Opens them.
    pub(super) fn open(
        targets: &[CacheTarget],
        current_dir: &Path,
        tools: &ClientTools,
    ) -> Result<Self, CachesError> {
        let mut caches = Self {
            registries: Vec::new(),
            layouts: Vec::new(),
            builder_sends: targets.iter().any(CacheTarget::is_sent_by_builder),
        };
        for target in targets {
            match target {
                CacheTarget::Registry(target) => {
                    let cache = ClientCache::open(target, tools)?;
                    caches.registries.push(Arc::new(cache));
                }
                CacheTarget::Layout(target) => {
                    caches.layouts.push(LayoutCache::open(target, current_dir)?);
                }
                CacheTarget::Builder(_) => {}
            }
        }
        Ok(caches)
    }

    /// Returns the registry caches.
    pub(super) fn registries(&self) -> &[Arc<ClientCache>] {
        &self.registries
    }

    /// Returns those that this program stores.
    fn carried(&self) -> impl Iterator<Item = &Arc<ClientCache>> {
        let registries = self.registries.iter();
        registries.filter(|cache| cache.target().via == Carrier::Client)
    }

    /// Offers their stores in the session.
    pub(super) fn offer(&self, stores: &ContentStores) {
        for cache in self.carried() {
            cache.offer(stores);
        }
        for cache in &self.layouts {
            cache.offer(stores);
        }
    }

    /// Returns the cache whose export broke the solve: BuildKit knows only that it broke.
    pub(super) async fn failure(&self) -> Option<ClientCacheError> {
        for cache in self.carried() {
            if let Some(error) = cache.failure().await {
                return Some(error);
            }
        }
        None
    }

    /// Gives up what is still on its way. Whoever owns the registry clients waits for the end of its upload sessions
    /// ([`Registries::close`](crate::cache::registries::Registries::close)).
    pub(super) async fn stop(&self) {
        for cache in &self.registries {
            cache.stop().await;
        }
    }

    /// Publishes them after the build, when the image is safe. The session must still be there. Where the user
    /// cancels, what has arrived is kept within each cache's `on-failure-timeout`.
    pub(super) async fn publish(
        &self,
        request: &SolveRequest,
        client: &Client,
        observer: &dyn CacheObserver,
        stops: &Stops,
    ) -> Result<Vec<CacheReport>, CachesError> {
        for cache in &self.layouts {
            cache.publish(observer).await?;
        }
        let cancel = &stops.cancel;
        let again = async |entry| export_again(client, request, entry, cancel).await;
        let published = self.carried();
        let published = published.map(|cache| publish_one(cache, &again, stops));
        // One that fails does not keep the others from being published.
        let reports = futures_util::future::join_all(published).await;
        if cancel.is_cancelled() {
            return Err(CachesError::Cancelled);
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

/// Publishes one cache; nothing comes back where the user has cancelled.
async fn publish_one<E>(
    cache: &ClientCache,
    again: impl AsyncFn(Entry) -> Result<(), E>,
    stops: &Stops,
) -> Result<Option<CacheReport>, ClientCacheError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let keeps = cache.target().survives_failure();
    let enough = async {
        stops.cancel.cancelled().await;
        tokio::time::sleep_until(after_cancel(cache).0).await;
    };
    let end = async {
        stops.cancel.cancelled().await;
        if keeps {
            tokio::select! {
                () = tokio::time::sleep_until(after_cancel(cache).1) => {}
                () = stops.hurry.cancelled() => {}
            }
        }
    };
    tokio::select! {
        published = cache.publish_until(again, enough) => published,
        () = end => Ok(None),
    }
}

/// Makes the builder export one cache once more. It has every step's result; nothing runs, nothing
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
