//! The objects of the JSON lines. Field names, order and what is left out follow the struct tags
//! of BuildKit's `client/graph.go` and `solver/pb/ops.pb.go`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1 as api;
use bollard_buildkit_proto::pb;
use serde::{Serialize, Serializer};

/// Bytes, in base64.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

/// A time in UTC, RFC 3339, fraction without trailing zeros. What no calendar has is the epoch.
struct Moment(Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = jiff::Timestamp::new(self.0.seconds, self.0.nanos).unwrap_or_default();
        serializer.collect_str(&time)
    }
}

/// Takes what Go's `omitempty` leaves out away.
fn text(text: &str) -> Option<&str> {
    Some(text).filter(|t| !t.is_empty())
}

fn bytes(bytes: &[u8]) -> Option<Bytes<'_>> {
    Some(Bytes(bytes)).filter(|b| !b.0.is_empty())
}

fn number<T: Default + PartialEq + Copy>(number: T) -> Option<T> {
    Some(number).filter(|n| *n != T::default())
}

fn list<'a, A, B: From<&'a A>>(list: &'a [A]) -> Vec<B> {
    list.iter().map(B::from).collect()
}

macro_rules! wire {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Serialize)]
        pub(super) struct $name<'a> {
            $(#[serde(skip_serializing_if = "is_absent")] $(#[$attr])* $field: $type,)*
        }
    };
}

/// What `omitempty` looks at.
trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Absent for &[T] {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for &BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

fn is_absent(value: &impl Absent) -> bool {
    value.is_absent()
}

wire!(
    /// A report.
    SolveStatus {
        vertexes: Vec<Vertex<'a>>,
        statuses: Vec<VertexStatus<'a>>,
        logs: Vec<VertexLog<'a>>,
        warnings: Vec<VertexWarning<'a>>,
    }
);

impl<'a> From<&'a api::StatusResponse> for SolveStatus<'a> {
    fn from(status: &'a api::StatusResponse) -> Self {
        Self {
            vertexes: list(&status.vertexes),
            statuses: list(&status.statuses),
            logs: list(&status.logs),
            warnings: list(&status.warnings),
        }
    }
}

wire!(
    /// A step.
    Vertex {
        digest: Option<&'a str>,
        inputs: &'a [String],
        name: Option<&'a str>,
        started: Option<Moment>,
        completed: Option<Moment>,
        cached: Option<bool>,
        error: Option<&'a str>,
        #[serde(rename = "progressGroup")]
        progress_group: Option<ProgressGroup<'a>>,
    }
);

impl<'a> From<&'a api::Vertex> for Vertex<'a> {
    fn from(vertex: &'a api::Vertex) -> Self {
        Self {
            digest: text(&vertex.digest),
            inputs: &vertex.inputs,
            name: text(&vertex.name),
            started: vertex.started.map(Moment),
            completed: vertex.completed.map(Moment),
            cached: number(vertex.cached),
            error: text(&vertex.error),
            progress_group: vertex.progress_group.as_ref().map(ProgressGroup::from),
        }
    }
}

wire!(
    /// A group of steps.
    ProgressGroup {
        id: Option<&'a str>,
        name: Option<&'a str>,
        weak: Option<bool>,
    }
);

impl<'a> From<&'a pb::ProgressGroup> for ProgressGroup<'a> {
    fn from(group: &'a pb::ProgressGroup) -> Self {
        Self {
            id: text(&group.id),
            name: text(&group.name),
            weak: number(group.weak),
        }
    }
}

/// A part of a step.
#[derive(Serialize)]
pub(super) struct VertexStatus<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "is_absent")]
    vertex: Option<&'a str>,
    #[serde(skip_serializing_if = "is_absent")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_absent")]
    total: Option<i64>,
    current: i64,
    timestamp: Moment,
    #[serde(skip_serializing_if = "is_absent")]
    started: Option<Moment>,
    #[serde(skip_serializing_if = "is_absent")]
    completed: Option<Moment>,
}

impl<'a> From<&'a api::VertexStatus> for VertexStatus<'a> {
    fn from(status: &'a api::VertexStatus) -> Self {
        Self {
            id: &status.id,
            vertex: text(&status.vertex),
            name: text(&status.name),
            total: number(status.total),
            current: status.current,
            timestamp: Moment(status.timestamp.unwrap_or_default()),
            started: status.started.map(Moment),
            completed: status.completed.map(Moment),
        }
    }
}

/// Log text of a step. Data that is empty is `null`, as an absent protobuf field is in Go.
#[derive(Serialize)]
pub(super) struct VertexLog<'a> {
    #[serde(skip_serializing_if = "is_absent")]
    vertex: Option<&'a str>,
    #[serde(skip_serializing_if = "is_absent")]
    stream: Option<i64>,
    data: Option<Bytes<'a>>,
    timestamp: Moment,
}

impl<'a> From<&'a api::VertexLog> for VertexLog<'a> {
    fn from(log: &'a api::VertexLog) -> Self {
        Self {
            vertex: text(&log.vertex),
            stream: number(log.stream),
            data: bytes(&log.msg),
            timestamp: Moment(log.timestamp.unwrap_or_default()),
        }
    }
}

