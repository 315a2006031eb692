//! Definitions, trees and caches that tests build.

use bollard_buildkit_proto::pb::{
    Definition, ExecOp, FileAction, FileActionCopy, FileOp, Input, Location, Locations, Meta,
    Mount, Op, OpMetadata, Platform, Position, Range, SourceInfo, SourceOp, file_action::Action,
    op,
};
use prost::Message as _;
use serde_json::{Value, json};

use super::header::FileHash;
use super::{Content, Keys, Plan, Tree, Vertex, record};
use crate::cache::config::CacheConfig;
use crate::digest::Digest;
use crate::fsutil::wire::{self, Stat};

pub(crate) const BASE: &str =
    "sha256:305d44348359c89014d634b9f48bba30fbaee3595474caa02e4daefe9841a537";

/// A definition that grows step by step.
#[derive(Default)]
pub(crate) struct Maker(pub(crate) Definition);

impl Maker {
    pub(crate) fn add(
        &mut self,
        name: &str,
        kind: impl Into<Option<op::Op>>,
        inputs: &[&str],
    ) -> String {
        self.add_op(name, kind.into(), inputs, amd64())
    }

    pub(crate) fn add_op(
        &mut self,
        name: &str,
        kind: Option<op::Op>,
        inputs: &[&str],
        platform: Platform,
    ) -> String {
        let inputs = inputs.iter().map(|digest| Input {
            digest: (*digest).to_owned(),
            index: 0,
        });
        let bytes = Op {
            inputs: inputs.collect(),
            platform: kind.is_some().then_some(platform),
            op: kind,
            ..Op::default()
        }
        .encode_to_vec();
        let digest = Digest::of(&bytes).to_string();
        let mut metadata = OpMetadata::default();
        metadata
            .description
            .insert("llb.customname".to_owned(), name.to_owned());
        self.0.metadata.insert(digest.clone(), metadata);
        self.0.def.push(bytes);
        digest
    }

    /// Says that a step stands on this line of the Dockerfile.
    pub(crate) fn at(&mut self, digest: &str, line: i32) {
        let source = self.0.source.get_or_insert_default();
        if source.infos.is_empty() {
            source.infos.push(SourceInfo {
                filename: "Dockerfile".to_owned(),
                ..SourceInfo::default()
            });
        }
        let position = Some(Position { line, character: 0 });
        let ranges = vec![Range {
            start: position,
            end: position,
        }];
        let locations = vec![Location {
            source_index: 0,
            ranges,
        }];
        let locations = Locations { locations };
        source.locations.insert(digest.to_owned(), locations);
    }

    /// Says that a step must run.
    pub(crate) fn ignore_cache(&mut self, digest: &str) {
        let metadata = self.0.metadata.get_mut(digest);
        metadata.expect("a step").ignore_cache = true;
    }

    pub(crate) fn end(mut self, result: &str) -> Definition {
        self.add("", None, &[result]);
        self.0
    }
}

pub(crate) fn amd64() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        ..Platform::default()
    }
}

pub(crate) fn source(identifier: &str) -> op::Op {
    op::Op::Source(SourceOp {
        identifier: identifier.to_owned(),
        ..SourceOp::default()
    })
}

pub(crate) fn image(digest: &str) -> op::Op {
    source(&format!("docker-image://docker.io/library/debian@{digest}"))
}

pub(crate) fn root() -> Mount {
    Mount {
        dest: "/".to_owned(),
        ..Mount::default()
    }
}

pub(crate) fn run(command: &str, env: &[&str], more: Vec<Mount>) -> op::Op {
    let args = ["/bin/sh", "-c", command].map(str::to_owned);
    let mut mounts = vec![root()];
    mounts.extend(more);
    op::Op::Exec(ExecOp {
        meta: Some(Meta {
            args: args.into(),
            env: env.iter().map(|entry| (*entry).to_owned()).collect(),
            cwd: "/w".to_owned(),
            remove_mount_stubs_recursive: true,
            ..Meta::default()
        }),
        mounts,
        ..ExecOp::default()
    })
}

pub(crate) fn copying(src: &str, dest: &str) -> FileActionCopy {
    FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        follow_symlink: true,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: -1,
        ..FileActionCopy::default()
    }
}

/// Copies from the second input onto the first.
pub(crate) fn copy(src: &str, dest: &str) -> op::Op {
    copies(copying(src, dest))
}

