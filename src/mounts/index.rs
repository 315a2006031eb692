//! The index of a mount: its tree, and where the bytes of its files are.
//!
//! Protobuf in a frame of zstd. Whoever may push to a registry may write one: nothing of it is trusted. It is checked as a
//! whole before anything is done with it.

use std::collections::HashMap;
use std::io::Read as _;

use prost::Message as _;
use thiserror::Error;

use super::{CHUNK, PACK};

/// The version that this program writes and reads.
const VERSION: u32 = 1;
/// The largest index that is read, in bytes: as it is stored, and as it is.
pub const MAX_STORED: u64 = 64 << 20;
const MAX_PLAIN: u64 = 256 << 20;
/// The largest tree, in bytes of files.
const MAX_TREE: u64 = 256 << 30;
/// The longest path or target of a link, as in Linux.
const MAX_PATH: usize = 4096;
/// The largest pack as it is stored. What does not compress grows a little.
const MAX_PACK: u64 = 2 * PACK as u64;

/// A tree with the packs that hold its files.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Index {
    /// Version of the format.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The packs.
    #[prost(message, repeated, tag = "2")]
    pub packs: Vec<PackRef>,
    /// What is in the mount, by path: each folder before what is in it.
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<Node>,
}

/// A pack.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PackRef {
    /// Digest of the blob, such as `sha256:…`.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Its size in bytes.
    #[prost(uint64, tag = "2")]
    pub stored: u64,
    /// Bytes that it holds.
    #[prost(uint64, tag = "3")]
    pub plain: u64,
}

/// One entry of a tree.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Path below the mount.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// What it is.
    #[prost(enumeration = "Kind", tag = "2")]
    pub kind: i32,
    /// Permissions with the setuid, setgid and sticky bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Owner.
    #[prost(uint64, tag = "4")]
    pub uid: u64,
    /// Group.
    #[prost(uint64, tag = "5")]
    pub gid: u64,
    /// When it was changed last: seconds since 1970.
    #[prost(int64, tag = "6")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(uint32, tag = "7")]
    pub nanos: u32,
    /// Where a symbolic link leads, or the path of the file that a hard link is another name of.
    #[prost(bytes = "vec", tag = "8")]
    pub target: Vec<u8>,
    /// Extended attributes, by name.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<Attribute>,
    /// The content of a file.
    #[prost(message, repeated, tag = "10")]
    pub chunks: Vec<Chunk>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
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
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Attribute {
    /// Its name, such as `user.x`, as a tar stream has it: GNU tar writes `%3D` for `=`.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// A part of a file.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Chunk {
    /// Which pack has it.
    #[prost(uint32, tag = "1")]
    pub pack: u32,
    /// Where in the pack it begins.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// How long it is.
    #[prost(uint32, tag = "3")]
    pub length: u32,
    /// SHA-256 of it.
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
}

/// Why an index is refused.
#[derive(Debug, Error)]
pub enum IndexError {
    /// It is of a later version.
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
    /// Creates an index.
    pub(super) fn new(packs: Vec<PackRef>, nodes: Vec<Node>) -> Self {
        Self {
            version: VERSION,
            packs,
            nodes,
        }
    }

    /// Reads an index as it is stored, and checks all of it.
    ///
    /// # Errors
    ///
    /// Fails if it is too large, of another version, or says what no tree can be.
    pub fn from_blob(blob: &[u8]) -> Result<Self, IndexError> {
        let mut plain = Vec::new();
        let decoder = zstd::Decoder::new(blob).map_err(IndexError::Zstd)?;
        let mut decoder = decoder.take(MAX_PLAIN + 1);
        decoder.read_to_end(&mut plain).map_err(IndexError::Zstd)?;
        if plain.len() as u64 > MAX_PLAIN {
            return Err(IndexError::Invalid("it is too large"));
        }
        let index = Self::decode(plain.as_slice())?;
        if index.version != VERSION {
            return Err(IndexError::Version(index.version));
        }
        index.check().map_err(IndexError::Invalid)?;
        Ok(index)
    }

