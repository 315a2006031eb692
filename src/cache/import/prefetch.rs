//! Downloads that read ahead of a reader who asks for one piece after the other.
//!
//! Each piece is a call of its own, and a request of its own to the registry would cost a round trip a
//! mebibyte. So the download stays open between two calls: the next call that begins where the last
//! one ended goes on with it. A call elsewhere gets a request for a range.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::buildkit::session::content::{Pieces, StoreError};
use crate::digest::Digest;
use crate::registry::{Download, RegistryError, Repository};

/// Bytes that are handed on at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the reader: about 2 MiB with those at both ends.
const CHUNKS: usize = 6;
/// Downloads that stay open between calls. BuildKit reads four blobs at once for each import.
const OPEN: usize = 8;
/// A download that nobody has read for this long ends; a later call opens another.
const IDLE: Duration = Duration::from_secs(20);
/// How long one chunk may take: a registry that sends a byte a second holds the build up, and in the builder
/// all others.
const SLOW: Duration = Duration::from_secs(60);

/// Downloads of one repository.
pub(super) struct ReadAhead {
    repository: Repository,
    idle: Arc<Mutex<Idle>>,
}

/// Downloads between two calls, and a count that tells which was put back first.
#[derive(Default)]
struct Idle {
    count: u64,
    open: HashMap<Digest, (u64, Flow)>,
}

impl Idle {
    fn take(&mut self, digest: &Digest, offset: u64) -> Option<Flow> {
        let fits = self
            .open
            .get(digest)
            .is_some_and(|(_, flow)| flow.at == offset);
        let found = fits.then(|| self.open.remove(digest)).flatten();
        found.map(|(_, flow)| flow)
    }

    fn put(&mut self, digest: Digest, flow: Flow) {
        self.count += 1;
        self.open.insert(digest, (self.count, flow));
        if self.open.len() > OPEN {
            let oldest = self.open.iter().min_by_key(|(_, (count, _))| *count);
            if let Some(digest) = oldest.map(|(digest, _)| digest.clone()) {
                self.open.remove(&digest);
            }
        }
    }
}

impl ReadAhead {
    pub(super) fn new(repository: Repository) -> Self {
        Self {
            repository,
            idle: Arc::default(),
        }
    }

    /// Reads a part of a blob of `total` bytes.
    pub(super) fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
        total: u64,
    ) -> Pieces {
        let end = size.map_or(total, |size| offset.saturating_add(size).min(total));
        if offset >= end {
            return stream::empty().boxed();
        }
        let flow = self.idle.lock().take(digest, offset);
        let reading = Reading {
            flow: flow.unwrap_or_else(|| Flow::open(&self.repository, digest, offset, total)),
            end,
            digest: digest.clone(),
            repository: self.repository.clone(),
            idle: Arc::clone(&self.idle),
            total,
        };
        stream::try_unfold(reading, |mut reading| async move {
            let piece = reading.next().await?;
            Ok(piece.map(|piece| (piece, reading)))
        })
        .boxed()
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().open.len()
    }
}

/// One call.
struct Reading {
    flow: Flow,
    end: u64,
    total: u64,
    digest: Digest,
    repository: Repository,
    idle: Arc<Mutex<Idle>>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.flow.at >= self.end {
            self.give_back();
            return Ok(None);
        }
        if let Some(piece) = self.flow.next(self.end).await? {
            return Ok(Some(piece));
        }
        // The download was given up while nobody read.
        self.flow = Flow::open(&self.repository, &self.digest, self.flow.at, self.total);
        match self.flow.next(self.end).await? {
            Some(piece) => Ok(Some(piece)),
            None => Err(StoreError::Failed(format!(
                "the download of {} ended early",
                self.digest
            ))),
        }
    }

    /// Leaves the download for the next call; one that is at its end is done.
    fn give_back(&mut self) {
        if self.flow.at < self.total {
            let flow = std::mem::replace(&mut self.flow, Flow::ended(self.total));
            self.idle.lock().put(self.digest.clone(), flow);
        }
    }
}

/// A download that runs on its own as far as the channel lets it. It ends when this is dropped.
struct Flow {
    /// The next byte that is given.
    at: u64,
    /// What was received and not given yet.
    rest: Bytes,
    chunks: Option<mpsc::Receiver<Result<Bytes, StoreError>>>,
    _task: JoinSet<()>,
}

impl Flow {
    fn open(repository: &Repository, digest: &Digest, at: u64, total: u64) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let (repository, digest) = (repository.clone(), digest.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let opened = if at == 0 {
                repository.download(&digest, Some(total)).await
            } else {
                repository.download_range(&digest, at..total).await
            };
            let result = match opened {
                Ok(download) => pump(download, &sender).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                let error = if error.is_not_found() {
                    StoreError::NotFound(digest)
                } else {
                    StoreError::failed(&error)
                };
                // Nobody may be there to hear it.
                drop(sender.send(Err(error)).await);
            }
        });
        Self {
            at,
            rest: Bytes::new(),
            chunks: Some(chunks),
            _task: task,
        }
    }

    fn ended(at: u64) -> Self {
        Self {
            at,
            rest: Bytes::new(),
            chunks: None,
            _task: JoinSet::new(),
        }
    }

    /// Returns the next bytes, none behind `end`; `None` if the download gives no more.
    async fn next(&mut self, end: u64) -> Result<Option<Bytes>, StoreError> {
        if self.rest.is_empty() {
            let Some(chunks) = &mut self.chunks else {
                return Ok(None);
            };
            let chunk = tokio::time::timeout(SLOW, chunks.recv()).await;
            let Ok(chunk) = chunk else {
                return Err(StoreError::Failed(format!(
                    "the registry did not send {CHUNK} bytes within {} s",
                    SLOW.as_secs()
                )));
            };
            match chunk {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(None),
            }
        }
        let wanted = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let piece = self.rest.split_to(wanted.min(self.rest.len()));
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

/// Moves a download into the channel. The last chunk goes only after the download has found digest
/// and size right.
async fn pump(
    mut download: Download,
    sender: &mpsc::Sender<Result<Bytes, StoreError>>,
) -> Result<(), RegistryError> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    while let Some(piece) = download.next().await? {
        if chunk.len() + piece.len() > CHUNK && !chunk.is_empty() {
            let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(CHUNK));
            if !send(sender, full.freeze()).await {
                return Ok(());
            }
        }
        chunk.extend_from_slice(&piece);
    }
    if !chunk.is_empty() {
        send(sender, chunk.freeze()).await;
    }
    Ok(())
}

/// Returns whether somebody still reads.
async fn send(sender: &mpsc::Sender<Result<Bytes, StoreError>>, chunk: Bytes) -> bool {
    let sent = tokio::time::timeout(IDLE, sender.send(Ok(chunk))).await;
    matches!(sent, Ok(Ok(())))
}
