//! A tar stream made packs and an index.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::mem;

use bytes::Bytes;
use fastcdc::v2020::FastCDC;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::entries::Entries;
use super::index::{Chunk, Index, IndexError, Kind, Node, PackRef};
use super::{CHUNK, PACK, tree};
use crate::digest::Digest;

/// Level of zstd: libzstd's default.
const LEVEL: i32 = 3;

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
    /// It cannot be written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Nobody takes the packs any more.
    #[error("a pack was not stored")]
    NotStored,
}

/// Packs the tree of a tar stream whose files have at most `most` bytes. Each new pack goes to `store`, which returns
/// whether it takes more. Chunks that packs of `old` hold are not packed again, but for packs of which less than half is
/// used.
///
/// # Errors
///
/// Fails if the stream breaks off, or the tree is too large.
pub fn pack(
    stream: impl Read,
    old: Option<Index>,
    most: u64,
    store: &mut dyn FnMut(Pack) -> bool,
) -> Result<Index, PackError> {
    let mut packer = Packer::new(old, store);
    let mut nodes = Vec::new();
    let mut entries = Entries::new(stream);
    let mut size = 0_u64;
    while let Some(entry) = entries.next().map_err(PackError::Stream)? {
        let Some(mut node) = tree::node(&entry).map_err(PackError::Stream)? else {
            continue;
        };
        if node.kind() == Kind::File {
            size = size.saturating_add(entry.size());
            if size > most {
                return Err(PackError::TooLarge(most));
            }
            node.chunks = packer.file(&mut entries.content())?;
        }
        nodes.push(node);
    }
    packer.finish(nodes)
}

struct Packer<'a> {
    packs: Vec<PackRef>,
    /// Where chunks are, by their hashes.
    known: HashMap<[u8; 32], (u32, u32, u32)>,
    open: Vec<u8>,
    buffer: Vec<u8>,
    store: &'a mut dyn FnMut(Pack) -> bool,
}

impl<'a> Packer<'a> {
    fn new(old: Option<Index>, store: &'a mut dyn FnMut(Pack) -> bool) -> Self {
        let mut packer = Self {
            packs: Vec::new(),
            known: HashMap::new(),
            open: Vec::with_capacity(PACK + CHUNK.2),
            buffer: Vec::new(),
            store,
        };
        let Some(old) = old else { return packer };
        let used = old.used();
        for chunk in old.nodes.iter().flat_map(|node| &node.chunks) {
            let at = chunk.pack as usize;
            let is_used = match (old.packs.get(at), used.get(at)) {
                (Some(pack), Some(used)) => *used * 2 >= pack.plain,
                _ => false,
            };
            if let (true, Ok(hash)) = (is_used, chunk.hash.as_slice().try_into()) {
                let place = (chunk.pack, chunk.offset, chunk.length);
                packer.known.entry(hash).or_insert(place);
            }
        }
        packer.packs = old.packs;
        packer
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
        chunks.shrink_to_fit();
        self.buffer = buffer;
        Ok(chunks)
    }

    fn chunk(&mut self, piece: &[u8]) -> Result<Chunk, PackError> {
        let hash: [u8; 32] = Sha256::digest(piece).into();
        let (pack, offset, length) = match self.known.get(&hash) {
            Some(place) => *place,
            None => self.add(hash, piece)?,
        };
        Ok(Chunk {
            pack,
            offset,
            length,
            hash: hash.to_vec(),
        })
    }

    fn add(&mut self, hash: [u8; 32], piece: &[u8]) -> Result<(u32, u32, u32), PackError> {
        if self.open.len() >= PACK {
            self.close()?;
        }
        // A pack has a few megabytes, and nobody has so many.
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let place = (
            number(self.packs.len()),
            number(self.open.len()),
            number(piece.len()),
        );
        self.open.extend_from_slice(piece);
        self.known.insert(hash, place);
        Ok(place)
    }

    fn close(&mut self) -> Result<(), PackError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let bytes = zstd::bulk::compress(&self.open, LEVEL).map_err(PackError::Stream)?;
        let pack = Pack {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        };
        self.packs.push(PackRef {
            digest: pack.digest.to_string(),
            stored: pack.bytes.len() as u64,
            plain: self.open.len() as u64,
        });
        self.open.clear();
        if (self.store)(pack) {
            Ok(())
        } else {
            Err(PackError::NotStored)
        }
    }

    fn finish(mut self, nodes: Vec<Node>) -> Result<Index, PackError> {
        self.close()?;
        let mut nodes = valid(nodes);
        let chunks = nodes.iter().flat_map(|node| &node.chunks);
        let used: HashSet<u32> = chunks.map(|chunk| chunk.pack).collect();
        let mut places = HashMap::new();
        let mut packs = Vec::new();
        for (pack, number) in self.packs.into_iter().zip(0_u32..) {
            if used.contains(&number) {
                places.insert(number, u32::try_from(packs.len()).unwrap_or(u32::MAX));
                packs.push(pack);
            }
        }
        for chunk in nodes.iter_mut().flat_map(|node| &mut node.chunks) {
            chunk.pack = places.get(&chunk.pack).copied().unwrap_or_default();
        }
        Ok(Index::new(packs, nodes))
    }
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

/// Leaves out hard links to what is not there, such as a socket, and what lies in no folder, because the tree changed while
/// it was read. Of a path that comes twice the last stays, as when it is unpacked.
fn valid(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.reverse();
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    nodes.dedup_by(|b, a| a.path == b.path);
    let files: HashSet<Vec<u8>> = nodes
        .iter()
        .filter(|node| node.kind() == Kind::File)
        .map(|node| node.path.clone())
        .collect();
    let mut folders: HashSet<Vec<u8>> = HashSet::new();
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes {
        let parent = node.path.iter().rposition(|byte| *byte == b'/');
        let parent = parent.and_then(|at| node.path.get(..at));
        if parent.is_some_and(|parent| !folders.contains(parent))
            || (node.kind() == Kind::HardLink && !files.contains(&node.target))
        {
            continue;
        }
        if node.kind() == Kind::Folder {
            folders.insert(node.path.clone());
        }
        kept.push(node);
    }
    name_by_first(&mut kept);
    kept
}

/// Of the names of one file the first in order is the file, and the others are links to it: which one a tar stream has so
/// depends on the order in which a folder is read.
fn name_by_first(nodes: &mut [Node]) {
    let mut links: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        if node.kind() == Kind::HardLink {
            links.entry(node.target.clone()).or_default().push(at);
        }
    }
    for (target, links) in links {
        let Ok(file) = nodes.binary_search_by(|node| node.path.cmp(&target)) else {
            continue;
        };
        let Some(first) = links.first().copied().filter(|first| *first < file) else {
            continue;
        };
        let path = nodes.get(first).map(|node| node.path.clone());
        let path = path.unwrap_or_default();
        let content = nodes.get_mut(file).map(mem::take).unwrap_or_default();
        let link = Node {
            kind: Kind::HardLink.into(),
            path: target,
            target: path.clone(),
            chunks: Vec::new(),
            ..content.clone()
        };
        for (at, node) in [
            (
                first,
                Node {
                    path: path.clone(),
                    ..content
                },
            ),
            (file, link),
        ] {
            if let Some(place) = nodes.get_mut(at) {
                *place = node;
            }
        }
        for at in links.into_iter().skip(1) {
            if let Some(node) = nodes.get_mut(at) {
                node.target.clone_from(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
