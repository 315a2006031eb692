//! What one cache has and another has not.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::outline::{Outline, OutlineStep};
use super::record::{Record, files::File};
use crate::digest::Digest;

/// Two caches compared. The serialized names are those of `docker cachex cache diff --format json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// What only the first has.
    pub only_a: Side,
    /// What only the second has.
    pub only_b: Side,
    /// What both have.
    pub both: Side,
}

/// Results of one cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// How many.
    pub results: usize,
    /// Size of their layers together, each blob once, in bytes.
    pub size: u64,
    /// The results, but for those that both have.
    pub steps: Vec<Changed>,
}

/// A result that only one of them has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Digest of the step's record.
    pub key: String,
    /// Name of the step, as in an [`Outline`].
    pub name: String,
    /// Size of its layer in bytes.
    pub size: Option<u64>,
    /// Files that it reads and that differ, where the records tell.
    pub files: Vec<String>,
}

/// A cache that is compared.
#[derive(Debug)]
pub struct Given<'a> {
    /// Its steps.
    pub outline: &'a Outline,
    /// Its record.
    pub record: Option<&'a Record>,
}

/// A result is what a step made: the same step on other files has another one.
type Identity<'a> = (&'a str, Option<&'a Digest>);

fn identity(step: &OutlineStep) -> Identity<'_> {
    (&step.key, step.diff_id.as_ref().or(step.layer.as_ref()))
}

impl Difference {
    /// Compares two caches.
    pub fn of(a: &Given<'_>, b: &Given<'_>) -> Self {
        let (in_a, in_b) = (results(a.outline), results(b.outline));
        let known = |steps: &[&OutlineStep]| -> HashSet<(String, Option<Digest>)> {
            let identities = steps.iter().map(|step| identity(step));
            identities
                .map(|(key, layer)| (key.to_owned(), layer.cloned()))
                .collect()
        };
        let (known_a, known_b) = (known(&in_a), known(&in_b));
        let is_in = |known: &HashSet<(String, Option<Digest>)>, step: &OutlineStep| {
            let (key, layer) = identity(step);
            known.contains(&(key.to_owned(), layer.cloned()))
        };
        let (both, only_a): (Vec<_>, Vec<_>) = in_a.into_iter().partition(|s| is_in(&known_b, s));
        let only_b: Vec<_> = in_b
            .into_iter()
            .filter(|step| !is_in(&known_a, step))
            .collect();
        let files = changed_files(a.record, b.record);
        Self {
            only_a: Side::of(&only_a, &HashMap::new()),
            only_b: Side::of(&only_b, &files),
            both: Side {
                steps: Vec::new(),
                ..Side::of(&both, &HashMap::new())
            },
        }
    }

    /// Returns whether both have the same results.
    pub fn is_none(&self) -> bool {
        self.only_a.results == 0 && self.only_b.results == 0
    }
}

impl Side {
    fn of(steps: &[&OutlineStep], files: &HashMap<String, Vec<String>>) -> Self {
        let blobs: BTreeMap<_, u64> = steps
            .iter()
            .filter_map(|step| Some((step.layer.as_ref()?, step.size?)))
            .collect();
        let changed = |step: &&OutlineStep| Changed {
            key: step.key.clone(),
            name: step.name.clone(),
            size: step.size,
            files: files.get(&step.key).cloned().unwrap_or_default(),
        };
        Self {
            results: steps.len(),
            size: blobs.values().copied().fold(0, u64::saturating_add),
            steps: steps.iter().map(changed).collect(),
        }
    }
}

/// Returns the steps that have a result, each once.
fn results(outline: &Outline) -> Vec<&OutlineStep> {
    let mut seen = HashSet::new();
    let steps = outline.steps.iter().filter(|step| step.layer.is_some());
    steps.filter(|step| seen.insert(identity(step))).collect()
}

/// Returns the files that differ between the same builds of two records, by the keys of the steps that copy them.
fn changed_files(a: Option<&Record>, b: Option<&Record>) -> HashMap<String, Vec<String>> {
    let mut changed = HashMap::new();
    let (Some(a), Some(b)) = (a, b) else {
        return changed;
    };
    for build in &b.builds {
        let Some(before) = a.builds.iter().find(|before| before.id == build.id) else {
            continue;
        };
        for step in build.steps.iter().filter(|step| step.kind == "file") {
            let inputs = step
                .inputs
                .iter()
                .flatten()
                .filter_map(|at| build.steps.get(*at));
            if !inputs.into_iter().any(|input| input.kind == "local") {
                continue;
            }
            let Some(key) = &step.key else { continue };
            for name in build.sets.keys() {
                let sets = a.files(before, name).zip(b.files(build, name));
                let Some((old, new)) = sets else { continue };
                let lists = old.expand().zip(new.expand());
                let Some((old_files, new_files)) = lists else {
                    continue;
                };
                let same_salt = old.salt == new.salt;
                let files = differing(&old_files, &new_files, same_salt);
                let all: &mut Vec<String> = changed.entry(key.to_string()).or_default();
                all.extend(files);
            }
        }
    }
    changed
}

/// Returns the paths of files that differ. Without a common salt contents cannot be compared.
fn differing(old: &[File], new: &[File], same_salt: bool) -> Vec<String> {
    let by_path = |files: &[File]| -> BTreeMap<String, File> {
        files
            .iter()
            .map(|file| (file.path.clone(), file.clone()))
            .collect()
    };
    let (old, new) = (by_path(old), by_path(new));
    let differs = |path: &&String| match (old.get(*path), new.get(*path)) {
        (Some(old), Some(new)) => {
            let is_other = same_salt && old.content != new.content;
            is_other || (old.mode, old.size) != (new.mode, new.size)
        }
        _ => true,
    };
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    paths.into_iter().filter(differs).cloned().collect()
}
