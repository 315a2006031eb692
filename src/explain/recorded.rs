//! Causes told more closely by the record that a cache carries: which files, which variable, from which
//! image.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bollard_buildkit_proto::pb::op;

use super::{Build, Cause, Details, FileChange, Files, Permissions, Variable, VariableChange};
use crate::cache::keys::tree::Entry;
use crate::cache::keys::{Kind, Tree, Vertex, content, record};
use crate::cache::record::files::{self, File, FileSet};
use crate::cache::record::hash::Salt;
use crate::cache::record::observe::{OPTIONS, parts};
use crate::cache::record::{BuildRecord, Record, StepRecord, name};
use crate::digest::Digest;
use crate::fsutil::Matcher;
use crate::fsutil::wire::{MODE_PERM, MODE_TYPE};

/// A record beside the build that is explained.
#[derive(Debug)]
pub struct Recorded<'a> {
    record: &'a Record,
    build: &'a Build<'a>,
    /// The builds of the record, the one that has most of the steps first.
    builds: Vec<&'a BuildRecord>,
    /// The steps of this build, by the digests of their records.
    keys: HashSet<Digest>,
}

impl<'a> Recorded<'a> {
    /// Puts a record beside a build.
    pub fn new(record: &'a Record, build: &'a Build<'a>) -> Self {
        let vertices = 0..build.plan.vertices().len();
        let keys: HashSet<Digest> = vertices.flat_map(|at| step_keys(build, at)).collect();
        let known = |old: &BuildRecord| {
            let known = old.steps.iter().filter_map(|step| step.key.as_ref());
            known.filter(|key| keys.contains(key)).count()
        };
        let mut builds: Vec<&BuildRecord> = record.builds.iter().collect();
        builds.sort_by_key(|old| std::cmp::Reverse(known(old)));
        Self {
            record,
            build,
            builds,
            keys,
        }
    }

    /// Returns what a step was, if it is another one now: the one in its place, else the nearest one in its
    /// stage with the same instruction. Steps that this build has, too, are not meant.
    fn counterpart(&self, vertex: &Vertex) -> Option<(&'a BuildRecord, &'a StepRecord)> {
        let label = name::label(&vertex.name)?;
        let (place, word) = (place(label), name::word(&vertex.name));
        let kind = parts(vertex, &Salt::default()).kind;
        let fits = |step: &StepRecord| {
            let of_stage = step.label().map(|label| self::place(label).0) == Some(place.0);
            let is_kept = step.key.as_ref().is_some_and(|key| self.keys.contains(key));
            of_stage && step.kind == kind && name::word(&step.name) == word && !is_kept
        };
        let distance = |step: &StepRecord| {
            let number = step.label().and_then(|label| self::place(label).1);
            number.unwrap_or(u32::MAX).abs_diff(place.1.unwrap_or(0))
        };
        self.builds.iter().find_map(|build| {
            let steps = build.steps.iter().filter(|step| fits(step));
            let nearest = steps.min_by_key(|step| distance(step));
            nearest.map(|step| (*build, step))
        })
    }

    /// Returns which part of a step differs.
    fn changed(&self, vertex: &Vertex) -> Option<Cause> {
        let (build, old) = self.counterpart(vertex)?;
        let new = parts(vertex, &build.salt);
        if new.args != old.args {
            return Some(Cause::Command);
        }
        if let Some(variable) = self.variable(vertex, &new, old) {
            return Some(Cause::Variable(variable));
        }
        if new.mounts != old.mounts {
            return Some(Cause::Mounts);
        }
        let is_exec = vertex.kind() == Kind::Exec;
        if new.rest == old.rest {
            return match (new.time != old.time, is_exec) {
                (true, _) => Some(Cause::Timestamp),
                // All else is the same, and the key is not.
                (false, true) => Some(Cause::VariableOrder),
                (false, false) => None,
            };
        }
        Some(if is_exec {
            Cause::Options(differing_options(&new, old))
        } else if vertex.name == old.name {
            Cause::Context
        } else {
            Cause::Command
        })
    }

    /// Returns the variable that differs; of several a build argument.
    fn variable(&self, vertex: &Vertex, new: &StepRecord, old: &StepRecord) -> Option<Variable> {
        let names: BTreeSet<&String> = new.env.keys().chain(old.env.keys()).collect();
        let differs = |name: &&String| new.env.get(*name) != old.env.get(*name);
        let differing: Vec<&String> = names.into_iter().filter(differs).collect();
        let is_argument = |name: &String| self.build.is_argument(name);
        let argument = differing.iter().find(|name| is_argument(name));
        let name = argument.or(differing.first())?;
        Some(Variable {
            name: (*name).clone(),
            is_argument: is_argument(name),
            change: match (new.env.contains_key(*name), old.env.contains_key(*name)) {
                (_, false) => VariableChange::New,
                (false, true) => VariableChange::Gone,
                (true, true) => VariableChange::Value,
            },
            is_named: super::diagnose::is_named(vertex, name),
        })
    }

