//! An index and its packs made a tar stream.
//!
//! Files come in the order of their packs, so that few of those are held at a time; then hard links and symbolic links;
//! folders come last, each after what is in it, because what is made in a folder changes its time.

use std::io::{self, Read, Write};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::entries::record;
use super::holes::{Holes, Map};
use super::index::{Chunk, Index, Kind, Node, PackRef};
use super::write::{Names, Stream};
use super::{END, tree};
use packs::{Loader, Packs};

mod packs;

/// What a file with holes is called in its header: its name stands in the extended one.
const SPARSE: &[u8] = b"GNUSparseFile.0/file";

/// For whom a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For whoever looks into the files: without extended attributes.
    Plain,
    /// For the `tar` of a container. The last entry is [`END`].
    Container,
    /// For GNU tar in a container: files have holes where they have many zeros.
    ContainerSparse,
}

/// Writes the tree as a tar stream. `fetch` returns a pack as it is stored; it is called on a thread of its own, so that a
/// pack is fetched while the one before it is written.
///
/// # Errors
///
/// Fails if a pack cannot be had or is not what the index says, or if the stream cannot be written.
pub fn unpack(
    index: &Index,
    fetch: &mut (dyn FnMut(&PackRef) -> io::Result<Vec<u8>> + Send),
    to: impl Write,
    form: Form,
) -> io::Result<()> {
    let order = order(index);
    // A pack is handed over when the one before it has been taken: so one waits, and no more.
    let (loaded, packs) = sync_channel(0);
    thread::scope(|scope| {
        let chunks = needed(&order, form);
        let loading = scope.spawn(move || Loader::new(index, fetch).load(chunks, &loaded));
        let written = write(&order, form, to, Packs::new(packs));
        let loaded = loading.join().unwrap_or_else(|panic| resume_unwind(panic));
        // What could not be had is why it could not be written.
        loaded.and(written)
    })
}

fn write(order: &[&Node], form: Form, to: impl Write, mut packs: Packs) -> io::Result<()> {
    let mut stream = Stream::new(to);
    let mut holes = holes(form);
    for node in order {
        let records = records(node, form);
        let holes = holes.as_mut();
        let map = holes.and_then(|holes| holes.map_of(&node.chunks));
        if let Some(map) = map {
            append_sparse(&mut stream, node, records, map, &mut packs)?;
        } else {
            stream.records(&records)?;
            append(&mut stream, node, &mut packs)?;
        }
    }
    if form != Form::Plain {
        let end = Node {
            path: END.as_bytes().into(),
            mode: 0o600,
            ..Node::default()
        };
        append(&mut stream, &end, &mut packs)?;
    }
    stream.end()
}

fn holes(form: Form) -> Option<Holes> {
    (form == Form::ContainerSparse).then(Holes::default)
}

/// Returns the chunks that are read for the stream, in their order.
fn needed<'a>(order: &[&'a Node], form: Form) -> impl Iterator<Item = &'a Chunk> {
    let mut holes = holes(form);
    order.iter().flat_map(move |node| {
        let holes = holes.as_mut();
        let map = holes.and_then(|holes| holes.map_of(&node.chunks));
        let (some, all) = match map {
            Some(map) => (map.chunks, &[][..]),
            None => (Vec::new(), &*node.chunks),
        };
        some.into_iter().chain(all)
    })
}

/// Returns the nodes in the order of the stream.
fn order(index: &Index) -> Vec<&Node> {
    let of = |kind: Kind| index.nodes.iter().filter(move |node| node.kind == kind);
    let mut files: Vec<&Node> = of(Kind::File).collect();
    files.sort_by_key(|node| node.chunks.first().map(|chunk| (chunk.pack, chunk.offset)));
    let links = of(Kind::HardLink).chain(of(Kind::Symlink));
    let folders = of(Kind::Folder).collect::<Vec<_>>().into_iter().rev();
    files.into_iter().chain(links).chain(folders).collect()
}

fn header(node: &Node) -> Header {
    filled(Header::new_gnu(), node)
}

fn filled(mut header: Header, node: &Node) -> Header {
    header.set_mode(node.mode.into());
    header.set_uid(node.uid.into());
    header.set_gid(node.gid.into());
    header.set_mtime(u64::try_from(node.seconds).unwrap_or_default());
    header.set_size(0);
    header
}

fn append(stream: &mut Stream<impl Write>, node: &Node, packs: &mut Packs) -> io::Result<()> {
    let mut header = header(node);
    header.set_entry_type(match node.kind {
        Kind::File => EntryType::Regular,
        Kind::Folder => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::HardLink => EntryType::Link,
    });
    let names = Names {
        path: &node.path,
        target: &node.target,
    };
    let content = Content::new(node.chunks.iter(), packs);
    stream.entry(header, names, node.size(), content)
}

/// Writes a file with holes as GNU tar writes one (its format 1.0).
fn append_sparse(
    stream: &mut Stream<impl Write>,
    node: &Node,
    mut records: Vec<u8>,
    map: Map<'_>,
    packs: &mut Packs,
) -> io::Result<()> {
    let size = node.size().to_string();
    for (key, value) in [
        (&b"GNU.sparse.major"[..], &b"1"[..]),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", &node.path),
        (b"GNU.sparse.realsize", size.as_bytes()),
    ] {
        records.extend(record(key, value));
    }
    stream.records(&records)?;
    // Of a GNU header tar expects an older form of sparse files.
    let mut header = filled(Header::new_ustar(), node);
    header.set_entry_type(EntryType::Regular);
    let names = Names {
        path: SPARSE,
        target: b"",
    };
    let (table, size) = (map.table(), map.size());
    let content = Content::new(map.chunks.into_iter(), packs);
    let size = table.len() as u64 + size;
    stream.entry(header, names, size, table.as_slice().chain(content))
}

/// Returns what only an extended header can say.
fn records(node: &Node, form: Form) -> Vec<u8> {
    let mut all = Vec::new();
    if node.nanos > 0 && node.seconds >= 0 {
        let time = format!("{}.{:09}", node.seconds, node.nanos);
        all.extend(record(b"mtime", time.as_bytes()));
    }
    let attributes = node.attributes.iter();
    for one in attributes.filter(|_| form != Form::Plain) {
        all.extend(record(&[tree::XATTR, &one.name].concat(), &one.value));
    }
    all
}

/// The content of a file.
struct Content<'a, C> {
    chunks: C,
    packs: &'a mut Packs,
    /// The chunk that is read, and what is left of it.
    now: Option<(Arc<Vec<u8>>, usize, usize)>,
}

impl<'a, C> Content<'a, C> {
    fn new(chunks: C, packs: &'a mut Packs) -> Self {
        Self {
            chunks,
            packs,
            now: None,
        }
    }
}

impl<'c, C: Iterator<Item = &'c Chunk>> Read for Content<'_, C> {
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
            // A pack that is let go is let go before the next one comes.
            self.now = None;
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
