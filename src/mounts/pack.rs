//! A tar stream made packs and an index.
//!
//! One thread reads the stream, cuts files and knows chunks again; another one compresses what is new, and stores it. Between
//! them, and in each, there are a few megabytes.

use std::collections::HashMap;
use std::io::{self, Read};
use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use fastcdc::v2020::FastCDC;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::entries::Entries;
use super::index::{Chunk, Index, IndexError, Kind, Node, PackRef};
use super::{CHUNK, PACK, tree};
use crate::digest::Digest;
use compress::Piece;

mod compress;
mod settle;

/// New chunks that go to the other thread at once, in bytes: waking it for each would cost more than they are worth.
const BATCH: usize = CHUNK.2;
/// And how many such may wait there.
const WAITING: usize = 2;

/// A pack that is to be stored.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Its digest.
    pub digest: Digest,
    /// The blob.
    pub bytes: Bytes,
}

/// Why a mount is not packed.
#[derive(Debug, Error)]
pub enum PackError {
    /// The stream broke off, or is no tar.
    #[error("the files of the mount cannot be read")]
    Stream(#[source] io::Error),
    /// Its files are larger than wanted.
    #[error("its files have more than {0} bytes")]
    TooLarge(u64),
    /// The compressor fails.
    #[error("its files cannot be compressed")]
    Compress(#[source] io::Error),
    /// It cannot be written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Nobody takes the packs any more.
    #[error("a pack was not stored")]
    NotStored,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy)]
struct Place {
    pack: u32,
    offset: u32,
    length: u32,
}

/// Where chunks are, by their hashes.
type Places = HashMap<[u8; 32], Place>;

/// What the packs of an older index hold, which need not be packed again.
#[derive(Debug)]
pub struct Old {
    packs: Vec<PackRef>,
    places: Places,
}

impl Old {
    /// Takes the chunks of an index, but for those in packs of which less than half is used.
    pub fn of(index: Index) -> Self {
        let mut used = vec![0_u64; index.packs.len()];
        let mut places = Places::new();
        for chunk in index.nodes.iter().flat_map(|node| &node.chunks) {
            let place = Place {
                pack: chunk.pack,
                offset: chunk.offset,
                length: chunk.length,
            };
            if let (None, Some(used)) = (
                places.insert(chunk.hash, place),
                used.get_mut(chunk.pack as usize),
            ) {
                *used += u64::from(chunk.length);
            }
        }
        let packs = index.packs;
        places.retain(|_, place| {
            let at = place.pack as usize;
            let both = packs.get(at).zip(used.get(at));
            both.is_some_and(|(pack, used)| *used * 2 >= pack.plain)
        });
        Self { packs, places }
    }
}

/// Packs the tree of a tar stream whose files have at most `most` bytes. Each new pack goes to `store`, which returns
/// whether it takes more.
///
/// # Errors
///
/// Fails if the stream breaks off, or the tree is too large.
pub fn pack(
    stream: impl Read,
    old: Option<&Old>,
    most: u64,
    store: &mut (dyn FnMut(Pack) -> bool + Send),
) -> Result<Index, PackError> {
    let (pieces, input) = sync_channel(WAITING);
    let (stored, read) = thread::scope(|scope| {
        let compressing = scope.spawn(|| compress::all(input, store));
        let read = Packer::new(old, pieces).tree(stream, most);
        let stored = compressing.join();
        (stored.unwrap_or_else(|panic| resume_unwind(panic)), read)
    });
    // What cannot be stored ends the reading.
    let new = stored?;
    let old = old.iter().flat_map(|old| old.packs.iter().cloned());
    Ok(index_of(old.chain(new), settle::settled(read?)))
}

/// Reads the stream.
struct Packer<'a> {
    old: Option<&'a Old>,
    new: Places,
    /// Number of the pack that is being filled, and the bytes that it has.
    number: u32,
    filled: usize,
    /// New chunks on their way to it.
    batch: Vec<u8>,
    buffer: Vec<u8>,
    to: SyncSender<Piece>,
}

impl<'a> Packer<'a> {
    fn new(old: Option<&'a Old>, to: SyncSender<Piece>) -> Self {
        Self {
            old,
            new: Places::new(),
            number: number(old.map_or(0, |old| old.packs.len())),
            filled: 0,
            batch: Vec::new(),
            buffer: Vec::new(),
            to,
        }
    }

