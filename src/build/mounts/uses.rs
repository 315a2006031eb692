//! The cache mounts that definitions name.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb::{self, CacheOpt, Definition, Input, MountType, Op, Platform, op};
use prost::Message as _;

use super::DEST;
use crate::buildkit::container::Container;
use crate::buildkit::llb::Graph;
use crate::cache::extras::mounts::MountName;
use crate::digest::Digest;

/// Prefixes of sources that are images.
const IMAGES: [&str; 2] = ["docker-image://", "oci-layout://"];

/// A cache mount, and who uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct MountUse {
    /// What tells it from others.
    pub name: MountName,
    /// The digests of the steps that use it.
    pub steps: BTreeSet<String>,
    /// Steps must run before it can be opened, because it begins with their result.
    pub needs_steps: bool,
    option: CacheOpt,
    platform: Option<Platform>,
    /// The base image of one of the steps; `None` where they have none.
    root: Option<Definition>,
    base: Option<(Definition, String)>,
}

/// Returns the cache mounts of these definitions, each once.
pub fn of(definitions: &BTreeMap<String, Definition>) -> Vec<MountUse> {
    let Ok(graph) = Graph::of(definitions.values()) else {
        return Vec::new();
    };
    let all = definitions.values().flat_map(|definition| &definition.def);
    let ops: BTreeMap<String, Op> = all
        .filter_map(|bytes| Some((Digest::of(bytes).to_string(), Op::decode(&**bytes).ok()?)))
        .collect();
    let mut uses: BTreeMap<MountName, MountUse> = BTreeMap::new();
    for (step, op) in &ops {
        let Some(op::Op::Exec(exec)) = &op.op else {
            continue;
        };
        for mount in &exec.mounts {
            let Some(option) = cache_of(mount) else {
                continue;
            };
            let input = usize::try_from(mount.input).ok();
            let input = input.and_then(|at| op.inputs.get(at));
            let found = MountUse {
                name: MountName {
                    id: id_of(option).to_owned(),
                    platform: op.platform.as_ref().map(platform_name).unwrap_or_default(),
                    base: input.map_or_else(String::new, |input| base_name(input, mount)),
                },
                steps: BTreeSet::new(),
                needs_steps: input.is_some_and(|input| runs(&graph, &ops, &input.digest)),
                option: option.clone(),
                platform: op.platform.clone(),
                root: root_of(&graph, &ops, step),
                base: input.and_then(|input| {
                    let base = graph.ending_at_output(&input.digest, input.index)?;
                    Some((base, mount.selector.clone()))
                }),
            };
            let known = uses
                .entry(found.name.clone())
                .or_insert_with(|| found.clone());
            known.steps.insert(step.clone());
            if known.root.is_none() {
                known.root = found.root;
            }
        }
    }
    uses.into_values().collect()
}

fn cache_of(mount: &pb::Mount) -> Option<&CacheOpt> {
    let is_cache = mount.mount_type == i32::from(MountType::Cache);
    mount.cache_opt.as_ref().filter(|_| is_cache)
}

/// Returns the id as the user writes it. The frontend puts a slash before it, and a namespace before that if there is one
/// (`BUILDKIT_CACHE_MOUNT_NS`).
fn id_of(option: &CacheOpt) -> &str {
    option.id.strip_prefix('/').unwrap_or(&option.id)
}

fn base_name(input: &Input, mount: &pb::Mount) -> String {
    format!("{}@{}/{}", input.digest, input.index, mount.selector)
}

