//! The entries of a tree as a sender offers them, to be sent or for other purposes.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::attributes::Attributes;
use super::filter::{Filter, FilterError, PathFilter};
use super::walk::{self, Ended, Sink, WalkError};
use super::wire::Stat;

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The root is not there, not readable or no directory.
    #[error("cannot open the directory {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pattern is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Something in the tree cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

/// Hands over the entries of the tree at `root` that the filter lets through, with these attributes, as a build
/// context is [sent](super::send()), in the same order. Ends early where `each` breaks. Blocks.
///
/// # Errors
///
/// See [`TreeError`].
pub fn list(
    root: &Path,
    filter: &Filter,
    attributes: Attributes,
    each: impl FnMut(Stat) -> ControlFlow<()>,
) -> Result<(), TreeError> {
    visit(root, filter, &mut Each { attributes, each }).map(|_| ())
}

/// How far a tree was visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visited {
    /// To its end.
    All,
    /// As far as the sink wanted.
    Stopped,
}

/// Hands over the entries of the tree at `root` that the filter lets through. Blocks.
pub(super) fn visit(
    root: &Path,
    filter: &Filter,
    sink: &mut impl Sink,
) -> Result<Visited, TreeError> {
    let open = |source| TreeError::Root {
        path: root.to_path_buf(),
        source,
    };
    let real = fs_err::canonicalize(root).map_err(open)?;
    if !fs_err::metadata(&real).map_err(open)?.is_dir() {
        return Err(open(io::ErrorKind::NotADirectory.into()));
    }
    let filter = PathFilter::new(&real, filter)?;
    match walk::walk(&real, &filter, sink) {
        Ok(()) => Ok(Visited::All),
        Err(Ended::Stopped) => Ok(Visited::Stopped),
        Err(Ended::Failed(error)) => Err(error.into()),
        Err(Ended::Filter(error)) => Err(error.into()),
    }
}

struct Each<F> {
    attributes: Attributes,
    each: F,
}

impl<F: FnMut(Stat) -> ControlFlow<()>> Sink for Each<F> {
    fn entry(&mut self, mut stat: Stat) -> Result<(), Ended> {
        self.attributes.put_on(&mut stat);
        match (self.each)(stat) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Ended::Stopped),
        }
    }

    fn directory(&mut self) -> Result<(), Ended> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(root: &Path, filter: &Filter, most: usize) -> Vec<String> {
        let mut paths = Vec::new();
        list(root, filter, Attributes::OfRoot, |stat| {
            assert_eq!((stat.uid, stat.gid), (0, 0));
            paths.push(String::from_utf8(stat.path).unwrap());
            if paths.len() < most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .unwrap();
        paths
    }

    #[test]
    fn what_the_filter_lets_through_is_listed_until_it_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/x", "b/y", "c"] {
            let path = dir.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "1").unwrap();
        }
        let filter = Filter {
            exclude: vec!["b".to_owned()],
            ..Filter::default()
        };
        assert_eq!(listed(dir.path(), &filter, 9), ["a", "a/x", "c"]);
        assert_eq!(listed(dir.path(), &filter, 2), ["a", "a/x"]);
        let gone = dir.path().join("gone");
        let error = list(&gone, &filter, Attributes::OfRoot, |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
        assert!(matches!(error, TreeError::Root { .. }));
    }
}
