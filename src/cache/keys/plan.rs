//! The steps of a build, each after its inputs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use bollard_buildkit_proto::pb::{self, Definition, Op, op};
use prost::Message as _;

use super::{Facts, Unknown, declared, text};
use crate::digest::Digest;
use crate::options::platform::Platform;

/// The steps of the definitions of a build's result.
#[derive(Debug, Default)]
pub struct Plan {
    vertices: Vec<Vertex>,
    by_digest: HashMap<String, usize>,
    /// The steps whose results the build returns.
    results: Vec<Edge>,
    /// The build arguments that the Dockerfile declares.
    arguments: BTreeSet<String>,
    /// The image that the Dockerfile names as its frontend, or `builtin`.
    frontend: String,
    /// The outputs of each vertex that are used.
    outputs: Vec<BTreeSet<i64>>,
}

/// One output of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// Index of the vertex.
    pub vertex: usize,
    /// Which of its outputs.
    pub output: i64,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// Digest of its bytes, by which the status stream names it.
    pub digest: String,
    /// What it does.
    pub op: Result<op::Op, Unknown>,
    /// Its inputs; `None` for one that is not among the steps, or depends on the step itself.
    pub inputs: Vec<Option<Edge>>,
    /// The platform it runs on, where the definition says so.
    pub platform: Option<pb::Platform>,
    /// Its name: that of the instruction.
    pub name: String,
    /// Its name as the frontend wrote it, by which the status stream tells it.
    pub told_as: String,
    /// Whether the build said that it must run.
    pub ignores_cache: bool,
    /// Where it stands in the Dockerfile.
    pub place: Option<Place>,
    /// The instruction there, all its lines, with variables as they stand.
    pub text: Option<String>,
}

/// A place in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// The first line, from 1.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A command.
    Exec,
    /// A file operation.
    File,
    /// A merge.
    Merge,
    /// A difference.
    Diff,
    /// An image of a registry or a layout.
    Image,
    /// A Git repository.
    Git,
    /// A file of a web server.
    Http,
    /// A folder of the client.
    Local,
    /// Something else.
    Other,
}

impl Kind {
    /// Returns the word for it in records and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::File => "file",
            Self::Merge => "merge",
            Self::Diff => "diff",
            Self::Image => "image",
            Self::Git => "git",
            Self::Http => "http",
            Self::Local => "local",
            Self::Other => "other",
        }
    }
}

impl Vertex {
    /// Returns what the step is.
    pub fn kind(&self) -> Kind {
        let source = match &self.op {
            Ok(op::Op::Exec(_)) => return Kind::Exec,
            Ok(op::Op::File(_)) => return Kind::File,
            Ok(op::Op::Merge(_)) => return Kind::Merge,
            Ok(op::Op::Diff(_)) => return Kind::Diff,
            Ok(op::Op::Source(source)) => source,
            Ok(op::Op::Build(_)) | Err(_) => return Kind::Other,
        };
        match source.identifier.split_once("://") {
            Some(("docker-image" | "oci-layout", _)) => Kind::Image,
            Some(("git", _)) => Kind::Git,
            Some(("http" | "https", _)) => Kind::Http,
            Some(("local", _)) => Kind::Local,
            _ => Kind::Other,
        }
    }

    /// Returns whether the step makes a layer, and is not a source.
    pub fn makes_layers(&self) -> bool {
        let kind = self.kind();
        matches!(kind, Kind::Exec | Kind::File | Kind::Merge | Kind::Diff)
    }

    /// Returns the name of a source that is a folder of the client.
    pub fn local_name(&self) -> Option<&str> {
        match &self.op {
            Ok(op::Op::Source(source)) => source.identifier.strip_prefix("local://"),
            _ => None,
        }
    }

    /// Returns the platform as BuildKit normalizes it.
    ///
    /// # Errors
    ///
    /// Fails if neither the step nor the facts say it.
    pub fn platform(&self, facts: &Facts<'_>) -> Result<pb::Platform, Unknown> {
        let platform = self.platform.as_ref().or(facts.platform.as_ref());
        Ok(normalized(platform.ok_or(Unknown::Platform)?))
    }
}

