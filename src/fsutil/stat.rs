//! Creates the STAT of a file.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::path::Path;

use super::wire::{self, Stat, Xattr};
use crate::platform::files::{self, Kind, Owner};
use crate::platform::{names, xattr};

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
        if files::names(metadata) < 2 {
            return None;
        }
        let key = files::identity(metadata);
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
    let kind = files::kind(metadata.file_type());
    let Owner { uid, gid } = files::owner(metadata);
    let mut stat = Stat {
        mode: go_mode(kind, files::mode(metadata)),
        uid,
        gid,
        mod_time: files::modified(metadata),
        xattrs: xattrs(full)?,
        ..Stat::default()
    };
    if kind != Kind::Directory {
        stat.size = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
        if kind == Kind::Link {
            let target = fs_err::read_link(full)?;
            stat.linkname = names::bytes(target.as_os_str()).to_vec();
        } else if let Some(earlier) = links.earlier(&path, metadata) {
            stat.linkname = earlier;
        }
        if matches!(kind, Kind::BlockDevice | Kind::CharacterDevice) {
            (stat.devmajor, stat.devminor) = files::device(metadata);
        }
    }
    stat.path = path;
    Ok(stat)
}

/// Returns the mode as Go's `os.FileMode`, without the bit for sockets, which the protocol does not carry.
fn go_mode(kind: Kind, raw: u32) -> u32 {
    let kind = match kind {
        Kind::Directory => wire::MODE_DIR,
        Kind::Link => wire::MODE_SYMLINK,
        Kind::Pipe => wire::MODE_FIFO,
        Kind::BlockDevice => wire::MODE_DEVICE,
        Kind::CharacterDevice => wire::MODE_DEVICE | wire::MODE_CHAR_DEVICE,
        Kind::File | Kind::Socket | Kind::Other => 0,
    };
    let kept = wire::SPECIAL_BITS.iter().filter(|(bit, _)| raw & bit != 0);
    kept.fold(kind | (raw & wire::MODE_PERM), |mode, (_, go)| mode | go)
}

fn xattrs(full: &Path) -> io::Result<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    for name in xattr::list(full)? {
        if name.starts_with(LOCAL_XATTR_PREFIX) {
            continue;
        }
        // One that cannot be read (not permitted, just removed) is left out, as in Go.
        if let Ok(value) = xattr::get(full, &name) {
            xattrs.push(Xattr { name, value });
        }
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn of(path: &Path, links: &mut HardLinks) -> Stat {
        let metadata = fs_err::symlink_metadata(path).unwrap();
        let name = names::bytes(path.file_name().unwrap()).to_vec();
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
