//! The content store that BuildKit exports a cache to, with a registry behind it.
//!
//! A build may export several times: parts of it while it runs, and all of it at its end. Each export
//! has its own store, which keeps manifest and config apart; the layers are shared.

mod metadata;

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use self::metadata::PartExport;
use self::metadata::{Metadata, MetadataWriter};
use super::layer::{self, Route, StoredLayer, Upload};
use super::{ExportSettings, Storage};
use crate::buildkit::session::content::{BlobWriter, ContentStore, NewBlob, StoreError, Write};
use crate::cache::descriptor::Descriptor;
use crate::cache::remote_cache::{KnownLater, RemoteCache};
use crate::compress::{Algorithm, Level, Workers};
use crate::digest::Digest;
use crate::registry::{Repository, SpoolDir, UploadOptions};

/// Layers under way at once. BuildKit itself writes four; a layer stays under way until the registry
/// has it, which is after BuildKit was answered.
const OPEN_LAYERS: usize = 8;

/// A store whose blobs end in a registry.
pub struct RegistrySink {
    shared: Arc<Shared>,
    /// Manifest and config of the export at the end.
    whole: Arc<Metadata>,
}

struct Shared {
    settings: ExportSettings,
    /// What the registry held before, as it told.
    asked: KnownLater,
    /// The same without blobs that turned out to be gone.
    corrected: Mutex<Option<Arc<RemoteCache>>>,
    /// Blobs that other caches of the repository list.
    neighbours: Mutex<HashMap<Digest, Descriptor>>,
    route: Route,
    open: Arc<Semaphore>,
    layers: Mutex<Layers>,
}

type Layers = HashMap<Digest, Layer>;

enum Layer {
    /// The registry has it, as this blob.
    Stored(StoredLayer),
    /// It is on its way; the export of a part may have brought it.
    Sending { upload: Upload, is_part: bool },
    /// Its upload broke; BuildKit heard the text, but not the upload's own error.
    Failed(Upload, String),
    /// Its upload has ended with this error.
    Broken { error: String, is_part: bool },
}

/// Everything that BuildKit handed over.
#[derive(Debug, Default, Clone)]
pub struct Collected {
    /// Each layer by the digest that BuildKit knows it by.
    pub layers: HashMap<Digest, StoredLayer>,
    /// Manifest and config by digest.
    pub metadata: HashMap<Digest, Bytes>,
    /// Layers that the export of a part brought and that did not arrive. The last export heard that they
    /// were there.
    pub broken: Vec<Digest>,
}

