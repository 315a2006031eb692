//! The files of a source, as BuildKit's index of checksums holds them (`cache/contenthash`).
//!
//! Keys are paths with a NUL for each `/`, which gives the order in which BuildKit goes through them:
//! the contents of `/a` at `\0a`, its own header at `\0a\0`, a file in it at `\0a\0f`. The root is at
//! the empty key.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use sha2::{Digest as _, Sha256};

use super::Unknown;
use super::header::{FileHash, Sum};
use crate::digest::Digest;
use crate::fsutil::wire::{self, Stat};

/// As many links are followed as BuildKit follows.
const MAX_LINKS: usize = 255;

/// The files of a source with their checksums.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// What BuildKit counts of an entry: SHA-256.
type Hash = [u8; 32];

#[derive(Debug, Clone)]
pub(super) enum Node {
    /// All that is in a folder.
    Folder(Option<Hash>),
    /// The folder itself.
    Header {
        sum: Hash,
        mode: u32,
    },
    /// A file.
    File(File),
    Symlink {
        sum: Hash,
        target: Vec<u8>,
    },
}

/// A file that is neither a folder nor a link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct File {
    /// The checksum; that of a regular file is known when it has been read.
    sum: Option<Sum>,
    mode: u32,
    size: i64,
}

/// A file or a symbolic link of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the root; what is not UTF-8 becomes U+FFFD.
    pub path: String,
    /// Kind and permissions as Go's `os.FileMode`; of a link only the kind.
    pub mode: u32,
    /// Size in bytes.
    pub size: i64,
    /// CRC-32 of the content, if it has been read.
    pub content: Option<u32>,
    /// Where a link leads.
    pub target: Option<String>,
}

/// A folder of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its path below the root; what is not UTF-8 becomes U+FFFD.
    pub path: String,
    /// Kind and permissions as Go's `os.FileMode`.
    pub mode: u32,
    /// Nothing is in it.
    pub is_empty: bool,
}

impl Node {
    /// Returns the checksum as text.
    pub(super) fn digest(&self) -> Result<String, Unknown> {
        let sum = match self {
            Self::Folder(sum) => sum.ok_or(Unknown::NotRead)?,
            Self::File(file) => file.sum.ok_or(Unknown::NotRead)?.file,
            Self::Header { sum, .. } | Self::Symlink { sum, .. } => *sum,
        };
        Ok(Digest::from_sha256(sum).to_string())
    }
}

impl Tree {
    /// Builds the tree of entries in any order; see [`Builder::add`].
    pub fn of(entries: impl IntoIterator<Item = (Stat, Option<Sum>)>) -> Self {
        let mut builder = Builder::default();
        for (stat, sum) in entries {
            builder.add(&stat, sum);
        }
        builder.finish()
    }

    /// Returns the checksum of a path, as text.
    pub(super) fn checksum(&self, path: &[u8], follow_links: bool) -> Result<String, Unknown> {
        let (_, node) = self.resolve(&key(path), follow_links)?;
        node.ok_or(Unknown::NoFile)?.digest()
    }

    /// Adds the files at a path, which may be a folder, as paths below the root.
    pub(super) fn files_below(
        &self,
        path: &[u8],
        follow_links: bool,
        into: &mut BTreeSet<Vec<u8>>,
    ) {
        self.add_below(path, follow_links, into, |node| {
            matches!(node, Node::File(_))
        });
    }

    /// Adds the symbolic links at a path, which may be a folder, as paths below the root.
    pub(super) fn links_below(
        &self,
        path: &[u8],
        follow_links: bool,
        into: &mut BTreeSet<Vec<u8>>,
    ) {
        self.add_below(path, follow_links, into, |node| {
            matches!(node, Node::Symlink { .. })
        });
    }

    /// Adds the folders at a path, as paths below the root with a slash at the end. The root is none.
    pub(super) fn folders_below(
        &self,
        path: &[u8],
        follow_links: bool,
        into: &mut BTreeSet<Vec<u8>>,
    ) {
        self.add_below(path, follow_links, into, |node| {
            matches!(node, Node::Header { .. })
        });
        into.remove(&[][..]);
    }

