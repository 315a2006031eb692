//! An index and its packs made a tar stream.
//!
//! Files come in the order of their packs, so that few of those are held at a time; then hard links and symbolic links;
//! folders come last, each after what is in it, because what is made in a folder changes its time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::index::{Chunk, Index, Kind, Node, PackRef};
use super::{CHUNK, END, PACK, tree};
use crate::platform::names;

/// Packs that are held at a time.
const HELD: usize = 4;

/// Writes the tree as a tar stream. `fetch` returns a pack as it is stored. Where the stream is `ended` its last entry is
/// [`END`].
///
/// # Errors
///
/// Fails if a pack cannot be had or is not what the index says, or if the stream cannot be written.
pub fn unpack(
    index: &Index,
    fetch: &mut dyn FnMut(&PackRef) -> io::Result<Vec<u8>>,
    to: impl Write,
    ended: bool,
) -> io::Result<()> {
    let mut packs = Packs {
        index,
        fetch,
        held: VecDeque::new(),
    };
    let mut builder = Builder::new(to);
    for node in order(index) {
        append(&mut builder, node, &mut packs)?;
    }
    if ended {
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        builder.append_data(&mut header, END, io::empty())?;
    }
    builder.into_inner()?.flush()
}

/// Returns the nodes in the order of the stream.
fn order(index: &Index) -> Vec<&Node> {
    let of = |kind: Kind| index.nodes.iter().filter(move |node| node.kind() == kind);
    let mut files: Vec<&Node> = of(Kind::File).collect();
    files.sort_by_key(|node| node.chunks.first().map(|chunk| (chunk.pack, chunk.offset)));
    let links = of(Kind::HardLink).chain(of(Kind::Symlink));
    let folders = of(Kind::Folder).collect::<Vec<_>>().into_iter().rev();
    files.into_iter().chain(links).chain(folders).collect()
}

fn append(builder: &mut Builder<impl Write>, node: &Node, packs: &mut Packs<'_>) -> io::Result<()> {
    append_pax(builder, node)?;
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.uid);
    header.set_gid(node.gid);
    header.set_mtime(u64::try_from(node.seconds).unwrap_or_default());
    header.set_size(0);
    let path = names::path(&node.path);
    let target = names::path(&node.target);
    match node.kind() {
        Kind::File => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(node.size());
            let content = Content {
                chunks: node.chunks.iter(),
                packs,
                now: None,
            };
            builder.append_data(&mut header, path, content)
        }
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, path, io::empty())
        }
        Kind::Symlink => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, target)
        }
        Kind::HardLink => {
            header.set_entry_type(EntryType::Link);
            builder.append_link(&mut header, path, target)
        }
    }
}

/// Writes what only an extended header can say.
fn append_pax(builder: &mut Builder<impl Write>, node: &Node) -> io::Result<()> {
    let time = format!("{}.{:09}", node.seconds, node.nanos);
    let attributes = node.attributes.iter();
    let attributes: Vec<(String, &[u8])> = attributes
        .map(|one| (format!("{}{}", tree::XATTR, one.name), one.value.as_slice()))
        .collect();
    let time = (node.nanos > 0 && node.seconds >= 0).then_some(("mtime", time.as_bytes()));
    let attributes = attributes
        .iter()
        .map(|(name, value)| (name.as_str(), *value));
    // A header holds paths in their shortest form.
    let target = node.target.as_slice();
    let mut pairs = target.windows(2);
    let is_odd = pairs.any(|pair| pair == b"//" || pair == b"/.") || target.ends_with(b"/");
    let target = (is_odd && node.kind() == Kind::Symlink).then_some(("linkpath", target));
    let all: Vec<(&str, &[u8])> = time.into_iter().chain(target).chain(attributes).collect();
    if all.is_empty() {
        return Ok(());
    }
    builder.append_pax_extensions(all)
}

/// The packs of an index, the last few of them decompressed.
struct Packs<'a> {
    index: &'a Index,
    fetch: &'a mut dyn FnMut(&PackRef) -> io::Result<Vec<u8>>,
    held: VecDeque<(u32, Arc<Vec<u8>>)>,
}

impl Packs<'_> {
    fn get(&mut self, number: u32) -> io::Result<Arc<Vec<u8>>> {
        if let Some(at) = self.held.iter().position(|(held, _)| *held == number)
            && let Some(found) = self.held.remove(at)
        {
            let pack = Arc::clone(&found.1);
            self.held.push_back(found);
            return Ok(pack);
        }
        let pack = self.index.packs.get(number as usize);
        let pack = pack.ok_or_else(|| io::Error::other("the index names no such pack"))?;
        let stored = (self.fetch)(pack)?;
        let plain = zstd::bulk::decompress(&stored, PACK + CHUNK.2)?;
        if plain.len() as u64 != pack.plain {
            return Err(io::Error::other("a pack is not what the index says"));
        }
        if self.held.len() >= HELD {
            self.held.pop_front();
        }
        let plain = Arc::new(plain);
        self.held.push_back((number, Arc::clone(&plain)));
        Ok(plain)
    }
}

/// The content of a file.
struct Content<'a, 'b, C> {
    chunks: C,
    packs: &'a mut Packs<'b>,
    /// The chunk that is read, and what is left of it.
    now: Option<(Arc<Vec<u8>>, usize, usize)>,
}

impl<'c, C: Iterator<Item = &'c Chunk>> Read for Content<'_, '_, C> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((pack, from, to)) = &mut self.now
                && from < to
            {
                let mut rest = pack.get(*from..*to).unwrap_or_default();
                let read = rest.read(into)?;
                *from += read;
                return Ok(read);
            }
            let Some(chunk) = self.chunks.next() else {
                return Ok(0);
            };
            let pack = self.packs.get(chunk.pack)?;
            let from = chunk.offset as usize;
            let to = from.saturating_add(chunk.length as usize);
            // What is packed next goes by the hashes: an index may not call a chunk what it is not.
            let is_it = pack
                .get(from..to)
                .is_some_and(|piece| Sha256::digest(piece)[..] == chunk.hash[..]);
            if !is_it {
                return Err(io::Error::other("a file is not what the index says"));
            }
            self.now = Some((pack, from, to));
        }
    }
}
