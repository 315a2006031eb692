//! The caches of a build that go through this program: opened before the solve, exported beside it,
//! published after it.

use std::sync::Arc;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::alongside::{Early, Lane, Stops, after_cancel};
use super::cache::{CacheExports, ClientExport};
use super::client_cache::{
    Ask, CacheObserver, CacheReport, ClientCache, ClientCacheError, ClientTools,
};
use super::layout_cache::{LayoutCache, LayoutCacheError};
use super::spec::BuildSpec;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::{self, Entry, SolveRequest};
use crate::buildkit::{Client, RpcError};
use crate::options::cache::OnFailure;

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
    /// Registry caches that this program stores.
    client: Vec<Arc<ClientCache>>,
    /// Registry caches that the builder stores; this program does only if the build fails.
    builder: Vec<Arc<ClientCache>>,
    layouts: Vec<LayoutCache>,
    /// The builder sends caches, too, and does not tell how much.
    builder_sends: bool,
}

impl Caches {
    /// Opens them.
    pub(super) fn open(
        exports: &CacheExports,
        spec: &BuildSpec,
        tools: &ClientTools,
    ) -> Result<Self, CachesError> {
        let layouts = exports.layouts.iter();
        let layouts = layouts.map(|export| LayoutCache::open(export, &spec.inputs.current_dir));
        let layouts = layouts.collect::<Result<_, _>>()?;
        let open = |exports: &[ClientExport], ask| {
            let caches = exports.iter();
            let caches = caches.map(|e| Ok(Arc::new(ClientCache::open(e, spec, tools, ask)?)));
            caches.collect::<Result<Vec<_>, ClientCacheError>>()
        };
        Ok(Self {
            client: open(&exports.client, Ask::Now)?,
            builder: open(&exports.builder, Ask::Later)?,
            layouts,
            builder_sends: exports.entries.iter().any(is_sent_by_builder),
        })
    }

    /// Returns what is exported beside the build, or when it fails.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let lane = |cache: &Arc<ClientCache>, early| Lane {
            cache: Arc::clone(cache),
            early: if cache.alongside() {
                early
            } else {
                Early::Nothing
            },
        };
        let client = self.client.iter().map(|cache| lane(cache, Early::Sent));
        let builder = self
            .builder
            .iter()
            .map(|cache| lane(cache, Early::Compressed));
        client.chain(builder).collect()
    }

    pub(super) fn offer(&self, stores: &ContentStores) {
        for cache in &self.client {
            cache.offer(stores);
        }
        for cache in &self.layouts {
            cache.offer(stores);
        }
    }

    /// Returns the cache whose export broke the solve: BuildKit knows only that it broke.
    pub(super) async fn failure(&self) -> Option<ClientCacheError> {
        for cache in &self.client {
            if let Some(error) = cache.failure().await {
                return Some(error);
            }
        }
        None
    }

    /// Gives up what is still on its way. Whoever owns the registry clients waits for the end of its upload sessions
    /// ([`Registries::close`](crate::cache::registries::Registries::close)).
    pub(super) async fn stop(&self) {
        for cache in self.client.iter().chain(&self.builder) {
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
        let published = self
            .client
            .iter()
            .map(|cache| publish_one(cache, &again, stops));
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

/// A `local` export goes through the session, and an `inline` one is part of the image.
fn is_sent_by_builder(entry: &Entry) -> bool {
    !matches!(entry.kind.as_str(), "local" | "inline")
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
    let keeps = cache.on_failure() == OnFailure::Export;
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
