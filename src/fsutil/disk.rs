//! Writes entries into a directory without ever leaving it.
//!
//! Every directory on the way is opened on its own and links are not followed, so a link in the destination,
//! old or just received, leads nowhere.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::paths;
use super::wire::{self, Stat};
use crate::platform::directory::{self, Attributes, Directory, Special, Temporary};
use crate::platform::files::{self, Owner};
use crate::platform::names;

/// The destination cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DiskError {
    /// What was to be done, as a verb.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A destination directory.
#[derive(Debug)]
pub(super) struct Disk {
    dest: PathBuf,
    root: Directory,
    owner: Option<Owner>,
    /// The directory used last.
    last: Option<(Vec<u8>, Directory)>,
    /// Directories whose modes and times are set at the end.
    dirs: Vec<Stat>,
    /// What [`Disk::remove_others`] leaves.
    keep: HashSet<Vec<u8>>,
}

/// A file being written, under a temporary name.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    temporary: Temporary,
    stat: Stat,
    full: PathBuf,
}

impl Disk {
    /// Opens the destination and makes it if it is not there.
    pub(super) fn open(dest: &Path, owner: Option<Owner>) -> Result<Self, DiskError> {
        let failed = |action| {
            move |source| DiskError {
                action,
                path: dest.to_path_buf(),
                source,
            }
        };
        let mut builder = DirBuilder::new();
        files::private_directory(builder.recursive(true));
        builder.create(dest).map_err(failed("make"))?;
        let root = Directory::open(dest).map_err(failed("open"))?;
        Ok(Self {
            dest: dest.to_path_buf(),
            root,
            owner,
            last: None,
            dirs: Vec::new(),
            keep: HashSet::new(),
        })
    }

    /// Notes that the path is part of the tree.
    pub(super) fn keep(&mut self, path: &[u8]) {
        self.keep.insert(path.to_vec());
    }

    /// Creates a directory, or takes the one that is there.
    pub(super) fn dir(&mut self, stat: Stat) -> Result<(), DiskError> {
        let (parent, name) = self.parent(&stat.path)?;
        let made = parent.create_directory(name);
        made.map_err(|error| self.failed("make", &stat.path, error))?;
        self.dirs.push(stat);
        Ok(())
    }

    /// Creates a symbolic link.
    pub(super) fn symlink(&mut self, stat: &Stat) -> Result<(), DiskError> {
        self.node(stat, "make the link", |parent| {
            parent.create_link(&stat.linkname)
        })
    }

    /// Creates a device or a named pipe.
    pub(super) fn special(&mut self, stat: &Stat) -> Result<(), DiskError> {
        let number = |number| {
            u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
        };
        self.node(stat, "make the device", |parent| {
            let special = if stat.mode & wire::MODE_FIFO != 0 {
                Special::Pipe
            } else {
                let (major, minor) = (number(stat.devmajor)?, number(stat.devminor)?);
                if stat.mode & wire::MODE_CHAR_DEVICE == 0 {
                    Special::Block(major, minor)
                } else {
                    Special::Character(major, minor)
                }
            };
            parent.create_special(special)
        })
    }

    /// Creates an entry that has no contents under a temporary name, sets what belongs to it and puts it in place.
    fn node(
        &mut self,
        stat: &Stat,
        action: &'static str,
        make: impl FnOnce(&Directory) -> io::Result<Temporary>,
    ) -> Result<(), DiskError> {
        let (parent, name) = self.parent(&stat.path)?;
        let done = make(&parent).and_then(|temporary| {
            temporary.set(self.attributes(stat))?;
            temporary.place(name)
        });
        done.map_err(|error| self.failed(action, &stat.path, error))
    }

    /// Returns what belongs to an entry besides its contents.
    fn attributes(&self, stat: &Stat) -> Attributes {
        Attributes {
            owner: self.owner.unwrap_or(stat.owner()),
            mode: (!stat.is_symlink()).then(|| stat.permissions()),
            modified: stat.mod_time,
        }
    }

    /// Creates a hard link to a file of the same tree.
    pub(super) fn hard_link(&mut self, stat: &Stat) -> Result<(), DiskError> {
        let (from, target) = self.parent(&stat.linkname)?;
        let (parent, name) = self.parent(&stat.path)?;
        let linked = parent.create_hard_link(&from, target);
        linked
            .and_then(|temporary| temporary.place(name))
            .map_err(|error| self.failed("make the link", &stat.path, error))
    }

    /// Starts a regular file.
    pub(super) fn file(&mut self, stat: Stat) -> Result<OpenFile, DiskError> {
        let (parent, _) = self.parent(&stat.path)?;
        let created = parent.create_file();
        let (temporary, file) = created.map_err(|error| self.failed("make", &stat.path, error))?;
        let full = self.full(&stat.path);
        Ok(OpenFile {
            file,
            temporary,
            stat,
            full,
        })
    }

    /// Sets what belongs to a file whose contents are complete, and puts it in place.
    pub(super) fn finish_file(&self, file: OpenFile) -> Result<(), DiskError> {
        let OpenFile {
            file,
            temporary,
            stat,
            full,
        } = file;
        let (_, name) = paths::split_name(&stat.path);
        directory::set_file(&file, self.attributes(&stat), stat.extended())
            .and_then(|()| temporary.place(name))
            .map_err(|source| DiskError {
                action: "write",
                path: full,
                source,
            })
    }

    /// Sets modes and times of the directories, those further down first.
    pub(super) fn finish_dirs(&mut self) -> Result<(), DiskError> {
        self.last = None;
        for stat in std::mem::take(&mut self.dirs).iter().rev() {
            let dir = self.open_dir(&stat.path)?;
            dir.set(self.attributes(stat), stat.extended())
                .map_err(|error| self.failed("set the mode of", &stat.path, error))?;
        }
        Ok(())
    }

    /// Removes all that [`Disk::keep`] was not told of.
    pub(super) fn remove_others(&self) -> Result<(), DiskError> {
        self.remove_others_in(&self.root, &[])
    }

    fn remove_others_in(&self, dir: &Directory, path: &[u8]) -> Result<(), DiskError> {
        let names = dir.names();
        for name in names.map_err(|error| self.failed("list", path, error))? {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            if !self.keep.contains(&below) {
                let removed = dir.remove(&name);
                removed.map_err(|error| self.failed("remove", &below, error))?;
                continue;
            }
            let child = dir.child_directory(&name);
            if let Some(child) = child.map_err(|error| self.failed("open", &below, error))? {
                self.remove_others_in(&child, &below)?;
            }
        }
        Ok(())
    }

    /// Returns the open directory of a path, and its last part.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Directory, &'a [u8]), DiskError> {
        let (dir, name) = paths::split_name(path);
        if let Some((last, open)) = &self.last
            && last == dir
        {
            return Ok((open.clone(), name));
        }
        let open = self.open_dir(dir)?;
        self.last = Some((dir.to_vec(), open.clone()));
        Ok((open, name))
    }

    fn open_dir(&self, dir: &[u8]) -> Result<Directory, DiskError> {
        let mut open = self.root.clone();
        for part in dir
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let next = open.child(part);
            open = next.map_err(|error| self.failed("open", dir, error))?;
        }
        Ok(open)
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.dest.join(names::path(path))
    }

    fn failed(&self, action: &'static str, path: &[u8], source: io::Error) -> DiskError {
        DiskError {
            action,
            path: self.full(path),
            source,
        }
    }
}

impl OpenFile {
    /// Appends to the file.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), DiskError> {
        self.file.write_all(data).map_err(|source| DiskError {
            action: "write",
            path: self.full.clone(),
            source,
        })
    }
}
