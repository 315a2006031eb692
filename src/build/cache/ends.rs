//! What became of the caches of a build, however it ended.

use crate::cache::export::Published;

/// What became of a cache that was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// It was read, or another one that has all of it.
    Read,
    /// It does not exist.
    Missing,
    /// It was not read.
    Failed,
}

/// What became of a cache that was to be written and that this program stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteEnd {
    /// It is there.
    Stored(Published),
    /// The build has failed, and what had finished by then is there.
    Kept(Published),
    /// There was nothing to store.
    Nothing,
    /// It could not be stored.
    Failed,
}

impl WriteEnd {
    /// Returns what became of a cache by the outcome of its export; `there` tells how what is there came about.
    pub fn of<E>(outcome: &Result<Option<Published>, E>, there: fn(Published) -> Self) -> Self {
        match outcome {
            Ok(Some(published)) => there(published.clone()),
            Ok(None) => Self::Nothing,
            Err(_) => Self::Failed,
        }
    }
}

/// What became of the registry caches of a build, by their references as the user wrote them. Those of several nodes follow
/// one another.
#[derive(Debug, Default)]
pub struct CacheEnds {
    /// Those that were to be read; nothing where the build ended before.
    pub read: Vec<(String, ReadEnd)>,
    /// Those that this program was to store, as far as it is known what became of them.
    pub written: Vec<(String, WriteEnd)>,
    /// The login may not push, so that nothing was tried.
    pub refused: bool,
    /// The builder says that it has written one.
    pub by_builder: bool,
}

impl CacheEnds {
    /// Returns what became of a cache that was to be read, on the node that had most of it.
    pub fn of_read(&self, raw_ref: &str) -> Option<ReadEnd> {
        let ends = self.read.iter().filter(|(name, _)| name == raw_ref);
        let rank = |end: &ReadEnd| match end {
            ReadEnd::Read => 2,
            ReadEnd::Missing => 1,
            ReadEnd::Failed => 0,
        };
        ends.map(|(_, end)| *end).max_by_key(rank)
    }

    /// Returns what became of a cache that was to be written, on each node.
    pub fn of_written<'a>(&'a self, raw_ref: &'a str) -> impl Iterator<Item = &'a WriteEnd> {
        let ends = self.written.iter();
        ends.filter_map(move |(name, end)| (name == raw_ref).then_some(end))
    }
}