pub(crate) fn copies(copy: FileActionCopy) -> op::Op {
    op::Op::File(FileOp {
        actions: vec![FileAction {
            input: 0,
            secondary_input: 1,
            output: 0,
            action: Some(Action::Copy(copy)),
        }],
    })
}

/// A tree of files, folders, whose paths end in a slash, and links, whose content is `->` and the target.
pub(crate) fn tree(entries: &[(&str, &str)]) -> Tree {
    Tree::of(entries.iter().map(|(path, content)| {
        let mut stat = Stat {
            path: path.trim_end_matches('/').as_bytes().to_vec(),
            mode: 0o644,
            ..Stat::default()
        };
        if path.ends_with('/') {
            stat.mode = wire::MODE_DIR | 0o755;
        } else if let Some(target) = content.strip_prefix("->") {
            stat.mode = wire::MODE_SYMLINK | 0o777;
            stat.linkname = target.as_bytes().to_vec();
        } else {
            stat.size = i64::try_from(content.len()).unwrap();
        }
        let mut hash = FileHash::new(&stat);
        hash.update(content.as_bytes());
        let sum = stat.has_data().then(|| hash.finish());
        (stat, sum)
    }))
}

/// A cache that grows record by record.
#[derive(Default)]
pub(crate) struct CacheMaker {
    layers: Vec<Value>,
    records: Vec<Value>,
}

impl CacheMaker {
    /// Adds a record that nothing is before.
    pub(crate) fn root(&mut self, digest: &Digest) -> usize {
        self.records.push(json!({"digest": digest}));
        self.records.len() - 1
    }

    /// Adds a record of a key on links, each a selector and a record.
    pub(crate) fn step(&mut self, key: &Digest, inputs: &[&[(&str, usize)]], layer: bool) -> usize {
        let link = |(selector, link): &(&str, usize)| json!({"selector": selector, "link": link});
        let inputs: Vec<Vec<Value>> = inputs
            .iter()
            .map(|links| links.iter().map(link).collect())
            .collect();
        let mut entry = json!({"digest": record(key, 0), "inputs": inputs});
        if layer {
            let blob = Digest::of(format!("layer {}", self.layers.len()).as_bytes());
            self.layers.push(json!({"blob": blob, "parent": -1}));
            entry["layers"] = json!([{"layer": self.layers.len() - 1}]);
        }
        self.records.push(entry);
        self.records.len() - 1
    }

    /// Adds all steps of a plan, as a builder that has run them exports them. `layer` says which of them
    /// have one.
    pub(crate) fn of(plan: &Plan, keys: &Keys, layer: impl Fn(&Vertex) -> bool) -> Self {
        let mut cache = Self::default();
        let mut records: Vec<Option<usize>> = Vec::new();
        for (at, vertex) in plan.vertices().iter().enumerate() {
            let Ok(key) = keys.step(at) else {
                records.push(None);
                continue;
            };
            let Some(digest) = key.digests.first() else {
                records.push(None);
                continue;
            };
            let mut inputs: Vec<Vec<(String, usize)>> = Vec::new();
            for (input, rule) in key.inputs.iter().enumerate() {
                let selector = rule.selector.as_ref().map_or("", Digest::as_str);
                let edge = vertex.inputs[input].expect("an input");
                let mut links: Vec<_> = records[edge.vertex]
                    .map(|record| (selector.to_owned(), record))
                    .into_iter()
                    .collect();
                match keys.content(at, input) {
                    Content::Keys(keys) => links.push((String::new(), cache.root(&keys[0]))),
                    Content::NotBuilt => {
                        let files = Digest::of(format!("files {at} {input}").as_bytes());
                        links.push((String::new(), cache.root(&files)));
                    }
                    Content::NotUsed | Content::Unknown(_) => {}
                }
                inputs.push(links);
            }
            let links: Vec<Vec<(&str, usize)>> = inputs
                .iter()
                .map(|links| links.iter().map(|(s, l)| (s.as_str(), *l)).collect())
                .collect();
            let links: Vec<&[(&str, usize)]> = links.iter().map(Vec::as_slice).collect();
            records.push(Some(if links.is_empty() && !vertex.makes_layers() {
                cache.root(&record(digest, 0))
            } else {
                cache.step(digest, &links, layer(vertex))
            }));
        }
        cache
    }

    pub(crate) fn config(&self) -> CacheConfig {
        let config = json!({"layers": self.layers, "records": self.records});
        CacheConfig::parse(config.to_string().as_bytes()).unwrap()
    }
}
