//! Open directories, whose entries are changed by name. No entry that is a link is followed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::files::Owner;

/// Mode of new directories until their own is set.
const DIR_MODE: Mode = Mode::RWXU;
/// How a directory that must be one itself is opened.
const OPEN_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How often it is tried again when another transfer changes the same entry.
const TRIES: u32 = 16;

/// What an entry has besides its contents.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Who owns it.
    pub owner: Owner,
    /// Permissions with the bits for set-user-id, set-group-id and sticky, such as `0o4755`; a link has none.
    pub mode: Option<u32>,
    /// Time of the last change, nanoseconds since 1970.
    pub modified: i64,
}

/// What kind of special file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Pipe,
    /// A device that takes blocks, by its major and minor number.
    Block(u32, u32),
    /// A device that takes characters, by its major and minor number.
    Character(u32, u32),
}

/// An open directory; clones are handles.
#[derive(Debug, Clone)]
pub struct Directory {
    fd: Arc<OwnedFd>,
}

impl Directory {
    /// Opens a directory by its path, in which links are followed.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, not a directory or not readable.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::of(rustix::fs::open(path, flags, Mode::empty())?))
    }

    fn of(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Opens the directory of that name.
    ///
    /// # Errors
    ///
    /// Fails if it is not there or not a directory itself.
    pub fn child(&self, name: &[u8]) -> io::Result<Self> {
        let fd = rustix::fs::openat(&self.fd, name, OPEN_DIR, Mode::empty())?;
        Ok(Self::of(fd))
    }

    /// Opens the entry of that name if it is a directory; `None` if it is something else.
    ///
    /// # Errors
    ///
    /// Fails if it is not there or not readable.
    pub fn child_directory(&self, name: &[u8]) -> io::Result<Option<Self>> {
        match rustix::fs::openat(&self.fd, name, OPEN_DIR, Mode::empty()) {
            Ok(fd) => Ok(Some(Self::of(fd))),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the names of the entries.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        Ok(names(self.fd.as_fd())?)
    }

    /// Creates a directory that can be written into; what is there and is not a directory is replaced.
    ///
    /// # Errors
    ///
    /// Fails if this one cannot be written.
    pub fn create_directory(&self, name: &[u8]) -> io::Result<()> {
        for _ in 0..TRIES {
            match rustix::fs::mkdirat(&self.fd, name, DIR_MODE) {
                Err(Errno::EXIST) => {}
                done => return Ok(done?),
            }
            let found = match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                let mode = Mode::from_raw_mode(found.st_mode);
                if !mode.contains(DIR_MODE) {
                    // Whether it is needed shows when something is written; its own mode is set at the end.
                    let _ = rustix::fs::openat(&self.fd, name, OPEN_DIR, Mode::empty())
                        .and_then(|dir| rustix::fs::fchmod(dir, mode | DIR_MODE));
                }
                return Ok(());
            }
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Removes a file, or a directory with all that is in it. What is not there is fine.
    ///
    /// # Errors
    ///
    /// Fails if something cannot be removed.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(remove(self.fd.as_fd(), name)?)
    }

    /// Creates an empty file under a temporary name.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written.
    pub fn create_file(&self) -> io::Result<(Temporary, File)> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (temporary, fd) = self
            .temporary(|name| rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR))?;
        Ok((temporary, File::from(fd)))
    }

    /// Creates a symbolic link under a temporary name.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written.
    pub fn create_link(&self, target: &[u8]) -> io::Result<Temporary> {
        let made = self.temporary(|name| rustix::fs::symlinkat(target, &self.fd, name));
        Ok(made?.0)
    }

    /// Creates one more name of the file `name` of the directory `of`, a temporary one.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written or the file is not there.
    pub fn create_hard_link(&self, of: &Self, name: &[u8]) -> io::Result<Temporary> {
        let made = self.temporary(|temporary| {
            rustix::fs::linkat(&of.fd, name, &self.fd, temporary, AtFlags::empty())
        });
        Ok(made?.0)
    }

    /// Creates a special file under a temporary name.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written, or this system or user may not make it.
    pub fn create_special(&self, special: Special) -> io::Result<Temporary> {
        Ok(self
            .temporary(|name| make_special(&self.fd, name, special))?
            .0)
    }

    /// Creates something under a new temporary name.
    fn temporary<T>(
        &self,
        make: impl Fn(&[u8]) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<(Temporary, T)> {
        let mut tries = 0;
        loop {
            let name = format!(".tmp.{:016x}", rand::random::<u64>()).into_bytes();
            match make(&name) {
                Ok(value) => {
                    let temporary = Temporary {
                        parent: Arc::clone(&self.fd),
                        name,
                        armed: true,
                    };
                    return Ok((temporary, value));
                }
                Err(Errno::EXIST) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets what belongs to this directory, and its extended attributes.
    ///
    /// # Errors
    ///
    /// As [`set_file`].
    pub fn set<'a>(
        &self,
        attributes: Attributes,
        extended: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> io::Result<()> {
        set(self.fd.as_fd(), attributes, extended)
    }
}

/// An entry under a temporary name; removed when dropped.
#[derive(Debug)]
pub struct Temporary {
    parent: Arc<OwnedFd>,
    name: Vec<u8>,
    armed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.armed {
            // There is nobody to tell, and the name says what it is.
            let _ = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty());
        }
    }
}

impl Temporary {
    /// Sets what belongs to a link or a special file.
    ///
    /// # Errors
    ///
    /// Fails if this user may not give the entry away.
    pub fn set(&self, attributes: Attributes) -> io::Result<()> {
        let Owner { uid, gid } = attributes.owner;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statat(&self.parent, &self.name, nofollow)?;
        if (found.st_uid, found.st_gid) != (uid, gid) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(&self.parent, &self.name, Some(uid), Some(gid), nofollow)?;
        }
        if let Some(mode) = attributes.mode {
            rustix::fs::chmodat(&self.parent, &self.name, raw_mode(mode), AtFlags::empty())?;
        }
        let times = times(attributes.modified);
        Ok(rustix::fs::utimensat(
            &self.parent,
            &self.name,
            &times,
            nofollow,
        )?)
    }

    /// Gives the entry its final name; what has that name is replaced, also a directory.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written.
    pub fn place(mut self, name: &[u8]) -> io::Result<()> {
        let parent = Arc::clone(&self.parent);
        let mut tries = 0;
        loop {
            match rustix::fs::renameat(&parent, &self.name, &parent, name) {
                Ok(()) => break,
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) if tries < TRIES => {
                    remove(parent.as_fd(), name)?;
                }
                Err(error) => return Err(error.into()),
            }
            tries += 1;
        }
        // A rename onto another name of the same file does nothing, so the temporary name may still be there.
        match rustix::fs::unlinkat(&parent, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.armed = false;
        Ok(())
    }
}

