//! Checks the sequence of STATs that comes in: clean paths, in order, parents first, links to known files.

use std::collections::HashSet;
use std::path::PathBuf;

use super::paths;
use super::wire::Stat;
use crate::platform::names;

/// The sequence breaks the rules of the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The path is empty, absolute, not clean, or leads out of the tree.
    #[error("unsafe path {path:?}")]
    Path {
        /// As it came.
        path: PathBuf,
    },
    /// The entry is not behind the one before it, or its directory was not sent.
    #[error("{path:?} is out of order")]
    Order {
        /// As it came.
        path: PathBuf,
    },
    /// The entry is of no kind that can be written.
    #[error("{path:?} is of an unknown kind (mode {mode:#o})")]
    Kind {
        /// As it came.
        path: PathBuf,
        /// As it came.
        mode: u32,
    },
    /// A hard link to something that is not a file sent before.
    #[error("{path:?} is a link to the unknown file {target:?}")]
    Link {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
}

/// Checks one sequence.
#[derive(Debug)]
pub(super) struct Validator {
    /// The open directories, each with the last name seen in it.
    open: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files that hard links may point to.
    files: HashSet<Vec<u8>>,
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            open: vec![(Vec::new(), Vec::new())],
            files: HashSet::new(),
        }
    }
}

impl Validator {
    /// Checks the next entry.
    pub(super) fn check(&mut self, stat: &Stat) -> Result<(), OrderError> {
        if !is_safe(&stat.path) {
            return Err(OrderError::Path {
                path: names::path(&stat.path).to_path_buf(),
            });
        }
        let (dir, name) = paths::split_name(&stat.path);
        while self.open.last().is_some_and(|(open, _)| open != dir) {
            self.open.pop();
        }
        match self.open.last_mut() {
            Some((_, last)) if last.as_slice() < name => name.clone_into(last),
            _ => {
                return Err(OrderError::Order {
                    path: names::path(&stat.path).to_path_buf(),
                });
            }
        }
        if stat.is_dir() {
            self.open.push((stat.path.clone(), Vec::new()));
        } else if !stat.is_symlink() {
            if stat.linkname.is_empty() {
                self.files.insert(stat.path.clone());
            } else if !self.files.contains(&stat.linkname) {
                return Err(OrderError::Link {
                    path: names::path(&stat.path).to_path_buf(),
                    target: names::path(&stat.linkname).to_path_buf(),
                });
            }
        }
        Ok(())
    }
}

fn is_safe(path: &[u8]) -> bool {
    !path.contains(&0)
        && path
            .split(|&byte| byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsutil::wire;

    fn check(entries: &[(&str, u32, &str)]) -> Result<(), OrderError> {
        let mut validator = Validator::default();
        entries.iter().try_for_each(|(path, mode, link)| {
            validator.check(&Stat {
                path: path.as_bytes().to_vec(),
                mode: *mode,
                linkname: link.as_bytes().to_vec(),
                ..Stat::default()
            })
        })
    }

    const DIR: u32 = wire::MODE_DIR;

    #[test]
    fn good_sequences_pass() {
        for entries in [
            &[
                ("bar", 0, ""),
                ("foo", DIR, ""),
                ("foo/a", 0, ""),
                ("foo-x", 0, ""),
            ][..],
            &[
                ("a", DIR, ""),
                ("a/b", DIR, ""),
                ("a/b/c", 0, ""),
                ("b", DIR, ""),
                ("b/a", 0, "a/b/c"),
            ],
            &[
                ("link", wire::MODE_SYMLINK, "../../anywhere"),
                ("z..", 0, ""),
            ],
        ] {
            assert_eq!(check(entries), Ok(()), "{entries:?}");
        }
    }

    #[test]
    fn unsafe_paths_fail() {
        for path in [
            "",
            "/",
            "/etc",
            "..",
            "../x",
            "a/../../b",
            "a/..",
            "./a",
            ".",
            "a//b",
            "a/",
            "a\0b",
        ] {
            assert!(
                matches!(
                    check(&[("a", DIR, ""), (path, 0, "")]),
                    Err(OrderError::Path { .. })
                ),
                "{path:?}"
            );
        }
    }

    #[test]
    fn wrong_order_fails() {
        for entries in [
            &[("b", 0, ""), ("a", 0, "")][..],
            &[("a", 0, ""), ("a", 0, "")],
            &[("a/b", 0, "")],
            &[("a", 0, ""), ("a/b", 0, "")],
            &[("a", DIR, ""), ("a/b", 0, ""), ("b", 0, ""), ("a/c", 0, "")],
            &[("link", wire::MODE_SYMLINK, "/etc"), ("link/passwd", 0, "")],
        ] {
            assert!(
                matches!(check(entries), Err(OrderError::Order { .. })),
                "{entries:?}"
            );
        }
    }

    #[test]
    fn link_to_what_was_not_sent_fails() {
        for entries in [
            &[("a", 0, "z")][..],
            &[("a", DIR, ""), ("b", 0, "a")],
            &[("a", wire::MODE_SYMLINK, "/etc/passwd"), ("b", 0, "a")],
            &[("b", 0, "../../etc/passwd")],
        ] {
            assert!(
                matches!(check(entries), Err(OrderError::Link { .. })),
                "{entries:?}"
            );
        }
    }
}
