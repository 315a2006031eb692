//! The record of a build that has just run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bollard_buildkit_proto::pb::{
    Definition, ExecOp, FileOp, Platform, SourceOp, file_action::Action, op,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::files::FileSet;
use super::hash::{Hashed, Salt};
use super::{BuildRecord, Detail, Record, StepRecord, name};
use crate::cache::keys::plan::platform_name;
use crate::cache::keys::{Facts, Keys, Plan, Tree, Vertex, record, text};
use crate::digest::Digest;

/// What is known of a build that has just run.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its definitions, by platform.
    pub definitions: BTreeMap<String, Definition>,
    /// The Dockerfile as the user named it; only its name is kept.
    pub dockerfile: String,
    /// Name of the folder or the repository of the context.
    pub context: String,
    /// The stage; empty for the last.
    pub target: String,
    /// The commit of the context.
    pub commit: Option<String>,
    /// How long steps took that ran, in milliseconds, by the digest of the vertex.
    pub ran: BTreeMap<String, u64>,
    /// The files of contexts, by name.
    pub trees: BTreeMap<String, Arc<Tree>>,
    /// The platform of a build that is for one platform only.
    pub platform: Option<Platform>,
}

impl Observed {
    /// Returns the record of the build, which follows on an older one of the same cache: what is not known
    /// anew of steps that did not run, and of files that were not read, stays as it was. With `keep` the
    /// other builds of the older record stay.
    ///
    /// Where no step ran, the older record of the same build comes back as it is, so that it has the same
    /// bytes.
    pub fn record(&self, detail: Detail, old: Option<&Record>, keep: bool) -> Record {
        let nothing = Record::default();
        let old = old.unwrap_or(&nothing);
        let mut record = Record::default();
        let mut unchanged = true;
        for (platform, definition) in &self.definitions {
            let own_platform = self.named(platform);
            let id = self.id(&own_platform);
            let is_before = |before: &&BuildRecord| {
                // Earlier versions did not tell the platform of a build that named none.
                let is_unnamed = before.platform.is_empty() && platform.is_empty();
                before.id == id || (is_unnamed && before.id == self.id(""))
            };
            let before = old.builds.iter().find(is_before);
            let salt = before.map_or_else(Salt::random, |before| before.salt);
            let plan = Plan::of([definition]);
            let mut build = BuildRecord {
                id,
                salt,
                dockerfile: file_name(&self.dockerfile),
                target: self.target.clone(),
                platform: own_platform,
                frontend: plan.frontend().to_owned(),
                commit: self.commit.clone().filter(|_| detail == Detail::Full),
                steps: self.steps(&plan, &salt),
                sets: BTreeMap::new(),
            };
            unchanged &= before.is_some_and(|before| is_unchanged(&build, before));
            remember_times(&mut build, old);
            if detail == Detail::Full {
                let names = plan.vertices().iter().filter_map(Vertex::local_name);
                for name in names.collect::<BTreeSet<_>>() {
                    let known = before.and_then(|before| old.files(before, name));
                    if let Some(set) = self.files(name, known, &salt) {
                        let at = record.add_set(&set);
                        build.sets.insert(name.to_owned(), at);
                    }
                }
            }
            record.builds.push(build);
        }
        let others = old.builds.len() > record.builds.len();
        if unchanged && !record.builds.is_empty() && (keep || !others) {
            return old.clone();
        }
        if keep {
            record.add(old);
        }
        record
    }

    /// Returns the platform of a definition; the frontend names none for a build that is for one only.
    fn named(&self, platform: &str) -> String {
        let own = self.platform.as_ref().filter(|_| platform.is_empty());
        own.map_or_else(|| platform.to_owned(), platform_name)
    }

    /// Returns which build it is.
    fn id(&self, platform: &str) -> String {
        let mut hash = Sha256::new();
        for part in [&self.dockerfile, &self.target, platform, &self.context] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let sum: [u8; 32] = hash.finalize().into();
        hex::encode(&sum[..8])
    }

