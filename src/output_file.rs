//! A file that the user names as an output: what stands at its path decides how it is written.
//!
//! | at the path | what happens |
//! |---|---|
//! | nothing, a regular file | written beside it and renamed, so that readers never see half of it |
//! | a symbolic link | followed, also where its target does not exist yet |
//! | a pipe, `/dev/stdout`, `/dev/fd/N` | written through |
//! | a character device | written through where [`Devices::Written`] says so, else refused |
//! | a folder, a disk, a socket | refused |

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::platform::files::{self, Kind};

/// Links that are followed before they count as a circle, as in the kernel.
const MAX_LINKS: usize = 40;

/// Why a file cannot be written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// Something is there that no output may replace.
    #[error("{path:?} is a {what}, not a regular file")]
    NotAFile {
        /// The path, with links followed.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The file or its folder cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OutputError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAFile { .. } => Some(
                "name a regular file, a pipe or /dev/stdout, or leave the flag out if the output is not wanted",
            ),
            Self::Io(_) => None,
        }
    }
}

impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Io(error) => error,
            error @ OutputError::NotAFile { .. } => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}

/// What is done with a character device such as `/dev/null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// It is, as buildx does with the bytes of an exporter.
    Written,
    /// It is an error, as in buildx for the metadata file.
    Refused,
}

/// Where an output goes, links followed.
#[derive(Debug)]
pub enum Place {
    /// A regular file, which may not exist yet.
    Regular {
        /// The file.
        path: PathBuf,
        /// The mode of the file that is there.
        existing: Option<std::fs::Permissions>,
    },
    /// What is written through and stays as it is.
    Direct(PathBuf),
}

impl Place {
    /// Finds where this path leads. Nothing is created or changed.
    ///
    /// # Errors
    ///
    /// Fails if something is there that no output may replace, or if it cannot be looked at.
    pub fn find(path: &Path, devices: Devices) -> Result<Self, OutputError> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            if is_descriptor(&path) {
                return Ok(Self::Direct(path));
            }
            let Ok(target) = fs::read_link(&path) else {
                return Self::without_links(path, devices);
            };
            path = folder_of(&path).join(target);
        }
        Err(OutputError::Io(io::Error::other(format!(
            "too many symbolic links at {}",
            path.display()
        ))))
    }

    fn without_links(path: PathBuf, devices: Devices) -> Result<Self, OutputError> {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let existing = None;
                return Ok(Self::Regular { path, existing });
            }
            Err(error) => return Err(error.into()),
        };
        let what = match files::kind(meta.file_type()) {
            Kind::File => {
                let existing = Some(meta.permissions());
                return Ok(Self::Regular { path, existing });
            }
            Kind::Pipe => return Ok(Self::Direct(path)),
            Kind::CharacterDevice if devices == Devices::Written => {
                return Ok(Self::Direct(path));
            }
            Kind::Directory => "directory",
            Kind::Socket => "socket",
            _ => "device",
        };
        Err(OutputError::NotAFile { path, what })
    }

    /// Opens the place. Of a regular file nothing is seen before [`OutputFile::publish`].
    ///
    /// # Errors
    ///
    /// Fails if the folder does not exist or cannot be written, or what is written through not opened.
    pub fn open(self) -> io::Result<OutputFile> {
        match self {
            Self::Regular { path, existing } => {
                let file = tempfile::Builder::new()
                    .prefix(".docker-cachex-")
                    // Less the umask, as any new file.
                    .permissions(files::permissions(0o666))
                    .tempfile_in(folder_of(&path))?;
                if let Some(mode) = existing {
                    file.as_file().set_permissions(mode)?;
                }
                Ok(OutputFile::Beside { file, path })
            }
            // Standard output may be a file that holds something already.
            Self::Direct(path) => Ok(OutputFile::Direct(
                fs::OpenOptions::new().append(true).open(path)?,
            )),
        }
    }
}

/// An open output.
#[derive(Debug)]
pub enum OutputFile {
    /// Written beside its place. Dropped before [`OutputFile::publish`], it leaves nothing behind.
    Beside {
        /// What is written.
        file: NamedTempFile,
        /// Its place.
        path: PathBuf,
    },
    /// Written through: what was written cannot be taken back.
    Direct(fs::File),
}

impl OutputFile {
    /// Waits until a regular file is on its disk, so that it outlives a crash of the machine.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn sync_all(&mut self) -> io::Result<()> {
        match self {
            Self::Beside { file, .. } => file.as_file().sync_all(),
            Self::Direct(_) => Ok(()),
        }
    }

    /// Puts the complete file in its place.
    ///
    /// # Errors
    ///
    /// Fails if the last bytes cannot be written or the file not be renamed.
    pub fn publish(mut self) -> io::Result<()> {
        self.flush()?;
        if let Self::Beside { file, path } = self {
            file.persist(&path).map_err(|error| {
                let text = format!(
                    "cannot move the file to {}: {}",
                    path.display(),
                    error.error
                );
                io::Error::new(error.error.kind(), text)
            })?;
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside { file, .. } => file.write(data),
            Self::Direct(file) => file.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside { file, .. } => file.flush(),
            Self::Direct(file) => file.flush(),
        }
    }
}

