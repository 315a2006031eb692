//! The graph of a build's steps, and definitions that end at one of them.
//!
//! A definition is a list of marshaled ops. An op is known by the digest of its bytes; the last op has
//! no kind, and its first input is the result (BuildKit `solver/llbsolver/vertex.go`). The status
//! stream names vertices by the same digests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bollard_buildkit_proto::pb::{Definition, Input, Op, OpMetadata, op};
use prost::{DecodeError, Message as _};

use crate::digest::Digest;

/// The steps of a build, of all its platforms.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    results: Vec<String>,
}

#[derive(Debug, Clone)]
struct Node {
    bytes: Vec<u8>,
    /// Its inputs in the order of the op.
    inputs: Vec<Input>,
    makes_layers: bool,
    is_image: bool,
    /// Which of the inputs the result's layers lie on.
    below: Vec<usize>,
    metadata: Option<OpMetadata>,
    /// The outputs that other steps or the result use.
    outputs: BTreeSet<i64>,
}

impl Graph {
    /// Reads the definitions of a result's parts.
    ///
    /// # Errors
    ///
    /// Fails if an op is not a protobuf message of its kind.
    pub fn of<'a>(
        definitions: impl IntoIterator<Item = &'a Definition>,
    ) -> Result<Self, DecodeError> {
        let mut graph = Self::default();
        for definition in definitions {
            graph.add(definition)?;
        }
        Ok(graph)
    }

    fn add(&mut self, definition: &Definition) -> Result<(), DecodeError> {
        let mut uses = Vec::new();
        for bytes in &definition.def {
            let op = Op::decode(bytes.as_slice())?;
            uses.extend(op.inputs.iter().cloned());
            let Some(kind) = &op.op else {
                let result = op.inputs.first().map(|input| input.digest.clone());
                self.results.extend(result);
                continue;
            };
            let makes_layers = matches!(
                kind,
                op::Op::Exec(_) | op::Op::File(_) | op::Op::Merge(_) | op::Op::Diff(_)
            );
            let is_image = matches!(kind, op::Op::Source(source) if is_image(&source.identifier));
            let digest = Digest::of(bytes).to_string();
            let metadata = definition.metadata.get(&digest).cloned();
            self.nodes.entry(digest).or_insert_with(|| Node {
                bytes: bytes.clone(),
                below: below(kind, op.inputs.len()),
                inputs: op.inputs,
                makes_layers,
                is_image,
                metadata,
                outputs: BTreeSet::new(),
            });
        }
        for input in uses {
            if let Some(node) = self.nodes.get_mut(&input.digest) {
                node.outputs.insert(input.index);
            }
        }
        Ok(())
    }

    /// Returns whether a vertex is a step that makes a layer, and not a source.
    pub fn makes_layers(&self, digest: &str) -> bool {
        self.nodes.get(digest).is_some_and(|node| node.makes_layers)
    }

    /// Returns whether a vertex is an image.
    pub fn is_image(&self, digest: &str) -> bool {
        self.nodes.get(digest).is_some_and(|node| node.is_image)
    }

    /// Returns the results that the steps are made of which follow from one step: those that do not follow from it
    /// themselves. The steps that follow are returned, too, with the step itself.
    pub fn needed_beside(&self, digest: &str) -> (BTreeSet<(&str, i64)>, HashSet<&str>) {
        let mut following: HashSet<&str> = HashSet::new();
        let mut open: Vec<&str> = self
            .nodes
            .get_key_value(digest)
            .map(|(d, _)| d.as_str())
            .into_iter()
            .collect();
        let mut followers: HashMap<&str, Vec<&str>> = HashMap::new();
        for (step, node) in &self.nodes {
            for input in &node.inputs {
                followers.entry(&input.digest).or_default().push(step);
            }
        }
        while let Some(step) = open.pop() {
            if following.insert(step) {
                open.extend(followers.get(step).into_iter().flatten());
            }
        }
        let steps = following.iter().filter(|step| **step != digest);
        let inputs = steps
            .filter_map(|step| self.nodes.get(*step))
            .flat_map(|node| &node.inputs);
        let needed = inputs.filter(|input| !following.contains(input.digest.as_str()));
        let needed = needed
            .map(|input| (input.digest.as_str(), input.index))
            .collect();
        (needed, following)
    }

    /// Returns a step with all that it is made of, sources included; empty for a step of no
    /// definition.
    pub fn with_inputs(&self, digest: &str) -> HashSet<&str> {
        let mut found = HashSet::new();
        let mut open: Vec<&str> = vec![digest];
        while let Some((digest, node)) = open.pop().and_then(|d| self.nodes.get_key_value(d)) {
            if found.insert(digest.as_str()) {
                open.extend(node.inputs.iter().map(|input| input.digest.as_str()));
            }
        }
        found
    }

    /// Returns the steps whose layers are in the result: those that others only copy from are not among
    /// them.
    pub fn result_chain(&self) -> HashSet<&str> {
        self.chain(self.results.iter().map(String::as_str))
    }

    /// Returns the steps whose layers are in those of one step, itself among them.
    pub fn chain_of<'a>(&'a self, digest: &'a str) -> HashSet<&'a str> {
        self.chain(std::iter::once(digest))
    }

    fn chain<'a>(&'a self, ends: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
        let mut chain = HashSet::new();
        let mut open: Vec<&str> = ends.collect();
        while let Some((digest, node)) = open.pop().and_then(|d| self.nodes.get_key_value(d)) {
            if chain.insert(digest.as_str()) {
                let below = node.below.iter().filter_map(|at| node.inputs.get(*at));
                open.extend(below.map(|input| input.digest.as_str()));
            }
        }
        chain
    }

    /// Returns the source that the layers of a step begin with, the first of several.
    pub fn bottom_of<'a>(&'a self, digest: &'a str) -> Option<&'a str> {
        let mut at = digest;
        // A step stands behind what it is made of, but nothing says so of others' definitions.
        for _ in 0..=self.nodes.len() {
            let node = self.nodes.get(at)?;
            match node.below.first() {
                Some(below) => at = node.inputs.get(*below)?.digest.as_str(),
                None if node.makes_layers => return None,
                None => return Some(at),
            }
        }
        None
    }

    /// Returns the definition whose result is that of one step; `None` for a step of no definition.
    ///
    /// The metadata comes along but for `ignore_cache`, which is not part of a step's digest: while the
    /// build holds its results nothing would run either way, but afterwards `--no-cache` would make
    /// the steps run again.
    pub fn ending_at(&self, digest: &str) -> Option<Definition> {
        let outputs = &self.nodes.get(digest)?.outputs;
        self.ending_at_output(digest, outputs.first().copied().unwrap_or(0))
    }

    /// Returns the definition whose result is one output of a step, as [`ending_at`](Self::ending_at) does.
    pub fn ending_at_output(&self, digest: &str, output: i64) -> Option<Definition> {
        self.nodes.get(digest)?;
        let mut definition = Definition::default();
        for digest in self.inputs_first(digest) {
            let Some(node) = self.nodes.get(digest) else {
                continue;
            };
            definition.def.push(node.bytes.clone());
            if let Some(metadata) = &node.metadata {
                let metadata = OpMetadata {
                    ignore_cache: false,
                    ..metadata.clone()
                };
                definition.metadata.insert(digest.to_owned(), metadata);
            }
        }
        let end = Op {
            inputs: vec![Input {
                digest: digest.to_owned(),
                index: output,
            }],
            ..Op::default()
        };
        let end = end.encode_to_vec();
        // BuildKit's own definitions have metadata for the end, with the capabilities of the whole.
        let caps = caps(&definition.metadata);
        let metadata = OpMetadata {
            caps,
            ..OpMetadata::default()
        };
        definition
            .metadata
            .insert(Digest::of(&end).to_string(), metadata);
        definition.def.push(end);
        Some(definition)
    }

    /// Returns a step and its inputs, each after its own inputs. Without recursion: a graph may be as
    /// deep as it is long. Not the order of `CacheConfig::inputs_first`: that one is of all records, which
    /// name each other by index.
    fn inputs_first<'a>(&'a self, digest: &'a str) -> Vec<&'a str> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        let mut open = vec![(digest, false)];
        while let Some((digest, inputs_done)) = open.pop() {
            if inputs_done {
                order.push(digest);
                continue;
            }
            let Some(node) = self.nodes.get(digest).filter(|_| seen.insert(digest)) else {
                continue;
            };
            open.push((digest, true));
            let inputs = node.inputs.iter().rev();
            open.extend(inputs.map(|input| (input.digest.as_str(), false)));
        }
        order
    }
}

