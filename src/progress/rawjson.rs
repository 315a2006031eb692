//! Status reports as JSON, one object a line, in the form that Go's `encoding/json` gives
//! BuildKit's `client.SolveStatus`.

mod wire;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, VertexWarning};

use super::Display;
use super::model::Model;
use super::time::Time;
use crate::text::go_json;

/// Prints each report as it comes.
#[derive(Debug)]
pub struct RawJson;

impl Display for RawJson {
    fn status(&mut self, _: &mut Model, status: &StatusResponse, _: Time, out: &mut Vec<u8>) {
        out.extend_from_slice(line(status).as_bytes());
        out.push(b'\n');
    }

    fn tick(&mut self, _: &mut Model, _: Time, _: &mut Vec<u8>) {}

    fn end(&mut self, _: &mut Model, _: Time, _: &mut Vec<u8>) {}
}

/// Returns a report as one line of JSON, without the line end.
pub fn line(status: &StatusResponse) -> String {
    go_json::encode(&wire::SolveStatus::from(status))
}

/// Returns warnings as the JSON list that buildx writes under `buildx.build.warnings` into the
/// metadata file.
pub fn warnings(list: &[VertexWarning]) -> serde_json::Value {
    let list: Vec<wire::VertexWarning<'_>> = list.iter().map(wire::VertexWarning::from).collect();
    // The types are plain: maps have text keys, and nothing else can fail.
    serde_json::to_value(list).unwrap_or_default()
}

#[cfg(test)]
mod tests;