/// Sets what belongs to an open file, and its extended attributes, in the order in which nothing undoes another.
///
/// # Errors
///
/// Fails if this user may not give the file away. An attribute that the file system or the user's rights do not allow is
/// left out, as in Go.
pub fn set_file<'a>(
    file: &File,
    attributes: Attributes,
    extended: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> io::Result<()> {
    set(file.as_fd(), attributes, extended)
}

fn set<'a>(
    fd: BorrowedFd<'_>,
    attributes: Attributes,
    extended: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> io::Result<()> {
    let Owner { uid, gid } = attributes.owner;
    let found = rustix::fs::fstat(fd)?;
    if (found.st_uid, found.st_gid) != (uid, gid) {
        rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    if let Some(mode) = attributes.mode {
        rustix::fs::fchmod(fd, raw_mode(mode))?;
    }
    for (name, value) in extended {
        let _ = rustix::fs::fsetxattr(fd, name, value, rustix::fs::XattrFlags::empty());
    }
    Ok(rustix::fs::futimens(fd, &times(attributes.modified))?)
}

fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_bytes().to_vec());
        }
    }
    Ok(names)
}

fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // The second is what POSIX asks for.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let dir = rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty())?;
    for _ in 0..TRIES {
        for child in names(dir.as_fd())? {
            remove(dir.as_fd(), &child)?;
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOTEMPTY)
}

fn raw_mode(mode: u32) -> Mode {
    // The bits fit into the 16 that some systems have for a mode.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::unnecessary_cast,
        reason = "the type is another one on each system"
    )]
    Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode)
}

fn times(nanoseconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(not(target_vendor = "apple"))]
fn make_special(parent: &OwnedFd, name: &[u8], special: Special) -> rustix::io::Result<()> {
    let (kind, device) = match special {
        Special::Pipe => (FileType::Fifo, 0),
        Special::Block(major, minor) => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
        Special::Character(major, minor) => {
            (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
        }
    };
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
}

#[cfg(target_vendor = "apple")]
fn make_special(_: &OwnedFd, _: &[u8], _: Special) -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}
