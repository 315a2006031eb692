//! `use`: takes a builder into use.

use crate::builder::store::StoreError;
use crate::builder::{BuilderError, Driver};
use crate::docker::context::DEFAULT_CONTEXT;
use crate::error::CommandError;

use super::Context;
use super::docker_env::docker_env;

/// Set the current builder instance
#[derive(Debug, Clone, clap::Args)]
pub struct UseArgs {
    /// Name of the builder
    #[arg(id = "builder", value_name = "NAME")]
    pub name: Option<String>,
    /// Set builder as default for current context
    #[arg(long)]
    pub default: bool,
    /// Builder persists context changes
    #[arg(long)]
    pub global: bool,
}

/// Runs the command; it prints nothing but a warning about a driver that is not supported here.
///
/// # Errors
///
/// Fails for a builder that does not exist, and for a docker context, which `docker context use`
/// takes into use.
pub async fn run(args: UseArgs, context: &Context) -> Result<(), CommandError> {
    let docker_env = docker_env(context)?;
    let contexts = docker_env.contexts();
    let named = context.builder_name(args.name.as_deref());
    let name = named.unwrap_or_default();
    let txn = docker_env
        .store()
        .begin()
        .await
        .map_err(BuilderError::from)?;
    let key = contexts.context_key();
    let (global, default) = (args.global, args.default);
    let (chosen, global, default) = match txn.get(name) {
        Ok(Some(group)) => {
            if !Driver::is_supported(&group.driver) {
                context.ui.warning(&format!(
                    "builder {name:?} uses the {} driver, which only docker buildx can build with for now",
                    group.driver
                ));
            }
            (name, global, default)
        }
        Ok(None) if name == contexts.current_name() => ("", false, false),
        Ok(None) if name == DEFAULT_CONTEXT => {
            return Err(CommandError::failed(
                "run `docker context use default` to switch to default context",
            ));
        }
        Ok(None) => {
            return Err(not_found(
                name,
                &contexts.names().map_err(BuilderError::from)?,
            ));
        }
        Err(StoreError::Name(error)) => {
            let text = format!("failed to find instance {name:?}: {error}");
            return Err(CommandError::failed(text));
        }
        Err(error) => return Err(BuilderError::from(error).into()),
    };
    txn.set_current(key, chosen, global, default)
        .map_err(BuilderError::from)?;
    Ok(())
}

fn not_found(name: &str, contexts: &[String]) -> CommandError {
    if contexts.iter().any(|context| context == name) {
        return CommandError::failed(format!(
            "run `docker context use {name}` to switch to context {name}"
        ));
    }
    CommandError::failed(format!("failed to find instance {name:?}"))
        .hint("list the builders with: docker cachex ls")
}
