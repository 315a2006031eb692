//! One layer on its way from BuildKit to the registry, compressed on the way where that is wanted.
//!
//! What BuildKit sends goes into a bounded queue; the upload reads from its other end and keeps a
//! copy in an unnamed spool file, so that a broken upload starts again without BuildKit. Where no such
//! file can be made or written, it goes on without one. BuildKit is answered as soon as its bytes are queued: its next round trip does not wait for the registry's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::ExportProgress;
use crate::buildkit::session::content::{BlobWriter, StoreError};
use crate::compress::{self, Algorithm, Encoder, Level, Workers};
use crate::digest::Digest;
use crate::registry::{Arrival, BlobSource, Repository, SpoolDir, UploadOptions, Uploaded};

/// Pieces of a layer that wait for the upload; BuildKit sends 1 MiB in each.
const QUEUE: usize = 4;
/// The largest layer that is kept in a spool file, in bytes.
const MAX_SPOOL: u64 = 64 << 30;
/// How often progress is reported.
const TICK: Duration = Duration::from_millis(200);

/// A layer as it is stored in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Its compression, where it was made or looked at here.
    pub algorithm: Option<Algorithm>,
    /// Bytes that were sent for it.
    pub sent: u64,
}

/// The end of an upload.
pub type Upload = AbortOnDropHandle<Result<StoredLayer, String>>;

/// Where and how a layer goes.
#[derive(Clone)]
pub struct Route {
    /// The repository.
    pub repository: Repository,
    /// How the upload is done.
    pub options: UploadOptions,
    /// Threads for compression.
    pub workers: Workers,
    /// Folder of the spool files.
    pub spool_dir: SpoolDir,
    /// The uploads that run.
    pub uploads: TaskTracker,
    /// Shows the bytes.
    pub progress: Arc<dyn ExportProgress>,
}

/// Begins to take a layer of known digest. `level` is how it is compressed, if it is not already.
pub fn open(
    route: &Route,
    digest: &Digest,
    size: Option<u64>,
    level: Option<Level>,
    permit: OwnedSemaphorePermit,
) -> (Box<dyn BlobWriter>, Upload) {
    let (started, start) = oneshot::channel();
    let route_workers = route.workers.clone();
    let (uploads, route, wanted) = (&route.uploads, route.clone(), digest.clone());
    let task = uploads.spawn(async move {
        let _permit = permit;
        match start.await {
            Ok(source) => send(&route, &wanted, size, source).await,
            Err(_) => Err(format!("layer {wanted} was broken off")),
        }
    });
    let writer = LayerWriter {
        digest: digest.clone(),
        level,
        started: Some(started),
        workers: route_workers,
        state: State::Waiting,
    };
    (Box::new(writer), AbortOnDropHandle::new(task))
}

/// What the first bytes decided.
enum Source {
    /// The blob as it is.
    CopySource(CopySource),
    /// The blob that is being made of it.
    Compressed(compress::Output, Level),
}

async fn send(
    route: &Route,
    digest: &Digest,
    size: Option<u64>,
    source: Source,
) -> Result<StoredLayer, String> {
    let sent = Arc::new(AtomicU64::new(0));
    let options = UploadOptions {
        progress: Some(Arc::clone(&sent)),
        ..route.options.clone()
    };
    let name = format!("layer {digest}");
    let (algorithm, total) = match &source {
        Source::CopySource(given) => (given.algorithm, size.unwrap_or(0)),
        Source::Compressed(_, level) => (Some(level.algorithm()), 0),
    };
    let given = matches!(source, Source::CopySource(_));
    let upload = async {
        let dir = &route.spool_dir;
        match source {
            Source::CopySource(given) => {
                let source = BlobSource::spooled(given, dir, MAX_SPOOL);
                let repository = &route.repository;
                let uploaded = match size {
                    Some(size) => repository.upload(digest, size, &source, &options).await,
                    None => repository.upload_stream(&source, &options).await,
                };
                if uploaded
                    .as_ref()
                    .is_ok_and(|blob| blob.arrival != Arrival::Sent)
                {
                    // The registry had it. BuildKit sends it all the same and must be heard out.
                    drain(&source).await.map_err(|e| crate::error::chain(&e))?;
                }
                uploaded
            }
            Source::Compressed(output, _) => {
                let output =
                    futures_util::StreamExt::map(output, |piece| piece.map_err(io::Error::other));
                let source = BlobSource::spooled(output, dir, MAX_SPOOL);
                // Where the image is pushed, its blobs are of BuildKit's making: nothing to mount.
                let options = UploadOptions {
                    mount_from: None,
                    check_exists: false,
                    ..options
                };
                route.repository.upload_stream(&source, &options).await
            }
        }
        .map_err(|error| crate::error::chain(&error))
    };
    let uploaded: Uploaded = show(upload, route.progress.as_ref(), &name, &sent, total).await?;
    // Without a size the blob was sent before its digest was known.
    if given && uploaded.digest != *digest {
        return Err(format!(
            "the builder announced layer {digest} and sent {}",
            uploaded.digest
        ));
    }
    Ok(StoredLayer {
        digest: uploaded.digest,
        size: uploaded.size,
        algorithm,
        sent: sent.load(Ordering::Relaxed),
    })
}

