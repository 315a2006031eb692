//! A mount on its way out of the builder: what the script in the container writes, packed and stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use tokio::sync::mpsc;

use super::FILES;
use super::errors::SaveError;
use crate::buildkit::RpcError;
use crate::buildkit::container::{Process, Said};
use crate::cache::export::ExportProgress;
use crate::mounts::Index;
use crate::mounts::pack::{Old, Pack, pack};
use crate::mounts::pipe::{END_OF_STREAM, PipeReader};
use crate::registry::{Arrival, BlobSource, RegistryError, Repository, UploadOptions};

/// Pieces of the stream, and packs, that wait for who takes them.
const PIECES: usize = 16;
const PACKS: usize = 1;
/// Packs that are sent at a time: on a long line each waits several times for an answer.
const UPLOADS: usize = 2;

/// Counts and shows what is sent of a mount.
pub(super) struct Sent<'a> {
    bytes: AtomicU64,
    progress: &'a dyn ExportProgress,
}

impl<'a> Sent<'a> {
    pub(super) fn new(progress: &'a dyn ExportProgress) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            progress,
        }
    }

    pub(super) fn add(&self, more: u64) {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.progress.part(FILES, bytes, 0);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// How a mount is packed, and where to.
pub(super) struct Packing<'a> {
    /// The most bytes that its files may have.
    pub(super) most: u64,
    pub(super) repository: &'a Repository,
    pub(super) sent: &'a Sent<'a>,
}

/// Packs what the process writes, while its packs are stored.
pub(super) async fn take(
    mut process: Process,
    old: Option<Arc<Old>>,
    packing: &Packing<'_>,
) -> Result<Index, SaveError> {
    let Packing {
        most,
        repository,
        sent,
    } = *packing;
    let (pieces, input) = mpsc::channel(PIECES);
    let (output, mut packs) = mpsc::channel::<Pack>(PACKS);
    let packing = tokio::task::spawn_blocking(move || {
        let store = &mut |pack: Pack| output.blocking_send(pack).is_ok();
        pack(PipeReader::new(input), old.as_deref(), most, store)
    });
    // A pack that cannot be stored ends the packing, and that the reading.
    let store = async move {
        let packs = stream::poll_fn(|context| packs.poll_recv(context));
        let stored = packs.map(|pack| upload(repository, pack));
        let stored = stored.buffer_unordered(UPLOADS);
        let count = |bytes| {
            sent.add(bytes);
            future::ok(())
        };
        stored.try_for_each(count).await
    };
    let (ended, stored, packed) = tokio::join!(read(&mut process, pieces), store, packing);
    if let Some(error) = ended {
        return Err(error);
    }
    stored?;
    Ok(packed.map_err(|_| SaveError::Thread)??)
}

/// Passes on what the process writes; returns an error where that has no end.
async fn read(process: &mut Process, pieces: mpsc::Sender<Bytes>) -> Option<SaveError> {
    if let Err(status) = process.stdin().close().await {
        return Some(RpcError::from(status).into());
    }
    let mut said = process.first().await;
    loop {
        match said {
            Ok(Said::Output(bytes)) => {
                if pieces.send(bytes.into()).await.is_err() {
                    // Whoever packs has given up, and says why.
                    return None;
                }
            }
            Ok(Said::Ended(0)) => {
                let _told = pieces.send(END_OF_STREAM).await;
                return None;
            }
            Ok(Said::Ended(code)) => return Some(SaveError::ended(code, process)),
            Err(status) => return Some(RpcError::from(status).into()),
        }
        said = process.next().await;
    }
}

/// Stores a blob, and returns how many bytes were sent.
pub(super) async fn upload(
    repository: &Repository,
    Pack { digest, bytes }: Pack,
) -> Result<u64, RegistryError> {
    let size = bytes.len() as u64;
    let options = UploadOptions {
        check_exists: true,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(bytes);
    let uploaded = repository.upload(&digest, size, &source, &options).await?;
    Ok(if uploaded.arrival == Arrival::Sent {
        size
    } else {
        0
    })
}
