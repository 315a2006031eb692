//! The folder where uploads keep what they have read, and what is wrong with it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The folders in which a spool file may be, best first. Clones share what went wrong.
///
/// A spool file never has a name: it is unlinked as soon as it is open, so that nothing is left of it
/// however the program ends.
#[derive(Debug, Clone)]
pub struct SpoolDir {
    folders: Arc<[PathBuf]>,
    trouble: Arc<OnceLock<String>>,
}

impl SpoolDir {
    /// Takes the folders, best first.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            folders: folders.into_iter().collect(),
            trouble: Arc::default(),
        }
    }

    /// Opens an unnamed file in the first folder that takes one, and returns it with its folder.
    /// Returns none if there is no such folder: then uploads go on, but cannot start again.
    pub(super) fn open(&self) -> Option<(File, &Path)> {
        let mut first = None;
        for folder in &*self.folders {
            match tempfile::tempfile_in(folder) {
                Ok(file) => return Some((file, folder)),
                Err(error) => first = first.or(Some((folder, error))),
            }
        }
        if let Some((folder, error)) = first {
            self.fails(folder, &error);
        }
        None
    }

    /// Keeps the first error, for one remark.
    pub(super) fn fails(&self, folder: &Path, error: &io::Error) {
        self.trouble.get_or_init(|| {
            // The error of a file that has just been made names its path, which is of no use.
            let cause = error.raw_os_error().map(io::Error::from_raw_os_error);
            let cause = cause.as_ref().unwrap_or(error);
            format!(
                "cannot keep layers in {} while they are sent ({cause}): an upload that breaks cannot start again; \
                 TMPDIR names another folder",
                folder.display()
            )
        });
    }

    /// Returns the remark for the user if uploads had to go on without a spool file.
    pub fn remark(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }
}

impl From<&Path> for SpoolDir {
    fn from(folder: &Path) -> Self {
        Self::new([folder.to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_takes_a_file_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let spool = SpoolDir::new([dir.path().join("gone"), dir.path().to_owned()]);
        assert_eq!(spool.open().unwrap().1, dir.path());
        assert_eq!(spool.remark(), None);
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_first_error_is_told_once() {
        let spool = SpoolDir::from(Path::new("/does/not/exist"));
        assert!(spool.clone().open().is_none());
        spool.fails(Path::new("/other"), &io::Error::other("full"));
        let remark = spool.remark().unwrap();
        let expected =
            "cannot keep layers in /does/not/exist while they are sent (No such file or directory";
        assert!(remark.starts_with(expected), "{remark}");
    }
}