    /// Writes the index as it is stored.
    ///
    /// # Errors
    ///
    /// Fails if it is larger than is read.
    pub fn to_blob(&self) -> Result<Vec<u8>, IndexError> {
        let plain = self.encode_to_vec();
        if plain.len() as u64 > MAX_PLAIN {
            return Err(IndexError::Invalid("it is too large"));
        }
        let blob = zstd::bulk::compress(&plain, 0).map_err(IndexError::Zstd)?;
        if blob.len() as u64 > MAX_STORED {
            return Err(IndexError::Invalid("it is too large"));
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
        let is_file = |node: &&Node| matches!(node.kind(), Kind::File | Kind::HardLink);
        self.nodes.iter().filter(is_file).count()
    }

    /// Returns how many bytes of each pack are used, each byte once.
    pub(super) fn used(&self) -> Vec<u64> {
        let mut used = vec![0_u64; self.packs.len()];
        let mut seen = std::collections::HashSet::new();
        for chunk in self.nodes.iter().flat_map(|node| &node.chunks) {
            let pack = chunk.pack as usize;
            if seen.insert((chunk.pack, chunk.offset))
                && let Some(used) = used.get_mut(pack)
            {
                *used += u64::from(chunk.length);
            }
        }
        used
    }

    fn check(&self) -> Result<(), &'static str> {
        for pack in &self.packs {
            if pack.stored > MAX_PACK || pack.plain > (PACK + CHUNK.2) as u64 {
                return Err("a pack is too large");
            }
            if pack.digest.parse::<crate::digest::Digest>().is_err() {
                return Err("a pack has no digest");
            }
        }
        let mut kinds: HashMap<&[u8], Kind> = HashMap::new();
        let mut last: Option<&[u8]> = None;
        for node in &self.nodes {
            let path = node.path.as_slice();
            check_path(path)?;
            if last.is_some_and(|last| last >= path) {
                return Err("its paths are not in order");
            }
            last = Some(path);
            if let Some(at) = path.iter().rposition(|byte| *byte == b'/') {
                let parent = path.get(..at).unwrap_or_default();
                if kinds.get(parent) != Some(&Kind::Folder) {
                    return Err("a path does not lie in a folder");
                }
            }
            kinds.insert(path, node.check(&self.packs)?);
        }
        for node in &self.nodes {
            let is_link = node.kind() == Kind::HardLink;
            if is_link && kinds.get(node.target.as_slice()) != Some(&Kind::File) {
                return Err("a hard link leads to no file");
            }
        }
        if self.size() > MAX_TREE {
            return Err("its files are too large");
        }
        Ok(())
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

    fn check(&self, packs: &[PackRef]) -> Result<Kind, &'static str> {
        let kind = Kind::try_from(self.kind).map_err(|_| "an entry is of no known kind")?;
        if self.mode > 0o7777 || self.nanos >= 1_000_000_000 {
            return Err("an entry has no valid mode or time");
        }
        if self.target.contains(&0) || self.target.len() > MAX_PATH {
            return Err("a link leads to no path");
        }
        if matches!(kind, Kind::Symlink | Kind::HardLink) == self.target.is_empty() {
            return Err("a link has no target, or something else has one");
        }
        if kind != Kind::File && !self.chunks.is_empty() {
            return Err("what is no file has content");
        }
        let is_name = |name: &[u8]| !name.is_empty() && !name.iter().any(|b| matches!(b, 0 | b'='));
        if !self.attributes.iter().all(|one| is_name(&one.name)) {
            return Err("an attribute has no valid name");
        }
        for chunk in &self.chunks {
            let pack = packs
                .get(chunk.pack as usize)
                .ok_or("a pack is not named")?;
            let end = u64::from(chunk.offset) + u64::from(chunk.length);
            if end > pack.plain || chunk.hash.len() != 32 || chunk.length == 0 {
                return Err("a chunk is not in its pack");
            }
        }
        Ok(kind)
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
            path: path.into(),
            kind: kind.into(),
            mode: 0o644,
            target: target.into(),
            ..Node::default()
        }
    }

    fn refused(packs: Vec<PackRef>, nodes: Vec<Node>) -> bool {
        let blob = Index::new(packs, nodes).to_blob().unwrap();
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
        let index = Index::new(Vec::new(), nodes);
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
            digest: crate::digest::Digest::of(b"x").to_string(),
            stored: 10,
            plain,
        };
        let file = |pack, offset, length| {
            let hash = vec![0; 32];
            let chunk = Chunk {
                pack,
                offset,
                length,
                hash,
            };
            Node {
                chunks: vec![chunk],
                ..node("a", Kind::File, "")
            }
        };
        assert!(!refused(vec![pack(10)], vec![file(0, 2, 8)]));
        for (at, offset, length) in [(1, 0, 1), (0, 3, 8), (0, u32::MAX, u32::MAX), (0, 0, 0)] {
            assert!(refused(vec![pack(10)], vec![file(at, offset, length)]));
        }
        assert!(refused(vec![pack(1 << 40)], Vec::new()));
        let broken = PackRef {
            digest: "sha256:x".to_owned(),
            ..pack(1)
        };
        assert!(refused(vec![broken], Vec::new()));
    }

    #[test]
    fn bytes_that_are_none_and_bombs_are_refused() {
        assert!(Index::from_blob(b"").is_err());
        assert!(Index::from_blob(b"no zstd").is_err());
        let zeros = zstd::bulk::compress(&vec![0; 300 << 20], 1).unwrap();
        assert!(Index::from_blob(&zeros).is_err());
        let later = Index {
            version: 2,
            ..Index::default()
        };
        let blob = later.to_blob().unwrap();
        assert!(matches!(
            Index::from_blob(&blob),
            Err(IndexError::Version(2))
        ));
    }
}
