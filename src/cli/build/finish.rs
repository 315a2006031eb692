//! What a build prints and writes at its end.

use std::path::Path;

use fs_err as fs;
use serde_json::{Map, Value, json};

use super::request::Files;
use crate::build::metadata;
use crate::build::run::{BuildError, BuildOutcome};
use crate::cli::Context;
use crate::env;
use crate::error::{CommandError, ErrorKind};
use crate::options::boolean::parse_bool;
use crate::progress::{Summary, source_error};

/// Removes the file of an earlier build, which would be wrong if this one fails.
///
/// # Errors
///
/// Fails where the file is there and cannot be removed.
pub(super) fn remove_stale(iidfile: Option<&Path>) -> Result<(), CommandError> {
    match iidfile.map(fs::remove_file) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CommandError::failed(error))
        }
        _ => Ok(()),
    }
}

/// Writes the files and prints the image identifier where it is asked for.
///
/// # Errors
///
/// Fails where a file cannot be written.
pub(super) fn render(
    outcome: &BuildOutcome,
    summary: &Summary,
    files: &Files,
    print_image_id: bool,
    ctx: &Context,
) -> Result<(), CommandError> {
    let image_id = metadata::image_id(&outcome.response).unwrap_or_default();
    if print_image_id {
        ctx.ui.data(image_id)?;
    }
    if let Some(path) = &files.iidfile {
        fs::write(path, image_id)?;
    }
    if let Some(path) = &files.metadata {
        let mut data = metadata::decode_response(&outcome.response);
        add_warnings(&mut data, summary, ctx);
        metadata::write_file(path, &data).map_err(|error| {
            CommandError::failed(format!(
                "cannot write the metadata file {}: {error}",
                path.display()
            ))
        })?;
    }
    Ok(())
}

fn add_warnings(data: &mut Map<String, Value>, summary: &Summary, ctx: &Context) {
    let wanted = ctx
        .env
        .non_empty(env::BUILDX_METADATA_WARNINGS)
        .and_then(parse_bool);
    if wanted != Some(true) || summary.warnings.is_empty() {
        return;
    }
    let list: Vec<Value> = summary.warnings.iter().map(warning_json).collect();
    data.insert("buildx.build.warnings".into(), list.into());
}

/// A warning in the shape of BuildKit's Go client (`client.VertexWarning`).
fn warning_json(warning: &bollard_buildkit_proto::moby::buildkit::v1::VertexWarning) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut object = json!({ "vertex": warning.vertex });
    let mut set = |key: &str, value: Value| {
        if let Some(map) = object.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    if warning.level != 0 {
        set("level", warning.level.into());
    }
    if !warning.short.is_empty() {
        set("short", STANDARD.encode(&warning.short).into());
    }
    if !warning.detail.is_empty() {
        let detail: Vec<String> = warning.detail.iter().map(|d| STANDARD.encode(d)).collect();
        set("detail", detail.into());
    }
    if !warning.url.is_empty() {
        set("url", warning.url.clone().into());
    }
    if let Some(info) = &warning.info {
        let mut source = json!({ "filename": info.filename, "data": STANDARD.encode(&info.data) });
        if let (Some(map), false) = (source.as_object_mut(), info.language.is_empty()) {
            map.insert("language".into(), info.language.clone().into());
        }
        set("sourceInfo", source);
    }
    if !warning.ranges.is_empty() {
        let ranges: Vec<Value> = warning
            .ranges
            .iter()
            .map(|range| {
                let position = |p: &Option<bollard_buildkit_proto::pb::Position>| {
                    p.as_ref()
                        .map_or_else(|| json!({}), |p| json!({ "line": p.line }))
                };
                json!({ "start": position(&range.start), "end": position(&range.end) })
            })
            .collect();
        set("range", ranges.into());
    }
    object
}

/// Turns a failed build into the command's error, with the source lines that failed before it.
pub(super) fn failure(error: BuildError) -> CommandError {
    let kind = error
        .rpc()
        .map_or(ErrorKind::Failed, crate::buildkit::RpcError::kind);
    let detail: String = error
        .rpc()
        .map(crate::buildkit::error::RpcError::sources)
        .unwrap_or_default()
        .iter()
        .filter_map(|s| source_error::excerpt(&s.filename, &s.data, &s.ranges))
        .collect();
    let hint = hint(&error);
    let mut command = CommandError::new(kind, BuildFailed(error));
    command.detail = detail;
    match hint {
        Some(hint) => command.hint(hint),
        None => command,
    }
}

/// The first words of every failed build, as buildx has them.
#[derive(Debug, thiserror::Error)]
#[error("failed to build")]
struct BuildFailed(#[source] BuildError);

fn hint(error: &BuildError) -> Option<String> {
    match error {
        BuildError::Cache(error) => Some(error.hint()),
        BuildError::Solve(rpc)
            if rpc.message().contains("server gave HTTP response to HTTPS client") =>
        {
            Some("a registry without TLS is named in the builder's buildkitd.toml, or for a cache with registry.insecure=true".to_owned())
        }
        _ => None,
    }
}
