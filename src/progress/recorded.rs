//! Output of the real `docker buildx` (0.29.1), read back and printed by our displays.
//!
//! `live.jsonl` is what `build --progress=rawjson` printed; `pushed` and `failed` are what
//! `history logs --progress rawjson` and `--progress plain` printed of the same builds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use bollard_buildkit_proto::pb;
use serde_json::Value;

use super::model::{LogPolicy, Model};
use super::plain::{Options, Plain};
use super::time::Time;
use super::{Display as _, logs, rawjson};

const LIVE: &str = include_str!("testdata/live.jsonl");
const PUSHED: (&str, &str) = (
    include_str!("testdata/pushed.jsonl"),
    include_str!("testdata/pushed.txt"),
);
const FAILED: (&str, &str) = (
    include_str!("testdata/failed.jsonl"),
    include_str!("testdata/failed.txt"),
);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn small(value: &Value) -> i32 {
    i32::try_from(number(value)).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(text(value)).unwrap()
}

fn stamp(value: &Value) -> Option<Timestamp> {
    let time: jiff::Timestamp = value.as_str()?.parse().unwrap();
    Some(Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

fn list<T>(value: &Value, each: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(each).collect()
}

fn map<T>(value: &Value, each: impl Fn(&Value) -> T) -> std::collections::BTreeMap<String, T> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(k, v)| (k.clone(), each(v))).collect()
}

fn report(line: &str) -> StatusResponse {
    let value: Value = serde_json::from_str(line).unwrap();
    StatusResponse {
        vertexes: list(&value["vertexes"], vertex),
        statuses: list(&value["statuses"], |v| VertexStatus {
            id: text(&v["id"]),
            vertex: text(&v["vertex"]),
            name: text(&v["name"]),
            current: number(&v["current"]),
            total: number(&v["total"]),
            timestamp: stamp(&v["timestamp"]),
            started: stamp(&v["started"]),
            completed: stamp(&v["completed"]),
        }),
        logs: list(&value["logs"], |v| VertexLog {
            vertex: text(&v["vertex"]),
            timestamp: stamp(&v["timestamp"]),
            stream: number(&v["stream"]),
            msg: bytes(&v["data"]),
        }),
        warnings: list(&value["warnings"], warning),
    }
}

fn vertex(v: &Value) -> Vertex {
    Vertex {
        digest: text(&v["digest"]),
        inputs: list(&v["inputs"], text),
        name: text(&v["name"]),
        cached: v["cached"] == true,
        started: stamp(&v["started"]),
        completed: stamp(&v["completed"]),
        error: text(&v["error"]),
        progress_group: v["progressGroup"].as_object().map(|g| pb::ProgressGroup {
            id: text(&g["id"]),
            name: text(&g["name"]),
            weak: g.get("weak").is_some_and(|w| w == true),
        }),
    }
}

fn warning(v: &Value) -> VertexWarning {
    let position = |p: &Value| {
        p.is_object().then(|| pb::Position {
            line: small(&p["line"]),
            character: small(&p["character"]),
        })
    };
    let range = |r: &Value| pb::Range {
        start: position(&r["start"]),
        end: position(&r["end"]),
    };
    let info = &v["sourceInfo"];
    let definition = &info["definition"];
    let location = |l: &Value| pb::Location {
        source_index: small(&l["sourceIndex"]),
        ranges: list(&l["ranges"], range),
    };
    VertexWarning {
        vertex: text(&v["vertex"]),
        level: number(&v["level"]),
        short: bytes(&v["short"]),
        detail: list(&v["detail"], bytes),
        url: text(&v["url"]),
        info: info.is_object().then(|| pb::SourceInfo {
            filename: text(&info["filename"]),
            data: bytes(&info["data"]),
            definition: definition.is_object().then(|| pb::Definition {
                def: list(&definition["def"], bytes),
                metadata: map(&definition["metadata"], |m| pb::OpMetadata {
                    description: map(&m["description"], text),
                    caps: map(&m["caps"], |c| c == true),
                    ..pb::OpMetadata::default()
                }),
                source: definition["Source"].is_object().then(|| pb::Source {
                    locations: map(&definition["Source"]["locations"], |l| pb::Locations {
                        locations: list(&l["locations"], location),
                    }),
                    infos: Vec::new(),
                }),
            }),
            language: text(&info["language"]),
        }),
        ranges: list(&v["range"], range),
    }
}

/// Plays reports that all come at once, as a replay of a build's history does.
fn replay(lines: &str) -> (Model, String) {
    let mut model = Model::new(LogPolicy::lines(true));
    let mut plain = Plain::new(Options::default());
    let mut out = Vec::new();
    for line in lines.lines() {
        let status = report(line);
        let now = Time::default();
        model.apply(&status, now);
        plain.status(&mut model, &status, now, &mut out);
    }
    plain.end(&mut model, Time::default(), &mut out);
    for step in model.failed() {
        out.extend_from_slice(&logs::block(&step, false));
    }
    (model, String::from_utf8(out).unwrap())
}

#[test]
fn rawjson_is_byte_for_byte_what_buildx_prints() {
    for line in LIVE.lines().chain(PUSHED.0.lines()).chain(FAILED.0.lines()) {
        assert_eq!(rawjson::line(&report(line)), line);
    }
}

#[test]
fn plain_is_byte_for_byte_what_buildx_prints() {
    let (model, text) = replay(PUSHED.0);
    assert_eq!(text, PUSHED.1);
    assert!(model.failed().is_empty());
    assert_eq!(model.warnings().list().len(), 1);
    let (model, text) = replay(FAILED.0);
    assert_eq!(text, FAILED.1);
    assert_eq!(model.failed().len(), 1);
}

#[test]
fn a_live_stream_ends_with_all_steps_done() {
    let (model, text) = replay(LIVE);
    let counts = model.counts();
    assert_eq!(counts.completed, counts.total);
    assert_eq!(text.matches("other 3\n").count(), 1);
    assert!(text.contains(" partial line\n"), "{text}");
}
