//! `docker cachex version`.

/// Where the sources of this program were; known where it was built to be installed.
const REVISION: &str = match option_env!("CACHEX_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

use super::Context;
use crate::error::CommandError;

/// Show version information
#[derive(Debug, clap::Args)]
pub struct VersionArgs {}

/// Prints name, version and revision, in the form of buildx.
///
/// # Errors
///
/// Fails if standard output cannot be written.
pub fn run(_args: &VersionArgs, ctx: &Context) -> Result<(), CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    ctx.ui
        .data(&format!("docker-cachex v{version} {REVISION}"))?;
    Ok(())
}
