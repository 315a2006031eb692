//! The index of a mount: its tree, and where the bytes of its files are.
//!
//! Whoever may push to a registry may write one: nothing of it is trusted. Each part is checked before it is kept, and what
//! is kept has a bound.

use thiserror::Error;

use super::{CHUNK, PACK};
use crate::digest::Digest;

mod wire;

/// The largest index that is read, in bytes as it is stored.
pub const MAX_STORED: u64 = 64 << 20;
/// The most memory that one may take: a million files, or one of 256 GB.
const MAX_HELD: usize = 256 << 20;
/// The largest tree, in bytes of files.
const MAX_TREE: u64 = 256 << 30;
/// The longest path or target of a link, as in Linux.
const MAX_PATH: usize = 4096;
/// The largest pack as it is stored. What does not compress grows a little.
const MAX_PACK: u64 = 2 * PACK as u64;

/// A tree with the packs that hold its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The packs.
    pub packs: Vec<PackRef>,
    /// What is in the mount, by path: each folder before what is in it.
    pub nodes: Vec<Node>,
}

/// A pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRef {
    /// Digest of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub stored: u64,
    /// Bytes that it holds.
    pub plain: u64,
}

/// One entry of a tree. There may be a million, so it is small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Path below the mount.
    pub path: Box<[u8]>,
    /// Where a symbolic link leads, or the path of the file that a hard link is another name of.
    pub target: Box<[u8]>,
    /// Extended attributes, by name.
    pub attributes: Box<[Attribute]>,
    /// The content of a file.
    pub chunks: Box<[Chunk]>,
    /// When it was changed last: seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions with the setuid, setgid and sticky bits.
    pub mode: u16,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(u8)]
pub enum Kind {
    /// A file.
    File = 0,
    /// A folder.
    Folder = 1,
    /// A symbolic link.
    Symlink = 2,
    /// Another name of a file.
    HardLink = 3,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name, such as `user.x`, as a tar stream has it: GNU tar writes `%3D` for `=`.
    pub name: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which pack has it.
    pub pack: u32,
    /// Where in the pack it begins.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
    /// SHA-256 of it.
    pub hash: [u8; 32],
}

