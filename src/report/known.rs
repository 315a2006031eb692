//! What is known of the steps of a build on one node besides what its progress tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cache::keys::Plan;
use crate::explain::Miss;

/// What is known of the steps.
#[derive(Debug, Default)]
pub struct Known {
    /// The steps.
    pub plan: Arc<Plan>,
    /// Their names without the values of variables, by the index of the vertex.
    pub names: Vec<String>,
    /// Why some of them ran.
    pub misses: Vec<Miss>,
    /// The caches that the build was to read.
    pub caches: Vec<KnownCache>,
    /// How long steps took when they last ran, in milliseconds, by the index of the vertex.
    pub times: BTreeMap<usize, u64>,
}

impl Known {
    /// Returns those caches that a step may have come from: of the names that are `told`, with `or` between them, those
    /// that are not known to have been of no use.
    pub(super) fn read_of(&self, told: &str) -> Option<String> {
        let is_unread = |name: &&str| {
            let mut caches = self.caches.iter();
            caches.any(|cache| cache.name == *name && cache.has.is_none())
        };
        let names = told.split(" or ").filter(|name| !is_unread(name));
        let names = names.collect::<Vec<_>>().join(" or ");
        (!names.is_empty()).then_some(names)
    }
}

/// A cache that the build was to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownCache {
    /// Its reference or folder.
    pub name: String,
    /// How old it is, in words.
    pub age: Option<String>,
    /// The commit that it was made from.
    pub commit: Option<String>,
    /// The vertices whose results it has; else the error, or none where it does not exist.
    pub has: Option<BTreeSet<usize>>,
    /// Why it could not be read.
    pub error: Option<String>,
}
