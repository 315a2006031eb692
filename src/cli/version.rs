//! `docker cachex version`.

use super::Context;
use crate::error::CommandError;

/// Show version information
#[derive(Debug, clap::Args)]
pub struct VersionArgs {}

/// Prints name and version.
///
/// # Errors
///
/// Fails where standard output cannot be written.
pub fn run(_args: &VersionArgs, ctx: &Context) -> Result<(), CommandError> {
    ctx.ui
        .data(concat!("docker-cachex ", env!("CARGO_PKG_VERSION")))?;
    Ok(())
}