/// Why an index is refused.
#[derive(Debug, Error)]
pub enum IndexError {
    /// It is of another version.
    #[error("the index of the mount has version {0}, which this version does not read")]
    Version(u32),
    /// It is not what an index may be.
    #[error("the index of the mount is not valid: {0}")]
    Invalid(&'static str),
    /// It cannot be decompressed.
    #[error("the index of the mount cannot be decompressed")]
    Zstd(#[source] std::io::Error),
    /// It is no message of its kind.
    #[error("the index of the mount is no message of its kind")]
    Message(#[from] prost::DecodeError),
}

impl Index {
    /// Reads an index as it is stored, and checks all of it.
    ///
    /// # Errors
    ///
    /// Fails if it is too large, of another version, or says what no tree can be.
    pub fn from_blob(blob: &[u8]) -> Result<Self, IndexError> {
        let mut taken = Taken::default();
        wire::read(blob, |part| match part {
            wire::Read::Pack(pack) => taken.pack(pack),
            wire::Read::Node(node) => taken.node(node),
            wire::Read::Attribute(one) => taken.attribute(one),
            wire::Read::Chunk(chunk) => taken.chunk(chunk),
        })?;
        taken.finish().map_err(IndexError::Invalid)
    }

    /// Writes the index as it is stored.
    ///
    /// # Errors
    ///
    /// Fails if it is larger than is read.
    pub fn to_blob(&self) -> Result<Vec<u8>, IndexError> {
        let too_large = IndexError::Invalid("it is too large");
        if self.nodes.iter().map(Node::held).sum::<usize>() > MAX_HELD {
            return Err(too_large);
        }
        let blob = wire::write(self)?;
        if blob.len() as u64 > MAX_STORED {
            return Err(too_large);
        }
        Ok(blob)
    }

    /// Returns the bytes of all files.
    pub fn size(&self) -> u64 {
        let sizes = self.nodes.iter().map(Node::size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns the number of files, hard links among them.
    pub fn files(&self) -> usize {
        let is_file = |node: &&Node| matches!(node.kind, Kind::File | Kind::HardLink);
        self.nodes.iter().filter(is_file).count()
    }

    /// Returns what there is with this path: the nodes are in order.
    fn kind_of(&self, path: &[u8]) -> Option<Kind> {
        let found = self.nodes.binary_search_by(|node| (*node.path).cmp(path));
        found.ok().and_then(|at| self.nodes.get(at)).map(|n| n.kind)
    }
}

impl Node {
    /// Returns the size of a file in bytes.
    pub fn size(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| u64::from(chunk.length))
            .sum()
    }

    /// Returns about how much memory it takes.
    fn held(&self) -> usize {
        let attributes = self.attributes.iter().map(Attribute::held);
        size_of::<Self>()
            + self.path.len()
            + self.target.len()
            + attributes.sum::<usize>()
            + size_of_val(&*self.chunks)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.mode > 0o7777 || self.nanos >= 1_000_000_000 {
            return Err("an entry has no valid mode or time");
        }
        if self.target.contains(&0) || self.target.len() > MAX_PATH {
            return Err("a link leads to no path");
        }
        if matches!(self.kind, Kind::Symlink | Kind::HardLink) == self.target.is_empty() {
            return Err("a link has no target, or something else has one");
        }
        Ok(())
    }
}

impl Attribute {
    fn held(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.value.len()
    }
}

/// What has been read of an index so far, all of it checked.
#[derive(Debug, Default)]
struct Taken {
    index: Index,
    /// Of the last node, which has not all of them yet.
    attributes: Vec<Attribute>,
    chunks: Vec<Chunk>,
    held: usize,
    size: u64,
}

impl Taken {
    /// Counts what is going to be kept.
    fn hold(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.held += bytes;
        if self.held > MAX_HELD {
            return Err("it is too large");
        }
        Ok(())
    }

    fn pack(&mut self, pack: PackRef) -> Result<(), &'static str> {
        if pack.stored > MAX_PACK || pack.plain > (PACK + CHUNK.2) as u64 {
            return Err("a pack is too large");
        }
        self.hold(size_of::<PackRef>() + pack.digest.as_str().len())?;
        self.index.packs.push(pack);
        Ok(())
    }

    fn node(&mut self, node: Node) -> Result<(), &'static str> {
        self.end_node();
        let path = &node.path;
        check_path(path)?;
        node.check()?;
        if self
            .index
            .nodes
            .last()
            .is_some_and(|last| last.path >= *path)
        {
            return Err("its paths are not in order");
        }
        if let Some(at) = path.iter().rposition(|byte| *byte == b'/') {
            let parent = path.get(..at).unwrap_or_default();
            if self.index.kind_of(parent) != Some(Kind::Folder) {
                return Err("a path does not lie in a folder");
            }
        }
        self.hold(node.held())?;
        self.index.nodes.push(node);
        Ok(())
    }

    fn attribute(&mut self, attribute: Attribute) -> Result<(), &'static str> {
        let name = &attribute.name;
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'=')) {
            return Err("an attribute has no valid name");
        }
        if self.index.nodes.is_empty() {
            return Err("an attribute belongs to nothing");
        }
        self.hold(attribute.held())?;
        self.attributes.push(attribute);
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), &'static str> {
        let last = self.index.nodes.last();
        if last.is_none_or(|last| last.kind != Kind::File) {
            return Err("what is no file has content");
        }
        let pack = self.index.packs.get(chunk.pack as usize);
        let pack = pack.ok_or("a pack is not named")?;
        let end = u64::from(chunk.offset) + u64::from(chunk.length);
        if end > pack.plain || chunk.length == 0 {
            return Err("a chunk is not in its pack");
        }
        self.size = self.size.saturating_add(chunk.length.into());
        if self.size > MAX_TREE {
            return Err("its files are too large");
        }
        self.hold(size_of::<Chunk>())?;
        self.chunks.push(chunk);
        Ok(())
    }

    fn end_node(&mut self) {
        if let Some(node) = self.index.nodes.last_mut() {
            node.attributes = self.attributes.drain(..).collect();
            node.chunks = self.chunks.drain(..).collect();
        }
    }

    fn finish(mut self) -> Result<Index, &'static str> {
        self.end_node();
        let index = self.index;
        for node in &index.nodes {
            let is_link = node.kind == Kind::HardLink;
            if is_link && index.kind_of(&node.target) != Some(Kind::File) {
                return Err("a hard link leads to no file");
            }
        }
        Ok(index)
    }
}

