//! `inspect`: one builder with all that its nodes tell.

use std::time::Duration;

use crate::builder::{Builder, load, resolve};
use crate::env::DEBUG;
use crate::error::CommandError;
use crate::options::duration;

use super::Context;
use super::boot_progress::boot;
use super::docker_env::docker_env;
use super::probe::BuildkitProbe;

mod render;

/// Inspect current builder instance
#[derive(Debug, Clone, clap::Args)]
pub struct InspectArgs {
    /// Name of the builder
    #[arg(id = "builder", value_name = "NAME")]
    pub name: Option<String>,
    /// Ensure builder has booted before inspecting
    #[arg(long)]
    pub bootstrap: bool,
    /// Override the default timeout for loading builder status
    #[arg(long, value_name = "duration", default_value = "20s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Runs the command: a text about the builder on standard output. A node that does not answer is part
/// of the text.
///
/// # Errors
///
/// Fails for a builder that does not exist, or one that cannot be booted if that is asked for.
pub async fn run(args: InspectArgs, context: &Context) -> Result<(), CommandError> {
    let docker_env = docker_env(context)?;
    let name = context.builder_name(args.name.as_deref());
    let found = resolve::find(&docker_env, name)?;
    if args.bootstrap && !found.is_context {
        let builder = Builder::new(&docker_env, found.group.clone())?;
        boot(&builder, context).await?;
    }
    let loaded = load::load(&docker_env, found, Some(&BuildkitProbe), args.timeout).await;
    let debug = context.global.debug || context.env.non_empty(DEBUG).is_some();
    let text = render::text(&loaded, debug);
    context.ui.data(text.trim_end_matches('\n'))?;
    Ok(())
}
