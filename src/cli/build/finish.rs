//! What a build prints and writes at its end.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::request::Files;
use crate::build::output::metadata;
use crate::build::run::{BuildError, BuildOutcome};
use crate::buildkit::RpcError;
use crate::cli::Context;
use crate::env;
use crate::error::{CommandError, ErrorKind};
use crate::options::boolean::parse_bool;
use crate::output_file::{self, OutputError};
use crate::progress::{Summary, rawjson, source_error};

/// Removes the image identifier of an earlier build, which would be wrong if this one fails, and
/// checks before the build that the files can be what the user named.
///
/// # Errors
///
/// Fails if a path is no place for a file, or the earlier file cannot be removed.
pub(super) fn prepare(files: &Files) -> Result<(), CommandError> {
    let named = [
        (IMAGE_ID_FILE, &files.iidfile),
        (METADATA_FILE, &files.metadata),
    ];
    for (name, path) in named {
        let Some(path) = path else { continue };
        output_file::check(path).map_err(|error| refused(name, path, &error))?;
    }
    if let Some(path) = &files.iidfile {
        output_file::remove_stale(path).map_err(|error| refused(IMAGE_ID_FILE, path, &error))?;
    }
    Ok(())
}

const IMAGE_ID_FILE: &str = "image ID file";
const METADATA_FILE: &str = "metadata file";

pub(super) fn refused(name: &str, path: &Path, error: &OutputError) -> CommandError {
    let hint = error.hint();
    let command = CommandError::failed(format!(
        "cannot write the {name} {}: {error}",
        path.display()
    ));
    match hint {
        Some(hint) => command.hint(hint),
        None => command,
    }
}

/// Writes the files and prints the image identifier where it is asked for.
///
/// # Errors
///
/// Fails if a file cannot be written.
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
        output_file::write(path, image_id.as_bytes())
            .map_err(|error| refused(IMAGE_ID_FILE, path, &error))?;
    }
    if let Some(path) = &files.metadata {
        let mut data = metadata::decode_response(&outcome.response);
        add_warnings(&mut data, summary, ctx);
        metadata::write_file(path, &data).map_err(|error| refused(METADATA_FILE, path, &error))?;
    }
    Ok(())
}

/// Prints what the frontend had to say to the user with its result.
///
/// # Errors
///
/// Fails if standard output cannot be written.
pub(super) fn inline_message(
    response: &BTreeMap<String, String>,
    ctx: &Context,
) -> Result<(), CommandError> {
    if let Some(message) = response.get("frontend.result.inlinemessage") {
        ctx.ui.data(&format!("\n{message}"))?;
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
    data.insert(
        "buildx.build.warnings".into(),
        rawjson::warnings(&summary.warnings),
    );
}

/// Turns a failed build into the command's error, with the source lines that failed before it.
pub(super) fn failure(error: BuildError) -> CommandError {
    let kind = match &error {
        // The builder calls it a cancellation, and nobody has cancelled.
        BuildError::SessionLost { .. } => ErrorKind::Failed,
        BuildError::NotCached(_) => ErrorKind::NotCached,
        error => error.rpc().map_or(ErrorKind::Failed, RpcError::kind),
    };
    let detail: String = error
        .rpc()
        .map(RpcError::sources)
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
        BuildError::Policy(error) => error.hint().map(str::to_owned),
        BuildError::SessionLost { .. } => Some(
            "a proxy before the builder may end connections after some time: run the build once more".to_owned(),
        ),
        BuildError::NotAgain { .. } => Some(
            "run it once more: without that --cache-from, or with a file or folder for what went by a pipe".to_owned(),
        ),
        BuildError::Solve(rpc) if rpc.hint().is_some() => rpc.hint(),
        BuildError::Solve(rpc)
            if rpc.message().contains("server gave HTTP response to HTTPS client") =>
        {
            Some("a registry without TLS is named in the builder's buildkitd.toml, or for a cache with registry.insecure=true".to_owned())
        }
        _ => None,
    }
}
