//! `stop`: stops the containers of a builder.

use crate::builder::{Builder, BuilderError, resolve};
use crate::error::CommandError;

use super::Context;
use super::docker_env::docker_env;

/// Stop builder instance
#[derive(Debug, Clone, clap::Args)]
pub struct StopArgs {
    /// Name of the builder
    #[arg(id = "builder", value_name = "NAME")]
    pub name: Option<String>,
}

/// Runs the command; it prints nothing. The builder of a docker context has nothing to stop.
///
/// # Errors
///
/// Fails for a builder that does not exist or an engine that cannot be asked.
pub async fn run(args: StopArgs, context: &Context) -> Result<(), CommandError> {
    let docker_env = docker_env(context)?;
    let name = context.builder_name(args.name.as_deref());
    let mut found = resolve::find(&docker_env, name)?;
    if found.is_context {
        resolve::context_driver(&docker_env, &found.group.name)
            .await?
            .clone_into(&mut found.group.driver);
    }
    let builder = Builder::new(&docker_env, found.group)?;
    let mut failed: Option<BuilderError> = None;
    for node in builder.nodes() {
        if let Err(error) = node.driver().stop().await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
