//! Names of files as bytes: those of a build context may be anything but a slash and a zero byte.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Returns the bytes of a name.
pub fn bytes(name: &OsStr) -> &[u8] {
    name.as_bytes()
}

/// Returns the path with these bytes.
pub fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