    fn add_below(
        &self,
        path: &[u8],
        follow_links: bool,
        into: &mut BTreeSet<Vec<u8>>,
        wanted: impl Fn(&Node) -> bool,
    ) {
        let Ok((start, Some(_))) = self.resolve(&key(path), follow_links) else {
            return;
        };
        let is_below = |key: &[u8]| key == start || is_in(key, &start);
        for (key, node) in self
            .from(start.clone())
            .take_while(|(key, _)| is_below(key))
        {
            if wanted(node) {
                let path = key.iter().skip(1).map(|b| if *b == 0 { b'/' } else { *b });
                into.insert(path.collect());
            }
        }
    }

    /// Returns the files and symbolic links, in the order of BuildKit's index.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.nodes.iter().filter_map(|(key, node)| entry(key, node))
    }

    /// Returns the folders below the root.
    pub fn folders(&self) -> impl Iterator<Item = Folder> {
        let headers = self.nodes.keys().filter_map(|key| key.strip_suffix(&[0]));
        let folders = headers.filter(|folder| !folder.is_empty());
        folders.filter_map(|folder| self.folder_at(folder))
    }

    /// Returns the folder at a path below the root.
    pub fn folder(&self, path: &[u8]) -> Option<Folder> {
        self.folder_at(&key(path))
    }

    fn folder_at(&self, key: &[u8]) -> Option<Folder> {
        let header = [key, &[0]].concat();
        let Node::Header { mode, .. } = self.nodes.get(&header)? else {
            return None;
        };
        let next = (Bound::Excluded(header), Bound::<Vec<u8>>::Unbounded);
        let next = self.nodes.range(next).next();
        Some(Folder {
            path: path(key.strip_prefix(&[0]).unwrap_or(key)),
            mode: *mode,
            is_empty: !next.is_some_and(|(next, _)| is_in(next, key)),
        })
    }

    /// Returns the file or link at a path below the root.
    pub fn entry(&self, path: &[u8]) -> Option<Entry> {
        let key = key(path);
        entry(&key, self.nodes.get(&key)?)
    }

    /// Returns the nodes from a key on.
    pub(super) fn from(&self, key: Vec<u8>) -> impl Iterator<Item = (&Vec<u8>, &Node)> {
        self.nodes
            .range((Bound::Included(key), Bound::<Vec<u8>>::Unbounded))
    }

    /// Looks up a key, following the links on the way, and where that is wanted the last part too.
    pub(super) fn resolve(
        &self,
        key: &[u8],
        follow_last: bool,
    ) -> Result<(Vec<u8>, Option<&Node>), Unknown> {
        let is_link = |node: &Node| matches!(node, Node::Symlink { .. });
        if let Some(node) = self.nodes.get(key)
            && !(follow_last && is_link(node))
        {
            return Ok((key.to_vec(), Some(node)));
        }
        let (mut current, mut node) = (Vec::new(), self.nodes.get(&[][..]));
        let mut rest: Vec<Vec<u8>> = parts(key, 0);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let next = below(&current, &part);
            node = self.nodes.get(&next);
            if let Some(Node::Symlink { target, .. }) = node
                && (follow_last || !rest.is_empty())
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Unknown::Links);
                }
                if target.first() == Some(&b'/') {
                    current.clear();
                }
                rest.extend(parts(target, b'/'));
                // A target that is empty, or names no other place, leaves us where we are.
                node = self.nodes.get(&current);
                continue;
            }
            current = next;
        }
        Ok((current, node))
    }
}

fn entry(key: &[u8], node: &Node) -> Option<Entry> {
    let mut entry = Entry {
        path: path(key.strip_prefix(&[0]).unwrap_or(key)),
        mode: wire::MODE_SYMLINK,
        size: 0,
        content: None,
        target: None,
    };
    match node {
        Node::Folder(_) | Node::Header { .. } => return None,
        Node::File(file) => {
            entry.mode = file.mode;
            entry.size = file.size;
            entry.content = file.sum.map(|sum| sum.content);
        }
        Node::Symlink { target, .. } => {
            entry.target = Some(String::from_utf8_lossy(target).into_owned());
        }
    }
    Some(entry)
}

