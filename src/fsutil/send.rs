//! The sending side of one `DiffCopy`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as queue;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::filter::{Filter, FilterError, PathFilter};
use super::walk::{self, Ended, Sink, WalkError};
use super::wire::{Packet, PacketType, Stat};

/// How many files are read at once.
const READERS: usize = 4;
/// How much of a file one packet holds.
const CHUNK: usize = 128 * 1024;
/// How many batches of packets may wait between the threads and the connection.
const BATCHES: usize = 4;
/// How many STATs go into one batch.
const STATS_IN_BATCH: usize = 64;
/// How long to try to tell the peer of an error.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendStats {
    /// Files whose contents were sent.
    pub files: u64,
    /// Bytes of contents.
    pub bytes: u64,
    /// Entries of the tree.
    pub stats: u64,
}

/// Why a tree could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The root is not there, not readable or no directory.
    #[error("cannot open the directory {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the peer asked for is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Something in the tree cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The peer asked for a file that was not offered, has no contents, or was asked for before.
    #[error("the builder asked for file {id}, which it cannot have")]
    UnknownFile {
        /// Position in the sequence of STATs.
        id: u32,
    },
    /// More entries than the protocol can number.
    #[error("too many files to send")]
    TooMany,
    /// The peer reported an error.
    #[error("the builder reported: {message}")]
    Peer {
        /// Its text.
        message: String,
    },
    /// The connection failed.
    #[error("the file transfer failed")]
    Stream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer went away before the end.
    #[error("the builder ended the file transfer early")]
    Closed,
    /// A thread died.
    #[error("a thread of the file transfer died")]
    Thread(#[source] JoinError),
}

/// Serves one `DiffCopy` as the sender: offers the tree at `root`, as far as the filter lets it through, and sends
/// what the peer asks for until the peer says that it has all.
///
/// `inbound` are the packets of the peer, `outbound` takes ours; both ends of the connection must be pumped at
/// the same time. A packet is at most 128 KiB and a little, so the memory in use is bounded by the capacity of
/// `outbound` times that; a capacity of 4 to 16 is enough. With `reset_owner` every entry is sent as owned by root,
/// as build contexts are.
///
/// A file that has vanished since it was offered is sent as empty; one that has grown is cut at the size that was
/// offered; one that has shrunk is sent as it is. Ends when the peer does; all threads end with this future.
///
/// # Errors
///
/// See [`SendError`]. The peer is told, unless it was the one who reported or left.
pub async fn send<S, E>(
    root: &Path,
    filter: Filter,
    reset_owner: bool,
    mut inbound: S,
    outbound: mpsc::Sender<Packet>,
) -> Result<SendStats, SendError>
where
    S: Stream<Item = Result<Packet, E>> + Send + Unpin + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let result = transfer(root, filter, reset_owner, &mut inbound, &outbound).await;
    match &result {
        Ok(_) => {
            // The peer may leave as soon as it has said that it is done.
            drop(outbound.send(Packet::fin()).await);
        }
        Err(SendError::Peer { .. } | SendError::Stream(_) | SendError::Closed) => {}
        Err(error) => {
            let packet = Packet::error(&crate::error::chain(error));
            drop(tokio::time::timeout(REPORT_TIMEOUT, outbound.send(packet)).await);
        }
    }
    result
}

async fn transfer<S, E>(
    root: &Path,
    filter: Filter,
    reset_owner: bool,
    inbound: &mut S,
    outbound: &mpsc::Sender<Packet>,
) -> Result<SendStats, SendError>
where
    S: Stream<Item = Result<Packet, E>> + Send + Unpin + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let (batches, packets) = mpsc::channel(BATCHES);
    let (requests, queue) = queue::channel();
    let queue = Arc::new(Mutex::new(queue));
    let offered = Arc::new(Offered::default());
    // Dropping the set does not stop the threads, but dropping the channels does.
    let mut threads = JoinSet::new();
    let walker = Walker {
        offered: Arc::clone(&offered),
        reset_owner,
        batch: Vec::new(),
        batches: batches.clone(),
    };
    let root = root.to_path_buf();
    for _ in 0..READERS {
        let reader = Reader {
            root: root.clone(),
            offered: Arc::clone(&offered),
            queue: Arc::clone(&queue),
            batches: batches.clone(),
        };
        threads.spawn_blocking(move || reader.run());
    }
    drop(batches);
    threads.spawn_blocking(move || walker.run(&root, &filter));

    let mut ended = {
        let listen = listen(inbound, &offered, requests);
        let forward = forward(packets, outbound);
        tokio::pin!(listen, forward);
        tokio::select! {
            ended = &mut listen => ended,
            // It ends without an error only when all threads have ended, and then the first of them to fail
            // says why.
            forwarded = &mut forward => match forwarded {
                Err(error) => Err(error),
                Ok(()) => Err(SendError::Closed),
            },
            failed = first_failure(&mut threads) => Err(failed),
        }
    };
    while let Some(result) = threads.join_next().await {
        // That the channel to the connection is closed may be the consequence of a thread's own error.
        if matches!(ended, Err(SendError::Closed))
            && let Err(error) = result.map_err(SendError::Thread).and_then(|done| done)
            && !matches!(error, SendError::Closed)
        {
            ended = Err(error);
        }
    }
    ended.map(|()| offered.stats())
}

