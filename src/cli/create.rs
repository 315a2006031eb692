//! `create`: a new builder, another node, or a changed one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use crate::builder::create::{CreatePlan, CreateRequest};
use crate::builder::resolve::Found;
use crate::builder::{Builder, BuilderError, DockerEnv, load};
use crate::env::BUILDKIT_HOST;
use crate::error::CommandError;
use crate::options::duration;

use super::Context;
use super::boot_progress::boot;
use super::docker_env::docker_env;
use super::probe::BuildkitProbe;

/// Tries to save a builder that other processes change at the same time.
const TRIES: usize = 5;

/// Create a new builder instance
#[derive(Debug, Clone, clap::Args)]
pub struct CreateArgs {
    /// Docker context or host of the builder's Docker engine
    #[arg(value_name = "CONTEXT|ENDPOINT")]
    pub endpoint: Option<String>,
    /// Append a node to builder instead of changing it
    #[arg(long)]
    pub append: bool,
    /// Boot builder after creation
    #[arg(long)]
    pub bootstrap: bool,
    /// BuildKit daemon config file
    // The old name of buildx; docker's own --config must stand before the command.
    #[arg(long, alias = "config", value_name = "string", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub buildkitd_config: Option<PathBuf>,
    /// BuildKit daemon flags
    #[arg(long, value_name = "string")]
    pub buildkitd_flags: Option<String>,
    /// Driver to use (available: "docker-container", "remote")
    #[arg(long, value_name = "string")]
    pub driver: Option<String>,
    /// Options for the driver
    #[arg(long = "driver-opt", value_name = "stringArray")]
    pub driver_opts: Vec<String>,
    /// Remove a node from builder instead of changing it
    #[arg(long)]
    pub leave: bool,
    /// Builder instance name
    #[arg(long, value_name = "string")]
    pub name: Option<String>,
    /// Create/modify node with given name
    #[arg(long, value_name = "string")]
    pub node: Option<String>,
    /// Fixed platforms for current node
    #[arg(long = "platform", value_name = "stringArray")]
    pub platforms: Vec<String>,
    /// Override the default timeout for loading builder status
    #[arg(long, value_name = "duration", default_value = "20s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Set the current builder instance
    #[arg(long = "use")]
    pub use_it: bool,
}

/// Runs the command: prints the builder's name.
///
/// # Errors
///
/// Fails for arguments that buildx refuses too, and if the builder does not work; then nothing is
/// kept of it in the store.
pub async fn run(args: CreateArgs, context: &Context) -> Result<(), CommandError> {
    let docker_env = docker_env(context)?;
    if args.leave {
        return leave(&args, &docker_env).await;
    }
    let request = request(&args, context, &docker_env);
    let group = save(&request, &args, &docker_env, context).await?;
    let name = group.name.clone();
    if args.bootstrap {
        let builder = Builder::new(&docker_env, group)?;
        boot(&builder, context).await?;
    }
    context.ui.data(&name)?;
    Ok(())
}

fn request(args: &CreateArgs, context: &Context, docker_env: &DockerEnv) -> CreateRequest {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let given = args.buildkitd_config.clone();
    CreateRequest {
        name: text(&args.name),
        driver: text(&args.driver),
        node: text(&args.node),
        platforms: args.platforms.clone(),
        driver_opts: args.driver_opts.clone(),
        buildkitd_flags: text(&args.buildkitd_flags),
        buildkitd_config: given
            .filter(|path| !path.as_os_str().is_empty())
            .or_else(|| docker_env.store().default_buildkitd_config()),
        endpoint: text(&args.endpoint),
        append: args.append,
        buildkit_host: context
            .env
            .get(BUILDKIT_HOST)
            .unwrap_or_default()
            .to_owned(),
    }
}

async fn leave(args: &CreateArgs, docker_env: &DockerEnv) -> Result<(), CommandError> {
    let name = args.name.as_deref().unwrap_or_default();
    let node = args.node.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(CommandError::failed("leave requires instance name"));
    }
    if node.is_empty() {
        return Err(CommandError::failed("leave requires node name"));
    }
    let txn = docker_env.store().begin().await.map_err(store_error)?;
    let group = txn.get(name).map_err(store_error)?;
    let mut group = group.ok_or_else(|| {
        CommandError::failed(format!("failed to find instance {name:?} for leave"))
    })?;
    group.leave(node).map_err(BuilderError::from)?;
    txn.remove_node_refs(&group.name, node)
        .map_err(store_error)?;
    txn.save(&group).map_err(store_error)?;
    Ok(())
}

fn store_error(error: crate::builder::store::StoreError) -> BuilderError {
    error.into()
}

/// Works the builder out, tries its nodes, and saves it. The store is locked for the file work only,
/// so another process may change the builder meanwhile; then all is done again.
async fn save(
    request: &CreateRequest,
    args: &CreateArgs,
    docker_env: &Arc<DockerEnv>,
    context: &Context,
) -> Result<crate::builder::NodeGroup, BuilderError> {
    let mut name = request.name.clone();
    for _ in 0..TRIES {
        let plan = {
            let txn = docker_env.store().begin().await?;
            request.plan(&txn, docker_env.contexts())?
        };
        try_nodes(&plan, docker_env, args.timeout).await?;
        name.clone_from(&plan.group.name);
        let txn = docker_env.store().begin().await?;
        if txn.get(&name)? != plan.original {
            continue;
        }
        txn.save(&plan.group)?;
        if args.use_it {
            let key = docker_env.contexts().context_key();
            txn.set_current(key, &name, false, false)?;
        }
        if plan.needs_restart {
            context
                .ui
                .warning("new settings may not be used until builder is restarted");
        }
        return Ok(plan.group);
    }
    Err(BuilderError::Busy { name })
}

/// Fails if a node has a bad option, or its Docker engine or its running BuildKit does not answer.
async fn try_nodes(
    plan: &CreatePlan,
    docker_env: &Arc<DockerEnv>,
    timeout: Duration,
) -> Result<(), BuilderError> {
    let found = Found {
        group: plan.group.clone(),
        is_context: false,
    };
    let loaded = load::load(docker_env, found, Some(&BuildkitProbe), timeout).await;
    for node in loaded.nodes {
        if let Some(reason) = node.error {
            return Err(BuilderError::Initialize {
                builder: loaded.name,
                node: node.stored.name,
                reason,
            });
        }
    }
    Ok(())
}
