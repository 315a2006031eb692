//! The checksum of one file (BuildKit `cache/contenthash/{filehash,tarsum}.go`): what it is, without
//! name and time, and then its content.

use flate2::Crc;
use sha2::{Digest as _, Sha256};

use crate::fsutil::wire::{self, Stat};

/// The checksum of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// What BuildKit counts: SHA-256 of what the file is, and of its content.
    pub file: [u8; 32],
    /// CRC-32 of the content alone, which stays where only the permissions change. No key is made of it.
    pub content: u32,
}

/// Attributes of these namespaces do not count, but for [`CAPABILITY`].
const SYSTEM: [&[u8]; 2] = [b"security.", b"system."];
const CAPABILITY: &[u8] = b"security.capability";

/// Computes the checksum of a file while its content is read.
#[derive(Debug)]
pub struct FileHash {
    file: Sha256,
    content: Crc,
}

impl FileHash {
    /// Starts with what the file is. The size must be that of the content.
    pub fn new(stat: &Stat) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in fields(stat) {
            hash.update(name.as_bytes());
            hash.update(value.as_bytes());
        }
        for (name, value) in xattrs(stat) {
            hash.update(name);
            hash.update(value);
        }
        Self {
            file: hash,
            content: Crc::new(),
        }
    }

    /// Adds content.
    pub fn update(&mut self, content: &[u8]) {
        self.file.update(content);
        self.content.update(content);
    }

    /// Returns the checksum.
    pub fn finish(self) -> Sum {
        Sum {
            file: self.file.finalize().into(),
            content: self.content.sum(),
        }
    }
}

fn fields(stat: &Stat) -> [(&'static str, String); 11] {
    let kind = stat.mode & wire::MODE_TYPE & !(wire::MODE_SOCKET | wire::MODE_IRREGULAR);
    let is_link = kind & wire::MODE_SYMLINK != 0;
    let flag = if is_link {
        '2'
    } else if kind & wire::MODE_DIR != 0 {
        '5'
    } else if kind & wire::MODE_CHAR_DEVICE != 0 {
        '3'
    } else if kind & wire::MODE_DEVICE != 0 {
        '4'
    } else if kind & wire::MODE_FIFO != 0 {
        '6'
    } else {
        '0'
    };
    let size = if flag == '0' { stat.size } else { 0 };
    let target = if is_link {
        stat.linkname.as_slice()
    } else {
        &[]
    };
    [
        ("name", String::new()),
        ("mode", mode(stat.mode).to_string()),
        ("uid", stat.uid.to_string()),
        ("gid", stat.gid.to_string()),
        ("size", size.to_string()),
        ("typeflag", flag.to_string()),
        ("linkname", String::from_utf8_lossy(target).into_owned()),
        ("uname", String::new()),
        ("gname", String::new()),
        ("devmajor", stat.devmajor.to_string()),
        ("devminor", stat.devminor.to_string()),
    ]
}

/// Returns the permissions with the three special bits, as a tar archive holds them.
fn mode(go: u32) -> u32 {
    let mut mode = go & wire::MODE_PERM;
    for (bit, tar) in [
        (wire::MODE_SETUID, 0o4000),
        (wire::MODE_SETGID, 0o2000),
        (wire::MODE_STICKY, 0o1000),
    ] {
        if go & bit != 0 {
            mode |= tar;
        }
    }
    mode
}

fn xattrs(stat: &Stat) -> Vec<(&[u8], &[u8])> {
    let counts = |name: &[u8]| {
        name == CAPABILITY || !SYSTEM.iter().any(|namespace| name.starts_with(namespace))
    };
    let all = stat.xattrs.iter().filter(|xattr| counts(&xattr.name));
    let mut all: Vec<_> = all
        .map(|x| (x.name.as_slice(), x.value.as_slice()))
        .collect();
    all.sort_unstable();
    all
}