impl fmt::Debug for RegistrySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySink")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl RegistrySink {
    /// Creates a sink for a repository that holds `known` already; the first blob waits for it.
    pub fn new(
        repository: Repository,
        settings: ExportSettings,
        known: KnownLater,
        workers: Workers,
        spool_dir: SpoolDir,
    ) -> Self {
        let route = Route {
            repository,
            options: UploadOptions {
                check_exists: settings.shares_repository,
                mount_from: settings.mount_from.clone(),
                progress: None,
            },
            workers,
            spool_dir,
            uploads: TaskTracker::new(),
            progress: Arc::clone(&settings.progress),
        };
        let shared = Shared {
            settings,
            asked: known,
            corrected: Mutex::default(),
            neighbours: Mutex::default(),
            route,
            open: Arc::new(Semaphore::new(OPEN_LAYERS)),
            layers: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            whole: Arc::default(),
        }
    }

    /// Returns the store of the export at the end.
    pub fn store(&self) -> Arc<dyn ContentStore> {
        Arc::new(SinkStore {
            shared: Arc::clone(&self.shared),
            metadata: Arc::clone(&self.whole),
            is_part: false,
        })
    }

    /// Returns a store for the export of a part of the build.
    pub fn part(&self) -> (PartExport, Arc<dyn ContentStore>) {
        let metadata = Arc::default();
        let store = SinkStore {
            shared: Arc::clone(&self.shared),
            metadata: Arc::clone(&metadata),
            is_part: true,
        };
        (PartExport { metadata }, Arc::new(store))
    }

    /// Returns the export of the end as a part, and whether layers of it are still on their way.
    pub fn whole(&self) -> (PartExport, bool) {
        let is_sending = |layer: &Layer| matches!(layer, Layer::Sending { .. });
        let sending = self.shared.layers.lock().values().any(is_sending);
        let metadata = Arc::clone(&self.whole);
        (PartExport { metadata }, sending)
    }

    /// Takes blobs that other caches of the repository list, so that they are not sent again. Whether they are there is asked
    /// before anything refers to them, as with those of the cache that the reference holds.
    pub fn set_neighbours(&self, blobs: impl IntoIterator<Item = Descriptor>) {
        let blobs = blobs.into_iter().map(|blob| (blob.digest.clone(), blob));
        *self.shared.neighbours.lock() = blobs.collect();
    }

    /// Returns what the registry held before.
    pub async fn known(&self) -> Arc<RemoteCache> {
        self.shared.known().await
    }

    /// Prepares for a second export after blobs of the old cache turned out to be gone: those will be
    /// taken from BuildKit, and what the first export has stored counts as stored.
    pub async fn export_again(&self, lost: &[Digest], collected: Collected) {
        let mut known = RemoteCache::clone(&*self.known().await);
        known.forget(lost);
        let mut neighbours = self.shared.neighbours.lock();
        neighbours.retain(|digest, _| !lost.contains(digest));
        drop(neighbours);
        *self.shared.corrected.lock() = Some(Arc::new(known));
        let there = collected.layers.into_iter();
        let there = there.filter(|(_, stored)| !lost.contains(&stored.digest));
        let there = there.map(|(digest, stored)| (digest, Layer::Stored(stored)));
        *self.shared.layers.lock() = there.collect();
    }

    /// Returns the first error of an upload that broke; BuildKit heard of it, but not why.
    pub async fn failure(&self) -> Option<String> {
        let layers = std::mem::take(&mut *self.shared.layers.lock());
        for layer in layers.into_values() {
            if let Layer::Failed(upload, heard) = layer {
                return Some(ended(upload).await.err().unwrap_or(heard));
            }
        }
        None
    }

    /// Gives up what is on its way, and waits until no upload runs any more. Their sessions are then
    /// among those that [`RegistryClient::close`](crate::registry::RegistryClient::close) waits for.
    pub async fn stop(&self) {
        self.shared.layers.lock().clear();
        let uploads = &self.shared.route.uploads;
        uploads.close();
        uploads.wait().await;
        uploads.reopen();
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        &self.shared.route.repository
    }

    /// Returns the settings.
    pub fn settings(&self) -> &ExportSettings {
        &self.shared.settings
    }

    /// Waits until the registry has every layer, and returns what BuildKit handed over.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first upload that failed, after all have ended.
    ///
    /// Where it is dropped before, every layer is still known: [`finish_parts`](Self::finish_parts) gives
    /// those that have arrived.
    pub async fn finish(&self) -> Result<Collected, String> {
        poll_fn(|context| self.shared.poll_uploads(context)).await;
        let layers = std::mem::take(&mut *self.shared.layers.lock());
        let mut collected = Collected {
            metadata: std::mem::take(&mut *self.whole.lock()),
            ..Collected::default()
        };
        let mut failed = None;
        for (digest, layer) in layers {
            let is_part = matches!(layer, Layer::Broken { is_part: true, .. });
            match layer.ended().await {
                Ok(stored) => {
                    collected.layers.insert(digest, stored);
                }
                Err(error) if is_part => {
                    tracing::debug!(%digest, error, "a layer that was sent early did not arrive");
                    collected.broken.push(digest);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(collected), Err)
    }

    /// Waits as long as `enough` does not end, and returns the layers that the registry has then. Those
    /// whose upload failed or is under way still are given up.
    pub async fn finish_parts(
        &self,
        enough: impl Future<Output = ()>,
    ) -> HashMap<Digest, StoredLayer> {
        let layers = std::mem::take(&mut *self.shared.layers.lock());
        let mut stored = HashMap::new();
        tokio::pin!(enough);
        let mut is_enough = false;
        for (digest, layer) in layers {
            let ended = if is_enough {
                layer.ended().now_or_never()
            } else {
                tokio::select! {
                    biased;
                    ended = layer.ended() => Some(ended),
                    () = &mut enough => {
                        is_enough = true;
                        None
                    }
                }
            };
            match ended {
                None => {}
                Some(Ok(layer)) => {
                    stored.insert(digest, layer);
                }
                Some(Err(error)) => tracing::debug!(%digest, error, "a layer was not stored"),
            }
        }
        stored
    }
}

impl Layer {
    async fn ended(self) -> Result<StoredLayer, String> {
        match self {
            Self::Stored(stored) => Ok(stored),
            Self::Sending { upload, .. } => ended(upload).await,
            Self::Failed(upload, heard) => Err(ended(upload).await.err().unwrap_or(heard)),
            Self::Broken { error, .. } => Err(error),
        }
    }
}

impl Shared {
    /// Waits until no layer is on its way. What has become of each is kept with the others.
    fn poll_uploads(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut all = Poll::Ready(());
        for layer in self.layers.lock().values_mut() {
            let Layer::Sending { upload, is_part } = layer else {
                continue;
            };
            *layer = match Pin::new(upload).poll(context) {
                Poll::Pending => {
                    all = Poll::Pending;
                    continue;
                }
                Poll::Ready(Ok(Ok(stored))) => Layer::Stored(stored),
                Poll::Ready(Ok(Err(error))) => Layer::Broken {
                    error,
                    is_part: *is_part,
                },
                Poll::Ready(Err(error)) => Layer::Broken {
                    error: error.to_string(),
                    is_part: *is_part,
                },
            };
        }
        all
    }

    async fn known(&self) -> Arc<RemoteCache> {
        let corrected = self.corrected.lock().clone();
        match corrected {
            Some(known) => known,
            None => self.asked.clone().await,
        }
    }

    /// Returns the blob that the registry has for a layer already.
    fn stored(&self, known: &RemoteCache, digest: &Digest) -> Option<StoredLayer> {
        let neighbours = self.neighbours.lock();
        let by_digest = || known.blob(digest).or_else(|| neighbours.get(digest));
        let blob = match self.settings.storage {
            Storage::AsGiven => by_digest(),
            Storage::Compress { level, force } => {
                let wanted = Some(level.algorithm());
                let by_content = known.layer(digest, wanted);
                if force {
                    by_content
                } else {
                    // A layer that has another compression in the builder comes as it is.
                    by_content
                        .or_else(|| known.layer(digest, None))
                        .or_else(by_digest)
                }
            }
        }?;
        Some(StoredLayer {
            digest: blob.digest.clone(),
            size: blob.size,
            algorithm: crate::cache::media::algorithm_of(&blob.media_type),
            sent: 0,
        })
    }

    fn level(&self) -> Option<Level> {
        match self.settings.storage {
            Storage::AsGiven => None,
            Storage::Compress { level, .. } => {
                Some(level).filter(|level| level.algorithm() != Algorithm::Uncompressed)
            }
        }
    }
}

/// What the session gets: one export.
struct SinkStore {
    shared: Arc<Shared>,
    metadata: Arc<Metadata>,
    is_part: bool,
}

#[tonic::async_trait]
impl ContentStore for SinkStore {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let metadata = self.metadata.lock();
        let size = metadata.get(digest).map(|bytes| bytes.len() as u64);
        size.ok_or_else(|| StoreError::NotFound(digest.clone()))
    }

    async fn write(&self, blob: NewBlob) -> Result<Write, StoreError> {
        if blob.is_metadata() {
            let writer = MetadataWriter {
                metadata: Arc::clone(&self.metadata),
                digest: blob.digest,
                data: BytesMut::new(),
            };
            return Ok(Write::Open(Box::new(writer)));
        }
        let found = |layer: &Layer| !matches!(layer, Layer::Failed(..) | Layer::Broken { .. });
        let shared = &self.shared;
        if shared.layers.lock().get(&blob.digest).is_some_and(found) {
            return Ok(Write::Exists);
        }
        let known = shared.known().await;
        if let Some(stored) = shared.stored(&known, &blob.digest) {
            shared
                .layers
                .lock()
                .insert(blob.digest, Layer::Stored(stored));
            return Ok(Write::Exists);
        }
        let permit = Arc::clone(&shared.open).acquire_owned().await;
        let permit = permit.map_err(|error| StoreError::failed(&error))?;
        let (writer, upload) = layer::open(
            &shared.route,
            &blob.digest,
            blob.size,
            shared.level(),
            permit,
        );
        let writer = TrackedWriter {
            shared: Arc::clone(shared),
            is_part: self.is_part,
            digest: blob.digest,
            writer,
            upload: Some(upload),
        };
        Ok(Write::Open(Box::new(writer)))
    }
}

