//! `ls`: all builders with their nodes.

use std::sync::Arc;
use std::time::Duration;

use crate::builder::load::{self, LoadedBuilder};
use crate::builder::{DockerEnv, resolve};
use crate::error::CommandError;
use crate::options::duration;

use super::Context;
use super::docker_env::docker_env;
use super::probe::BuildkitProbe;

mod json;
mod platforms;
mod render;

/// List builder instances
#[derive(Debug, Clone, clap::Args)]
pub struct LsArgs {
    /// Format the output: table, json, or a template such as '{{.Name}}'
    #[arg(long, value_name = "string", default_value = "table")]
    pub format: String,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Override the default timeout for loading builder status
    #[arg(long, value_name = "duration", default_value = "20s", value_parser = duration::parse)]
    pub timeout: Duration,
}

impl LsArgs {
    /// Returns whether the form of the output is one that is known here.
    pub(super) fn has_known_format(&self) -> bool {
        render::format(&self.format).is_ok()
    }
}

/// Runs the command: the list on standard output, errors of single builders on standard error.
///
/// # Errors
///
/// Fails if the store cannot be read or the template is wrong, not for a builder that is broken.
pub async fn run(args: LsArgs, context: &Context) -> Result<(), CommandError> {
    // A wrong template is reported before the nodes are asked.
    let format = render::format(&args.format).map_err(CommandError::failed)?;
    let docker_env = docker_env(context)?;
    let current = resolve::find(&docker_env, None)?.group.name;
    let builders = load_all(&docker_env, args.timeout).await?;
    let list = render::Listing {
        builders: &builders,
        current: &current,
        truncate: !args.no_trunc,
    };
    let text = list.render(&format).map_err(CommandError::failed)?;
    if !text.is_empty() {
        context.ui.data(text.trim_end_matches('\n'))?;
    }
    if format.is_table() {
        let errors = list.errors();
        if !errors.is_empty() {
            context.ui.status(&format!("\n{}", errors.join("\n")));
        }
    }
    Ok(())
}

/// Loads all builders at the same time; those that cannot be loaded come last.
async fn load_all(
    docker_env: &Arc<DockerEnv>,
    timeout: Duration,
) -> Result<Vec<LoadedBuilder>, CommandError> {
    let loads = load::all(docker_env)?
        .into_iter()
        .map(|found| load::load(docker_env, found, Some(&BuildkitProbe), timeout));
    let mut builders = futures_util::future::join_all(loads).await;
    builders.sort_by_key(|builder| builder.error.is_some());
    Ok(builders)
}