/// Returns the platform with the usual names: `linux/arm64/v8` is `linux/arm64`.
pub(super) fn normalized(platform: &pb::Platform) -> pb::Platform {
    to_proto(&from_proto(platform).normalized())
}

/// Returns the usual name of a platform, such as `linux/arm64`.
pub fn platform_name(platform: &pb::Platform) -> String {
    from_proto(platform).normalized().format()
}

fn from_proto(platform: &pb::Platform) -> Platform {
    let platform = platform.clone();
    Platform {
        architecture: platform.architecture,
        os: platform.os,
        os_version: platform.os_version,
        os_features: platform.os_features,
        variant: platform.variant,
    }
}

/// Returns the platform as definitions have it.
pub fn to_proto(platform: &Platform) -> pb::Platform {
    let platform = platform.clone();
    pb::Platform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        os_version: platform.os_version,
        os_features: platform.os_features,
    }
}

impl Plan {
    /// Reads the definitions of a result's parts. What cannot be read in them is kept as an unknown
    /// step.
    pub fn of<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> Self {
        let mut read = HashMap::new();
        let mut order = Vec::new();
        let mut results = Vec::new();
        let mut arguments = BTreeSet::new();
        let mut frontend = None;
        for definition in definitions {
            arguments.extend(declared::arguments(definition));
            frontend.get_or_insert_with(|| text::frontend(definition));
            let places = places(definition);
            let last = definition.def.len().saturating_sub(1);
            for (at, bytes) in definition.def.iter().enumerate() {
                let op = Op::decode(bytes.as_slice());
                if let Ok(op) = &op
                    && at == last
                    && op.op.is_none()
                {
                    results.extend(op.inputs.first().cloned());
                    continue;
                }
                let digest = Digest::of(bytes).to_string();
                let step = Read::new(bytes, op, &digest, definition, &places);
                if let Entry::Vacant(place) = read.entry(digest) {
                    order.push(place.key().clone());
                    place.insert(step);
                }
            }
        }
        let mut plan = Self::in_order(read, order, &results);
        plan.arguments = arguments;
        plan.frontend = frontend.unwrap_or_default();
        plan
    }

    /// Puts the steps in the order in which the results need them, each behind its inputs. Digests do not count: that of
    /// a folder of the client holds the session, and is another one in each build. Works without recursion: a
    /// definition may be as deep as it is long.
    fn in_order(
        mut read: HashMap<String, Read>,
        order: Vec<String>,
        results: &[pb::Input],
    ) -> Self {
        let mut plan = Self::default();
        let needed = results.iter().map(|result| result.digest.clone());
        // What no result needs comes last, as the definitions have it.
        let mut open: Vec<(String, bool)> = needed.chain(order).map(|d| (d, false)).collect();
        open.reverse();
        let mut begun = BTreeSet::new();
        while let Some((digest, inputs_done)) = open.pop() {
            if inputs_done {
                if let Some(step) = read.remove(&digest) {
                    plan.add(step);
                }
            } else if begun.insert(digest.clone())
                && let Some(step) = read.get(&digest)
            {
                let inputs = step.inputs.iter().rev();
                let inputs: Vec<_> = inputs.map(|i| (i.digest.clone(), false)).collect();
                open.push((digest, true));
                open.extend(inputs);
            }
        }
        let edges: Vec<Edge> = results.iter().filter_map(|r| plan.edge(r)).collect();
        for edge in &edges {
            plan.use_output(*edge);
        }
        plan.results = edges;
        plan
    }

    fn add(&mut self, step: Read) {
        let inputs: Vec<_> = step.inputs.iter().map(|input| self.edge(input)).collect();
        for edge in inputs.iter().flatten() {
            self.use_output(*edge);
        }
        let mut vertex = step.vertex;
        if inputs.iter().any(Option::is_none) && vertex.op.is_ok() {
            vertex.op = Err(Unknown::MissingInput);
        }
        vertex.inputs = inputs;
        self.by_digest
            .insert(vertex.digest.clone(), self.vertices.len());
        self.vertices.push(vertex);
        self.outputs.push(BTreeSet::new());
    }

    fn use_output(&mut self, edge: Edge) {
        if let Some(outputs) = self.outputs.get_mut(edge.vertex) {
            outputs.insert(edge.output);
        }
    }