    /// Returns the list of a context's files. Of those that were not read the content is that of the list
    /// before, if they look as they did.
    fn files(&self, name: &str, before: Option<&FileSet>, salt: &Salt) -> Option<FileSet> {
        let Some(tree) = self.trees.get(name) else {
            return before.cloned();
        };
        let salt = before.map_or(*salt, |before| before.salt);
        let mut set = FileSet::of(name, tree, salt);
        if let Some(before) = before {
            set.remember(before);
        }
        Some(set)
    }

    fn steps(&self, plan: &Plan, salt: &Salt) -> Vec<StepRecord> {
        let facts = Facts {
            platform: self.platform.clone(),
            ..Facts::default()
        };
        let keys = Keys::of(plan, &facts);
        let vertices = plan.vertices().iter().enumerate();
        let steps = vertices.map(|(at, vertex)| {
            let key = keys.step(at).ok().and_then(|key| key.digests.first());
            let output = plan.outputs(at).next().unwrap_or(0);
            let inputs = vertex.inputs.iter();
            StepRecord {
                key: key.map(|key| record(key, output)),
                name: name::plain(vertex),
                line: vertex.place.as_ref().map(|place| (place.first, place.last)),
                inputs: inputs.map(|input| Some(input.as_ref()?.vertex)).collect(),
                milliseconds: self.ran.get(&vertex.digest).copied(),
                ..parts(vertex, salt)
            }
        });
        steps.collect()
    }
}

/// Returns whether no step of a build ran, and its steps are those of the same build before.
fn is_unchanged(build: &BuildRecord, before: &BuildRecord) -> bool {
    let ran = |step: &StepRecord| step.makes_layers() && step.milliseconds.is_some();
    let same = |(new, old): (&StepRecord, &StepRecord)| {
        let milliseconds = old.milliseconds;
        !ran(new)
            && StepRecord {
                milliseconds,
                ..new.clone()
            } == *old
    };
    build.steps.len() == before.steps.len() && build.steps.iter().zip(&before.steps).all(same)
}

