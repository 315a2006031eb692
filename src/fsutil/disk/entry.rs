//! Steps on single entries of an open directory. None follows a link.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::super::wire::{self, Stat, Xattr};

/// Mode of new directories until their own is set.
const DIR_MODE: Mode = Mode::RWXU;
/// How to open a directory that must be one itself.
pub(super) const OPEN_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How often to try again when another transfer changes the same entry.
const TRIES: u32 = 16;

/// An entry under a temporary name; removed when dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) parent: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
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

/// Creates something under a new temporary name.
pub(super) fn temporary<T>(
    parent: &Arc<OwnedFd>,
    make: impl Fn(&[u8]) -> rustix::io::Result<T>,
) -> rustix::io::Result<(Temporary, T)> {
    let mut tries = 0;
    loop {
        let name = format!(".tmp.{:016x}", rand::random::<u64>()).into_bytes();
        match make(&name) {
            Ok(value) => {
                return Ok((
                    Temporary {
                        parent: Arc::clone(parent),
                        name,
                        armed: true,
                    },
                    value,
                ));
            }
            Err(Errno::EXIST) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Gives an entry its final name; what has that name is replaced, also a directory.
pub(super) fn place(mut temporary: Temporary, name: &[u8]) -> rustix::io::Result<()> {
    let parent = Arc::clone(&temporary.parent);
    let mut tries = 0;
    loop {
        match rustix::fs::renameat(&parent, &temporary.name, &parent, name) {
            Ok(()) => break,
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) if tries < TRIES => {
                remove(parent.as_fd(), name)?;
            }
            Err(error) => return Err(error),
        }
        tries += 1;
    }
    // A rename onto another name of the same file does nothing, so the temporary name may still be there.
    match rustix::fs::unlinkat(&parent, &temporary.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    temporary.armed = false;
    Ok(())
}

/// Creates a directory that can be written into; what is there and is not a directory is replaced.
pub(super) fn make_dir(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    for _ in 0..TRIES {
        match rustix::fs::mkdirat(parent, name, DIR_MODE) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
        let found = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            found => found?,
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let mode = Mode::from_raw_mode(found.st_mode);
            if !mode.contains(DIR_MODE) {
                // Whether it is needed shows when something is written; its own mode is set at the end.
                let _ = rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty())
                    .and_then(|dir| rustix::fs::fchmod(dir, mode | DIR_MODE));
            }
            return Ok(());
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// Removes a file, or a directory with all that is in it. What is not there is fine.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // The second is what POSIX asks for.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let dir = rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty())?;
    for _ in 0..TRIES {
        for (child, _) in list(dir.as_fd())? {
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

/// Lists a directory, without `.` and `..`.
pub(super) fn list(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push((name.to_bytes().to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Sets owner, mode, attributes and time, in the order in which none of them undoes another.
pub(super) fn set_metadata(
    fd: BorrowedFd<'_>,
    stat: &Stat,
    owner: Option<(u32, u32)>,
) -> rustix::io::Result<()> {
    let (uid, gid) = owner.unwrap_or((stat.uid, stat.gid));
    let found = rustix::fs::fstat(fd)?;
    if (found.st_uid, found.st_gid) != (uid, gid) {
        rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    rustix::fs::fchmod(fd, raw_mode(stat.mode))?;
    for Xattr { name, value } in &stat.xattrs {
        // Not every file system takes them and some are for root only: then the file does without, as in Go.
        let _ = rustix::fs::fsetxattr(fd, name, value, rustix::fs::XattrFlags::empty());
    }
    rustix::fs::futimens(fd, &times(stat.mod_time))
}

/// Returns the permission bits of a mode of the protocol as the system has them.
pub(super) fn raw_mode(mode: u32) -> Mode {
    // The bits fit into the 16 that some systems have for a mode.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::unnecessary_cast,
        reason = "the type is another one on each system"
    )]
    let mut raw = Mode::from_raw_mode((mode & wire::MODE_PERM) as rustix::fs::RawMode);
    raw.set(Mode::SUID, mode & wire::MODE_SETUID != 0);
    raw.set(Mode::SGID, mode & wire::MODE_SETGID != 0);
    raw.set(Mode::SVTX, mode & wire::MODE_STICKY != 0);
    raw
}

pub(super) fn times(nanoseconds: i64) -> Timestamps {
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
pub(super) fn make_special(
    parent: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    device: u64,
) -> rustix::io::Result<()> {
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
}

#[cfg(target_vendor = "apple")]
pub(super) fn make_special(
    _: BorrowedFd<'_>,
    _: &[u8],
    _: FileType,
    _: i32,
) -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}
