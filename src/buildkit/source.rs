//! Definitions of a single source, made on this side and by no frontend (BuildKit `client/llb`).

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::{
    Definition, FileAction, FileActionCopy, FileOp, Input, Op, OpMetadata, SourceOp,
    WorkerConstraints, file_action, op,
};
use prost::Message as _;

use crate::digest::Digest;

/// Metadata key of a step's name.
const NAME: &str = "llb.customname";
/// The input of a file action that starts from nothing.
const SCRATCH: i64 = -1;
/// A copied file keeps its mode and its time.
const KEEP: i32 = -1;

/// Something that BuildKit fetches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// What it is and where from, such as `https://example.com/file`.
    pub identifier: String,
    /// How it is fetched.
    pub attrs: BTreeMap<String, String>,
    /// What the daemon must be able to do.
    pub caps: Vec<String>,
    /// Name of the step.
    pub name: String,
}

impl Source {
    /// A file by HTTP, which is called `filename` in the result.
    pub fn http(url: &str, filename: &str, name: &str) -> Self {
        Self {
            identifier: url.to_owned(),
            attrs: BTreeMap::from([("http.filename".to_owned(), filename.to_owned())]),
            caps: vec!["source.http".to_owned()],
            name: name.to_owned(),
        }
    }

    /// Returns the definition whose result is the source.
    pub fn definition(&self) -> Definition {
        definition(vec![self.step()])
    }

    /// Returns the definition whose result is a file of the source, or what is in it if it is an
    /// archive.
    pub fn unpacked(&self, filename: &str) -> Definition {
        let fetch = self.step();
        let copy = FileActionCopy {
            src: format!("/{filename}"),
            dest: "/".to_owned(),
            mode: KEEP,
            timestamp: KEEP.into(),
            attempt_unpack_docker_compatibility: true,
            ..FileActionCopy::default()
        };
        let unpack = Op {
            inputs: vec![fetch.input()],
            op: Some(op::Op::File(FileOp {
                actions: vec![FileAction {
                    input: SCRATCH,
                    secondary_input: 0,
                    output: 0,
                    action: Some(file_action::Action::Copy(copy)),
                }],
            })),
            constraints: Some(WorkerConstraints::default()),
            ..Op::default()
        };
        let unpack = Step::new(&unpack, &["file.base".to_owned()], &self.name);
        definition(vec![fetch, unpack])
    }

    fn step(&self) -> Step {
        let fetch = Op {
            op: Some(op::Op::Source(SourceOp {
                identifier: self.identifier.clone(),
                attrs: self.attrs.clone(),
            })),
            constraints: Some(WorkerConstraints::default()),
            ..Op::default()
        };
        Step::new(&fetch, &self.caps, &self.name)
    }
}

/// A marshaled op.
struct Step {
    bytes: Vec<u8>,
    digest: String,
    metadata: OpMetadata,
}

impl Step {
    fn new(op: &Op, caps: &[String], name: &str) -> Self {
        let bytes = op.encode_to_vec();
        Self {
            digest: Digest::of(&bytes).to_string(),
            bytes,
            metadata: OpMetadata {
                description: BTreeMap::from([(NAME.to_owned(), name.to_owned())]),
                caps: granted(caps),
                ..OpMetadata::default()
            },
        }
    }

    fn input(&self) -> Input {
        Input {
            digest: self.digest.clone(),
            index: 0,
        }
    }
}

/// Puts steps together. The result is the last of them, which an op without a kind names.
fn definition(steps: Vec<Step>) -> Definition {
    let result = Op {
        inputs: steps.last().map(Step::input).into_iter().collect(),
        ..Op::default()
    }
    .encode_to_vec();
    let about_result = OpMetadata {
        caps: granted(&["constraints", "platform", "meta.description"].map(str::to_owned)),
        ..OpMetadata::default()
    };
    let result_digest = Digest::of(&result).to_string();
    let mut definition = Definition::default();
    for step in steps {
        definition.def.push(step.bytes);
        definition.metadata.insert(step.digest, step.metadata);
    }
    definition.def.push(result);
    definition.metadata.insert(result_digest, about_result);
    definition
}

fn granted<C: FromIterator<(String, bool)>>(caps: &[String]) -> C {
    caps.iter().map(|cap| (cap.clone(), true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_unpacked_from_its_source() {
        let source = Source::http("https://h/x.tar", "context", "load");
        let plain = source.definition();
        let unpacked = source.unpacked("context");
        assert_eq!((plain.def.len(), unpacked.def.len()), (2, 3));
        assert_eq!(plain.def[0], unpacked.def[0]);
        let fetch = Digest::of(&unpacked.def[0]).to_string();
        let copy = Op::decode(unpacked.def[1].as_slice()).unwrap();
        assert_eq!(copy.inputs[0].digest, fetch);
        let Some(op::Op::File(file)) = copy.op else {
            panic!("{copy:?}")
        };
        let Some(file_action::Action::Copy(copy)) = &file.actions[0].action else {
            panic!("{file:?}")
        };
        assert_eq!((copy.src.as_str(), copy.dest.as_str()), ("/context", "/"));
        let result = Op::decode(unpacked.def[2].as_slice()).unwrap();
        let copy = Digest::of(&unpacked.def[1]).to_string();
        assert_eq!(result.inputs[0].digest, copy);
        assert_eq!(unpacked.metadata[&copy].description[NAME], "load");
    }
}
