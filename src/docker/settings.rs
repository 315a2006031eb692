//! Reading a file of settings.

use std::io::{self, Read as _};
use std::path::Path;

use crate::platform::files::{self, Kind};

/// Reads a file that other programs keep settings in. Nobody feeds such a file, so a pipe in its place
/// is refused: it would be waited for without end.
///
/// # Errors
///
/// Fails if the file cannot be read or is a pipe.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true);
    files::without_waiting(&mut options);
    let mut file = options.open(path)?;
    if files::kind(file.metadata()?.file_type()) == Kind::Pipe {
        let text = format!("{} is a pipe", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = read(&path).unwrap_err();
        assert!(
            error.to_string().ends_with("config.json is a pipe"),
            "{error}"
        );
        fs_err::remove_file(&path).unwrap();
        fs_err::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap(), b"{}");
        assert_eq!(read(Path::new("/dev/null")).unwrap(), b"");
    }
}