/// Checks that a path leads below the mount.
fn check_path(path: &[u8]) -> Result<(), &'static str> {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if path.contains(&0) || path.len() > MAX_PATH || !path.split(|b| *b == b'/').all(is_name) {
        return Err("a path does not lead below the mount");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, kind: Kind, target: &str) -> Node {
        Node {
            path: path.as_bytes().into(),
            kind,
            mode: 0o644,
            target: target.as_bytes().into(),
            ..Node::default()
        }
    }

    fn refused(packs: Vec<PackRef>, nodes: Vec<Node>) -> bool {
        let blob = Index { packs, nodes }.to_blob().unwrap();
        Index::from_blob(&blob).is_err()
    }

    #[test]
    fn a_tree_comes_back() {
        let nodes = vec![
            node("a", Kind::Folder, ""),
            node("a/file", Kind::File, ""),
            node("a/hard", Kind::HardLink, "a/file"),
            node("b", Kind::Symlink, "/etc/passwd"),
        ];
        let packs = Vec::new();
        let index = Index { packs, nodes };
        let blob = index.to_blob().unwrap();
        assert_eq!(Index::from_blob(&blob).unwrap(), index);
        assert_eq!((index.files(), index.size()), (2, 0));
    }

    #[test]
    fn what_leads_out_of_the_mount_is_refused() {
        for path in ["", "/etc", "a/../../b", "..", "./a", "a//b", "a/", "a\0b"] {
            assert!(
                refused(Vec::new(), vec![node(path, Kind::File, "")]),
                "{path:?}"
            );
        }
        let through_link = vec![
            node("a", Kind::Symlink, "/etc"),
            node("a/passwd", Kind::File, ""),
        ];
        assert!(refused(Vec::new(), through_link));
        let twice = vec![node("a", Kind::File, ""), node("a", Kind::Symlink, "/etc")];
        assert!(refused(Vec::new(), twice));
        for target in ["/etc/passwd", "../x", "link", ""] {
            let nodes = vec![
                node("hard", Kind::HardLink, target),
                node("link", Kind::Symlink, "/etc/passwd"),
            ];
            assert!(refused(Vec::new(), nodes), "{target}");
        }
    }

    #[test]
    fn chunks_lie_in_their_packs() {
        let pack = |plain| PackRef {
            digest: Digest::of(b"x"),
            stored: 10,
            plain,
        };
        let file = |pack, offset, length| {
            let hash = [0; 32];
            let chunk = Chunk {
                pack,
                offset,
                length,
                hash,
            };
            Node {
                chunks: [chunk].into(),
                ..node("a", Kind::File, "")
            }
        };
        assert!(!refused(vec![pack(10)], vec![file(0, 2, 8)]));
        for (at, offset, length) in [(1, 0, 1), (0, 3, 8), (0, u32::MAX, u32::MAX), (0, 0, 0)] {
            assert!(refused(vec![pack(10)], vec![file(at, offset, length)]));
        }
        assert!(refused(vec![pack(1 << 40)], Vec::new()));
        let folder = Node {
            kind: Kind::Folder,
            ..file(0, 0, 1)
        };
        assert!(refused(vec![pack(10)], vec![folder]));
    }

    #[test]
    fn bytes_that_are_none_and_bombs_are_refused() {
        assert!(Index::from_blob(b"").is_err());
        assert!(Index::from_blob(b"no zstd").is_err());
        let zeros = zstd::bulk::compress(&vec![0; 300 << 20], 1).unwrap();
        assert!(Index::from_blob(&zeros).is_err());
    }

    #[test]
    fn an_index_that_takes_too_much_memory_is_refused_before_it_does() {
        let pack = PackRef {
            digest: Digest::of(b"x"),
            stored: 1,
            plain: 1,
        };
        let chunk = Chunk {
            pack: 0,
            offset: 0,
            length: 1,
            hash: [0; 32],
        };
        // A file with the same chunk again and again, which compresses to little.
        let mut taken = Taken::default();
        taken.pack(pack).unwrap();
        taken.node(node("a", Kind::File, "")).unwrap();
        taken.held = MAX_HELD - 10 * size_of::<Chunk>();
        let refused = (0..99).find_map(|_| taken.chunk(chunk.clone()).err());
        assert_eq!(refused, Some("it is too large"));
        assert_eq!(taken.chunks.len(), 10);
        let long = "x".repeat(MAX_PATH);
        assert!(taken.node(node(&long, Kind::File, "")).is_err());
        assert_eq!(taken.index.nodes.len(), 1);
    }

    #[test]
    fn a_million_files_fit() {
        // With a path of 60 bytes and one chunk each.
        assert!(size_of::<Node>() <= 88 && size_of::<Chunk>() == 44);
        assert!(1_000_000 * (size_of::<Node>() + 60 + 44) < MAX_HELD);
    }
}