    /// Returns from which digest an image has moved.
    fn moved(&self, vertex: &Vertex, to: Option<&Digest>) -> Option<Cause> {
        let is_same = |build: &BuildRecord, step: &StepRecord| {
            let is_kept = step.key.as_ref().is_some_and(|key| self.keys.contains(key));
            let reference = parts(vertex, &build.salt).reference;
            !is_kept && reference.is_some() && reference == step.reference
        };
        let steps = self.builds.iter();
        let mut steps = steps.flat_map(|build| build.steps.iter().map(move |step| (*build, step)));
        let by_name =
            steps.find(|(build, step)| is_same(build, step) && step.digest.as_ref() != to);
        let (_, old) = by_name.or_else(|| self.counterpart(vertex))?;
        let from = old.digest.clone().filter(|from| Some(from) != to)?;
        Some(Cause::Base {
            from: Some(from),
            to: to.cloned(),
        })
    }

    /// Returns which files differ that a step reads.
    fn files(&self, at: usize, vertex: &Vertex) -> Option<Cause> {
        let key = self.build.keys.step(at).ok()?;
        let own: Vec<Digest> = step_keys(self.build, at).collect();
        let has_step = |build: &&&BuildRecord| {
            let keys = build.steps.iter().filter_map(|step| step.key.as_ref());
            keys.into_iter().any(|key| own.contains(key))
        };
        let build = self.builds.iter().find(has_step)?;
        let mut all = Files::default();
        for (input, rule) in vertex.inputs.iter().zip(&key.inputs) {
            let source = input.and_then(|input| self.build.plan.vertices().get(input.vertex));
            let name = source.and_then(Vertex::local_name);
            let (Some(name), Some(selectors)) = (name, &rule.content) else {
                continue;
            };
            let new = self.build.facts.trees.get(name)?;
            let set = self.record.files(build, name)?;
            let mut difference = Difference::of(set, new, selectors)?;
            difference.mark_ignored(&source.map(excluded).unwrap_or_default());
            difference.add_to(&mut all);
        }
        if all.changed.is_empty() && all.permissions.is_none() {
            return None;
        }
        let dockerfile = vertex.place.as_ref().map(|place| &place.file);
        let is_changed = |name: &&String| {
            let changed = all.changed.iter();
            changed
                .clone()
                .any(|(path, change)| path == *name && *change == FileChange::Content)
        };
        all.dockerfile = dockerfile.filter(is_changed).cloned();
        Some(Cause::Files(all))
    }
}

impl Details for Recorded<'_> {
    fn cause(&self, vertex: usize, rough: &Cause) -> Option<Cause> {
        let step = self.build.plan.vertices().get(vertex)?;
        match rough {
            Cause::SomeFiles => self.files(vertex, step),
            Cause::Base { from: None, to } => self.moved(step, to.as_ref()),
            Cause::New => self.changed(step),
            _ => None,
        }
    }
}

/// Returns the options that differ, as far as both tell them.
fn differing_options(new: &StepRecord, old: &StepRecord) -> Vec<&'static str> {
    if old.options.is_empty() {
        return Vec::new();
    }
    let options = OPTIONS.into_iter();
    let differs = |name: &&str| new.options.get(*name) != old.options.get(*name);
    options.filter(differs).collect()
}

/// Returns the patterns that keep files of a folder out of a build: those of `.dockerignore`.
fn excluded(source: &Vertex) -> Vec<String> {
    let Ok(op::Op::Source(source)) = &source.op else {
        return Vec::new();
    };
    let patterns = source.attrs.get("local.excludepatterns");
    let patterns = patterns.and_then(|patterns| serde_json::from_str(patterns).ok());
    patterns.unwrap_or_default()
}

/// Returns the digests that the records of a step have.
fn step_keys(build: &Build<'_>, at: usize) -> impl Iterator<Item = Digest> {
    let output = build.plan.outputs(at).next().unwrap_or(0);
    let keys = build.keys.step(at).map(|key| key.digests.clone());
    let keys = keys.unwrap_or_default().into_iter();
    keys.map(move |key| record(&key, output))
}

/// Returns stage and number of a label. The platform in it does not count.
fn place(label: &str) -> (&str, Option<u32>) {
    let stage = name::stage(label);
    let stage = match stage.split_once(' ') {
        Some((platform, stage)) if platform.contains('/') => stage,
        _ => stage,
    };
    // A Dockerfile of one stage has its steps without its name.
    let stage = if stage == "stage-0" { "" } else { stage };
    (stage, name::number(label))
}

