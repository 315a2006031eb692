//! Docker's configuration file on the disk: found through links, read, and written at once or not at all. And the lock
//! that keeps two of this program from changing it at the same time.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::platform::files;

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
/// Time between two tries. flock(2) itself has no time limit.
const POLL: Duration = Duration::from_millis(10);

/// Returns the file that a path leads to through links, also where there is none yet.
///
/// # Errors
///
/// Fails if the links lead in a circle, or one cannot be read.
pub(super) fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if !path.is_symlink() {
            return Ok(path);
        }
        let target = fs_err::read_link(&path)?;
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    let text = format!("{} leads through too many links", path.display());
    Err(io::Error::other(text))
}

/// Reads a file; `None` if it is not there.
///
/// # Errors
///
/// Fails if it cannot be read, or is not UTF-8.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a text beside a file, to take its place by [`put`]. Mode and owner are those of the file; where there is none
/// the new one is the user's alone, as docker makes it.
///
/// # Errors
///
/// Fails if the folder cannot be written; then nothing is left there.
pub(super) fn beside(path: &Path, text: &[u8]) -> io::Result<NamedTempFile> {
    let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    };
    let mut file = NamedTempFile::new_in(dir).map_err(named)?;
    file.write_all(text).map_err(named)?;
    if let Ok(old) = fs_err::metadata(path) {
        file.as_file().set_permissions(old.permissions())?;
        keep_owner(file.path(), &old)?;
    }
    file.as_file().sync_all().map_err(named)?;
    Ok(file)
}

/// Puts what [`beside`] has written in the place of the file.
///
/// # Errors
///
/// Fails if the file cannot be replaced; then it is as it was.
pub(super) fn put(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path)?;
    Ok(())
}

/// Removes a file, if it is there.
///
/// # Errors
///
/// Fails if it is there and cannot be removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn keep_owner(path: &Path, old: &std::fs::Metadata) -> io::Result<()> {
    let owner = files::owner(old);
    if files::owner(&fs_err::metadata(path)?) == owner {
        return Ok(());
    }
    files::give(path, owner)
}

/// The lock: a file that is there only while somebody has or wants it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: fs_err::File,
}

impl Lock {
    /// The file of the lock in a folder.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(".cachex-alias.lock")
    }

    /// Waits for the lock in a folder that is there; `None` if another process does not let go of it in time.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be written.
    pub(super) fn take(dir: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let path = Self::path(dir);
        let until = Instant::now() + patience;
        loop {
            let file = fs_err::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            // Whoever had it may have removed this very file in the meantime.
            if files::try_flock(file.file())? && is_still(&file, &path) {
                return Ok(Some(Self { path, _file: file }));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_file(&self.path) {
            tracing::debug!(%error, "the lock of the alias stays");
        }
    }
}

fn is_still(file: &fs_err::File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs_err::metadata(path)) else {
        return false;
    };
    files::identity(&open) == files::identity(&there)
}