/// Steps that did not run keep the time that they took when they did. The key alone is not enough: it is the same for the
/// same command on other files.
fn remember_times(build: &mut BuildRecord, old: &Record) {
    let known: BTreeMap<(&Digest, &str), u64> = old
        .steps()
        .filter_map(|(_, step)| {
            Some(((step.key.as_ref()?, step.name.as_str()), step.milliseconds?))
        })
        .collect();
    for step in build.steps.iter_mut().filter(|s| s.milliseconds.is_none()) {
        let key = step.key.as_ref().map(|key| (key, step.name.as_str()));
        step.milliseconds = key.and_then(|key| known.get(&key).copied());
    }
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The option that `WORKDIR` sets.
pub const OPTION_FOLDER: &str = "WORKDIR";
/// The option of a network mode.
pub const OPTION_NETWORK: &str = "--network";
/// The option of a security mode.
pub const OPTION_SECURITY: &str = "--security";
/// The options of commands that are told one by one, by what sets them in a Dockerfile.
pub const OPTIONS: [&str; 4] = [OPTION_FOLDER, "USER", OPTION_NETWORK, OPTION_SECURITY];

/// Returns the parts that a step is made of, as far as its own bytes go.
pub fn parts(vertex: &Vertex, salt: &Salt) -> StepRecord {
    let mut step = StepRecord {
        kind: vertex.kind().as_str().to_owned(),
        args: command(vertex, salt),
        ..StepRecord::default()
    };
    match &vertex.op {
        Ok(op::Op::Exec(exec)) => exec_parts(exec, salt, &mut step),
        Ok(op::Op::File(file)) => {
            file_parts(file, salt, &mut step);
            step.env = values(vertex, salt);
        }
        Ok(op::Op::Source(source)) => source_parts(source, salt, &mut step),
        Ok(op::Op::Merge(merge)) => step.rest = Some(salt.hash("rest", &merge.encode_to_vec())),
        Ok(op::Op::Diff(diff)) => step.rest = Some(salt.hash("rest", &diff.encode_to_vec())),
        Ok(op::Op::Build(_)) | Err(_) => {}
    }
    step
}

/// Returns the hash of what a step says: its command, or the text of a file operation.
pub fn command(vertex: &Vertex, salt: &Salt) -> Option<Hashed> {
    let text = match &vertex.op {
        Ok(op::Op::Exec(exec)) => exec.meta.as_ref()?.args.join("\0"),
        Ok(op::Op::File(_)) => text::normalized(vertex.text.as_ref()?),
        _ => return None,
    };
    Some(salt.hash("args", text.as_bytes()))
}

fn exec_parts(exec: &ExecOp, salt: &Salt, step: &mut StepRecord) {
    let mut rest = exec.clone();
    if let Some(meta) = &mut rest.meta {
        meta.args.clear();
        for entry in std::mem::take(&mut meta.env) {
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            let value = salt.hash(name, value.as_bytes());
            step.env.insert(name.to_owned(), value);
        }
        // It is made anew for each build, and counts in no key.
        meta.proxy_env = None;
    }
    let meta = exec.meta.clone().unwrap_or_default();
    let (network, security) = (exec.network.to_string(), exec.security.to_string());
    let values = [meta.cwd, meta.user, network, security];
    let options = OPTIONS.into_iter().zip(values);
    let options = options.map(|(name, value)| (name.to_owned(), salt.hash(name, value.as_bytes())));
    step.options = options.collect();
    let mounts = std::mem::take(&mut rest.mounts);
    let mounts = mounts
        .iter()
        .map(prost::Message::encode_length_delimited_to_vec);
    let mounts: Vec<u8> = mounts.flatten().collect();
    step.mounts = Some(salt.hash("mounts", &mounts));
    step.rest = Some(salt.hash("rest", &rest.encode_to_vec()));
}

fn file_parts(file: &FileOp, salt: &Salt, step: &mut StepRecord) {
    let mut rest = file.clone();
    let mut times = Vec::new();
    for action in &mut rest.actions {
        let time = match &mut action.action {
            Some(Action::Copy(copy)) => &mut copy.timestamp,
            Some(Action::Mkfile(file)) => &mut file.timestamp,
            Some(Action::Mkdir(dir)) => &mut dir.timestamp,
            _ => continue,
        };
        times.extend(time.to_be_bytes());
        *time = -1;
    }
    step.time = Some(salt.hash("time", &times));
    step.rest = Some(salt.hash("rest", &rest.encode_to_vec()));
}

/// What a file operation does has the values of variables in it: they are told apart from what was written.
fn values(vertex: &Vertex, salt: &Salt) -> BTreeMap<String, Hashed> {
    let values = name::values(vertex).into_iter();
    let hashed = values.map(|(name, value)| {
        let value = salt.hash(&name, value.as_bytes());
        (name, value)
    });
    hashed.collect()
}

fn source_parts(source: &SourceOp, salt: &Salt, step: &mut StepRecord) {
    let (name, digest) = match source.identifier.split_once('@') {
        Some((name, digest)) if step.kind == "image" => (name, digest.parse().ok()),
        _ => (source.identifier.as_str(), None),
    };
    step.reference = Some(salt.hash("ref", name.as_bytes()));
    step.digest = digest;
    // The session, and what a session is told apart by, change with every build.
    let counts =
        |name: &str| !name.starts_with("local.") && !["oci.session", "oci.store"].contains(&name);
    let attrs = source.attrs.iter().filter(|(name, _)| counts(name));
    let attrs: BTreeMap<&String, &String> = attrs.collect();
    let rest = format!("{attrs:?}");
    step.rest = Some(salt.hash("rest", rest.as_bytes()));
}
