//! `rm`: removes builders with their containers and, unless it is kept, their state.

use std::sync::Arc;
use std::time::Duration;

use crate::builder::resolve::{self, Found};
use crate::builder::{Builder, BuilderError, DockerEnv, Driver, load};
use crate::error::{CommandError, chain};
use crate::options::duration;
use crate::ui::Ui;

use super::Context;
use super::confirm::confirmed;
use super::docker_env::docker_env;
use super::probe::BuildkitProbe;

const INACTIVE_WARNING: &str = "WARNING! This will remove all builders that are not in running state. Are you sure you want to continue?";

/// Remove one or more builder instances
#[derive(Debug, Clone, clap::Args)]
pub struct RmArgs {
    /// Names of the builders
    #[arg(id = "stored-builder", value_name = "NAME")]
    pub names: Vec<String>,
    /// Remove all inactive builders
    #[arg(long)]
    pub all_inactive: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// Keep the BuildKit daemon running
    #[arg(long)]
    pub keep_daemon: bool,
    /// Keep BuildKit state
    #[arg(long)]
    pub keep_state: bool,
    /// Override the default timeout for loading builder status
    #[arg(long, value_name = "duration", default_value = "20s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Runs the command: one line on standard error per removed builder.
///
/// # Errors
///
/// Fails if a builder could not be removed; the others are removed nevertheless.
pub async fn run(args: RmArgs, context: &Context) -> Result<(), CommandError> {
    if args.all_inactive && !args.names.is_empty() {
        return Err(CommandError::failed(
            "cannot specify builder name when --all-inactive is set",
        ));
    }
    let docker_env = docker_env(context)?;
    if args.all_inactive {
        if !args.force && !confirmed(&context.ui, INACTIVE_WARNING).await? {
            return Ok(());
        }
        return remove_inactive(&docker_env, &args, &context.ui).await;
    }
    let mut names: Vec<Option<&str>> = args.names.iter().map(|n| Some(n.as_str())).collect();
    if names.is_empty() {
        names.push(context.builder_name(None));
    }
    let removals = names
        .iter()
        .map(|name| remove_named(&docker_env, *name, &args, &context.ui));
    let results = futures_util::future::join_all(removals).await;
    if results.iter().all(|removed| *removed) {
        return Ok(());
    }
    Err(CommandError::failed(
        "failed to remove one or more builders",
    ))
}

/// Removes a builder and reports it; returns whether it worked.
async fn remove_named(
    docker_env: &Arc<DockerEnv>,
    name: Option<&str>,
    args: &RmArgs,
    ui: &Ui,
) -> bool {
    let shown = name.unwrap_or_default();
    match remove(docker_env, name, args).await {
        Ok(removed) => {
            let shown = if shown.is_empty() { &removed } else { shown };
            ui.status(&format!("{shown} removed"));
            true
        }
        Err(error) => {
            ui.status(&format!("failed to remove {shown}: {error}"));
            false
        }
    }
}

async fn remove(
    docker_env: &Arc<DockerEnv>,
    name: Option<&str>,
    args: &RmArgs,
) -> Result<String, String> {
    let found = resolve::find(docker_env, name).map_err(|e| chain(&e))?;
    let name = found.group.name.clone();
    if found.is_context {
        return Err(format!(
            "context builder cannot be removed, run `docker context rm {name}` to remove this context"
        ));
    }
    if !args.keep_daemon && !Driver::is_supported(&found.group.driver) {
        let driver = found.group.driver;
        return Err(format!(
            "it uses the {driver} driver, which is not supported yet, so what runs for it cannot be removed\n\
             hint: remove it with: docker buildx rm {name}"
        ));
    }
    // A builder whose containers cannot be removed is forgotten all the same, as buildx does.
    let removed = remove_nodes(docker_env, found, args).await;
    forget(docker_env, &name, args)
        .await
        .map_err(|e| chain(&e))?;
    removed.map(|()| name)
}

/// Takes a builder out of the store, and what is noted about the state that goes with it.
async fn forget(docker_env: &DockerEnv, name: &str, args: &RmArgs) -> Result<(), BuilderError> {
    let txn = docker_env.store().begin().await?;
    txn.remove(name)?;
    if !args.keep_state
        && !args.keep_daemon
        && let Err(error) = docker_env.store().clear_marks(name)
    {
        // A mark too many costs compressing a layer again, no more.
        tracing::debug!(builder = name, %error, "cannot clear the marks");
    }
    Ok(())
}

/// Stops and removes the containers of a builder, unless they are to be kept; all errors together are the
/// text of the failure.
async fn remove_nodes(
    docker_env: &Arc<DockerEnv>,
    found: Found,
    args: &RmArgs,
) -> Result<(), String> {
    if args.keep_daemon {
        return Ok(());
    }
    let builder = Builder::new(docker_env, found.group).map_err(|e| chain(&e))?;
    let removals = builder.nodes().iter().map(|node| async {
        let work = async {
            let driver = node.driver();
            let stopped = if driver.must_stop_before_removal(args.keep_state) {
                driver.stop().await
            } else {
                Ok(())
            };
            let stopped = stopped.map_err(|e| named("failed to stop node", node.name(), &e));
            let removed = driver.remove(args.keep_state).await;
            let removed = removed.map_err(|e| named("failed to remove node", node.name(), &e));
            [stopped.err(), removed.err()]
        };
        if args.timeout.is_zero() {
            return work.await;
        }
        let timed = tokio::time::timeout(args.timeout, work).await;
        timed.unwrap_or_else(|_| [Some(format!("node {} does not answer", node.name())), None])
    });
    let errors = futures_util::future::join_all(removals).await;
    let errors: Vec<String> = errors.into_iter().flatten().flatten().collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(errors.join("\n"))
}

fn named(what: &str, node: &str, error: &BuilderError) -> String {
    format!("{what} {node}: {}", chain(error))
}

async fn remove_inactive(
    docker_env: &Arc<DockerEnv>,
    args: &RmArgs,
    ui: &Ui,
) -> Result<(), CommandError> {
    let builders = load::all(docker_env)?.into_iter();
    let removals = builders
        // That a builder of another driver is inactive cannot be known.
        .filter(|found| !found.is_context && Driver::is_supported(&found.group.driver))
        .map(|found| async {
            let name = found.group.name.clone();
            let loaded = load::load(
                docker_env,
                found.clone(),
                Some(&BuildkitProbe),
                args.timeout,
            )
            .await;
            if let Some(error) = loaded.error {
                return Err(format!("cannot load {name}: {error}"));
            }
            if loaded.dynamic || !loaded.is_inactive() {
                return Ok(());
            }
            let removed = remove_nodes(docker_env, found, args).await;
            forget(docker_env, &name, args)
                .await
                .map_err(|e| chain(&e))?;
            ui.status(&format!("{name} removed"));
            removed
        });
    let results = futures_util::future::join_all(removals).await;
    match results.into_iter().find_map(Result::err) {
        Some(error) => Err(CommandError::failed(error)),
        None => Ok(()),
    }
}
