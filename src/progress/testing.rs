//! Reports for tests. Times are milliseconds since a fixed moment.

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};

use super::time::Time;

/// 24 November 2026, noon.
const BASE: i64 = 1_795_521_600_000_000_000;

pub(super) fn at(ms: i64) -> Time {
    Time::from_nanos(BASE + ms * 1_000_000)
}

pub(super) fn stamp(ms: i64) -> Timestamp {
    at(ms).into()
}

pub(super) fn vertex(
    digest: &str,
    name: &str,
    started: Option<i64>,
    completed: Option<i64>,
) -> Vertex {
    Vertex {
        digest: digest.into(),
        name: name.into(),
        started: started.map(stamp),
        completed: completed.map(stamp),
        ..Vertex::default()
    }
}

pub(super) fn vertices(vertexes: Vec<Vertex>) -> StatusResponse {
    StatusResponse {
        vertexes,
        ..StatusResponse::default()
    }
}

pub(super) fn started(digest: &str, name: &str, ms: i64) -> StatusResponse {
    vertices(vec![vertex(digest, name, Some(ms), None)])
}

pub(super) fn completed(digest: &str, name: &str, from: i64, to: i64) -> StatusResponse {
    vertices(vec![vertex(digest, name, Some(from), Some(to))])
}

pub(super) fn cached(digest: &str, name: &str, ms: i64) -> StatusResponse {
    vertices(vec![Vertex {
        cached: true,
        ..vertex(digest, name, Some(ms), Some(ms))
    }])
}

pub(super) fn failed(digest: &str, name: &str, from: i64, to: i64, error: &str) -> StatusResponse {
    vertices(vec![Vertex {
        error: error.into(),
        ..vertex(digest, name, Some(from), Some(to))
    }])
}

pub(super) fn log(digest: &str, ms: i64, text: &str) -> StatusResponse {
    StatusResponse {
        logs: vec![VertexLog {
            vertex: digest.into(),
            timestamp: Some(stamp(ms)),
            stream: 1,
            msg: text.into(),
        }],
        ..StatusResponse::default()
    }
}

pub(super) fn part(
    digest: &str,
    id: &str,
    (current, total): (i64, i64),
    (start, now): (i64, i64),
    done: bool,
) -> StatusResponse {
    StatusResponse {
        statuses: vec![VertexStatus {
            id: id.into(),
            vertex: digest.into(),
            name: String::new(),
            current,
            total,
            timestamp: Some(stamp(now)),
            started: Some(stamp(start)),
            completed: done.then(|| stamp(now)),
        }],
        ..StatusResponse::default()
    }
}

pub(super) fn warning(digest: &str, short: &str) -> StatusResponse {
    StatusResponse {
        warnings: vec![VertexWarning {
            vertex: digest.into(),
            short: short.into(),
            ..VertexWarning::default()
        }],
        ..StatusResponse::default()
    }
}