/// Waits until a thread fails; for ever if none does.
async fn first_failure(threads: &mut JoinSet<Result<(), SendError>>) -> SendError {
    while let Some(result) = threads.join_next().await {
        if let Err(error) = result.map_err(SendError::Thread).and_then(|done| done) {
            return error;
        }
    }
    std::future::pending().await
}

async fn forward(
    mut packets: mpsc::Receiver<Vec<Packet>>,
    outbound: &mpsc::Sender<Packet>,
) -> Result<(), SendError> {
    while let Some(batch) = packets.recv().await {
        for packet in batch {
            outbound.send(packet).await.map_err(|_| SendError::Closed)?;
        }
    }
    Ok(())
}

/// Takes the peer's packets until it has all it wants.
async fn listen<S, E>(
    inbound: &mut S,
    offered: &Offered,
    requests: queue::Sender<Request>,
) -> Result<(), SendError>
where
    S: Stream<Item = Result<Packet, E>> + Send + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    while let Some(packet) = inbound.next().await {
        let packet = packet.map_err(|error| SendError::Stream(Box::new(error)))?;
        match packet.packet_type() {
            Some(PacketType::PacketReq) => {
                let request = offered
                    .take(packet.id)
                    .ok_or(SendError::UnknownFile { id: packet.id })?;
                requests.send(request).map_err(|_| SendError::Closed)?;
            }
            Some(PacketType::PacketFin) => return Ok(()),
            Some(PacketType::PacketErr) => {
                return Err(SendError::Peer {
                    message: packet.message(),
                });
            }
            _ => {}
        }
    }
    Err(SendError::Closed)
}

/// The files that the peer may ask for, and what it got.
#[derive(Debug, Default)]
struct Offered {
    files: Mutex<HashMap<u32, Request>>,
    stats: AtomicU64,
    read: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Request {
    id: u32,
    path: Box<[u8]>,
    /// As offered.
    size: u64,
}

impl Offered {
    fn offer(&self, id: u32, stat: &Stat) {
        let path = stat.path.clone().into_boxed_slice();
        let size = u64::try_from(stat.size).unwrap_or(0);
        self.files().insert(id, Request { id, path, size });
    }

    fn take(&self, id: u32) -> Option<Request> {
        self.files().remove(&id)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u32, Request>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> SendStats {
        SendStats {
            files: self.read.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            stats: self.stats.load(Ordering::Relaxed),
        }
    }
}

/// The thread that walks the tree.
struct Walker {
    offered: Arc<Offered>,
    reset_owner: bool,
    batch: Vec<Packet>,
    batches: mpsc::Sender<Vec<Packet>>,
}

impl Walker {
    fn run(mut self, root: &Path, filter: &Filter) -> Result<(), SendError> {
        let open = |source| SendError::Root {
            path: root.to_path_buf(),
            source,
        };
        let real = fs_err::canonicalize(root).map_err(open)?;
        if !fs_err::metadata(&real).map_err(open)?.is_dir() {
            return Err(open(io::ErrorKind::NotADirectory.into()));
        }
        let filter = PathFilter::new(&real, filter)?;
        match walk::walk(&real, &filter, &mut self) {
            Ok(()) => {}
            Err(Ended::Failed(error)) => return Err(error.into()),
            Err(Ended::Stopped) if self.batches.is_closed() => return Err(SendError::Closed),
            Err(Ended::Stopped) => return Err(SendError::TooMany),
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
        if self.reset_owner {
            (stat.uid, stat.gid) = (0, 0);
        }
        if stat.has_data() {
            self.offered.offer(id, &stat);
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
struct Reader {
    root: PathBuf,
    offered: Arc<Offered>,
    queue: Arc<Mutex<queue::Receiver<Request>>>,
    batches: mpsc::Sender<Vec<Packet>>,
}

impl Reader {
    fn run(self) -> Result<(), SendError> {
        loop {
            let next = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(request) = next else {
                return Ok(());
            };
            self.file(&request)?;
        }
    }

    fn file(&self, request: &Request) -> Result<(), SendError> {
        let path = self.root.join(OsStr::from_bytes(&request.path));
        let read = |source: Errno| SendError::Read {
            path: path.clone(),
            source: source.into(),
        };
        let mut batch = Vec::with_capacity(2);
        if let Some((file, size)) = open(&path).map_err(read)? {
            // The files of some file systems have no size, but contents; they are read to their end.
            let mut left = if request.size > 0 {
                request.size
            } else if size > 0 {
                size
            } else {
                u64::MAX
            };
            while left > 0 {
                let room = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                let mut data =
                    Vec::with_capacity(room.min(usize::try_from(size.max(4096)).unwrap_or(CHUNK)));
                let length = rustix::io::retry_on_intr(|| {
                    rustix::io::read(&file, rustix::buffer::spare_capacity(&mut data))
                })
                .map_err(read)?;
                if length == 0 {
                    break;
                }
                // What is behind the offered size is cut off.
                data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                left -= data.len() as u64;
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

/// Opens a regular file and returns its size; nothing if it is gone or has become something else.
fn open(path: &Path) -> rustix::io::Result<Option<(rustix::fd::OwnedFd, u64)>> {
    // Non-blocking, so that a pipe that took the file's place is not waited for.
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())) {
        Ok(file) => file,
        // The last two: it is a socket, or a link now.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    Ok(Some((file, u64::try_from(stat.st_size).unwrap_or(0))))
}
