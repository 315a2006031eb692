//! Extended attributes of files.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Returns the names of the attributes; none where the file system has no attributes.
///
/// # Errors
///
/// Fails if the file is not there or not readable.
pub fn list(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let names = match list_terminated(path) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = names.split(|&byte| byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

/// Returns the value of an attribute.
///
/// # Errors
///
/// Fails if it is not there or not readable.
pub fn get(path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(grow(|buffer| rustix::fs::lgetxattr(path, name, buffer))?)
}

fn list_terminated(path: &Path) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = [0_u8; 512];
    match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => return Ok(buffer[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    grow(|buffer| rustix::fs::llistxattr(path, buffer))
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
