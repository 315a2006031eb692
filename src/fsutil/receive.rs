//! The receiving side of one `DiffCopy`: writes a tree that the builder sends into a directory.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::disk::{Disk, DiskError, OpenFile};
use super::report::report;
use super::validate::{OrderError, Validator};
use super::wire::{self, Packet, PacketType, Stat};
use crate::platform::files::Owner;
use crate::platform::names;

/// How many files are asked for at once; each holds one open file.
const WINDOW: usize = 64;
/// How many packets may wait for the disk.
const WAITING: usize = 8;

/// What happens to files that are already there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReceiveMode {
    /// They stay, unless one of the same path is sent.
    #[default]
    Merge,
    /// Those that are not sent are removed, after all that is sent has arrived.
    Delete,
}

/// How to write a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// What happens to files that are already there.
    pub mode: ReceiveMode,
    /// User and group that everything shall belong to; the ones that are sent if absent.
    pub owner: Option<Owner>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveStats {
    /// Regular files written.
    pub files: u64,
    /// Bytes of contents.
    pub bytes: u64,
    /// Entries of the tree.
    pub stats: u64,
}

/// Why a tree could not be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The destination cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The peer's sequence of entries is wrong.
    #[error("the builder sent an invalid file list")]
    Order(#[from] OrderError),
    /// Contents came that nobody asked for.
    #[error("the builder sent contents of file {id}, which was not asked for")]
    UnknownFile {
        /// Position in the sequence of STATs.
        id: u32,
    },
    /// More entries than the protocol can number.
    #[error("the builder sent too many files")]
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

/// Takes one `DiffCopy` as the receiver and writes the tree into `dest`, which is made if it is not there.
///
/// Nothing is written outside of `dest`: paths that lead out of it are refused and no symbolic link in it is
/// followed. A regular file appears under its name only when it is complete; until then a file that was there stays.
/// Several transfers may write into one directory at once.
///
/// `inbound` are the packets of the peer, `outbound` takes ours; both ends of the connection must be pumped at
/// the same time. All threads end with this future.
///
/// # Errors
///
/// See [`ReceiveError`]. The peer is told, unless it was the one who reported or left. Files that were not complete
/// are removed.
pub async fn receive<S, E>(
    dest: &Path,
    options: ReceiveOptions,
    mut inbound: S,
    outbound: mpsc::Sender<Packet>,
) -> Result<ReceiveStats, ReceiveError>
where
    S: Stream<Item = Result<Packet, E>> + Send + Unpin + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let result = transfer(dest, options, &mut inbound, &outbound).await;
    match &result {
        Ok(_) => {
            if outbound.send(Packet::fin()).await.is_ok() {
                // The peer answers and ends the stream; all is written, so how it ends does not matter.
                while let Some(Ok(packet)) = inbound.next().await {
                    if packet.packet_type() == Some(PacketType::PacketFin) {
                        break;
                    }
                }
            }
        }
        Err(ReceiveError::Peer { .. } | ReceiveError::Stream(_) | ReceiveError::Closed) => {}
        Err(error) => report(error, &outbound).await,
    }
    result
}

async fn transfer<S, E>(
    dest: &Path,
    options: ReceiveOptions,
    inbound: &mut S,
    outbound: &mpsc::Sender<Packet>,
) -> Result<ReceiveStats, ReceiveError>
where
    S: Stream<Item = Result<Packet, E>> + Send + Unpin + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let (to_disk, packets) = mpsc::channel(WAITING);
    let (requests, mut wanted) = mpsc::channel(WINDOW);
    let dest = dest.to_path_buf();
    // Dropping the set does not stop the thread, but dropping the channels does.
    let mut threads = JoinSet::new();
    threads.spawn_blocking(move || {
        Writer::new(Disk::open(&dest, options.owner)?, options.mode, requests).run(packets)
    });

    let listen = async move {
        while let Some(packet) = inbound.next().await {
            let packet = match packet {
                Ok(packet) => packet,
                Err(error) => return ReceiveError::Stream(Box::new(error)),
            };
            if packet.packet_type() == Some(PacketType::PacketErr) {
                return ReceiveError::Peer {
                    message: packet.message(),
                };
            }
            if to_disk.send(packet).await.is_err() {
                break;
            }
        }
        // The thread ends now if it has not already, and its result says why.
        drop(to_disk);
        std::future::pending().await
    };
    let forward = async move {
        while let Some(id) = wanted.recv().await {
            let packet = Packet::request(id);
            if outbound.send(packet).await.is_err() {
                return ReceiveError::Closed;
            }
        }
        std::future::pending().await
    };
    let written = async {
        match threads.join_next().await {
            Some(result) => result.map_err(ReceiveError::Thread)?,
            None => Err(ReceiveError::Closed),
        }
    };
    let result = tokio::select! {
        result = written => result,
        failed = listen => Err(failed),
        failed = forward => Err(failed),
    };
    // Both channels are closed now, so the thread ends; what it had not completed is removed then.
    while threads.join_next().await.is_some() {}
    result
}

