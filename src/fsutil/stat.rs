//! Creates the STAT of a file.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::io::Errno;

use super::wire::{self, Stat, Xattr};

/// Attributes of this prefix belong to one machine and are not sent.
const LOCAL_XATTR_PREFIX: &[u8] = b"com.apple.";

/// First path sent of each file that has several names, by device and inode.
#[derive(Debug, Default)]
pub(super) struct HardLinks {
    first: HashMap<(u64, u64), Vec<u8>>,
}

impl HardLinks {
    /// Returns the path that the file was sent as before, or notes that it is now sent as `path`.
    fn earlier(&mut self, path: &[u8], metadata: &Metadata) -> Option<Vec<u8>> {
        if metadata.nlink() < 2 {
            return None;
        }
        let key = (metadata.dev(), metadata.ino());
        if let Some(first) = self.first.get(&key) {
            return Some(first.clone());
        }
        self.first.insert(key, path.to_vec());
        None
    }
}

/// Creates the STAT of the file at `full`, known as `path` in the tree. The metadata are those of the file itself,
/// not of what a link points to.
pub(super) fn stat(
    full: &Path,
    path: Vec<u8>,
    metadata: &Metadata,
    links: &mut HardLinks,
) -> io::Result<Stat> {
    let kind = metadata.file_type();
    let mut stat = Stat {
        mode: go_mode(metadata),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mod_time: metadata
            .mtime()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(metadata.mtime_nsec()),
        xattrs: xattrs(full)?,
        ..Stat::default()
    };
    if !kind.is_dir() {
        stat.size = i64::try_from(metadata.size()).unwrap_or(i64::MAX);
        if kind.is_symlink() {
            stat.linkname = fs_err::read_link(full)?.as_os_str().as_bytes().to_vec();
        } else if let Some(earlier) = links.earlier(&path, metadata) {
            stat.linkname = earlier;
        }
        if kind.is_block_device() || kind.is_char_device() {
            (stat.devmajor, stat.devminor) = device_numbers(metadata.rdev());
        }
    }
    stat.path = path;
    Ok(stat)
}

/// Returns the mode as Go's `os.FileMode`, without the bit for sockets, which the protocol does not carry.
fn go_mode(metadata: &Metadata) -> u32 {
    let raw = metadata.mode();
    let kind = metadata.file_type();
    let mut mode = raw & wire::MODE_PERM;
    if kind.is_dir() {
        mode |= wire::MODE_DIR;
    } else if kind.is_symlink() {
        mode |= wire::MODE_SYMLINK;
    } else if kind.is_fifo() {
        mode |= wire::MODE_FIFO;
    } else if kind.is_block_device() {
        mode |= wire::MODE_DEVICE;
    } else if kind.is_char_device() {
        mode |= wire::MODE_DEVICE | wire::MODE_CHAR_DEVICE;
    }
    for (bit, go) in [
        (0o4000, wire::MODE_SETUID),
        (0o2000, wire::MODE_SETGID),
        (0o1000, wire::MODE_STICKY),
    ] {
        if raw & bit != 0 {
            mode |= go;
        }
    }
    mode
}

/// Splits a device number as fsutil does, which is as the system does. Both parts are small, so they fit.
fn device_numbers(device: u64) -> (i64, i64) {
    if cfg!(target_vendor = "apple") {
        let (major, minor) = ((device >> 24) & 0xff, device & 0xff_ffff);
        return (major.cast_signed(), minor.cast_signed());
    }
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    (major.cast_signed(), minor.cast_signed())
}

fn xattrs(full: &Path) -> io::Result<Vec<Xattr>> {
    let names = match list_xattrs(full) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|&byte| byte == 0) {
        if name.is_empty() || name.starts_with(LOCAL_XATTR_PREFIX) {
            continue;
        }
        // One that cannot be read (not permitted, just removed) is left out, as in Go.
        if let Ok(value) = get_xattr(full, name) {
            xattrs.push(Xattr {
                name: name.to_vec(),
                value,
            });
        }
    }
    Ok(xattrs)
}

fn list_xattrs(full: &Path) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = [0_u8; 512];
    match rustix::fs::llistxattr(full, &mut buffer[..]) {
        Ok(length) => return Ok(buffer[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    grow(|buffer| rustix::fs::llistxattr(full, buffer))
}

fn get_xattr(full: &Path, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    grow(|buffer| rustix::fs::lgetxattr(full, name, buffer))
}

/// Calls with a larger buffer until the result fits; the kernel's limit is 64 KiB.
fn grow(
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn of(path: &Path, links: &mut HardLinks) -> Stat {
        let metadata = fs_err::symlink_metadata(path).unwrap();
        let name = path.file_name().unwrap().as_bytes().to_vec();
        stat(path, name, &metadata, links).unwrap()
    }

    #[test]
    fn modes_are_those_of_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs_err::write(&file, "four").unwrap();
        let links = &mut HardLinks::default();
        for (raw, go) in [
            (0o644, 0o644),
            (0o4755, wire::MODE_SETUID | 0o755),
            (0o2711, wire::MODE_SETGID | 0o711),
            (0o1777, wire::MODE_STICKY | 0o777),
        ] {
            fs_err::set_permissions(&file, std::fs::Permissions::from_mode(raw)).unwrap();
            assert_eq!(of(&file, links).mode, go, "{raw:o}");
        }
        assert_eq!(of(&file, links).size, 4);

        let folder = dir.path().join("folder");
        fs_err::create_dir(&folder).unwrap();
        fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
        let stat = of(&folder, links);
        assert_eq!((stat.mode, stat.size), (wire::MODE_DIR | 0o750, 0));

        let link = dir.path().join("link");
        symlink("some/where", &link).unwrap();
        let stat = of(&link, links);
        assert_eq!(
            (stat.mode & wire::MODE_TYPE, stat.size),
            (wire::MODE_SYMLINK, 10)
        );
        assert_eq!(stat.linkname, b"some/where");

        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let stat = of(&socket, links);
        assert_eq!(stat.mode & wire::MODE_TYPE, 0);
    }

    #[test]
    fn character_device_has_its_numbers() {
        let stat = of(Path::new("/dev/null"), &mut HardLinks::default());
        assert_eq!(
            stat.mode & wire::MODE_TYPE,
            wire::MODE_DEVICE | wire::MODE_CHAR_DEVICE
        );
        assert_eq!((stat.devmajor, stat.devminor), (1, 3));
        assert_eq!(device_numbers(0x0110_0102), (1, 0x1102));
        assert_eq!(device_numbers(0x0001_2345), (0x123, 0x45));
    }

    #[test]
    fn second_name_is_a_link_to_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        fs_err::write(&first, "x").unwrap();
        fs_err::hard_link(&first, &second).unwrap();
        let links = &mut HardLinks::default();
        assert_eq!(of(&first, links).linkname, b"");
        let stat = of(&second, links);
        assert_eq!((stat.linkname.as_slice(), stat.size), (&b"first"[..], 1));
    }

    #[test]
    fn mtime_has_nanoseconds_and_may_be_negative() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        let file = fs_err::File::create(&path).unwrap();
        let time = std::time::UNIX_EPOCH - std::time::Duration::from_nanos(1_500_000_001);
        file.file().set_modified(time).unwrap();
        assert_eq!(
            of(&path, &mut HardLinks::default()).mod_time,
            -1_500_000_001
        );
    }
}