    fn edge(&self, input: &pb::Input) -> Option<Edge> {
        Some(Edge {
            vertex: *self.by_digest.get(&input.digest)?,
            output: input.index,
        })
    }

    /// Returns the steps, each after its inputs.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// Returns the build arguments that the Dockerfile declares.
    pub fn arguments(&self) -> &BTreeSet<String> {
        &self.arguments
    }

    /// Returns the image that the Dockerfile names as its frontend, or `builtin`.
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// Returns the index of the step with a digest.
    pub fn index_of(&self, digest: &str) -> Option<usize> {
        self.by_digest.get(digest).copied()
    }

    /// Returns the steps whose results the build returns.
    pub fn results(&self) -> &[Edge] {
        &self.results
    }

    /// Returns the outputs of a vertex that something uses.
    pub fn outputs(&self, vertex: usize) -> impl Iterator<Item = i64> {
        self.outputs.get(vertex).into_iter().flatten().copied()
    }
}

/// A step before its inputs are looked up.
struct Read {
    vertex: Vertex,
    inputs: Vec<pb::Input>,
}

impl Read {
    fn new(
        bytes: &[u8],
        op: Result<Op, prost::DecodeError>,
        digest: &str,
        definition: &Definition,
        places: &HashMap<&str, Place>,
    ) -> Self {
        let metadata = definition.metadata.get(digest);
        let name = metadata.and_then(|m| m.description.get("llb.customname"));
        let told_as = name.cloned().unwrap_or_default();
        let place = places.get(digest);
        let mut read = Self {
            vertex: Vertex {
                digest: digest.to_owned(),
                op: Err(Unknown::Unreadable),
                inputs: Vec::new(),
                platform: None,
                name: own_name(&told_as, op.as_ref().ok()),
                told_as,
                ignores_cache: metadata.is_some_and(|metadata| metadata.ignore_cache),
                place: place.cloned(),
                text: place.and_then(|place| text::of(place, definition)),
            },
            inputs: Vec::new(),
        };
        if let Ok(op) = op {
            // What this program does not know is lost in the decoded form, and may count.
            let complete = op.encoded_len() == bytes.len();
            read.inputs = op.inputs;
            read.vertex.platform = op.platform;
            read.vertex.op = match op.op {
                Some(kind) if complete => Ok(kind),
                Some(_) => Err(Unknown::NewFields),
                None => Err(Unknown::NewKind),
            };
        }
        read
    }
}

/// Returns the name of a step as the Dockerfile has it. Of `COPY --link` the frontend makes two vertices, of which the
/// second, a merge, is called `LINK COPY --link …` (BuildKit `frontend/dockerfile/dockerfile2llb`).
fn own_name(name: &str, op: Option<&Op>) -> String {
    let is_merge = matches!(op.and_then(|op| op.op.as_ref()), Some(op::Op::Merge(_)));
    let (label, text) = match name.split_once("] ") {
        Some((label, text)) if label.starts_with('[') => (name.get(..label.len() + 2), text),
        _ => (None, name),
    };
    match text.strip_prefix("LINK ").filter(|_| is_merge) {
        Some(text) => format!("{}{text}", label.unwrap_or_default()),
        None => name.to_owned(),
    }
}

/// Returns where the steps of a definition stand.
fn places(definition: &Definition) -> HashMap<&str, Place> {
    let Some(source) = &definition.source else {
        return HashMap::new();
    };
    let place = |location: &pb::Location| {
        let info = usize::try_from(location.source_index).ok()?;
        let lines = location.ranges.iter();
        let line = |position: Option<pb::Position>| u32::try_from(position?.line).ok();
        Some(Place {
            file: source.infos.get(info)?.filename.clone(),
            first: lines.clone().filter_map(|range| line(range.start)).min()?,
            last: lines.filter_map(|range| line(range.end)).max()?,
        })
    };
    // An image that several stages begin with stands in each of them.
    let place = |locations: &pb::Locations| locations.locations.iter().filter_map(place).min();
    let places = source.locations.iter();
    places
        .filter_map(|(digest, locations)| Some((digest.as_str(), place(locations)?)))
        .collect()
}
