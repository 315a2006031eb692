//! `docker cachex version`.

/// Where the sources of this program were; known where it was built to be installed.
const REVISION: &str = match option_env!("CACHEX_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

use super::Context;
use super::hand_on::Call;
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
    let text = if ctx.name.is_buildx() {
        // Programs read the second word and switch on what that version of buildx has; the third says who answers.
        let args: Vec<_> = std::env::args_os().skip(1).collect();
        let call = Call {
            name: &ctx.name,
            env: &ctx.env,
            args: &args,
        };
        let buildx = call.version();
        format!("github.com/docker/buildx {buildx} cachex-{version}")
    } else {
        format!("docker-cachex v{version} {REVISION}")
    };
    ctx.ui.data(&text)?;
    Ok(())
}