/// Writes a small file as a whole; devices are refused.
///
/// # Errors
///
/// Fails if the path is not a place for an output or cannot be written.
pub fn write(path: &Path, data: &[u8]) -> Result<(), OutputError> {
    let mut file = Place::find(path, Devices::Refused)?.open()?;
    file.write_all(data)?;
    Ok(file.publish()?)
}

/// Checks that [`write()`] can be expected to succeed: a file is begun beside the place, and taken back. What is written
/// through is not opened: that may wait for a reader.
///
/// # Errors
///
/// Fails if the path is no place for an output, or no file can be made in its folder.
pub fn check(path: &Path) -> Result<(), OutputError> {
    let place = Place::find(path, Devices::Refused)?;
    let Place::Regular { path, .. } = &place else {
        return Ok(());
    };
    let folder = folder_of(path).to_owned();
    if !folder.is_dir() {
        let text = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text).into());
    }
    match place.open() {
        Ok(_taken_back) => Ok(()),
        Err(error) => {
            let text = format!("no file can be made in {}: {error}", folder.display());
            Err(io::Error::new(error.kind(), text).into())
        }
    }
}

/// Removes the regular file that the path leads to. Links, pipes and what else is there stay.
///
/// # Errors
///
/// Fails if the path is not a place for an output, or the file cannot be removed.
pub fn remove_stale(path: &Path) -> Result<(), OutputError> {
    match Place::find(path, Devices::Refused)? {
        Place::Regular {
            path,
            existing: Some(_),
        } => Ok(fs::remove_file(path)?),
        Place::Regular { .. } | Place::Direct(_) => Ok(()),
    }
}

/// Returns the folder that holds this path.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns whether the path names an open file of a process. What it links to need not have a name,
/// and if it has one, whoever opened it expects the bytes in what is open.
fn is_descriptor(path: &Path) -> bool {
    fs::canonicalize(folder_of(path)).is_ok_and(|folder| {
        folder == Path::new("/dev/fd") || (folder.starts_with("/proc") && folder.ends_with("fd"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_file_has_the_mode_of_any_new_file_and_an_old_one_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, path) = (dir.path().join("plain"), dir.path().join("out"));
        fs::write(&plain, "").unwrap();
        write(&path, b"one").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(mode(&path), 0o640);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn file_is_not_seen_before_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut file = Place::find(&path, Devices::Refused)
            .unwrap()
            .open()
            .unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_followed_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let (target, link) = (dir.path().join("sub/target"), dir.path().join("link"));
        // It leads nowhere at first.
        symlink("sub/target", &link).unwrap();
        for text in ["one", "two"] {
            write(&link, text.as_bytes()).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert!(fs::symlink_metadata(&target).unwrap().is_file());
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
        }
        remove_stale(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!target.exists());
        remove_stale(&link).unwrap();
        let circle = dir.path().join("circle");
        symlink("circle", &circle).unwrap();
        let error = write(&circle, b"").unwrap_err();
        assert!(error.to_string().contains("too many symbolic links"));
    }

    #[test]
    fn pipe_is_written_through_and_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        // Both ends, so that opening it waits for nobody.
        let options = fs::OpenOptions::new().read(true).write(true).open(&pipe);
        let mut reader = options.unwrap();
        remove_stale(&pipe).unwrap();
        write(&pipe, b"bytes").unwrap();
        let mut received = [0; 5];
        io::Read::read_exact(&mut reader, &mut received).unwrap();
        assert_eq!(&received, b"bytes");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn open_file_is_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redirected");
        let mut open = fs::File::create(&path).unwrap();
        open.write_all(b"one ").unwrap();
        let descriptor = format!("/dev/fd/{}", open.as_raw_fd());
        remove_stale(Path::new(&descriptor)).unwrap();
        write(Path::new(&descriptor), b"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two");
    }

    #[test]
    fn a_folder_that_is_missing_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        check(&dir.path().join("new")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = check(&dir.path().join("no/file")).unwrap_err();
        assert!(
            error.to_string().starts_with("there is no folder "),
            "{error}"
        );
        let link = dir.path().join("link");
        symlink("no/file", &link).unwrap();
        check(&link).unwrap_err();
    }

    #[test]
    fn a_folder_that_takes_no_file_is_found_before() {
        // Root may write everywhere else.
        let error = check(Path::new("/proc/report.json"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("no file can be made in /proc: "),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "old").unwrap();
        check(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn devices_and_folders_stay() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), &link] {
            for error in [write(path, b"x"), remove_stale(path)] {
                let error = error.unwrap_err();
                assert_eq!(
                    error.to_string(),
                    "\"/dev/null\" is a device, not a regular file"
                );
                assert!(error.hint().is_some());
            }
            let place = Place::find(path, Devices::Written).unwrap();
            place.open().unwrap().write_all(b"x").unwrap();
            let kind = fs::metadata("/dev/null").unwrap().file_type();
            assert!(kind.is_char_device());
        }
        let error = write(dir.path(), b"x").unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
        assert!(remove_stale(dir.path()).is_err());
        assert!(write(&dir.path().join("no/file"), b"x").is_err());
    }
}
