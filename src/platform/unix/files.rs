//! Kinds, owners, modes and locks of files.

use std::fs::{DirBuilder, File, FileType, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// The user and the group that own a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
}

/// Returns who owns the file.
pub fn owner(file: &Metadata) -> Owner {
    Owner {
        uid: file.uid(),
        gid: file.gid(),
    }
}

/// Gives the file to an owner.
///
/// # Errors
///
/// Fails if the file is not there or this user may not give it away.
pub fn give(path: &Path, owner: Owner) -> io::Result<()> {
    fs_err::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
}

/// Returns what tells the file apart from all others that are there now.
pub fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device that takes blocks.
    BlockDevice,
    /// A device that takes characters, such as a terminal.
    CharacterDevice,
    /// Something that only this system has.
    Other,
}

/// Returns the kind of a file.
pub fn kind(kind: FileType) -> Kind {
    if kind.is_file() {
        Kind::File
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link
    } else if kind.is_fifo() {
        Kind::Pipe
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_block_device() {
        Kind::BlockDevice
    } else if kind.is_char_device() {
        Kind::CharacterDevice
    } else {
        Kind::Other
    }
}

/// Returns the permissions of a file with the bits for set-user-id, set-group-id and sticky, such as `0o4755`.
pub fn mode(file: &Metadata) -> u32 {
    file.mode() & 0o7777
}

/// Returns how many names the file has.
pub fn names(file: &Metadata) -> u64 {
    file.nlink()
}

/// Returns when the contents of the file were last changed, in nanoseconds since 1970.
pub fn modified(file: &Metadata) -> i64 {
    let seconds = file.mtime().wrapping_mul(1_000_000_000);
    seconds.wrapping_add(file.mtime_nsec())
}

/// Returns major and minor number of a device, split as Go's fsutil does, which is as the system does. Both parts are
/// small, so they fit.
pub fn device(file: &Metadata) -> (i64, i64) {
    device_numbers(file.rdev())
}

fn device_numbers(device: u64) -> (i64, i64) {
    if cfg!(target_vendor = "apple") {
        let (major, minor) = ((device >> 24) & 0xff, device & 0xff_ffff);
        return (major.cast_signed(), minor.cast_signed());
    }
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    (major.cast_signed(), minor.cast_signed())
}

/// Returns where a link leads, as it says itself; `None` if it is not a link.
///
/// # Errors
///
/// Fails if it is not there or not readable.
pub fn link_target(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match rustix::fs::readlink(path, Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a regular file; `None` if it is gone or has become something else.
///
/// # Errors
///
/// Fails if it is not readable.
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    // Non-blocking, so that a pipe that took the file's place is not waited for.
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
    let file = match opened {
        Ok(file) => File::from(file),
        // The last two: it is a socket, or a link now.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Opens a file that has no name once more, from its start on.
///
/// # Errors
///
/// Fails if it cannot be opened. Only Linux can do it.
pub fn open_again(file: &File) -> io::Result<File> {
    if cfg!(target_os = "linux") {
        return File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    }
    // What other systems offer shares the place up to which it was read.
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns permissions such as `0o644`.
pub fn permissions(mode: u32) -> Permissions {
    Permissions::from_mode(mode)
}

/// A file that is made with these options is the user's alone.
pub fn private_file(options: &mut fs_err::OpenOptions) {
    options.mode(0o600);
}

/// Directories that are made with this are the user's alone.
pub fn private_directory(builder: &mut DirBuilder) {
    builder.mode(0o700);
}

/// With these options a pipe that nobody feeds is opened at once.
pub fn without_waiting(options: &mut fs_err::OpenOptions) {
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
}

/// Locks a file with flock(2) as Go programs do; returns whether nobody else has it. The standard library promises no
/// particular lock, so it serves only for files that no other program locks.
///
/// # Errors
///
/// Fails if the file system has no locks.
pub fn try_flock(file: impl AsFd) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives a program one more path.
///
/// # Errors
///
/// Fails if the path is taken or its folder cannot be written.
pub fn link_program(program: &Path, path: &Path) -> io::Result<()> {
    fs_err::os::unix::fs::symlink(program, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices_are_split_as_the_system_does() {
        assert_eq!(device_numbers(0x0110_0102), (1, 0x1102));
        assert_eq!(device_numbers(0x0001_2345), (0x123, 0x45));
    }
}
