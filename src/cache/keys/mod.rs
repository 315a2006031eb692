//! The keys of BuildKit's cache, computed by the client.
//!
//! A record of a [cache config](super::config) is named by a digest of what the step is, not of where
//! it stands. All that goes into it is known before the step runs: the definition, the files of the
//! context, the digests of base images. So the steps of a build can be looked up in any cache, also in
//! one that another client wrote.
//!
//! | file | holds |
//! |---|---|
//! | [`plan`] | the steps of a definition, each after its inputs |
//! | `exec`, `file`, `join`, `source` | the key of a step of each kind |
//! | [`content`], [`tree`], [`header`] | the checksum of a context's files |
//! | [`compare`] | the steps of a build looked up in a cache config |
//! | [`calibrate`] | which kinds of keys a builder computes as this room does |
//! | `declared` | the build arguments that a Dockerfile declares |
//! | [`text`] | the instructions as a Dockerfile has them |
//! | [`vary`] | steps that differ in one thing only, looked up in a cache |
//! | [`twins`] | steps that a build has twice |
//! | `go_json` | the JSON that keys are digests of |
//!
//! Everything here is pure. What a key cannot be computed of is told by [`Unknown`].
//!
//! The rules are those of BuildKit's `solver/llbsolver/ops`, `cache/contenthash` and `source`. Another
//! version may have others, so what is computed here is only believed after [`calibrate`].

pub mod calibrate;
pub mod compare;
pub mod content;
mod declared;
mod exec;
mod file;
mod go_json;
pub mod header;
mod join;
pub mod plan;
mod source;
pub mod text;
pub mod tree;
pub mod twins;
pub mod vary;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb::{Platform, op};
use thiserror::Error;

pub use self::plan::{Edge, Kind, Place, Plan, Vertex};
pub use self::source::SourceFact;
pub use self::tree::Tree;
use crate::digest::Digest;

/// Why a key is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unknown {
    /// The step's bytes are no operation.
    #[error("the step cannot be read")]
    Unreadable,
    /// The step has fields that this program does not know, and they may be part of its key.
    #[error("the step has fields that this version does not know")]
    NewFields,
    /// It is a kind of step that this program does not know.
    #[error("the step is of a kind that this version does not know")]
    NewKind,
    /// The step contradicts itself.
    #[error("the step is invalid: {0}")]
    Invalid(&'static str),
    /// An input is not among the steps, or depends on the step itself.
    #[error("an input of the step is missing")]
    MissingInput,
    /// The platform is not given and that of the builder is not known.
    #[error("the platform of the step is not known")]
    Platform,
    /// A source of which something is not known.
    #[error("{0} is not known")]
    Source(&'static str),
    /// A file that the step reads is not in the context.
    #[error("a file that the step reads does not exist")]
    NoFile,
    /// A file that the step reads has not been read.
    #[error("a file that the step reads has not been read")]
    NotRead,
    /// Links lead in a circle.
    #[error("too many symbolic links")]
    Links,
    /// A pattern of the step.
    #[error("a pattern of the step is invalid")]
    Pattern,
    /// The builder computes keys of this kind otherwise.
    #[error("the builder computes keys of this kind in another way")]
    Untrusted,
}

/// What is known of a build beside its definition.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    /// The builder's own platform, which steps without one have.
    pub platform: Option<Platform>,
    /// The files of local sources, by the name of the source, such as `context`: owned by root, as
    /// they are sent.
    pub trees: BTreeMap<String, &'a Tree>,
    /// The diff IDs of images, by the image's digest and the platform as `OS/ARCH[/VARIANT]`.
    pub images: BTreeMap<(String, String), Vec<Digest>>,
    /// What is known of sources, by the digest of the source's vertex.
    pub sources: BTreeMap<String, SourceFact>,
}

/// The keys of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKey {
    /// What the records of the step are named by. Images have two. Local sources have none: BuildKit
    /// never exports theirs.
    pub digests: Vec<Digest>,
    /// How records are linked to those of each input.
    pub inputs: Vec<InputRule>,
}

/// How the record of a step is linked to one of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputRule {
    /// What of the input the step reads, where that is part of the link.
    pub selector: Option<Digest>,
    /// Where the files of the input may stand for the input: which of them. An empty list is all.
    pub content: Option<Vec<content::Selector>>,
}

/// The keys of all steps of a plan.
#[derive(Debug, Clone)]
pub struct Keys {
    /// By the index of the vertex.
    steps: Vec<Result<StepKey, Unknown>>,
    /// For each vertex and input the keys of the input's files, where they count and are known.
    contents: Vec<Vec<Content>>,
}

