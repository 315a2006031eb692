//! The record of builds that a cache carries: what each step was made of when it was written, so that a
//! later build can say what has changed.
//!
//! | file | holds |
//! |---|---|
//! | [`blob`] | the record as a blob: a tar with one JSON file, always the same bytes for the same record |
//! | [`hash`] | salted hashes of what must not be read out of a record |
//! | [`observe`] | the record of a build, made of its definition, its files and the time that steps took |
//! | [`name`] | names of steps without the values of variables |
//! | [`files`] | the lists of files |
//! | [`unite`] | records united, and carried over |
//!
//! Values of arguments, variables and mounts are never in it, only hashes with a salt: who has the new
//! value can tell whether it is the same. It is written by this program only, but whoever may write to a
//! registry may put anything there: nothing in it is believed to be well-formed.

pub mod blob;
pub mod files;
pub mod hash;
pub mod name;
pub mod observe;
pub mod unite;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::files::FileSet;
use self::hash::{Hashed, Salt};
use crate::digest::Digest;

pub use self::blob::{Blob, RecordError};

/// The version of the format. Records of other versions are passed over.
pub const VERSION: u32 = 1;
/// Builds that a record holds. The oldest fall off.
pub const MAX_BUILDS: usize = 16;

/// What a cache tells about the builds that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format.
    #[serde(rename = "v")]
    pub version: u32,
    /// The builds, the youngest first.
    #[serde(default)]
    pub builds: Vec<BuildRecord>,
    /// Lists of files that builds point to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<FileSet>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: VERSION,
            builds: Vec::new(),
            sets: Vec::new(),
        }
    }
}

/// One build: a Dockerfile, a target and a platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildRecord {
    /// Which build it is: a hash of Dockerfile, target, platform and the name of the context.
    pub id: String,
    /// What the hashes of this build are salted with. Each build has its own, so that records of several
    /// writers can be united.
    pub salt: Salt,
    /// The Dockerfile's name.
    #[serde(default)]
    pub dockerfile: String,
    /// The stage that was built; empty for the last.
    #[serde(default)]
    pub target: String,
    /// The platform; empty where it is not known.
    #[serde(default)]
    pub platform: String,
    /// The frontend that read the Dockerfile: the image of its `syntax` line, or `builtin`.
    #[serde(default)]
    pub frontend: String,
    /// The commit of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The steps, each after its inputs.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// Index of the list of files of each context, by the context's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, usize>,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// Digest that the step's record has in the cache config; not known of contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Its name, such as `[build 4/6] COPY . .`, with variables as the Dockerfile has them.
    #[serde(default)]
    pub name: String,
    /// First and last line in the Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<(u32, u32)>,
    /// `exec`, `file`, `merge`, `diff`, `image`, `git`, `http`, `local` or `other`.
    #[serde(default)]
    pub kind: String,
    /// Hash of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Hashed>,
    /// Hashes of the values of its environment, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Hashed>,
    /// Hash of its mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Hashed>,
    /// Hashes of options of a command, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Hashed>,
    /// Hash of the time that files are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Hashed>,
    /// Hash of all else in it, so that nothing goes unnoticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Hashed>,
    /// Hash of the name of a source, without its digest.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Hashed>,
    /// Digest of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Indexes of the steps that are its inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Option<usize>>,
    /// How long it took when it last ran, in milliseconds.
    #[serde(default, rename = "ms", skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
}

/// How much a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Steps, lists of files, and the commit.
    Full,
    /// Steps only.
    Steps,
}

impl Record {
    /// Returns the steps of all builds with the build of each, the youngest build first.
    pub fn steps(&self) -> impl Iterator<Item = (&BuildRecord, &StepRecord)> {
        let builds = self.builds.iter();
        builds.flat_map(|build| build.steps.iter().map(move |step| (build, step)))
    }

    /// Returns the list of files of a context of a build, if it can be read.
    pub fn files(&self, build: &BuildRecord, context: &str) -> Option<&FileSet> {
        self.sets.get(*build.sets.get(context)?)
    }
}

impl StepRecord {
    /// Returns the part of the name that tells which step it is, such as `[build 4/6]`.
    pub fn label(&self) -> Option<&str> {
        name::label(&self.name)
    }

    /// Returns whether it makes a layer.
    pub fn makes_layers(&self) -> bool {
        matches!(self.kind.as_str(), "exec" | "file" | "merge" | "diff")
    }
}
