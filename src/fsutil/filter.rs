//! Which entries of a tree are sent: includes, excludes and followed links.

use std::path::Path;

use super::follow::{self, FollowError};
use super::pattern::{Matcher, PatternError};

/// What the receiver asks of the sender: patterns in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what matches one of these is sent, with the directories above it; empty means everything.
    pub include: Vec<String>,
    /// What matches these is left out; `!` makes an exception.
    pub exclude: Vec<String>,
    /// Paths whose symbolic links are followed inside the tree; links and targets are included.
    pub follow: Vec<String>,
}

/// A filter that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// An include pattern is wrong.
    #[error("invalid include pattern")]
    Include(#[source] PatternError),
    /// An exclude pattern is wrong.
    #[error("invalid exclude pattern")]
    Exclude(#[source] PatternError),
    /// A link cannot be followed.
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// A filter made ready for a tree.
#[derive(Debug)]
pub(super) struct PathFilter {
    include: Option<Matcher>,
    exclude: Option<Matcher>,
    /// No include has a wildcard before its last part, so its text tells where it can match.
    include_by_prefix: bool,
    /// The same for the exceptions of the excludes.
    exceptions_by_prefix: bool,
}

/// Which patterns a directory has matched; passed on to what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Matched {
    include: Vec<bool>,
    exclude: Vec<bool>,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Send it and look into it.
    Send,
    /// Do not send it, but something below it may be sent.
    Descend,
    /// Leave it out with all that is below it.
    Prune,
}

impl PathFilter {
    /// Prepares a filter: resolves followed links in the tree at `root` and parses the patterns. Blocks.
    pub(super) fn new(root: &Path, filter: &Filter) -> Result<Self, FilterError> {
        let mut includes = filter.include.clone();
        if !filter.follow.is_empty()
            && let Some(targets) = follow::follow_links(root, &filter.follow)?
        {
            includes.extend(targets);
            includes = follow::dedupe(includes).unwrap_or_default();
        }
        let parse = |patterns: &[String]| {
            Matcher::new(patterns).map(|matcher| (!matcher.is_empty()).then_some(matcher))
        };
        let include = parse(&includes).map_err(FilterError::Include)?;
        let exclude = parse(&filter.exclude).map_err(FilterError::Exclude)?;
        let by_prefix = |matcher: &Option<Matcher>, exceptions| {
            matcher.as_ref().is_none_or(|matcher| {
                matcher.patterns(exceptions).all(|pattern| {
                    !pattern
                        .without_trailing_glob()
                        .contains(['*', '[', ']', '?', '^', '\\'])
                })
            })
        };
        Ok(Self {
            include_by_prefix: by_prefix(&include, false),
            exceptions_by_prefix: by_prefix(&exclude, true),
            include,
            exclude,
        })
    }

    /// Returns what the root has matched.
    pub(super) fn root(&self) -> Matched {
        Matched {
            include: self.include.as_ref().map(Matcher::none).unwrap_or_default(),
            exclude: self.exclude.as_ref().map(Matcher::none).unwrap_or_default(),
        }
    }

    /// Decides about an entry below a directory that matched `above`; writes into `here` what it matched.
    ///
    /// # Errors
    ///
    /// A pattern that was tried and whose syntax is wrong.
    pub(super) fn decide(
        &self,
        path: &str,
        is_dir: bool,
        above: &Matched,
        here: &mut Matched,
    ) -> Result<Decision, FilterError> {
        let mut send = true;
        if let Some(include) = &self.include
            && !include
                .matches_below(path, &above.include, &mut here.include)
                .map_err(FilterError::Include)?
        {
            if is_dir && self.include_by_prefix && !reaches_below(include, false, path) {
                return Ok(Decision::Prune);
            }
            send = false;
        }
        if let Some(exclude) = &self.exclude
            && exclude
                .matches_below(path, &above.exclude, &mut here.exclude)
                .map_err(FilterError::Exclude)?
        {
            let exceptions = exclude.has_exceptions();
            if is_dir
                && self.exceptions_by_prefix
                && (!exceptions || !reaches_below(exclude, true, path))
            {
                return Ok(Decision::Prune);
            }
            send = false;
        }
        Ok(match (send, is_dir) {
            (true, _) => Decision::Send,
            (false, true) => Decision::Descend,
            (false, false) => Decision::Prune,
        })
    }
}

/// Returns whether a pattern names something below the directory.
fn reaches_below(matcher: &Matcher, exceptions: bool, dir: &str) -> bool {
    matcher.patterns(exceptions).any(|pattern| {
        let text = pattern.without_trailing_glob();
        match text.strip_prefix(dir) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    })
}
