//! What goes with a cache that is kept under a reference.

use jiff::Timestamp;

use crate::cache::extras::clean::Cleaning;
use crate::cache::extras::store::NewRecord;
use crate::cache::merge::{Bounds, Contents};
use crate::cache::sign::writer::Signing;
use crate::digest::Digest;

/// What goes with a cache that is kept under a reference.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// What is told of the builds.
    pub record: Option<&'a NewRecord>,
    /// The cleaning of the tag, where manifests that it held before are deleted.
    pub cleaning: Option<&'a Cleaning>,
    /// Other caches of the repository that the cache takes in.
    pub others: Option<&'a Others>,
    /// How it is signed. Then it is merged only with what is signed and trusted itself.
    pub signing: Option<&'a Signing>,
}

/// Caches of a repository that another one of it takes in, so that whoever reads both need read only that one. Reading two
/// that overlap BuildKit loses hits (moby/buildkit#4674).
#[derive(Debug, Clone, PartialEq)]
pub struct Others {
    /// What they hold.
    pub contents: Contents,
    /// The digests of their manifests.
    pub manifests: Vec<Digest>,
}

impl Others {
    /// Creates one that a tag holds.
    pub fn of(contents: Contents, manifest: Digest) -> Self {
        Self {
            contents,
            manifests: vec![manifest],
        }
    }

    /// Adds one.
    pub fn add(&mut self, other: Self) {
        self.contents.merge(&other.contents);
        self.manifests.extend(other.manifests);
    }

    /// Adds them to a cache. Where there is no room for all of it within the bounds, nothing is added. How long nobody has
    /// used it does not matter: it takes no more room in the registry than it does anyway.
    ///
    /// # Errors
    ///
    /// Fails only where a kept unknown field cannot be written as JSON.
    pub(super) fn add_to(
        &self,
        cache: &Contents,
        bounds: &Bounds,
        now: Timestamp,
    ) -> Result<Option<Contents>, serde_json::Error> {
        let mut both = cache.clone();
        both.merge(&self.contents);
        let mut extras = both.extras().clone();
        let mut notes = extras.notes().clone();
        notes.holds.clone_from(&self.manifests);
        extras.set_notes(notes);
        both.set_extras(extras);
        let bounds = Bounds {
            max_age: None,
            ..*bounds
        };
        let dropped = both.clone().bound(&bounds, now)?;
        Ok(dropped.is_none().then_some(both))
    }
}
