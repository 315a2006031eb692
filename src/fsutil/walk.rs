//! Walks a tree in the order of the protocol and makes a STAT of every entry that the filter lets through.
//!
//! Order: depth first, the entries of a directory by the bytes of their names, a directory before what is in
//! it. A directory that the filter leaves out is sent after all when something below it is sent.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use super::filter::{Decision, FilterError, Matched, PathFilter};
use super::paths;
use super::stat::{self, HardLinks};
use super::wire::Stat;
use crate::platform::names;

/// The tree cannot be walked.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct WalkError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Why a walk ended before its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// Something cannot be read.
    Failed(WalkError),
    /// A pattern of the filter turned out to be wrong.
    Filter(FilterError),
    /// Whoever takes the entries wants no more.
    Stopped,
}

/// Takes the entries of a walk.
pub(super) trait Sink {
    /// Takes one entry.
    fn entry(&mut self, stat: Stat) -> Result<(), Ended>;

    /// Is called for every directory, so that a long walk that finds nothing can be stopped.
    fn directory(&mut self) -> Result<(), Ended>;
}

/// Walks the tree at `root`, which is a directory. Blocks.
pub(super) fn walk(root: &Path, filter: &PathFilter, sink: &mut impl Sink) -> Result<(), Ended> {
    let mut walk = Walk {
        root,
        filter,
        sink,
        links: HardLinks::default(),
        above: vec![Directory {
            path: Vec::new(),
            matched: filter.root(),
            sent: true,
        }],
    };
    walk.directory()
}

struct Walk<'a, S> {
    root: &'a Path,
    filter: &'a PathFilter,
    sink: &'a mut S,
    links: HardLinks,
    /// The directories from the root to the one being read.
    above: Vec<Directory>,
}

struct Directory {
    path: Vec<u8>,
    matched: Matched,
    sent: bool,
}

impl<S: Sink> Walk<'_, S> {
    /// Walks the last of the directories.
    fn directory(&mut self) -> Result<(), Ended> {
        self.sink.directory()?;
        let Some(current) = self.above.last() else {
            return Ok(());
        };
        let full = self.full(&current.path);
        let entries = match sorted_entries(&full) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) && !current.path.is_empty() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !current.sent => {
                return Ok(());
            }
            Err(source) => return Err(Ended::Failed(WalkError { path: full, source })),
        };
        let mut matched = Matched::default();
        for (name, entry) in entries {
            self.entry(&name, &entry, &mut matched)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        name: &OsStr,
        entry: &fs_err::DirEntry,
        matched: &mut Matched,
    ) -> Result<(), Ended> {
        let Some(parent) = self.above.last() else {
            return Ok(());
        };
        let mut path = Vec::with_capacity(parent.path.len() + 1 + name.len());
        path.extend_from_slice(&parent.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(names::bytes(name));
        let is_dir = match entry.file_type() {
            Ok(kind) => kind.is_dir(),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(source) => return Err(self.failed(&path, source)),
        };
        let decision = self
            .filter
            .decide(&paths::text(&path), is_dir, &parent.matched, matched)
            .map_err(Ended::Filter)?;
        let sent = match decision {
            Decision::Prune => return Ok(()),
            Decision::Descend => false,
            Decision::Send => {
                if !self.send(&path, entry.metadata())? {
                    return Ok(());
                }
                true
            }
        };
        if is_dir {
            self.above.push(Directory {
                path,
                matched: matched.clone(),
                sent,
            });
            self.directory()?;
            self.above.pop();
        }
        Ok(())
    }

    /// Sends the entry, after those directories above it that were not sent yet. Returns whether it was still
    /// there.
    fn send(&mut self, path: &[u8], metadata: io::Result<Metadata>) -> Result<bool, Ended> {
        let Some(stat) = self.stat(path, metadata)? else {
            return Ok(false);
        };
        for index in 0..self.above.len() {
            if self.above[index].sent {
                continue;
            }
            let parent = self.above[index].path.clone();
            let metadata = fs_err::symlink_metadata(self.full(&parent));
            let Some(stat) = self.stat(&parent, metadata)? else {
                return Ok(false);
            };
            self.above[index].sent = true;
            self.sink.entry(stat)?;
        }
        self.sink.entry(stat)?;
        Ok(true)
    }

    /// Creates the STAT, or `None` if the file is gone.
    fn stat(&mut self, path: &[u8], metadata: io::Result<Metadata>) -> Result<Option<Stat>, Ended> {
        let full = self.full(path);
        match metadata
            .and_then(|metadata| stat::stat(&full, path.to_vec(), &metadata, &mut self.links))
        {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(self.failed(path, source)),
        }
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(names::path(path))
    }

    fn failed(&self, path: &[u8], source: io::Error) -> Ended {
        Ended::Failed(WalkError {
            path: self.full(path),
            source,
        })
    }
}

fn sorted_entries(dir: &Path) -> io::Result<Vec<(std::ffi::OsString, fs_err::DirEntry)>> {
    let mut entries = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        entries.push((entry.file_name(), entry));
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries)
}

