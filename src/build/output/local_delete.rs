//! A local output with `mode=delete` removes what is not in the result; outside the working folder
//! that needs the user's word (buildx `ValidateLocalExportDelete`).

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::options::entitlement::LOCAL_DELETE;
use crate::options::output::{Dest, Output};

/// An output that may delete too much.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The folder is not below the working folder.
    #[error("local output mode=delete for destination {0:?} requires --allow={LOCAL_DELETE}")]
    NotAllowed(PathBuf),
    /// A folder cannot be looked at.
    #[error("failed to evaluate local output destination {path:?}")]
    Path {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Checks the outputs of a build in a working folder.
///
/// # Errors
///
/// Fails for a folder that is not below the working folder, links followed.
pub fn check(outputs: &[Output], working: &Path) -> Result<(), DeleteError> {
    for output in outputs.iter().filter(|output| output.deletes()) {
        let Some(Dest::Path(dest)) = &output.dest else {
            continue;
        };
        let real = |path: &Path| {
            real_path(path).map_err(|source| DeleteError::Path {
                path: path.to_owned(),
                source,
            })
        };
        let (working, real) = (real(working)?, real(&working.join(dest))?);
        if real == working || !real.starts_with(&working) {
            return Err(DeleteError::NotAllowed(dest.clone()));
        }
    }
    Ok(())
}

/// Follows the links of what exists of a path, and adds the rest.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut existing = path;
    let mut rest = Vec::new();
    let mut real = loop {
        match existing.canonicalize() {
            Ok(real) => break real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nothing is there and leads where nobody can tell.
                if existing.symlink_metadata().is_ok() {
                    return Err(error);
                }
                let mut parts = existing.components();
                rest.extend(parts.next_back());
                existing = parts.as_path();
            }
            Err(error) => return Err(error),
        }
    };
    for part in rest.into_iter().rev() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            part => real.push(part),
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(working: &Path, dest: &str, mode: &str) -> Result<(), DeleteError> {
        let value = format!("type=local,mode={mode},dest={dest}");
        check(&[Output::parse(&value).unwrap()], working)
    }

    #[test]
    fn only_folders_below_the_working_folder() {
        let dir = tempfile::tempdir().unwrap();
        let working = dir.path().join("work");
        fs_err::create_dir_all(working.join("sub")).unwrap();
        fs_err::os::unix::fs::symlink(dir.path(), working.join("out")).unwrap();
        fs_err::os::unix::fs::symlink("/nonexistent/x", working.join("broken")).unwrap();
        let dir = dir.path().display().to_string();
        for dest in [
            "sub",
            "new/er",
            "sub/../other",
            "./sub",
            &format!("{dir}/work/x"),
        ] {
            assert!(checked(&working, dest, "delete").is_ok(), "{dest}");
        }
        for dest in [
            ".",
            "..",
            "../x",
            "sub/..",
            "new/../..",
            "/",
            "out",
            "out/x",
            &dir,
        ] {
            let error = checked(&working, dest, "delete").unwrap_err();
            assert!(matches!(error, DeleteError::NotAllowed(_)), "{dest}");
            assert!(checked(&working, dest, "copy").is_ok(), "{dest}");
        }
        assert!(matches!(
            checked(&working, "broken/x", "delete"),
            Err(DeleteError::Path { .. })
        ));
    }
}