wire!(
    /// A warning of a step.
    VertexWarning {
        vertex: Option<&'a str>,
        level: Option<i64>,
        short: Option<Bytes<'a>>,
        detail: Vec<Bytes<'a>>,
        url: Option<&'a str>,
        #[serde(rename = "sourceInfo")]
        source_info: Option<SourceInfo<'a>>,
        range: Vec<Range>,
    }
);

impl<'a> From<&'a api::VertexWarning> for VertexWarning<'a> {
    fn from(warning: &'a api::VertexWarning) -> Self {
        Self {
            vertex: text(&warning.vertex),
            level: number(warning.level),
            short: bytes(&warning.short),
            detail: warning.detail.iter().map(|d| Bytes(d)).collect(),
            url: text(&warning.url),
            source_info: warning.info.as_ref().map(SourceInfo::from),
            range: list(&warning.ranges),
        }
    }
}

wire!(
    /// A source file.
    SourceInfo {
        filename: Option<&'a str>,
        data: Option<Bytes<'a>>,
        definition: Option<Definition<'a>>,
        language: Option<&'a str>,
    }
);

impl<'a> From<&'a pb::SourceInfo> for SourceInfo<'a> {
    fn from(info: &'a pb::SourceInfo) -> Self {
        Self {
            filename: text(&info.filename),
            data: bytes(&info.data),
            definition: info.definition.as_ref().map(Definition::from),
            language: text(&info.language),
        }
    }
}

/// Lines of a source file.
#[derive(Serialize)]
pub(super) struct Range {
    #[serde(skip_serializing_if = "is_absent")]
    start: Option<Position>,
    #[serde(skip_serializing_if = "is_absent")]
    end: Option<Position>,
}

#[derive(Serialize)]
struct Position {
    #[serde(skip_serializing_if = "is_absent")]
    line: Option<i32>,
    #[serde(skip_serializing_if = "is_absent")]
    character: Option<i32>,
}

impl From<&pb::Range> for Range {
    fn from(range: &pb::Range) -> Self {
        let position = |p: &pb::Position| Position {
            line: number(p.line),
            character: number(p.character),
        };
        Self {
            start: range.start.as_ref().map(position),
            end: range.end.as_ref().map(position),
        }
    }
}

wire!(
    /// An LLB graph.
    Definition {
        def: Vec<Bytes<'a>>,
        metadata: BTreeMap<&'a str, OpMetadata<'a>>,
        #[serde(rename = "Source")]
        source: Option<Source<'a>>,
    }
);

impl<'a> From<&'a pb::Definition> for Definition<'a> {
    fn from(definition: &'a pb::Definition) -> Self {
        Self {
            def: definition.def.iter().map(|d| Bytes(d)).collect(),
            metadata: definition
                .metadata
                .iter()
                .map(|(key, value)| (key.as_str(), OpMetadata::from(value)))
                .collect(),
            source: definition.source.as_ref().map(Source::from),
        }
    }
}

wire!(
    /// What is known of an operation.
    OpMetadata {
        ignore_cache: Option<bool>,
        description: &'a BTreeMap<String, String>,
        export_cache: Option<ExportCache>,
        caps: &'a BTreeMap<String, bool>,
        progress_group: Option<ProgressGroup<'a>>,
    }
);

impl<'a> From<&'a pb::OpMetadata> for OpMetadata<'a> {
    fn from(metadata: &'a pb::OpMetadata) -> Self {
        Self {
            ignore_cache: number(metadata.ignore_cache),
            description: &metadata.description,
            export_cache: metadata.export_cache.as_ref().map(|e| ExportCache {
                value: number(e.value),
            }),
            caps: &metadata.caps,
            progress_group: metadata.progress_group.as_ref().map(ProgressGroup::from),
        }
    }
}

#[derive(Serialize)]
struct ExportCache {
    #[serde(rename = "Value", skip_serializing_if = "is_absent")]
    value: Option<bool>,
}

wire!(
    /// Where the operations of a graph come from.
    Source {
        locations: BTreeMap<&'a str, Locations>,
        infos: Vec<SourceInfo<'a>>,
    }
);

impl<'a> From<&'a pb::Source> for Source<'a> {
    fn from(source: &'a pb::Source) -> Self {
        Self {
            locations: source
                .locations
                .iter()
                .map(|(key, value)| (key.as_str(), Locations::from(value)))
                .collect(),
            infos: list(&source.infos),
        }
    }
}

#[derive(Serialize)]
struct Locations {
    #[serde(skip_serializing_if = "is_absent")]
    locations: Vec<Location>,
}

impl From<&pb::Locations> for Locations {
    fn from(locations: &pb::Locations) -> Self {
        Self {
            locations: list(&locations.locations),
        }
    }
}

#[derive(Serialize)]
struct Location {
    #[serde(rename = "sourceIndex", skip_serializing_if = "is_absent")]
    source_index: Option<i32>,
    #[serde(skip_serializing_if = "is_absent")]
    ranges: Vec<Range>,
}

impl From<&pb::Location> for Location {
    fn from(location: &pb::Location) -> Self {
        Self {
            source_index: number(location.source_index),
            ranges: list(&location.ranges),
        }
    }
}
