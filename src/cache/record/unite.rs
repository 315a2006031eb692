//! Records united, and carried over from one build to the next.

use super::{BuildRecord, MAX_BUILDS, Record};

impl Record {
    /// Returns this record, which is of a build that has just run, as it follows on an older one of the same
    /// cache. Steps that did not run keep the time that they took. With `keep` the other builds of the older
    /// record stay.
    ///
    /// Where nothing has changed but times that are not known better, the older record comes back as it is,
    /// so that it has the same bytes.
    pub fn after(&self, old: &Self, keep: bool) -> Self {
        let mut new = self.clone();
        let mut unchanged = true;
        for build in &mut new.builds {
            let before = old.builds.iter().find(|before| before.id == build.id);
            match before {
                Some(before) => unchanged &= follow(build, before, old, &self.sets),
                None => unchanged = false,
            }
            for step in build.steps.iter_mut().filter(|s| s.milliseconds.is_none()) {
                let same = |before: &&super::StepRecord| {
                    step.key.is_some() && before.key == step.key && before.milliseconds.is_some()
                };
                let before = old.steps().map(|(_, step)| step).find(same);
                step.milliseconds = before.and_then(|before| before.milliseconds);
            }
        }
        if unchanged && (keep || old.builds.len() == new.builds.len()) {
            return old.clone();
        }
        if keep {
            new.add(old);
        }
        new
    }

    /// Adds the builds of another record that are not in this one. Of several that are the same, the first
    /// stays.
    pub fn add(&mut self, other: &Self) {
        for build in &other.builds {
            let is_known = self.builds.iter().any(|known| known.id == build.id);
            if is_known || self.builds.len() >= MAX_BUILDS {
                continue;
            }
            let mut build = build.clone();
            let sets = std::mem::take(&mut build.sets);
            for (name, at) in sets {
                let Some(set) = other.sets.get(at) else {
                    continue;
                };
                let known = self.sets.iter().position(|known| known == set);
                let at = known.unwrap_or_else(|| {
                    self.sets.push(set.clone());
                    self.sets.len() - 1
                });
                build.sets.insert(name, at);
            }
            self.builds.push(build);
        }
    }
}

/// Compares a build with the same one before, whose salts differ. Returns whether nothing of it has changed:
/// it has the same steps under the same keys, no step ran, and the lists of files are as they were.
fn follow(
    build: &BuildRecord,
    before: &BuildRecord,
    old: &Record,
    sets: &[super::files::FileSet],
) -> bool {
    let same_steps = build.steps.len() == before.steps.len()
        && build.steps.iter().zip(&before.steps).all(|(new, old)| {
            new.key == old.key && new.name == old.name && new.inputs == old.inputs
        });
    let none_ran = build
        .steps
        .iter()
        .all(|step| step.milliseconds.is_none() || !step.makes_layers());
    let same_sets = build.sets.iter().all(|(name, at)| {
        let (new, old) = (sets.get(*at), old.files(before, name));
        // The salts differ, so only what is not hashed can be compared; had a file changed, a step had run.
        new.zip(old)
            .is_some_and(|(new, old)| new.n == old.n && new.bytes == old.bytes)
    });
    same_steps && none_ran && same_sets && build.sets.len() == before.sets.len()
}
