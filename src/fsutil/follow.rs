//! Follows the symbolic links of wanted paths inside a tree, so that link and target are both included.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::glob::{Glob, has_wildcards};
use super::paths;
use crate::platform::{files, names};

/// How many links one path may lead through; as many as the kernel follows.
const MAX_HOPS: u32 = 40;

/// A link could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot follow {}", path.display())]
pub struct FollowError {
    /// The path in question.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Returns the paths with every link on the way and its target, sorted, without what is below another one; or
/// nothing if one of them is the root, which means no filter. Links are taken to be relative to `root`, also
/// absolute ones, and never lead out of it.
pub(super) fn follow_links(
    root: &Path,
    wanted: &[String],
) -> Result<Option<Vec<String>>, FollowError> {
    let mut resolver = Resolver {
        root,
        resolved: BTreeSet::new(),
        visited: HashSet::new(),
    };
    for path in wanted {
        resolver.add(path, 0)?;
    }
    Ok(dedupe(resolver.resolved))
}

/// Leaves out each path that is below the one kept before it; returns nothing if one of them is the root.
pub(super) fn dedupe(paths: impl IntoIterator<Item = String>) -> Option<Vec<String>> {
    let mut kept: Vec<String> = Vec::new();
    for path in paths {
        if path == "." {
            return None;
        }
        let last = kept.last().map_or("", String::as_str);
        if !path
            .strip_prefix(last)
            .is_some_and(|rest| rest.starts_with('/'))
        {
            kept.push(path);
        }
    }
    Some(kept)
}

struct Resolver<'a> {
    root: &'a Path,
    resolved: BTreeSet<String>,
    /// Links already followed, each with the rest of the path that was to be found behind it.
    visited: HashSet<(String, String)>,
}

impl Resolver<'_> {
    fn add(&mut self, path: &str, hops: u32) -> Result<(), FollowError> {
        let path = paths::join(".", path);
        let mut rest = path.as_str();
        let mut current = String::from(".");
        loop {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            current = paths::join(&current, part);
            let targets = self.targets(&current)?;
            if !targets.is_empty() {
                self.resolved.insert(current.clone());
                if hops == MAX_HOPS || !self.visited.insert((current, after.to_owned())) {
                    return Ok(());
                }
                for target in targets {
                    self.add(&paths::join(&target, after), hops + 1)?;
                }
                return Ok(());
            }
            if after.is_empty() {
                self.resolved.insert(current);
                return Ok(());
            }
            rest = after;
        }
    }

    /// Returns what the link at the path points to, or all links if the last part of the path is a pattern.
    fn targets(&self, path: &str) -> Result<Vec<String>, FollowError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
        if path.starts_with("..") && (path.len() == 2 || path.starts_with("../")) {
            return Ok(Vec::new());
        }
        if !has_wildcards(name) {
            return Ok(self.target(path)?.into_iter().collect());
        }
        let Ok(glob) = Glob::new(name) else {
            return Ok(Vec::new());
        };
        let full = self.root.join(dir);
        let failed = |source| FollowError {
            path: full.clone(),
            source,
        };
        let entries = match fs_err::read_dir(&full) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let name = paths::text(names::bytes(&name)).into_owned();
            if glob.matches(&name) {
                names.push(name);
            }
        }
        names.sort_unstable();
        let mut targets = Vec::new();
        for name in names {
            targets.extend(self.target(&paths::join(dir, &name))?);
        }
        Ok(targets)
    }

    /// Returns what the link at the path points to, as an absolute path in the tree.
    fn target(&self, path: &str) -> Result<Option<String>, FollowError> {
        if path == "." {
            return Ok(None);
        }
        let full = self.root.join(path);
        match files::link_target(&full) {
            Ok(Some(target)) => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                let target = paths::text(&target).into_owned();
                let target = if target.starts_with('/') {
                    target
                } else {
                    format!("/{dir}/{target}")
                };
                Ok(Some(paths::clean(&target)))
            }
            Ok(None) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(FollowError { path: full, source }),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn follow(root: &Path, wanted: &[&str]) -> Option<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|path| (*path).to_owned()).collect();
        follow_links(root, &wanted).unwrap()
    }

    fn tree(links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (link, target) in links {
            let link = root.path().join(link);
            fs_err::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        }
        root
    }

    #[test]
    fn links_and_targets_are_found() {
        let root = tree(&[
            ("bar", "/foo/baz"),
            ("foo/link", "../x"),
            ("dir/up", "../../../../etc"),
            ("chain1", "chain2"),
            ("chain2", "sub/end"),
            ("dl", "real"),
        ]);
        fs_err::create_dir(root.path().join("real")).unwrap();
        symlink("../y", root.path().join("real/in")).unwrap();
        let table: &[(&[&str], &[&str])] = &[
            (&["bar"], &["bar", "foo/baz"]),
            (&["/bar"], &["bar", "foo/baz"]),
            (&["foo/link"], &["foo/link", "x"]),
            (&["dir/up"], &["dir/up", "etc"]),
            (&["chain1/more"], &["chain1", "chain2", "sub/end/more"]),
            (&["dl/in"], &["dl", "real/in", "y"]),
            (&["dl/a", "dl/b"], &["dl", "real/a", "real/b"]),
            (&["absent/at/all"], &["absent/at/all"]),
            (&["foo", "foo/baz"], &["foo"]),
        ];
        for (wanted, expected) in table {
            assert_eq!(
                follow(root.path(), wanted).unwrap(),
                *expected,
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn wildcards_follow_every_link() {
        let root = tree(&[("a/l1", "/t1"), ("a/l2", "t2"), ("a/other", "/t3")]);
        assert_eq!(
            follow(root.path(), &["a/l*"]).unwrap(),
            ["a/l*", "a/t2", "t1"]
        );
        assert_eq!(follow(root.path(), &["none*"]).unwrap(), ["none*"]);
        assert_eq!(follow(root.path(), &["*/l1"]).unwrap(), ["*/l1"]);
    }

    #[test]
    fn loops_end() {
        let root = tree(&[("a", "b"), ("b", "a"), ("self", "self"), ("grow", "grow/x")]);
        assert_eq!(follow(root.path(), &["a"]).unwrap(), ["a", "b"]);
        assert_eq!(follow(root.path(), &["self/x"]).unwrap(), ["self"]);
        assert_eq!(follow(root.path(), &["grow"]).unwrap(), ["grow"]);
    }

    #[test]
    fn root_means_no_filter() {
        let root = tree(&[("up", "..")]);
        for wanted in [".", "/", "", "up"] {
            assert_eq!(follow(root.path(), &["x", wanted]), None, "{wanted:?}");
        }
    }

    #[test]
    fn what_is_outside_is_not_read() {
        let root = tree(&[("secret", "/hidden"), ("in/x", "y")]);
        assert_eq!(
            follow(&root.path().join("in"), &["../secret"]).unwrap(),
            ["../secret"]
        );
    }
}