async fn ended(upload: Upload) -> Result<StoredLayer, String> {
    upload.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// A layer being written; it counts once it is complete, and its upload ends with it if it is not.
struct TrackedWriter {
    shared: Arc<Shared>,
    /// A part's failure is no failure of the export: the end tries again.
    is_part: bool,
    digest: Digest,
    writer: Box<dyn BlobWriter>,
    /// None once the upload is among the layers.
    upload: Option<Upload>,
}

#[tonic::async_trait]
impl BlobWriter for TrackedWriter {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let written = self.writer.write(data).await;
        if let Err(error) = &written
            && !self.is_part
            && let Some(upload) = self.upload.take()
        {
            // Kept, because the upload's own error says why.
            let failed = Layer::Failed(upload, error.to_string());
            self.shared
                .layers
                .lock()
                .insert(self.digest.clone(), failed);
        }
        written
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self {
            shared,
            is_part,
            digest,
            writer,
            upload,
        } = *self;
        let committed = writer.commit().await;
        let layer = match (upload, &committed) {
            (Some(upload), Ok(())) => Some(Layer::Sending { upload, is_part }),
            (Some(upload), Err(error)) if !is_part => {
                Some(Layer::Failed(upload, error.to_string()))
            }
            _ => None,
        };
        if let Some(layer) = layer {
            shared.layers.lock().insert(digest, layer);
        }
        committed
    }
}