fn platform_name(platform: &Platform) -> String {
    let parts = [&platform.os, &platform.architecture, &platform.variant];
    let parts = parts.map(String::as_str).into_iter();
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

/// Returns whether commands run to make a result.
fn runs(graph: &Graph, ops: &BTreeMap<String, Op>, digest: &str) -> bool {
    let mut below = graph.with_inputs(digest).into_iter();
    below.any(|step| {
        let op = ops.get(step).and_then(|op| op.op.as_ref());
        matches!(op, Some(op::Op::Exec(_)))
    })
}

/// Returns the image that a step's root file system begins with.
fn root_of(graph: &Graph, ops: &BTreeMap<String, Op>, step: &str) -> Option<Definition> {
    let bottom = graph.bottom_of(step)?;
    let Some(op::Op::Source(source)) = ops.get(bottom)?.op.as_ref() else {
        return None;
    };
    let is_image = IMAGES
        .iter()
        .any(|prefix| source.identifier.starts_with(prefix));
    is_image
        .then(|| graph.ending_at_output(bottom, 0))
        .flatten()
}

impl MountUse {
    /// Returns the id that the builder knows it by.
    pub fn builder_id(&self) -> &str {
        &self.option.id
    }

    /// Returns a container that opens it; `None` where no image is to be had for it.
    pub fn container(&self, id: String, session: &str) -> Option<Container> {
        Some(Container {
            id,
            session: session.to_owned(),
            root: self.root.clone()?,
            platform: self.platform.clone(),
            mount: self.option.clone(),
            dest: DEST.to_owned(),
            base: self.base.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{CacheSharingOpt, ExecOp, FileOp, SourceOp};

    use super::*;

    #[derive(Default)]
    struct Maker(Definition);

    impl Maker {
        fn add(&mut self, op: op::Op, inputs: &[&str]) -> String {
            let inputs = inputs.iter().map(|digest| Input {
                digest: (*digest).to_owned(),
                index: 0,
            });
            let op = Op {
                inputs: inputs.collect(),
                platform: Some(Platform {
                    os: "linux".to_owned(),
                    architecture: "amd64".to_owned(),
                    ..Platform::default()
                }),
                op: Some(op),
                ..Op::default()
            };
            let bytes = op.encode_to_vec();
            let digest = Digest::of(&bytes).to_string();
            self.0.def.push(bytes);
            digest
        }
    }

    fn mount(id: &str, input: i64) -> pb::Mount {
        pb::Mount {
            input,
            dest: "/cache".to_owned(),
            mount_type: MountType::Cache.into(),
            cache_opt: Some(CacheOpt {
                id: id.to_owned(),
                sharing: CacheSharingOpt::Locked.into(),
            }),
            ..pb::Mount::default()
        }
    }

    fn exec(command: &str, mounts: &[pb::Mount]) -> op::Op {
        let root = pb::Mount {
            dest: "/".to_owned(),
            ..pb::Mount::default()
        };
        let all = std::iter::once(root).chain(mounts.iter().cloned());
        op::Op::Exec(ExecOp {
            meta: Some(pb::Meta {
                args: vec![command.to_owned()],
                ..pb::Meta::default()
            }),
            mounts: all.collect(),
            ..ExecOp::default()
        })
    }

    fn image(name: &str) -> op::Op {
        op::Op::Source(SourceOp {
            identifier: name.to_owned(),
            ..SourceOp::default()
        })
    }

    #[test]
    fn mounts_are_found_with_their_steps_image_and_base() {
        let mut maker = Maker::default();
        let base = maker.add(image("docker-image://a"), &[]);
        let owned = maker.add(op::Op::File(FileOp::default()), &[]);
        let one = maker.add(exec("one", &[mount("/go", -1)]), &[&base]);
        let two = maker.add(
            exec("two", &[mount("/go", -1), mount("//npm", 1)]),
            &[&one, &owned],
        );
        let three = maker.add(exec("three", &[mount("from", 1)]), &[&two, &one]);
        let uses = of(&BTreeMap::from([(String::new(), maker.0)]));
        let [npm, from, go] = &uses[..] else {
            panic!("{uses:?}")
        };
        assert_eq!((go.name.id.as_str(), go.builder_id()), ("go", "/go"));
        assert_eq!(npm.name.id, "/npm");
        assert_eq!(go.name.platform, "linux/amd64");
        assert!(go.name.base.is_empty() && !go.needs_steps && go.base.is_none());
        assert_eq!(go.steps, BTreeSet::from([one, two.clone()]));
        assert_eq!(npm.steps, BTreeSet::from([two]));
        assert!(npm.name.base.contains(&owned) && !npm.needs_steps);
        assert_eq!(from.steps, BTreeSet::from([three]));
        assert!(from.needs_steps && from.base.is_some());
        let container = from.container("id".to_owned(), "session").unwrap();
        assert_eq!(container.root.def.len(), 2);
        assert_eq!(container.mount.sharing, i32::from(CacheSharingOpt::Locked));
    }

    #[test]
    fn steps_on_nothing_have_no_image() {
        let mut maker = Maker::default();
        let context = maker.add(image("local://context"), &[]);
        maker.add(exec("one", &[mount("go", -1)]), &[&context]);
        let uses = of(&BTreeMap::from([(String::new(), maker.0)]));
        assert!(uses[0].container("id".to_owned(), "session").is_none());
    }
}
