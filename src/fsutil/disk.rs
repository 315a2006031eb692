//! Writes entries into a directory without ever leaving it.
//!
//! Every directory on the way is opened on its own and links are not followed, so a link in the destination,
//! old or just received, leads nowhere.

mod entry;

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::paths;
use super::wire::{self, Stat};
use entry::{
    OPEN_DIR, Temporary, list, make_dir, make_special, place, raw_mode, remove, set_metadata,
    temporary, times,
};

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
    root: Arc<OwnedFd>,
    owner: Option<(u32, u32)>,
    /// The directory used last.
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
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
    pub(super) fn open(dest: &Path, owner: Option<(u32, u32)>) -> Result<Self, DiskError> {
        let failed = |action| {
            move |source| DiskError {
                action,
                path: dest.to_path_buf(),
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dest)
            .map_err(failed("make"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dest, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(failed("open"))?;
        Ok(Self {
            dest: dest.to_path_buf(),
            root: Arc::new(root),
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
        make_dir(parent.as_fd(), name).map_err(|error| self.failed("make", &stat.path, error))?;
        self.dirs.push(stat);
        Ok(())
    }

    /// Creates a symbolic link.
    pub(super) fn symlink(&mut self, stat: &Stat) -> Result<(), DiskError> {
        self.node(stat, "make the link", |parent, name| {
            rustix::fs::symlinkat(&stat.linkname, parent, name)
        })
    }

    /// Creates a device or a named pipe.
    pub(super) fn special(&mut self, stat: &Stat) -> Result<(), DiskError> {
        let kind = if stat.mode & wire::MODE_CHAR_DEVICE != 0 {
            FileType::CharacterDevice
        } else if stat.mode & wire::MODE_FIFO != 0 {
            FileType::Fifo
        } else {
            FileType::BlockDevice
        };
        let number = |number| u32::try_from(number).map_err(|_| Errno::INVAL);
        self.node(stat, "make the device", |parent, name| {
            let device = rustix::fs::makedev(number(stat.devmajor)?, number(stat.devminor)?);
            make_special(parent, name, kind, device)
        })
    }

    /// Creates an entry that has no contents under a temporary name, sets what belongs to it and puts it in place.
    fn node(
        &mut self,
        stat: &Stat,
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<()>,
    ) -> Result<(), DiskError> {
        let (parent, name) = self.parent(&stat.path)?;
        let done = || {
            let (temporary, ()) = temporary(&parent, |name| make(parent.as_fd(), name))?;
            let (uid, gid) = self.owner.unwrap_or((stat.uid, stat.gid));
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            let found = rustix::fs::statat(&parent, &temporary.name, nofollow)?;
            if (found.st_uid, found.st_gid) != (uid, gid) {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                rustix::fs::chownat(&parent, &temporary.name, Some(uid), Some(gid), nofollow)?;
            }
            if !stat.is_symlink() {
                rustix::fs::chmodat(
                    &parent,
                    &temporary.name,
                    raw_mode(stat.mode),
                    AtFlags::empty(),
                )?;
            }
            rustix::fs::utimensat(&parent, &temporary.name, &times(stat.mod_time), nofollow)?;
            place(temporary, name)
        };
        done().map_err(|error| self.failed(action, &stat.path, error))
    }

    /// Creates a hard link to a file of the same tree.
    pub(super) fn hard_link(&mut self, stat: &Stat) -> Result<(), DiskError> {
        let (from, target) = self.parent(&stat.linkname)?;
        let (parent, name) = self.parent(&stat.path)?;
        let link = |temporary: &[u8]| {
            rustix::fs::linkat(&from, target, &parent, temporary, AtFlags::empty())
        };
        temporary(&parent, link)
            .and_then(|(temporary, ())| place(temporary, name))
            .map_err(|error| self.failed("make the link", &stat.path, error))
    }

    /// Starts a regular file.
    pub(super) fn file(&mut self, stat: Stat) -> Result<OpenFile, DiskError> {
        let (parent, _) = self.parent(&stat.path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create =
            |name: &[u8]| rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
        let (temporary, file) =
            temporary(&parent, create).map_err(|error| self.failed("make", &stat.path, error))?;
        let full = self.full(&stat.path);
        Ok(OpenFile {
            file: File::from(file),
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
        set_metadata(file.as_fd(), &stat, self.owner)
            .and_then(|()| place(temporary, name))
            .map_err(|error| DiskError {
                action: "write",
                path: full,
                source: error.into(),
            })
    }

    /// Sets modes and times of the directories, those further down first.
    pub(super) fn finish_dirs(&mut self) -> Result<(), DiskError> {
        self.last = None;
        for stat in std::mem::take(&mut self.dirs).iter().rev() {
            let dir = self.open_dir(&stat.path)?;
            set_metadata(dir.as_fd(), stat, self.owner)
                .map_err(|error| self.failed("set the mode of", &stat.path, error))?;
        }
        Ok(())
    }

    /// Removes all that [`Disk::keep`] was not told of.
    pub(super) fn remove_others(&self) -> Result<(), DiskError> {
        self.remove_others_in(&self.root, &[])
    }

    fn remove_others_in(&self, dir: &OwnedFd, path: &[u8]) -> Result<(), DiskError> {
        let names = list(dir.as_fd()).map_err(|error| self.failed("list", path, error))?;
        for (name, _) in names {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            if !self.keep.contains(&below) {
                remove(dir.as_fd(), &name).map_err(|error| self.failed("remove", &below, error))?;
                continue;
            }
            match rustix::fs::openat(dir, &name, OPEN_DIR, Mode::empty()) {
                Ok(child) => self.remove_others_in(&child, &below)?,
                Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {}
                Err(error) => return Err(self.failed("open", &below, error)),
            }
        }
        Ok(())
    }

    /// Returns the open directory of a path, and its last part.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Arc<OwnedFd>, &'a [u8]), DiskError> {
        let (dir, name) = paths::split_name(path);
        if let Some((last, fd)) = &self.last
            && last == dir
        {
            return Ok((Arc::clone(fd), name));
        }
        let fd = self.open_dir(dir)?;
        self.last = Some((dir.to_vec(), Arc::clone(&fd)));
        Ok((fd, name))
    }

    fn open_dir(&self, dir: &[u8]) -> Result<Arc<OwnedFd>, DiskError> {
        let mut fd = Arc::clone(&self.root);
        for part in dir
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let next = rustix::fs::openat(&fd, part, OPEN_DIR, Mode::empty())
                .map_err(|error| self.failed("open", dir, error))?;
            fd = Arc::new(next);
        }
        Ok(fd)
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.dest.join(wire::native_path(path))
    }

    fn failed(&self, action: &'static str, path: &[u8], error: Errno) -> DiskError {
        DiskError {
            action,
            path: self.full(path),
            source: error.into(),
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