/// The thread that writes.
struct Writer {
    disk: Disk,
    mode: ReceiveMode,
    requests: mpsc::Sender<u32>,
    order: Validator,
    /// All entries were announced.
    complete: bool,
    /// Files not asked for yet.
    pending: VecDeque<(u32, Stat)>,
    /// Files asked for.
    open: HashMap<u32, OpenFile>,
    /// Hard links; made when all files are there.
    links: Vec<Stat>,
    stats: ReceiveStats,
}

impl Writer {
    fn new(disk: Disk, mode: ReceiveMode, requests: mpsc::Sender<u32>) -> Self {
        Self {
            disk,
            mode,
            requests,
            order: Validator::default(),
            complete: false,
            pending: VecDeque::new(),
            open: HashMap::new(),
            links: Vec::new(),
            stats: ReceiveStats::default(),
        }
    }

    fn run(mut self, mut packets: mpsc::Receiver<Packet>) -> Result<ReceiveStats, ReceiveError> {
        while !(self.complete && self.pending.is_empty() && self.open.is_empty()) {
            let packet = packets.blocking_recv().ok_or(ReceiveError::Closed)?;
            match packet.packet_type() {
                Some(PacketType::PacketStat) => match packet.stat {
                    Some(stat) if !self.complete => self.entry(stat)?,
                    _ => self.complete = true,
                },
                Some(PacketType::PacketData) => self.data(packet.id, &packet.data)?,
                Some(PacketType::PacketFin) => return Err(ReceiveError::Closed),
                _ => {}
            }
            self.request()?;
        }
        for link in &self.links {
            self.disk.hard_link(link)?;
        }
        if self.mode == ReceiveMode::Delete {
            self.disk.remove_others()?;
        }
        self.disk.finish_dirs()?;
        Ok(self.stats)
    }

    fn entry(&mut self, stat: Stat) -> Result<(), ReceiveError> {
        self.order.check(&stat)?;
        let id = u32::try_from(self.stats.stats).map_err(|_| ReceiveError::TooMany)?;
        self.stats.stats += 1;
        if self.mode == ReceiveMode::Delete {
            self.disk.keep(&stat.path);
        }
        if stat.is_dir() {
            self.disk.dir(stat)?;
        } else if stat.mode & (wire::MODE_DEVICE | wire::MODE_FIFO | wire::MODE_CHAR_DEVICE) != 0 {
            self.disk.special(&stat)?;
        } else if stat.is_symlink() {
            self.disk.symlink(&stat)?;
        } else if !stat.linkname.is_empty() {
            self.links.push(stat);
        } else if stat.has_data() {
            self.pending.push_back((id, stat));
        } else {
            return Err(OrderError::Kind {
                path: names::path(&stat.path).to_path_buf(),
                mode: stat.mode,
            }
            .into());
        }
        Ok(())
    }

    fn data(&mut self, id: u32, data: &[u8]) -> Result<(), ReceiveError> {
        if data.is_empty() {
            let file = self
                .open
                .remove(&id)
                .ok_or(ReceiveError::UnknownFile { id })?;
            self.disk.finish_file(file)?;
            self.stats.files += 1;
            return Ok(());
        }
        self.open
            .get_mut(&id)
            .ok_or(ReceiveError::UnknownFile { id })?
            .write(data)?;
        self.stats.bytes += data.len() as u64;
        Ok(())
    }

    /// Asks for as many files as may be open.
    fn request(&mut self) -> Result<(), ReceiveError> {
        while self.open.len() < WINDOW
            && let Some((id, stat)) = self.pending.pop_front()
        {
            self.open.insert(id, self.disk.file(stat)?);
            self.requests
                .blocking_send(id)
                .map_err(|_| ReceiveError::Closed)?;
        }
        Ok(())
    }
}
