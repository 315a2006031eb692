//! Causes told more closely by the record that a cache carries: which files, which variable, from which
//! image.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};

use bollard_buildkit_proto::pb::op;

use super::difference::Difference;
use super::{Build, Cause, Details, FileChange, Files, Variable, VariableChange};
use crate::cache::keys::plan::platform_name;
use crate::cache::keys::{Kind, Vertex, record};
use crate::cache::record::hash::Hashed;
use crate::cache::record::name::{self, Label};
use crate::cache::record::observe::{OPTIONS, command, parts};
use crate::cache::record::{BuildRecord, Record, StepRecord};
use crate::digest::Digest;

/// The context that a build is given without a name.
const MAIN_CONTEXT: &str = "context";

/// A record beside the build that is explained.
#[derive(Debug)]
pub struct Recorded<'a> {
    record: &'a Record,
    build: &'a Build<'a>,
    /// The builds of the record, the one that has most of the steps first.
    builds: Vec<&'a BuildRecord>,
    /// The steps of this build, by the digests of their records.
    keys: HashSet<Digest>,
    /// The commands of this build, as each build of the record has hashed its own; in the order of the record.
    commands: Vec<OnceCell<HashSet<Hashed>>>,
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
            commands: record.builds.iter().map(|_| OnceCell::new()).collect(),
        }
    }

    /// Returns the commands of this build, as a build of the record would hash them.
    fn commands(&self, of: &BuildRecord) -> Option<&HashSet<Hashed>> {
        let at = self
            .record
            .builds
            .iter()
            .position(|build| std::ptr::eq(build, of))?;
        let vertices = self.build.plan.vertices().iter();
        let hashed = || {
            vertices
                .filter_map(|vertex| command(vertex, &of.salt))
                .collect()
        };
        Some(self.commands.get(at)?.get_or_init(hashed))
    }

    /// Returns what a step was, if it is another one now: one with the same command, else the one in its place, else the
    /// nearest one in its stage with the same instruction. Steps that this build has, too, are not meant, nor are those
    /// whose command it has in another step.
    fn counterpart(&self, vertex: &Vertex) -> Option<(&'a BuildRecord, &'a StepRecord)> {
        let own = Label::of(name::label(&vertex.name)?);
        let word = name::word(&vertex.name);
        let platform = vertex.platform.as_ref().map(platform_name);
        let is_other = |build: &BuildRecord| platform.as_ref() != Some(&build.platform);
        let mut builds = self.builds.clone();
        builds.sort_by_key(|build| is_other(build));
        builds.into_iter().find_map(|build| {
            let new = parts(vertex, &build.salt);
            let commands = self.commands(build);
            let own_stage = self.old_stage(build, stage(own));
            let rank = |step: &StepRecord| {
                let is_kept = step.key.as_ref().is_some_and(|key| self.keys.contains(key));
                if is_kept || step.kind != new.kind || name::word(&step.name) != word {
                    return None;
                }
                let old = step.label().map(Label::of).unwrap_or_default();
                let is_same = new.args.is_some() && new.args == step.args;
                let is_another = |args| commands.is_some_and(|own| own.contains(args));
                let is_of_stage =
                    stage(old) == own_stage && !step.args.as_ref().is_some_and(is_another);
                let number = old.number.unwrap_or(u32::MAX);
                let distance = number.abs_diff(own.number.unwrap_or(0));
                let is_elsewhere = stage(old) != own_stage;
                (is_same || is_of_stage).then_some((!is_same, is_elsewhere, distance))
            };
            let ranked = build
                .steps
                .iter()
                .filter_map(|step| Some((rank(step)?, step)));
            let nearest = ranked.min_by_key(|(rank, _)| *rank);
            nearest.map(|(_, step)| (build, step))
        })
    }

    /// Returns what a stage was called: by its name, or by a step of it that is the same.
    fn old_stage<'n>(&self, build: &'n BuildRecord, own: &'n str) -> &'n str {
        let old = |step: &'n StepRecord| step.label().map(|label| stage(Label::of(label)));
        if build.steps.iter().any(|step| old(step) == Some(own)) {
            return own;
        }
        let vertices = self.build.plan.vertices().iter().enumerate();
        let of_stage = vertices.filter(|(_, vertex)| {
            let label = name::label(&vertex.name);
            vertex.makes_layers() && label.is_some_and(|label| stage(Label::of(label)) == own)
        });
        let mut keys = of_stage.flat_map(|(at, _)| step_keys(self.build, at));
        let found = keys.find_map(|key| {
            let mut steps = build.steps.iter();
            steps
                .find(|step| step.key.as_ref() == Some(&key))
                .and_then(old)
        });
        found.unwrap_or(own)
    }

    /// Returns which part of a step differs.
    fn changed(&self, vertex: &Vertex) -> Option<Cause> {
        let (build, old) = self.counterpart(vertex)?;
        let new = parts(vertex, &build.salt);
        let is_exec = vertex.kind() == Kind::Exec;
        // Earlier versions told nothing of the text of what is no command.
        let tells_text = is_exec || (old.args.is_some() && new.args.is_some());
        if tells_text {
            if new.args != old.args {
                return Some(own_text(is_exec));
            }
            if let Some(variable) = self.variable(vertex, &new, old) {
                return Some(Cause::Variable(variable));
            }
        }
        if new.mounts != old.mounts {
            return Some(Cause::Mounts);
        }
        if new.rest == old.rest {
            return match (new.time != old.time, is_exec) {
                (true, _) => Some(Cause::Timestamp),
                // All else is the same, and the key is not.
                (false, true) => Some(Cause::VariableOrder),
                (false, false) => None,
            };
        }
        if is_exec {
            return Some(Cause::Options(differing_options(&new, old)));
        }
        let frontend = self.build.plan.frontend();
        Some(match tells_text {
            true if frontend != build.frontend && !build.frontend.is_empty() => Cause::Frontend {
                from: build.frontend.clone(),
                to: frontend.to_owned(),
            },
            true => Cause::Context,
            false if vertex.name == old.name && !old.name.contains("<<") => Cause::Context,
            false => Cause::Instruction,
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
            // Of what is no command only the variables count that stand in it.
            is_named: vertex.kind() != Kind::Exec || super::diagnose::is_named(vertex, name),
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
        let text = self.text(vertex, build, &own);
        if let Some(Cause::Variable(_)) = text {
            return text;
        }
        let mut all = Files {
            left_out_by: self.build.own.ignore_file.clone(),
            ..Files::default()
        };
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
            if name == MAIN_CONTEXT {
                all.own = difference.changed_of(self.build.own);
            }
            difference.add_to(&mut all);
        }
        if all.changed.is_empty() && all.permissions.is_none() {
            return None;
        }
        let is_new = |(_, change): &(String, FileChange)| *change == FileChange::New;
        if text.is_some() && all.permissions.is_none() && all.changed.iter().all(is_new) {
            return text;
        }
        Some(Cause::Files(all))
    }

    /// Says that a step is new, if the record tells of a build with some steps of this one.
    fn new_here(&self) -> Option<Cause> {
        let mut steps = self
            .record
            .steps()
            .filter_map(|(_, step)| step.key.as_ref());
        steps
            .any(|key| self.keys.contains(key))
            .then_some(Cause::New)
    }

    /// Returns how the text of a step differs from that of all that have its key: what is copied has another name.
    fn text(&self, vertex: &Vertex, build: &BuildRecord, own: &[Digest]) -> Option<Cause> {
        let new = parts(vertex, &build.salt);
        let is_own = |step: &&StepRecord| step.key.as_ref().is_some_and(|key| own.contains(key));
        let old: Vec<&StepRecord> = build.steps.iter().filter(is_own).collect();
        let tells = |step: &&StepRecord| step.args.is_some();
        let is_same = |step: &&StepRecord| step.args == new.args && step.env == new.env;
        if new.args.is_none() || !old.iter().all(tells) || old.iter().any(is_same) {
            return None;
        }
        match old.iter().find(|step| step.args == new.args) {
            Some(step) => self.variable(vertex, &new, step).map(Cause::Variable),
            None => Some(Cause::Instruction),
        }
    }
}

impl Details for Recorded<'_> {
    fn cause(&self, vertex: usize, rough: &Cause) -> Option<Cause> {
        let step = self.build.plan.vertices().get(vertex)?;
        match rough {
            Cause::SomeFiles => self.files(vertex, step),
            Cause::Base { from: None, to } => self.moved(step, to.as_ref()),
            Cause::NotThere => self.changed(step).or_else(|| self.new_here()),
            _ => None,
        }
    }
}

/// Returns the cause that the own text of a step differs.
fn own_text(is_exec: bool) -> Cause {
    if is_exec {
        Cause::Command
    } else {
        Cause::Instruction
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

/// Returns the stage of a label as it is compared: a Dockerfile of one stage has its steps without its name.
fn stage(label: Label<'_>) -> &str {
    match label.stage {
        "stage-0" => "",
        stage => stage,
    }
}
