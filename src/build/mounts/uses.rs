//! The cache mounts that definitions name.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb::{
    self, CacheOpt, CacheSharingOpt, Definition, Input, MountType, Op, Platform, op,
};
use prost::Message as _;

use super::{DEST, held};
use crate::buildkit::container::Container;
use crate::buildkit::llb::Graph;
use crate::cache::extras::mounts::MountName;
use crate::digest::Digest;
use crate::reference::Reference;

/// A cache mount of the builder, and who uses it. The builder does not tell platforms apart: steps of several share it.
#[derive(Debug, Clone, PartialEq)]
pub struct MountUse {
    /// What caches know it by, for each platform, with the digests of the steps that use it.
    pub steps: BTreeMap<MountName, BTreeSet<String>>,
    /// Those of the steps that have no inputs.
    pub bare: BTreeSet<String>,
    /// Steps must run before it can be opened, because it begins with their result.
    pub needs_steps: bool,
    /// BuildKit empties it before the steps run: one of them is to run without cache (`--no-cache`; BuildKit
    /// `solver/llbsolver/bridge.go`).
    pub is_emptied: bool,
    /// What the builder knows it by besides its id: what it begins with.
    base_key: String,
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
    let metadata = |step: &String| {
        definitions
            .values()
            .find_map(|definition| definition.metadata.get(step))
    };
    let mut uses: BTreeMap<(String, String), MountUse> = BTreeMap::new();
    for (step, op) in &ops {
        let Some(op::Op::Exec(exec)) = &op.op else {
            continue;
        };
        for mount in &exec.mounts {
            if let Some(mut found) = use_of(&graph, &ops, (step, op), mount) {
                found.is_emptied = metadata(step).is_some_and(|metadata| metadata.ignore_cache);
                let key = (found.builder_id().to_owned(), found.base_key.clone());
                match uses.get_mut(&key) {
                    Some(known) => known.add(found),
                    None => drop(uses.insert(key, found)),
                }
            }
        }
    }
    uses.into_values().collect()
}