/// Reads what is left of a blob that is not needed.
async fn drain(source: &BlobSource) -> io::Result<()> {
    if let Some(mut pieces) = source.open().await? {
        while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
            drop(piece?);
        }
    }
    Ok(())
}

/// Reports the progress of some work until it ends.
async fn show<T>(
    work: impl Future<Output = Result<T, String>>,
    progress: &dyn ExportProgress,
    name: &str,
    sent: &AtomicU64,
    total: u64,
) -> Result<T, String> {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            result = &mut work => {
                // What was sent since the last tick counts, too.
                progress.part(name, sent.load(Ordering::Relaxed), total);
                progress.part_done(name);
                return result;
            }
            _ = ticks.tick() => progress.part(name, sent.load(Ordering::Relaxed), total),
        }
    }
}

/// A layer whose bytes are sent as they come.
struct CopySource {
    pieces: mpsc::Receiver<Piece>,
    algorithm: Option<Algorithm>,
    ended: bool,
}

enum Piece {
    Data(Bytes),
    /// The layer is complete; a queue that closes without this was broken off.
    End,
}

impl Stream for CopySource {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(data)) => Some(Ok(data)),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                let text = "the builder broke the layer off";
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)))
            }
        })
    }
}

/// Takes a layer from BuildKit.
struct LayerWriter {
    digest: Digest,
    level: Option<Level>,
    started: Option<oneshot::Sender<Source>>,
    workers: Workers,
    state: State,
}

enum State {
    /// No byte yet: what the layer is shows in its first bytes.
    Waiting,
    CopySource(mpsc::Sender<Piece>),
    Compressing(Box<Encoder>),
}

impl LayerWriter {
    /// Looks at the first bytes and begins the upload.
    fn begin(&mut self, head: &[u8]) -> Result<(), StoreError> {
        let found = compress::detect(head);
        let level = self
            .level
            .filter(|_| found.is_none_or(|a| a == Algorithm::Uncompressed));
        let (state, source) = match level {
            Some(level) if level.algorithm() != Algorithm::Uncompressed => {
                let (encoder, output) = Encoder::new(level, &self.workers);
                (
                    State::Compressing(Box::new(encoder)),
                    Source::Compressed(output, level),
                )
            }
            _ => {
                let (sender, pieces) = mpsc::channel(QUEUE);
                let given = CopySource {
                    pieces,
                    algorithm: found,
                    ended: false,
                };
                (State::CopySource(sender), Source::CopySource(given))
            }
        };
        self.state = state;
        let upload = self.started.take().map(|started| started.send(source));
        match upload {
            Some(Ok(())) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    /// The upload is over before the layer is; its own error is reported at the end of the export.
    fn ended(&self) -> StoreError {
        StoreError::Failed(format!("the upload of layer {} failed", self.digest))
    }
}

#[tonic::async_trait]
impl BlobWriter for LayerWriter {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        if matches!(self.state, State::Waiting) {
            self.begin(&data)?;
        }
        let result = match &mut self.state {
            State::CopySource(sender) => sender.send(Piece::Data(data)).await.map_err(drop),
            State::Compressing(encoder) => encoder.write(data).await.map_err(drop),
            State::Waiting => Err(()),
        };
        result.map_err(|()| self.ended())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        if matches!(self.state, State::Waiting) {
            self.begin(&[])?;
        }
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::CopySource(sender) => {
                // An upload of known size ends with its last byte and may be over by now; if it failed,
                // that is reported at the end of the export.
                drop(sender.send(Piece::End).await);
                Ok(())
            }
            State::Compressing(encoder) => {
                let digests = encoder
                    .finish()
                    .await
                    .map_err(|error| StoreError::failed(&error))?;
                if digests.uncompressed == self.digest {
                    return Ok(());
                }
                Err(StoreError::Failed(format!(
                    "the builder announced layer {} and sent {}",
                    self.digest, digests.uncompressed
                )))
            }
            State::Waiting => Err(self.ended()),
        }
    }
}
