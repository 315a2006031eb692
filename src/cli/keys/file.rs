//! Small files of text that the user names: keys, and the trust file.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use fs_err as fs;
use zeroize::Zeroizing;

use crate::platform::files;
use crate::text::foreign;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 256 << 10;

/// Reads a small file of text. Only of a regular file it is certain that reading it ends.
pub(super) fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    read_as(path, None)
}

/// Reads a small file whose path is the value of a variable, which may be a secret in place of one: errors tell the
/// variable, and never the path.
pub(super) fn read_named_by(variable: &str, path: &Path) -> std::io::Result<Zeroizing<String>> {
    read_as(path, Some(variable))
}

fn read_as(path: &Path, variable: Option<&str>) -> std::io::Result<Zeroizing<String>> {
    let shown = || match variable {
        Some(variable) => format!("the file that {variable} names"),
        None => foreign::line(&path.to_string_lossy()).into_owned(),
    };
    let wrong = |why: &str| std::io::Error::other(format!("{} {why}", shown()));
    let failed = |error: std::io::Error| match (variable, error.kind()) {
        // The error names the path.
        (None, _) => error,
        (Some(_), ErrorKind::NotFound) => wrong("does not exist"),
        (Some(_), kind) => wrong(&format!("cannot be read: {kind}")),
    };
    let mut options = fs::OpenOptions::new();
    options.read(true);
    files::without_waiting(&mut options);
    let file = options.open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(wrong("is not a regular file"));
    }
    // A text that grows leaves its old self behind in memory.
    let size = usize::try_from(found.len().min(MAX_BYTES)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    let bytes = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    let bytes = bytes.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => wrong("is not text in UTF-8"),
        _ => failed(error),
    })?;
    if bytes as u64 > MAX_BYTES {
        return Err(wrong("is too large: more than 256 KiB"));
    }
    Ok(text)
}
