//! Makes a cache that does not exist yet one quiet line.
//!
//! BuildKit reports it as the error of a step that the build then does without; the first build of
//! every branch would look broken.

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};

/// Name of the step that reads a cache's manifest (BuildKit `cache/remotecache`).
const STEP: &str = "importing cache manifest from ";
/// Beginning of the message where the reference itself fails, and not a blob that it leads to (BuildKit
/// `solver/llbsolver`).
const SET_UP: &str = "failed to configure ";
/// What is said about a cache that is not there.
pub const MISSING: &str = "no cache there yet, building without it";
/// End of the message for a reference that the registry does not have (containerd `errdefs`).
const NOT_FOUND: &str = ": not found";

/// Turns the failure of importing a missing cache into a remark.
pub fn soften(status: &mut StatusResponse) {
    let mut remarks = Vec::new();
    for vertex in &mut status.vertexes {
        if is_missing_cache(vertex) {
            vertex.error.clear();
            remarks.push(remark(vertex));
        }
    }
    status.statuses.append(&mut remarks);
}

fn is_missing_cache(vertex: &Vertex) -> bool {
    imported(vertex).is_some()
        && vertex.error.starts_with(SET_UP)
        && vertex.error.ends_with(NOT_FOUND)
}

/// Returns the cache whose manifest a step reads, as BuildKit names it.
pub fn imported(vertex: &Vertex) -> Option<&str> {
    vertex.name.strip_prefix(STEP)
}

/// Returns the cache that is there and could not be read, as BuildKit names it, and its error.
pub fn unread(vertex: &Vertex) -> Option<(&str, &str)> {
    let cache = imported(vertex)?;
    let failed = !vertex.error.is_empty() && !is_missing_cache(vertex);
    failed.then_some((cache, vertex.error.as_str()))
}

fn remark(vertex: &Vertex) -> VertexStatus {
    VertexStatus {
        id: MISSING.to_owned(),
        vertex: vertex.digest.clone(),
        timestamp: vertex.completed,
        started: vertex.started,
        completed: vertex.completed,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, error: &str) -> StatusResponse {
        let vertex = Vertex {
            digest: "sha256:a".into(),
            name: name.into(),
            error: error.into(),
            ..Default::default()
        };
        StatusResponse {
            vertexes: vec![vertex],
            ..Default::default()
        }
    }

    #[test]
    fn a_missing_cache_is_a_remark() {
        let mut missing = status(
            "importing cache manifest from r.io/a:c",
            "failed to configure registry cache importer: r.io/a:c: not found",
        );
        soften(&mut missing);
        assert_eq!(missing.vertexes[0].error, "");
        assert_eq!(missing.statuses[0].vertex, "sha256:a");
    }

    #[test]
    fn other_failures_stay() {
        for (name, error) in [
            ("importing cache manifest from r.io/a:c", "unauthorized"),
            ("[1/2] RUN x", "sh: x: not found"),
            (
                "importing cache manifest from r.io/a:c",
                "content descriptor sha256:a: not found",
            ),
        ] {
            let mut other = status(name, error);
            soften(&mut other);
            assert_eq!(other, status(name, error));
        }
    }
}