/// How the files differ that a step reads of one context.
struct Difference {
    total: usize,
    changed: Vec<(String, FileChange)>,
    /// Those of which only the permissions differ: the path, and the bits now and before.
    permissions: Vec<(String, u32, u32)>,
}

impl Difference {
    /// Compares a list with a tree; `None` where the list cannot be read.
    fn of(set: &FileSet, new: &Tree, selectors: &[content::Selector]) -> Option<Self> {
        let old: BTreeMap<String, File> = set
            .expand()?
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect();
        let old_tree = set.tree(old.values());
        let read_now = content::selected(new, selectors);
        let read_before = content::selected(&old_tree, selectors);
        let mut difference = Self {
            total: read_now.len(),
            changed: Vec::new(),
            permissions: Vec::new(),
        };
        for path in read_now.union(&read_before) {
            let now = read_now.contains(path).then(|| new.entry(path)).flatten();
            let path = String::from_utf8_lossy(path).into_owned();
            let before = old.get(&path);
            difference.compare(path, now.as_ref(), before, set);
        }
        if set.folders.is_some() {
            difference.compare_folders(new, &old_tree, selectors);
        }
        Some(difference)
    }

    /// Compares folders: those that are empty count as files.
    fn compare_folders(&mut self, new: &Tree, old: &Tree, selectors: &[content::Selector]) {
        let read_now = content::folders(new, selectors);
        let read_before = content::folders(old, selectors);
        for path in read_now.union(&read_before) {
            let now = read_now.contains(path).then(|| new.folder(path)).flatten();
            let before = read_before.contains(path).then(|| old.folder(path));
            self.total += usize::from(now.as_ref().is_some_and(|now| now.is_empty));
            let path = String::from_utf8_lossy(path).into_owned();
            match (now, before.flatten()) {
                // What is in it is told.
                (Some(now), None) if now.is_empty => self.changed.push((path, FileChange::New)),
                (None, Some(before)) if before.is_empty => {
                    self.changed.push((path, FileChange::Removed));
                }
                (Some(now), Some(before)) => self.compare_modes(path, now.mode, before.mode),
                _ => {}
            }
        }
    }

    fn compare_modes(&mut self, path: String, now: u32, before: u32) {
        if (now ^ before) & !MODE_TYPE != 0 {
            let bits = |mode: u32| mode & MODE_PERM;
            self.permissions.push((path, bits(now), bits(before)));
        }
    }

    fn compare(&mut self, path: String, now: Option<&Entry>, before: Option<&File>, set: &FileSet) {
        let change = match (now, before) {
            (Some(_), None) => FileChange::New,
            (None, Some(_)) => FileChange::Removed,
            (Some(now), Some(before)) if (now.mode ^ before.mode) & MODE_TYPE != 0 => {
                FileChange::Kind
            }
            (Some(now), Some(before)) => {
                let content = files::content(&set.salt, now);
                let size = u64::try_from(now.size).unwrap_or_default();
                let is_other = match (content, before.content) {
                    (Some(now), Some(before)) => now != before,
                    // What was not read is only told by its size.
                    _ => size != before.size,
                };
                if is_other {
                    FileChange::Content
                } else {
                    if !before.is_link() {
                        self.compare_modes(path, now.mode, before.mode);
                    }
                    return;
                }
            }
            (None, None) => return,
        };
        self.changed.push((path, change));
    }

    /// Tells the files that are not sent any more from those that are gone.
    fn mark_ignored(&mut self, excluded: &[String]) {
        let Ok(matcher) = Matcher::new(excluded) else {
            return;
        };
        for (path, change) in &mut self.changed {
            let is_ignored = || matcher.matches(path.trim_end_matches('/')).unwrap_or(false);
            if *change == FileChange::Removed && is_ignored() {
                *change = FileChange::Ignored;
            }
        }
    }

    fn add_to(self, all: &mut Files) {
        all.total += self.total;
        all.changed.extend(self.changed);
        let count = self.permissions.len();
        // Git keeps whether the owner may run it, and nothing else.
        let in_git = |(_, now, before): &(String, u32, u32)| (now ^ before) & 0o100 == 0;
        let same_in_git = self.permissions.iter().all(in_git);
        if let (Some((such_as, now, before)), None) =
            (self.permissions.into_iter().next(), &all.permissions)
        {
            all.permissions = Some(Permissions {
                count,
                now,
                before,
                such_as,
                same_in_git,
            });
        }
    }
}
