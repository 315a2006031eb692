//! The records of a table of caches that are merged.

use std::collections::HashMap;

use super::times::Times;
use crate::cache::unknown::Unknown;

/// Hash of a layer with all below it, or of a record with all its inputs.
pub(super) type Hash = [u8; 32];

/// Where an input of a record may come from.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) selector: String,
    /// Place of the record, which is before that of the record with this link.
    pub(super) record: usize,
    pub(super) other: Unknown,
}

/// One key with the results of all configs.
pub(super) struct Record {
    pub(super) hash: Hash,
    pub(super) digest: String,
    pub(super) inputs: Vec<Vec<Link>>,
    /// By the topmost layer; `None` is the result without any.
    pub(super) results: HashMap<Option<usize>, Found>,
    pub(super) other: Unknown,
}

/// What is known of a result besides its layers.
#[derive(Clone, Default)]
pub(super) struct Found {
    pub(super) times: Times,
    pub(super) other: Unknown,
}

impl Found {
    /// Takes over what another writer knew.
    pub(super) fn merge(&mut self, other: Self) {
        self.times.merge(other.times);
        self.other.merge(&other.other);
    }
}
