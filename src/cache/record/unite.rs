//! Records united.

use super::files::FileSet;
use super::{BuildRecord, MAX_BUILDS, Record};

impl Record {
    /// Adds the builds of another record that are not in this one. Of several that are the same, the first
    /// stays.
    pub fn add(&mut self, other: &Self) {
        for build in &other.builds {
            let is_known = self.builds.iter().any(|known| known.is_of(build));
            if is_known || self.builds.len() >= MAX_BUILDS {
                continue;
            }
            let mut build = build.clone();
            for (name, at) in std::mem::take(&mut build.sets) {
                if let Some(set) = other.sets.get(at) {
                    build.sets.insert(name, self.add_set(set));
                }
            }
            self.builds.push(build);
        }
    }

    /// Adds a list of files, unless it is there, and returns its index.
    pub(super) fn add_set(&mut self, set: &FileSet) -> usize {
        let known = self.sets.iter().position(|known| known == set);
        known.unwrap_or_else(|| {
            self.sets.push(set.clone());
            self.sets.len() - 1
        })
    }
}

impl BuildRecord {
    /// Returns whether it is a record of the same build. One that follows on another keeps its salt; earlier versions did
    /// not tell the platform of a build that named none, and it was not part of the identifier.
    fn is_of(&self, other: &Self) -> bool {
        let parts = |build: &Self| (build.salt, build.dockerfile.clone(), build.target.clone());
        let is_unnamed = self.platform.is_empty() != other.platform.is_empty();
        self.id == other.id || (is_unnamed && parts(self) == parts(other))
    }
}