/// Returns the cache mount of a step, if this is one.
fn use_of(
    graph: &Graph,
    ops: &BTreeMap<String, Op>,
    (step, op): (&String, &Op),
    mount: &pb::Mount,
) -> Option<MountUse> {
    let option = cache_of(mount)?;
    let input = usize::try_from(mount.input).ok();
    let input = input.and_then(|at| op.inputs.get(at));
    let name = MountName {
        id: id_of(option).to_owned(),
        platform: op.platform.as_ref().map(platform_name).unwrap_or_default(),
        base: input.map_or_else(String::new, |input| base_name(&input.digest, input, mount)),
    };
    let base_key = |input: &Input| base_name(&result_key(ops, &input.digest), input, mount);
    Some(MountUse {
        steps: BTreeMap::from([(name, BTreeSet::from([step.clone()]))]),
        bare: op
            .inputs
            .is_empty()
            .then(|| step.clone())
            .into_iter()
            .collect(),
        needs_steps: input.is_some_and(|input| runs(graph, ops, &input.digest)),
        is_emptied: false,
        base_key: input.map_or_else(String::new, base_key),
        option: option.clone(),
        platform: op.platform.clone(),
        root: root_of(graph, step),
        base: input.and_then(|input| {
            let base = graph.ending_at_output(&input.digest, input.index)?;
            Some((base, mount.selector.clone()))
        }),
    })
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

fn base_name(digest: &str, input: &Input, mount: &pb::Mount) -> String {
    format!("{digest}@{}/{}", input.index, mount.selector)
}

/// Returns what the builder knows a result by: what makes files without an input, such as the folder of `uid=`, gives the
/// same result for all platforms (BuildKit `solver/llbsolver/ops/file.go`).
fn result_key(ops: &BTreeMap<String, Op>, digest: &str) -> String {
    match ops.get(digest) {
        Some(op) if matches!(op.op, Some(op::Op::File(_))) && op.inputs.is_empty() => {
            let op = Op {
                platform: None,
                ..op.clone()
            };
            Digest::of(&op.encode_to_vec()).to_string()
        }
        _ => digest.to_owned(),
    }
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
fn root_of(graph: &Graph, step: &str) -> Option<Definition> {
    let bottom = graph.bottom_of(step)?;
    let is_image = graph.is_image(bottom);
    is_image
        .then(|| graph.ending_at_output(bottom, 0))
        .flatten()
}

impl MountUse {
    /// Takes another use of it.
    fn add(&mut self, other: Self) {
        for (name, steps) in other.steps {
            self.steps.entry(name).or_default().extend(steps);
        }
        self.bare.extend(other.bare);
        self.needs_steps |= other.needs_steps;
        self.is_emptied |= other.is_emptied;
        if self.root.is_none() && other.root.is_some() {
            (self.root, self.platform, self.base) = (other.root, other.platform, other.base);
        }
    }

    /// Returns the id as the user writes it.
    pub fn id(&self) -> &str {
        id_of(&self.option)
    }

    /// Returns the id that the builder knows it by.
    pub fn builder_id(&self) -> &str {
        &self.option.id
    }

    /// Returns what tells it from the other mounts of the builder.
    pub fn key(&self) -> (&str, &str) {
        (&self.option.id, &self.base_key)
    }

    /// Returns whether it begins with the result of a step.
    pub fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// Returns whether the builder makes another one for a step that finds it in use.
    pub fn is_private(&self) -> bool {
        self.option.sharing == i32::from(CacheSharingOpt::Private)
    }

    /// Returns the digests of the steps that use it.
    pub fn all_steps(&self) -> impl Iterator<Item = &String> {
        self.steps.values().flatten()
    }

    /// Returns containers that open it, each to be tried where the one before has no `tar`: on the image of a step, and on
    /// the helper.
    pub fn containers(&self, session: &str, helper: Option<&Reference>) -> Vec<Container> {
        let helper = helper.map(|image| image_of(image, self.platform.as_ref()));
        let roots = self.root.clone().into_iter().chain(helper);
        roots.map(|root| self.container(session, root)).collect()
    }

    fn container(&self, session: &str, root: Definition) -> Container {
        Container {
            id: held::new_container(&self.base_key),
            session: session.to_owned(),
            root,
            platform: self.platform.clone(),
            mount: self.option.clone(),
            dest: DEST.to_owned(),
            base: self.base.clone(),
        }
    }
}

/// Returns the definition of an image.
fn image_of(image: &Reference, platform: Option<&Platform>) -> Definition {
    let image = Reference {
        tag: image.effective_tag().map(str::to_owned),
        ..image.clone()
    };
    let source = Op {
        op: Some(op::Op::Source(pb::SourceOp {
            identifier: format!("docker-image://{image}"),
            ..pb::SourceOp::default()
        })),
        platform: platform.cloned(),
        ..Op::default()
    };
    let source = source.encode_to_vec();
    let end = Op {
        inputs: vec![Input {
            digest: Digest::of(&source).to_string(),
            index: 0,
        }],
        ..Op::default()
    };
    Definition {
        def: vec![source, end.encode_to_vec()],
        ..Definition::default()
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{ExecOp, FileOp, SourceOp};

    use super::*;

    #[derive(Default)]
    struct Maker(Definition);

    impl Maker {
        fn add(&mut self, op: op::Op, inputs: &[&str]) -> String {
            self.add_for("amd64", op, inputs)
        }

        fn add_for(&mut self, architecture: &str, op: op::Op, inputs: &[&str]) -> String {
            let inputs = inputs.iter().map(|digest| Input {
                digest: (*digest).to_owned(),
                index: 0,
            });
            let op = Op {
                inputs: inputs.collect(),
                platform: Some(Platform {
                    os: "linux".to_owned(),
                    architecture: architecture.to_owned(),
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
        let [npm, go, from] = &uses[..] else {
            panic!("{uses:?}")
        };
        assert_eq!((go.id(), go.builder_id()), ("go", "/go"));
        assert_eq!(npm.id(), "/npm");
        let name = |one: &MountUse| one.steps.keys().next().unwrap().clone();
        let steps = |one: &MountUse| one.all_steps().cloned().collect::<BTreeSet<_>>();
        assert_eq!(name(go).platform, "linux/amd64");
        assert!(name(go).base.is_empty() && !go.needs_steps && go.base.is_none());
        assert_eq!(steps(go), BTreeSet::from([one, two.clone()]));
        assert_eq!(steps(npm), BTreeSet::from([two]));
        assert!(name(npm).base.contains(&owned) && !npm.needs_steps);
        assert_eq!(steps(from), BTreeSet::from([three]));
        assert!(from.needs_steps && from.base.is_some() && from.bare.is_empty());
        let container = from.containers("session", None).remove(0);
        assert_eq!(container.root.def.len(), 2);
        assert_eq!(container.mount.sharing, i32::from(CacheSharingOpt::Locked));
    }

    #[test]
    fn what_one_step_of_several_empties_is_known() {
        let mut maker = Maker::default();
        let base = maker.add(image("docker-image://a"), &[]);
        let one = maker.add(exec("one", &[mount("go", -1), mount("npm", -1)]), &[&base]);
        let two = maker.add(exec("two", &[mount("go", -1)]), &[&one]);
        let metadata = pb::OpMetadata {
            ignore_cache: true,
            ..pb::OpMetadata::default()
        };
        maker.0.metadata.insert(two, metadata);
        let uses = of(&BTreeMap::from([(String::new(), maker.0)]));
        let found: Vec<_> = uses.iter().map(|one| (one.id(), one.is_emptied)).collect();
        assert_eq!(found, [("go", true), ("npm", false)]);
    }

    #[test]
    fn platforms_share_the_mounts_of_one_builder() {
        let definitions = ["amd64", "arm64"].map(|platform| {
            let mut maker = Maker::default();
            let base = maker.add_for(platform, image("docker-image://a"), &[]);
            let folder = maker.add_for(platform, op::Op::File(FileOp::default()), &[]);
            let mounts = [mount("go", -1), mount("owned", 1), mount("image", 0)];
            maker.add_for(platform, exec("make", &mounts), &[&base, &folder]);
            (platform.to_owned(), maker.0)
        });
        let uses = of(&BTreeMap::from(definitions));
        let found: Vec<_> = uses.iter().map(|one| (one.id(), one.steps.len())).collect();
        // What begins with the image of a platform is another one for each.
        assert_eq!(found, [("go", 2), ("image", 1), ("image", 1), ("owned", 2)]);
        for one in &uses {
            assert_eq!(one.all_steps().count(), one.steps.len());
        }
    }

    #[test]
    fn steps_on_nothing_have_no_image() {
        let mut maker = Maker::default();
        let context = maker.add(image("local://context"), &[]);
        maker.add(exec("one", &[mount("go", -1)]), &[&context]);
        let bare = maker.add(exec("two", &[mount("go", -1)]), &[]);
        let uses = of(&BTreeMap::from([(String::new(), maker.0)]));
        assert_eq!(uses[0].bare, BTreeSet::from([bare]));
        assert!(uses[0].containers("session", None).is_empty());
        let helper = Reference::parse_normalized("busybox").unwrap();
        let container = uses[0].containers("session", Some(&helper)).remove(0);
        let Some(op::Op::Source(source)) = Op::decode(&*container.root.def[0]).unwrap().op else {
            panic!("no source")
        };
        assert_eq!(
            source.identifier,
            "docker-image://docker.io/library/busybox:latest"
        );
    }
}