/// A tree that grows entry by entry.
#[derive(Debug)]
pub struct Builder {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Second names of files, each with the first one.
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Builder {
    fn default() -> Self {
        // BuildKit does not know the header of the root of what a client sends.
        let root = Sha256::digest(b"").into();
        Self {
            nodes: BTreeMap::from([
                (Vec::new(), Node::Folder(None)),
                (vec![0], Node::Header { sum: root, mode: 0 }),
            ]),
            links: Vec::new(),
        }
    }
}

impl Builder {
    /// Adds an entry with the checksum of its [`FileHash`]. It is only needed of regular files; where it is missing, all
    /// that depends on it stays unknown.
    pub fn add(&mut self, stat: &Stat, sum: Option<Sum>) {
        let key = key(&stat.path);
        if key.is_empty() {
            return;
        }
        let node = if stat.is_dir() {
            let header = [&key[..], &[0]].concat();
            let sum = FileHash::new(stat).finish().file;
            let mode = stat.mode;
            self.nodes.insert(header, Node::Header { sum, mode });
            Node::Folder(None)
        } else if stat.is_symlink() {
            Node::Symlink {
                sum: FileHash::new(stat).finish().file,
                target: stat.linkname.clone(),
            }
        } else if stat.linkname.is_empty() {
            let made = || (!stat.has_data()).then(|| FileHash::new(stat).finish());
            Node::File(File {
                sum: sum.or_else(made),
                mode: stat.mode,
                size: stat.size,
            })
        } else {
            self.links.push((key, self::key(&stat.linkname)));
            return;
        };
        self.nodes.insert(key, node);
    }

    /// Returns the tree of all that was added.
    pub fn finish(self) -> Tree {
        let Self { mut nodes, links } = self;
        for (key, first) in links {
            // A second name of a file has the checksum of the first.
            let node = nodes.get(&first).cloned();
            let node = node.unwrap_or(Node::File(File::default()));
            nodes.insert(key, node);
        }
        for (key, sum) in folder_sums(&nodes) {
            nodes.insert(key, Node::Folder(sum));
        }
        Tree { nodes }
    }
}

/// Returns the parts of a path, the last one first.
fn parts(path: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == separator);
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

fn below(folder: &[u8], part: &[u8]) -> Vec<u8> {
    if part == b".." {
        let end = folder.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        return folder[..end].to_vec();
    }
    [folder, &[0], part].concat()
}

/// Returns the key of a path, absolute or below the root.
pub(super) fn key(path: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.len() + 1);
    for part in path.split(|byte| *byte == b'/') {
        if !part.is_empty() && part != b"." {
            key = below(&key, part);
        }
    }
    key
}

/// Returns the path of a key as text; what is not UTF-8 becomes U+FFFD.
pub(super) fn path(key: &[u8]) -> String {
    let path: Vec<u8> = key
        .iter()
        .map(|b| if *b == 0 { b'/' } else { *b })
        .collect();
    match String::from_utf8_lossy(&path) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// A folder whose entries are being gone through.
struct Open {
    key: Vec<u8>,
    /// `None` if a file in it has not been read.
    hash: Option<Sha256>,
}

impl Open {
    fn add(&mut self, key: &[u8], sum: Option<Hash>) {
        match (sum, &mut self.hash) {
            (Some(sum), Some(hash)) => {
                hash.update(&key[self.key.len()..]);
                hash.update(Digest::from_sha256(sum).as_str().as_bytes());
            }
            (None, hash) => *hash = None,
            (Some(_), None) => {}
        }
    }
}

/// Computes the checksums of all folders in one pass, without recursion: a tree may be very deep.
fn folder_sums(nodes: &BTreeMap<Vec<u8>, Node>) -> Vec<(Vec<u8>, Option<Hash>)> {
    let mut done = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for (key, node) in nodes {
        while open.last().is_some_and(|folder| !is_in(key, &folder.key)) {
            close(&mut open, &mut done);
        }
        let sum = match node {
            Node::Folder(_) => {
                open.push(Open {
                    key: key.clone(),
                    hash: Some(Sha256::new()),
                });
                continue;
            }
            Node::Header { sum, .. } | Node::Symlink { sum, .. } => Some(*sum),
            Node::File(file) => file.sum.map(|sum| sum.file),
        };
        if let Some(folder) = open.last_mut() {
            folder.add(key, sum);
        }
    }
    while !open.is_empty() {
        close(&mut open, &mut done);
    }
    done
}

fn is_in(key: &[u8], folder: &[u8]) -> bool {
    key.strip_prefix(folder)
        .is_some_and(|rest| rest.first() == Some(&0))
}

fn close(open: &mut Vec<Open>, done: &mut Vec<(Vec<u8>, Option<Hash>)>) {
    let Some(folder) = open.pop() else { return };
    let sum = folder.hash.map(|hash| hash.finalize().into());
    if let Some(parent) = open.last_mut() {
        parent.add(&folder.key, sum);
    }
    done.push((folder.key, sum));
}
