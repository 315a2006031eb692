//! The threads of a sender: one walks the tree, some read files.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as queue;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::attributes::Attributes;
use super::super::filter::Filter;
use super::super::tree::{self, Visited};
use super::super::walk::{Ended, Sink};
use super::super::wire::{Packet, Stat};
use super::{SendError, SendStats};
use crate::platform::{files, names};

/// How much of a file one packet holds.
const CHUNK: usize = 128 * 1024;
/// How many STATs go into one batch.
const STATS_IN_BATCH: usize = 64;

/// The files that the peer may ask for, and what it got.
#[derive(Debug, Default)]
pub(super) struct Offered {
    files: Mutex<HashMap<u32, Request>>,
    /// The first entry that has a name that is not UTF-8.
    pub(super) not_utf8: OnceLock<Vec<u8>>,
    stats: AtomicU64,
    read: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Request {
    id: u32,
    path: Box<[u8]>,
    /// As offered.
    size: u64,
}

impl Offered {
    fn offer(&self, id: u32, stat: &Stat) {
        let path = stat.path.clone().into_boxed_slice();
        let size = u64::try_from(stat.size).unwrap_or(0);
        self.files.lock().insert(id, Request { id, path, size });
    }

    pub(super) fn take(&self, id: u32) -> Option<Request> {
        self.files.lock().remove(&id)
    }

    pub(super) fn stats(&self) -> SendStats {
        SendStats {
            files: self.read.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            stats: self.stats.load(Ordering::Relaxed),
        }
    }
}

/// The thread that walks the tree.
pub(super) struct Walker {
    pub(super) offered: Arc<Offered>,
    pub(super) attributes: Attributes,
    /// STATs that wait until the batch is full.
    pub(super) batch: Vec<Packet>,
    pub(super) batches: mpsc::Sender<Vec<Packet>>,
}

impl Walker {
    /// Sends a STAT of everything, then the one that ends the sequence. Blocks.
    pub(super) fn run(mut self, root: &Path, filter: &Filter) -> Result<(), SendError> {
        if tree::visit(root, filter, &mut self)? == Visited::Stopped {
            let end = if self.batches.is_closed() {
                SendError::Closed
            } else {
                SendError::TooMany
            };
            return Err(end);
        }
        self.batch.push(Packet::stat(None));
        self.flush().map_err(|_| SendError::Closed)
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let batch = std::mem::take(&mut self.batch);
        self.batches
            .blocking_send(batch)
            .map_err(|_| Ended::Stopped)
    }
}

impl Sink for Walker {
    fn entry(&mut self, mut stat: Stat) -> Result<(), Ended> {
        let position = self.offered.stats.fetch_add(1, Ordering::Relaxed);
        let id = u32::try_from(position).map_err(|_| Ended::Stopped)?;
        self.attributes.put_on(&mut stat);
        if stat.has_data() {
            self.offered.offer(id, &stat);
        }
        if !stat.is_utf8() {
            self.offered.not_utf8.get_or_init(|| stat.path.clone());
        }
        self.batch.push(Packet::stat(Some(stat)));
        if self.batch.len() < STATS_IN_BATCH {
            return Ok(());
        }
        self.flush()
    }

    fn directory(&mut self) -> Result<(), Ended> {
        if self.batches.is_closed() {
            Err(Ended::Stopped)
        } else {
            Ok(())
        }
    }
}

/// One of the threads that read files.
pub(super) struct Reader {
    pub(super) root: PathBuf,
    pub(super) offered: Arc<Offered>,
    pub(super) queue: Arc<Mutex<queue::Receiver<Request>>>,
    pub(super) batches: mpsc::Sender<Vec<Packet>>,
}

impl Reader {
    /// Answers requests until there will be no more. Blocks.
    pub(super) fn run(self) -> Result<(), SendError> {
        loop {
            let next = self.queue.lock().recv();
            let Ok(request) = next else {
                return Ok(());
            };
            self.file(&request)?;
        }
    }

    fn file(&self, request: &Request) -> Result<(), SendError> {
        let path = self.root.join(names::path(&request.path));
        let read = |source| SendError::Read {
            path: path.clone(),
            source,
        };
        let mut batch = Vec::with_capacity(2);
        if let Some(file) = files::open_regular(&path).map_err(read)? {
            let size = file.metadata().map_err(read)?.len();
            // The files of some file systems have no size, but contents; they are read to their end.
            let mut left = if request.size > 0 {
                request.size
            } else if size > 0 {
                size
            } else {
                u64::MAX
            };
            while left > 0 {
                // What is behind the offered size is cut off.
                let room = left.min(CHUNK as u64).min(size.max(4096));
                let mut data = Vec::with_capacity(usize::try_from(room).unwrap_or(CHUNK));
                let length = (&file).take(room).read_to_end(&mut data).map_err(read)?;
                if length == 0 {
                    break;
                }
                left -= length as u64;
                self.offered
                    .bytes
                    .fetch_add(data.len() as u64, Ordering::Relaxed);
                batch.push(Packet::data(request.id, data));
                if left > 0 {
                    self.flush(&mut batch)?;
                }
            }
            self.offered.read.fetch_add(1, Ordering::Relaxed);
        }
        batch.push(Packet::data(request.id, Vec::new()));
        self.flush(&mut batch)
    }

    fn flush(&self, batch: &mut Vec<Packet>) -> Result<(), SendError> {
        self.batches
            .blocking_send(std::mem::take(batch))
            .map_err(|_| SendError::Closed)
    }
}