    /// Reads the tree.
    fn tree(mut self, stream: impl Read, most: u64) -> Result<Vec<Node>, PackError> {
        let mut nodes = Vec::new();
        let mut entries = Entries::new(stream);
        let mut size = 0_u64;
        while let Some(entry) = entries.next().map_err(PackError::Stream)? {
            let Some(mut node) = tree::node(&entry).map_err(PackError::Stream)? else {
                continue;
            };
            if node.kind == Kind::File {
                size = size.saturating_add(entry.size());
                if size > most {
                    return Err(PackError::TooLarge(most));
                }
                node.chunks = self.file(&mut entries.content())?.into();
            }
            nodes.push(node);
        }
        self.close()?;
        Ok(nodes)
    }

    /// Cuts a file into chunks.
    fn file(&mut self, content: &mut impl Read) -> Result<Vec<Chunk>, PackError> {
        let mut chunks = Vec::new();
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        let mut is_end = false;
        loop {
            if !is_end && buffer.len() < CHUNK.2 {
                // Several chunks at a time, so that little is moved.
                let wanted = (CHUNK.2 * 4 - buffer.len()) as u64;
                let read = content.by_ref().take(wanted).read_to_end(&mut buffer);
                is_end = (read.map_err(PackError::Stream)? as u64) < wanted;
            }
            if buffer.is_empty() {
                break;
            }
            let mut done = 0;
            while let Some(rest) = buffer.get(done..).filter(|rest| !rest.is_empty()) {
                if !is_end && rest.len() < CHUNK.2 {
                    break;
                }
                let piece = rest.get(..cut(rest)).unwrap_or(rest);
                chunks.push(self.chunk(piece)?);
                done += piece.len();
            }
            buffer.drain(..done);
        }
        self.buffer = buffer;
        Ok(chunks)
    }

    fn chunk(&mut self, piece: &[u8]) -> Result<Chunk, PackError> {
        let hash: [u8; 32] = Sha256::digest(piece).into();
        let old = self.old.and_then(|old| old.places.get(&hash));
        let place = match old.or_else(|| self.new.get(&hash)) {
            Some(place) => *place,
            None => self.add(hash, piece)?,
        };
        let Place {
            pack,
            offset,
            length,
        } = place;
        Ok(Chunk {
            pack,
            offset,
            length,
            hash,
        })
    }

    fn add(&mut self, hash: [u8; 32], piece: &[u8]) -> Result<Place, PackError> {
        if self.filled >= PACK {
            self.close()?;
        }
        let place = Place {
            pack: self.number,
            offset: number(self.filled),
            length: number(piece.len()),
        };
        self.batch.extend_from_slice(piece);
        self.filled += piece.len();
        if self.batch.len() >= BATCH {
            self.send_batch()?;
        }
        self.new.insert(hash, place);
        Ok(place)
    }

    fn send_batch(&mut self) -> Result<(), PackError> {
        let batch = mem::replace(&mut self.batch, Vec::with_capacity(2 * BATCH));
        self.send(Piece::Bytes(batch))
    }

    fn close(&mut self) -> Result<(), PackError> {
        if self.filled == 0 {
            return Ok(());
        }
        self.send_batch()?;
        self.send(Piece::End)?;
        self.number += 1;
        self.filled = 0;
        Ok(())
    }

    fn send(&self, piece: Piece) -> Result<(), PackError> {
        self.to.send(piece).map_err(|_| PackError::NotStored)
    }
}

/// A pack has a few megabytes, and nobody has so many of them.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Returns the index of these nodes with those of the packs that they use.
fn index_of(all: impl Iterator<Item = PackRef>, mut nodes: Vec<Node>) -> Index {
    let all: Vec<PackRef> = all.collect();
    let mut is_used = vec![false; all.len()];
    for chunk in nodes.iter().flat_map(|node| &node.chunks) {
        if let Some(is_used) = is_used.get_mut(chunk.pack as usize) {
            *is_used = true;
        }
    }
    let mut packs = Vec::new();
    let mut numbers = Vec::new();
    for (pack, is_used) in all.into_iter().zip(is_used) {
        numbers.push(number(packs.len()));
        packs.extend(is_used.then_some(pack));
    }
    for chunk in nodes.iter_mut().flat_map(|node| &mut node.chunks) {
        let number = numbers.get(chunk.pack as usize);
        chunk.pack = number.copied().unwrap_or(chunk.pack);
    }
    Index { packs, nodes }
}

/// Returns how long the first chunk of these bytes is.
pub(super) fn cut(bytes: &[u8]) -> usize {
    let (min, avg, max) = CHUNK;
    if bytes.len() <= min {
        return bytes.len();
    }
    let mut chunks = FastCDC::new(bytes, min, avg, max);
    chunks.next().map_or(bytes.len(), |chunk| chunk.length)
}

#[cfg(test)]
mod tests;
