//! The number of steps.

use super::Vertex;

/// How many steps there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps known, groups as one, hidden ones not counted.
    pub total: usize,
    /// Steps that have ended.
    pub completed: usize,
    /// Steps that came from the cache.
    pub cached: usize,
}

impl Counts {
    /// Counts these.
    pub(super) fn of<'a>(vertices: impl Iterator<Item = &'a Vertex>) -> Self {
        let mut counts = Self::default();
        for vertex in vertices {
            counts.total += 1;
            counts.completed += usize::from(vertex.is_completed());
            counts.cached += usize::from(vertex.came_from_cache());
        }
        counts
    }
}