/// Returns whether the error says that the file has vanished.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::super::filter::Filter;
    use super::super::validate::Validator;
    use super::super::wire;
    use super::*;

    #[derive(Default)]
    struct Collect(Vec<Stat>);

    impl Sink for Collect {
        fn entry(&mut self, stat: Stat) -> Result<(), Ended> {
            self.0.push(stat);
            Ok(())
        }

        fn directory(&mut self) -> Result<(), Ended> {
            Ok(())
        }
    }

    fn collect(root: &Path, filter: &Filter) -> Vec<Stat> {
        let filter = PathFilter::new(root, filter).unwrap();
        let mut sink = Collect::default();
        walk(root, &filter, &mut sink).unwrap();
        let mut order = Validator::default();
        for stat in &sink.0 {
            order.check(stat).unwrap();
        }
        sink.0
    }

    fn names(root: &Path, include: &[&str], exclude: &[&str], follow: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let filter = Filter {
            include: own(include),
            exclude: own(exclude),
            follow: own(follow),
        };
        collect(root, &filter)
            .into_iter()
            .map(|stat| String::from_utf8(stat.path).unwrap())
            .collect()
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, file).unwrap();
        }
        root
    }

    #[test]
    fn order_is_by_bytes_and_depth_first() {
        let root = tree(&["foo/bar", "foo-bar", "foo.a/x", "foo0", "B", "a"]);
        let expected = [
            "B", "a", "foo", "foo/bar", "foo-bar", "foo.a", "foo.a/x", "foo0",
        ];
        // Within one directory the names are compared without the slash, so "foo" comes first.
        assert_eq!(names(root.path(), &[], &[], &[]), expected);
    }

    const FILES: [&str; 7] = [
        "bar/foo",
        "bar/deep/er/one",
        "bar/deep/two",
        "foo/file",
        "foo2",
        "target/x/keep",
        "target/y",
    ];

    /// Checks rows of includes, excludes and what is walked, each a list with blanks between.
    fn check_filters(table: &[[&'static str; 3]]) {
        let root = tree(&FILES);
        let list = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
        for [include, exclude, expected] in table.iter().copied() {
            let found = names(root.path(), &list(include), &list(exclude), &[]);
            assert_eq!(found, list(expected), "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn included_files_bring_their_parents() {
        let one = "bar bar/deep bar/deep/er bar/deep/er/one";
        check_filters(&[
            [
                "bar",
                "",
                "bar bar/deep bar/deep/er bar/deep/er/one bar/deep/two bar/foo",
            ],
            ["bar/deep/er/one", "", one],
            [
                "bar/deep/*",
                "",
                "bar bar/deep bar/deep/er bar/deep/er/one bar/deep/two",
            ],
            ["**/one", "", one],
            ["foo*", "", "foo foo/file foo2"],
            [
                "* !bar",
                "",
                "foo foo/file foo2 target target/x target/x/keep target/y",
            ],
            ["absent", "", ""],
        ]);
    }

    #[test]
    fn exceptions_bring_their_parents() {
        check_filters(&[
            [
                "",
                "** !bar/deep/er",
                "bar bar/deep bar/deep/er bar/deep/er/one",
            ],
            ["", "* !foo2", "foo2"],
            [
                "",
                "target !target/x/keep bar",
                "foo foo/file foo2 target target/x target/x/keep",
            ],
            ["", "* !**/keep", "target target/x target/x/keep"],
            [
                "bar",
                "bar/deep !**/two",
                "bar bar/deep bar/deep/two bar/foo",
            ],
            ["bar/deep", "**/er", "bar bar/deep bar/deep/two"],
        ]);
    }

    #[test]
    fn followed_links_are_included() {
        let root = tree(&["real/file", "other"]);
        std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
        assert_eq!(
            names(root.path(), &[], &[], &["link/file"]),
            ["link", "real", "real/file"]
        );
        assert_eq!(
            names(root.path(), &["other"], &[], &["link"]),
            ["link", "other", "real", "real/file"]
        );
        assert_eq!(names(root.path(), &[], &[], &["."]).len(), 4);
    }

    #[test]
    fn hard_link_whose_first_name_is_left_out_becomes_the_file() {
        let root = tree(&["a"]);
        for name in ["b", "c"] {
            fs_err::hard_link(root.path().join("a"), root.path().join(name)).unwrap();
        }
        let filter = Filter {
            exclude: vec!["a".to_owned()],
            ..Filter::default()
        };
        let stats = collect(root.path(), &filter);
        let links: Vec<_> = stats
            .iter()
            .map(|stat| (stat.path.as_slice(), stat.linkname.as_slice()))
            .collect();
        assert_eq!(links, [(&b"b"[..], &b""[..]), (b"c", b"b")]);
    }

    #[test]
    fn name_that_is_not_utf8_is_walked_and_matched() {
        let root = tree(&["plain"]);
        fs_err::write(root.path().join(names::path(b"caf\xe9")), "").unwrap();
        let stats = collect(
            root.path(),
            &Filter {
                include: vec!["caf?".to_owned()],
                ..Filter::default()
            },
        );
        assert_eq!(stats.len(), 1);
        assert_eq!(stats[0].path, b"caf\xe9");
        assert_eq!(stats[0].mode & wire::MODE_TYPE, 0);
    }

    #[test]
    fn missing_root_is_an_error() {
        let root = tree(&[]);
        let missing = root.path().join("none");
        let filter = PathFilter::new(&missing, &Filter::default()).unwrap();
        let Err(Ended::Failed(error)) = walk(&missing, &filter, &mut Collect::default()) else {
            unreachable!("a missing root was walked");
        };
        assert_eq!(error.path, missing);
    }
}