/// Returns which inputs a step's layers lie on: the root file system of a command, what files are
/// copied onto, all of a merge.
fn below(kind: &op::Op, inputs: usize) -> Vec<usize> {
    let index = |index: i64| usize::try_from(index).ok();
    match kind {
        op::Op::Exec(exec) => {
            let root = exec.mounts.iter().filter(|mount| mount.dest == "/");
            root.filter_map(|mount| index(mount.input)).collect()
        }
        op::Op::File(file) => {
            let onto = file.actions.iter().map(|action| action.input);
            // Numbers behind the inputs are the results of other actions of the same step.
            onto.filter_map(index).filter(|at| *at < inputs).collect()
        }
        op::Op::Merge(_) | op::Op::Diff(_) => (0..inputs).collect(),
        op::Op::Source(_) | op::Op::Build(_) => Vec::new(),
    }
}

/// Returns whether a source is an image (BuildKit `util/srctypes`).
fn is_image(identifier: &str) -> bool {
    ["docker-image://", "oci-layout://"]
        .iter()
        .any(|scheme| identifier.starts_with(scheme))
}

fn caps(metadata: &BTreeMap<String, OpMetadata>) -> BTreeMap<String, bool> {
    let all = metadata.values().flat_map(|metadata| &metadata.caps);
    all.map(|(name, on)| (name.clone(), *on)).collect()
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{ExecOp, FileAction, FileOp, MergeOp, Mount, SourceOp};

    use super::*;

    struct Maker(Definition);

    impl Maker {
        fn add(&mut self, kind: impl Into<Option<op::Op>>, inputs: &[(&str, i64)]) -> String {
            let inputs = inputs.iter().map(|(digest, index)| Input {
                digest: (*digest).to_owned(),
                index: *index,
            });
            let op = Op {
                inputs: inputs.collect(),
                op: kind.into(),
                ..Op::default()
            };
            let bytes = op.encode_to_vec();
            let digest = Digest::of(&bytes).to_string();
            let metadata = OpMetadata {
                ignore_cache: true,
                caps: BTreeMap::from([("source.image".to_owned(), true)]),
                ..OpMetadata::default()
            };
            self.0.metadata.insert(digest.clone(), metadata);
            self.0.def.push(bytes);
            digest
        }
    }

    fn source(name: &str) -> op::Op {
        op::Op::Source(SourceOp {
            identifier: name.to_owned(),
            ..SourceOp::default()
        })
    }

    fn exec() -> op::Op {
        let root = Mount {
            dest: "/".to_owned(),
            ..Mount::default()
        };
        let other = Mount {
            dest: "/tool".to_owned(),
            input: 1,
            ..Mount::default()
        };
        op::Op::Exec(ExecOp {
            mounts: vec![root, other],
            ..ExecOp::default()
        })
    }

    /// Copies the second input onto the first; -1 is nothing at all.
    fn copy(onto: i64) -> op::Op {
        let action = FileAction {
            input: onto,
            secondary_input: 0,
            ..FileAction::default()
        };
        op::Op::File(FileOp {
            actions: vec![action],
        })
    }

    /// base → one → two (which reads tool) → merge(two, copy(context)) → end
    fn example() -> (Graph, [String; 6]) {
        let mut maker = Maker(Definition::default());
        let base = maker.add(source("docker-image://a"), &[]);
        let context = maker.add(source("local://context"), &[]);
        let one = maker.add(exec(), &[(&base, 0)]);
        let tool = maker.add(exec(), &[(&base, 0), (&context, 0)]);
        let two = maker.add(exec(), &[(&one, 0), (&tool, 1)]);
        let copy = maker.add(copy(-1), &[(&context, 0)]);
        let merge = maker.add(op::Op::Merge(MergeOp::default()), &[(&two, 0), (&copy, 0)]);
        maker.add(None, &[(&merge, 0)]);
        let graph = Graph::of([&maker.0]).unwrap();
        (graph, [base, one, tool, two, copy, merge])
    }

    #[test]
    fn sources_make_no_layers() {
        let (graph, [base, one, _, _, copy, merge]) = example();
        assert!(!graph.makes_layers(&base));
        assert!(
            graph.makes_layers(&one) && graph.makes_layers(&copy) && graph.makes_layers(&merge)
        );
        assert!(!graph.makes_layers("sha256:unknown"));
    }

    #[test]
    fn what_followers_need_beside_a_step() {
        let (graph, [base, one, tool, two, copy, merge]) = example();
        let (needed, following) = graph.needed_beside(&one);
        assert_eq!(
            needed,
            BTreeSet::from([(tool.as_str(), 1), (copy.as_str(), 0)])
        );
        assert_eq!(following, HashSet::from([one.as_str(), &two, &merge]));
        assert!(graph.needed_beside(&merge).0.is_empty());
        assert!(graph.needed_beside("sha256:unknown").1.is_empty());
        assert!(graph.is_image(&base) && !graph.is_image(&one));
    }

    #[test]
    fn the_result_has_what_its_layers_lie_on() {
        let (graph, [base, one, tool, two, copy, merge]) = example();
        let chain = graph.result_chain();
        for step in [&base, &one, &two, &copy, &merge] {
            assert!(chain.contains(step.as_str()));
        }
        assert!(!chain.contains(tool.as_str()));
        let below_two = [&base, &one, &two].map(String::as_str);
        assert_eq!(graph.chain_of(&two), HashSet::from(below_two));
        assert!(graph.chain_of("sha256:unknown").is_empty());
        for step in [&base, &one, &tool, &two, &merge] {
            assert_eq!(graph.bottom_of(step), Some(base.as_str()));
        }
        assert_eq!(graph.bottom_of(&copy), None);
    }

    #[test]
    fn a_part_has_its_inputs_and_runs_nothing_again() {
        let (graph, [base, one, tool, two, copy, merge]) = example();
        let part = graph.ending_at(&two).unwrap();
        let digests: Vec<String> = part.def.iter().map(|b| Digest::of(b).to_string()).collect();
        assert_eq!(digests.len(), 6);
        for step in [&base, &one, &tool, &two] {
            assert!(digests.contains(step));
        }
        assert!(!digests.contains(&copy) && !digests.contains(&merge));
        assert!(
            part.metadata
                .values()
                .all(|metadata| !metadata.ignore_cache)
        );
        let end = &part.metadata[digests.last().unwrap()];
        assert!(end.caps.contains_key("source.image"));
        let place = |step| digests.iter().position(|d| d == step);
        assert!(place(&base) < place(&one) && place(&one) < place(&two));
        assert_eq!(graph.with_inputs(&two).len(), 5);
        assert_eq!(graph.ending_at("sha256:unknown"), None);
    }

    #[test]
    fn a_part_ends_at_the_output_that_others_use() {
        let (graph, [_, _, tool, ..]) = example();
        let part = graph.ending_at(&tool).unwrap();
        let end = Op::decode(part.def.last().unwrap().as_slice()).unwrap();
        assert_eq!(
            (end.inputs[0].digest.as_str(), end.inputs[0].index),
            (tool.as_str(), 1)
        );
    }

    #[test]
    fn bytes_that_are_no_op_are_refused() {
        let definition = Definition {
            def: vec![vec![0xff; 4]],
            ..Definition::default()
        };
        assert!(Graph::of([&definition]).is_err());
    }

    #[test]
    fn a_chain_of_many_steps_needs_no_stack() {
        let mut maker = Maker(Definition::default());
        let mut last = maker.add(source("docker-image://a"), &[]);
        for _ in 0..50_000 {
            last = maker.add(exec(), &[(&last, 0)]);
        }
        maker.add(None, &[(&last, 0)]);
        let graph = Graph::of([&maker.0]).unwrap();
        assert_eq!(graph.ending_at(&last).unwrap().def.len(), 50_002);
        assert_eq!(graph.result_chain().len(), 50_001);
    }
}
