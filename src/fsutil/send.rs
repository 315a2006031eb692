//! The sending side of one `DiffCopy`.

mod threads;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc as queue;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::attributes::Attributes;
use super::filter::Filter;
use super::report::report;
use super::tree::TreeError;
use super::wire::{Packet, PacketType};
use crate::platform::names;
use threads::{Offered, Reader, Request, Walker};

/// How many files are read at once.
const READERS: usize = 4;
/// How many batches of packets may wait between the threads and the connection.
const BATCHES: usize = 4;

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
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
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
    /// The peer went away after it was sent a name that is not UTF-8. A daemon of Docker's own does so; `buildkitd` takes
    /// such names.
    #[error("the builder does not take names that are not UTF-8, such as {path:?}")]
    NotUtf8 {
        /// The first entry whose name, link target or attribute is not UTF-8, relative to the root.
        path: PathBuf,
    },
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
/// `outbound` times that; a capacity of 4 to 16 is enough. Entries are sent with
/// these attributes.
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
    attributes: Attributes,
    mut inbound: S,
    outbound: mpsc::Sender<Packet>,
) -> Result<SendStats, SendError>
where
    S: Stream<Item = Result<Packet, E>> + Send + Unpin + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let result = transfer(root, filter, attributes, &mut inbound, &outbound).await;
    match &result {
        Ok(_) => {
            // The peer may leave as soon as it has said that it is done.
            drop(outbound.send(Packet::fin()).await);
        }
        Err(
            SendError::Peer { .. }
            | SendError::Stream(_)
            | SendError::NotUtf8 { .. }
            | SendError::Closed,
        ) => {}
        Err(error) => report(error, &outbound).await,
    }
    result
}

async fn transfer<S, E>(
    root: &Path,
    filter: Filter,
    attributes: Attributes,
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
        attributes,
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
    if matches!(ended, Err(SendError::Closed | SendError::Stream(_)))
        && let Some(path) = offered.not_utf8.get()
    {
        ended = Err(SendError::NotUtf8 {
            path: names::path(path).to_path_buf(),
        });
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
