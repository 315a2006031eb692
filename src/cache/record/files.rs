//! Lists of the files of a context.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::hash::{Hashed, Salt};
use crate::cache::keys::Tree;
use crate::cache::keys::tree::Entry;
use crate::fsutil::wire::{MODE_DIR, MODE_SYMLINK, Stat};

/// The permissions that most folders have.
const USUAL: u32 = 0o755;
/// Bytes of a path that are read.
const MAX_PATH: usize = 4096;
/// Bytes of all paths of a list that are read: each one may repeat most of the one before.
const MAX_PATHS: usize = 32 << 20;

/// The files of a context. Hashes have the salt of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSet {
    /// Salt of the hashes.
    pub salt: Salt,
    /// Name of the context in the definition, such as `context`.
    pub root: String,
    /// How many files there are.
    #[serde(default)]
    pub n: usize,
    /// Size of all files together, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// The files, in order.
    #[serde(default)]
    pub files: Vec<FileRecord>,
    /// Folders that are empty or have other permissions than 0755: path and mode. Missing where nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folders: Option<Vec<(String, u32)>>,
    /// The list was left out because it was too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One file: how many bytes its path has in common with the one before, the rest of the path, mode, size,
/// and the hash of its content. Of a link the hash is that of its target; it is missing where a file was
/// not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord(
    pub usize,
    pub String,
    pub u32,
    pub u64,
    #[serde(default)] pub Option<Hashed>,
);

/// A file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: String,
    /// Kind and permissions as Go's `os.FileMode`.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Hash of the content.
    pub content: Option<Hashed>,
}

impl FileSet {
    /// Lists the files of a tree.
    pub fn of(root: &str, tree: &Tree, salt: Salt) -> Self {
        let mut set = Self {
            salt,
            root: root.to_owned(),
            ..Self::default()
        };
        let mut before = String::new();
        for entry in tree.entries() {
            let shared = shared(&before, &entry.path);
            let size = u64::try_from(entry.size).unwrap_or_default();
            set.n += 1;
            set.bytes = set.bytes.saturating_add(size);
            let rest = entry.path.get(shared..).unwrap_or_default().to_owned();
            let content = content(&salt, &entry);
            set.files
                .push(FileRecord(shared, rest, entry.mode, size, content));
            before = entry.path;
        }
        let told = tree
            .folders()
            .filter(|folder| folder.is_empty || folder.mode & !MODE_DIR != USUAL);
        set.folders = Some(told.map(|folder| (folder.path, folder.mode)).collect());
        set
    }

    /// Returns the tree of the files, without contents; folders that are not told are as usual.
    pub fn tree<'a>(&self, files: impl Iterator<Item = &'a File>) -> Tree {
        let mut folders: BTreeMap<&str, u32> = BTreeMap::new();
        let mut stats = Vec::new();
        for file in files {
            stats.push(file.stat());
            let mut path = file.path.as_str();
            while let Some((folder, _)) = path.rsplit_once('/') {
                if folders.insert(folder, MODE_DIR | USUAL).is_some() {
                    break;
                }
                path = folder;
            }
        }
        let told = self.folders.iter().flatten();
        folders.extend(told.map(|(path, mode)| (path.as_str(), MODE_DIR | *mode)));
        stats.extend(folders.into_iter().map(|(path, mode)| Stat {
            path: path.as_bytes().to_vec(),
            mode,
            ..Stat::default()
        }));
        Tree::of(stats.into_iter().map(|stat| (stat, None)))
    }

    /// Takes the content of files that were not read from a list with the same salt, if they look as they did.
    pub(super) fn remember(&mut self, before: &Self) {
        let before = before.expand().unwrap_or_default();
        let before: HashMap<&str, &File> = before.iter().map(|f| (f.path.as_str(), f)).collect();
        let Some(files) = self.expand() else { return };
        for (record, file) in self.files.iter_mut().zip(files) {
            let known = before.get(file.path.as_str());
            let known = known.filter(|known| (known.mode, known.size) == (file.mode, file.size));
            record.4 = record.4.or_else(|| known?.content);
        }
    }

    /// Returns the files; `None` where the list was left out or is nonsense.
    pub fn expand(&self) -> Option<Vec<File>> {
        if self.truncated {
            return None;
        }
        let mut files: Vec<File> = Vec::with_capacity(self.files.len());
        let mut total = 0;
        for FileRecord(shared, rest, mode, size, content) in &self.files {
            let before = files.last().map_or("", |file| file.path.as_str());
            let path = format!("{}{rest}", before.get(..*shared)?);
            total += path.len();
            if path.len() > MAX_PATH || total > MAX_PATHS {
                return None;
            }
            files.push(File {
                path,
                mode: *mode,
                size: *size,
                content: *content,
            });
        }
        Some(files)
    }
}

impl File {
    /// Returns the entry from which a tree can be made, to find the files that a step read.
    pub fn stat(&self) -> Stat {
        Stat {
            path: self.path.as_bytes().to_vec(),
            mode: self.mode,
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            // Where a link led is not known; it is no folder for this.
            linkname: if self.is_link() {
                b".".to_vec()
            } else {
                Vec::new()
            },
            ..Stat::default()
        }
    }

    /// Returns whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode & MODE_SYMLINK != 0
    }
}

/// Hashes the content of a file, or where a link leads.
pub fn content(salt: &Salt, entry: &Entry) -> Option<Hashed> {
    match &entry.target {
        Some(target) => Some(salt.hash(&entry.path, target.as_bytes())),
        None => Some(salt.hash(&entry.path, &entry.content?.to_be_bytes())),
    }
}

/// Returns how many bytes two paths have in common, whole characters only.
fn shared(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b);
    let mut count = same.count();
    while !b.is_char_boundary(count) {
        count -= 1;
    }
    count
}
