//! The archive with a node's files that is unpacked in the container's `/etc`.

use std::collections::BTreeSet;
use std::io;

use crate::builder::buildkitd::Files;

const ROOT: &str = "buildkit";
const DIR_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Why the files of a node cannot be put into an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file name is absolute, leaves the folder or is not plain.
    #[error("invalid config file path {path:?}")]
    Path {
        /// The path.
        path: String,
    },
    /// One file is named as a folder of another.
    #[error("config file path {path:?} conflicts with directory")]
    Conflict {
        /// The path.
        path: String,
    },
    /// The archive cannot be written.
    #[error("cannot make the archive of the builder's files")]
    Write(#[from] io::Error),
}

/// Creates the archive: folders first, sorted, owned by root, below `buildkit/`.
///
/// # Errors
///
/// Fails for a path that is not a plain relative one, and for a file that is also a folder.
pub fn archive(files: &Files) -> Result<Vec<u8>, TarError> {
    let mut dirs = BTreeSet::new();
    for path in files.keys() {
        if !is_plain(path) {
            return Err(TarError::Path { path: path.clone() });
        }
        dirs.insert(ROOT.to_owned());
        for (at, _) in path.match_indices('/') {
            dirs.insert(format!("{ROOT}/{}", &path[..at]));
        }
    }
    if let Some(path) = files.keys().find(|p| dirs.contains(&format!("{ROOT}/{p}"))) {
        return Err(TarError::Conflict { path: path.clone() });
    }
    let mut builder = tar::Builder::new(Vec::new());
    for dir in &dirs {
        let mut header = header(tar::EntryType::Directory, DIR_MODE, 0);
        builder.append_data(&mut header, format!("{dir}/"), io::empty())?;
    }
    for (path, content) in files {
        let mut header = header(tar::EntryType::Regular, FILE_MODE, content.0.len() as u64);
        builder.append_data(&mut header, format!("{ROOT}/{path}"), content.0.as_slice())?;
    }
    Ok(builder.into_inner()?)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn is_plain(path: &str) -> bool {
    !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::group::FileContent;
    use std::io::Read as _;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs
            .iter()
            .map(|(path, content)| ((*path).to_owned(), FileContent(content.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn folders_come_first_and_all_belongs_to_root() {
        let made = archive(&files(&[
            ("buildkitd.toml", "debug = true\n"),
            ("certs/example.com/ca.pem", "certificate"),
        ]))
        .unwrap();
        let mut archive = tar::Archive::new(made.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            seen.push((path, header.mode().unwrap(), content));
        }
        let expected = [
            ("buildkit/", 0o755, ""),
            ("buildkit/certs/", 0o755, ""),
            ("buildkit/certs/example.com/", 0o755, ""),
            ("buildkit/buildkitd.toml", 0o644, "debug = true\n"),
            ("buildkit/certs/example.com/ca.pem", 0o644, "certificate"),
        ]
        .map(|(p, m, c)| (p.to_owned(), m, c.to_owned()));
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_files_are_an_empty_archive() {
        let made = archive(&Files::new()).unwrap();
        assert_eq!(
            tar::Archive::new(made.as_slice())
                .entries()
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for path in [
            "", ".", "./a", "../a", "/a", "certs/", "a/../b", "a/./b", "a//b", "a\\b", "a\0b",
        ] {
            assert!(
                matches!(archive(&files(&[(path, "x")])), Err(TarError::Path { .. })),
                "{path:?}"
            );
        }
        let conflict = archive(&files(&[("certs", "f"), ("certs/ca.pem", "c")]));
        assert!(matches!(conflict, Err(TarError::Conflict { .. })));
    }
}