/// The keys of the files that a step reads of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The input counts as a whole only.
    NotUsed,
    /// One of these, which versions of BuildKit compute in different ways.
    Keys(Vec<Digest>),
    /// It is the result of a step, known only when that has run.
    NotBuilt,
    /// It is a context, and its files are not known.
    Unknown(Unknown),
}

impl Keys {
    /// Computes the keys of all steps.
    pub fn of(plan: &Plan, facts: &Facts<'_>) -> Self {
        let steps: Vec<_> = plan
            .vertices()
            .iter()
            .map(|vertex| step(vertex, facts))
            .collect();
        let contents = plan
            .vertices()
            .iter()
            .zip(&steps)
            .map(|(vertex, key)| {
                let rules = key.as_ref().map_or(&[][..], |key| &key.inputs);
                let inputs = vertex.inputs.iter().zip(rules);
                inputs
                    .map(|(input, rule)| content_of(plan, *input, rule, facts))
                    .collect()
            })
            .collect();
        Self { steps, contents }
    }

    /// Returns the key of a vertex.
    pub fn step(&self, vertex: usize) -> Result<&StepKey, Unknown> {
        match self.steps.get(vertex) {
            Some(key) => key.as_ref().map_err(Clone::clone),
            None => Err(Unknown::MissingInput),
        }
    }

    /// Returns the keys of the files that a vertex reads of an input.
    pub fn content(&self, vertex: usize, input: usize) -> &Content {
        let content = self.contents.get(vertex).and_then(|list| list.get(input));
        content.unwrap_or(&Content::NotUsed)
    }

    /// Returns the files of local sources whose content goes into the keys of these steps, by the name of the
    /// source. The trees need no checksums for that.
    pub fn files_read(
        &self,
        plan: &Plan,
        trees: &BTreeMap<String, &Tree>,
        steps: impl Fn(usize) -> bool,
    ) -> BTreeMap<String, BTreeSet<Vec<u8>>> {
        let mut read: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let all = plan.vertices().iter().zip(&self.steps).enumerate();
        for (_, (vertex, key)) in all.filter(|(at, _)| steps(*at)) {
            let rules = key.as_ref().map_or(&[][..], |key| &key.inputs);
            for (input, rule) in vertex.inputs.iter().zip(rules) {
                let source = input.and_then(|input| plan.vertices().get(input.vertex));
                let name = source.and_then(Vertex::local_name);
                let tree = name.and_then(|name| Some((name, trees.get(name)?)));
                if let (Some((name, tree)), Some(selectors)) = (tree, &rule.content) {
                    let files = content::read_by(tree, selectors);
                    read.entry(name.to_owned()).or_default().extend(files);
                }
            }
        }
        read
    }

    /// Forgets the keys of steps for which something is said.
    pub fn forget(&mut self, why: impl Fn(usize) -> Option<Unknown>) {
        for (vertex, key) in self.steps.iter_mut().enumerate() {
            if let Some(unknown) = why(vertex) {
                *key = Err(unknown);
            }
        }
    }
}

/// Returns the digest that a record has in a cache config.
pub fn record(key: &Digest, output: i64) -> Digest {
    Digest::of(format!("{key}@{output}").as_bytes())
}

fn step(vertex: &Vertex, facts: &Facts<'_>) -> Result<StepKey, Unknown> {
    let inputs = vertex.inputs.len();
    match vertex.op.as_ref().map_err(Clone::clone)? {
        op::Op::Exec(exec) => exec::key(exec, &vertex.platform(facts)?, inputs),
        op::Op::File(file) => file::key(file, inputs),
        op::Op::Merge(merge) => Ok(join::merge(merge)),
        op::Op::Diff(diff) => join::diff(diff),
        op::Op::Source(source) => source::key(source, vertex, facts),
        op::Op::Build(_) => Err(Unknown::NewKind),
    }
}

fn content_of(plan: &Plan, input: Option<Edge>, rule: &InputRule, facts: &Facts<'_>) -> Content {
    let Some(selectors) = &rule.content else {
        return Content::NotUsed;
    };
    let source = input.and_then(|input| plan.vertices().get(input.vertex));
    let Some(name) = source.and_then(Vertex::local_name) else {
        return Content::NotBuilt;
    };
    let Some(tree) = facts.trees.get(name) else {
        return Content::Unknown(Unknown::Source("the context"));
    };
    match content::keys(tree, selectors) {
        Ok(keys) => Content::Keys(keys),
        Err(unknown) => Content::Unknown(unknown),
    }
}
