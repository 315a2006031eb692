//! `cache`: commands about registry caches themselves. But for `explain` and `--like` they need no builder.
//!
//! To add one: its `mod` line, a variant of [`CacheCommands`] and its arm in [`run`].

use crate::error::CommandError;

use super::Context;

pub mod diff;
pub mod explain;
pub mod inspect;
pub mod keygen;
mod like;
pub mod ls;
pub mod merge;
pub mod mounts;
mod output;
mod place;
pub mod prune;
pub mod rm;
pub mod sign;
pub mod tree;
pub mod verify;

/// Look into registry caches, compare, merge, sign and remove them
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_value_name = "COMMAND")]
pub struct CacheArgs {
    #[command(subcommand)]
    command: Option<CacheCommands>,
}

/// The commands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CacheCommands {
    /// Show what one cache has and another has not
    Diff(diff::DiffArgs),
    /// Tell which steps of a build would run, and why, without building
    Explain(Box<explain::ExplainArgs>),
    /// Show what is in a cache
    Inspect(inspect::InspectArgs),
    /// Make a pair of keys to sign caches with
    Keygen(keygen::KeygenArgs),
    /// Show the caches of a repository
    Ls(ls::LsArgs),
    /// Merge caches in one reference
    Merge(merge::MergeArgs),
    /// Look into the cache mounts that a cache brings along
    Mounts(mounts::MountsArgs),
    /// Remove caches that have not been used for long
    Prune(prune::PruneArgs),
    /// Remove caches from a registry
    Rm(rm::RmArgs),
    /// Sign a cache that exists
    Sign(sign::SignArgs),
    /// Show the steps of a cache, each under the one that it lies on
    Tree(tree::TreeArgs),
    /// Tell whether a cache is signed, by whom and when
    Verify(verify::VerifyArgs),
}

/// The help of a group below this program, which stands in for a missing command as in buildx.
fn help(group: &[&str]) -> String {
    let mut root = super::command();
    root.build();
    let mut group = group
        .iter()
        .try_fold(&mut root, |found, name| found.find_subcommand_mut(name));
    let help = group.as_mut().map(|group| group.render_help().to_string());
    help.unwrap_or_default()
}

/// Runs the command: without one of its commands the help.
///
/// # Errors
///
/// Fails with the error of the command.
pub async fn run(args: CacheArgs, ctx: &Context) -> Result<(), CommandError> {
    match args.command {
        Some(CacheCommands::Explain(args)) => Box::pin(explain::run(*args, ctx)).await,
        Some(CacheCommands::Inspect(args)) => Box::pin(inspect::run(args, ctx)).await,
        Some(CacheCommands::Ls(args)) => Box::pin(ls::run(args, ctx)).await,
        Some(CacheCommands::Merge(args)) => Box::pin(merge::run(args, ctx)).await,
        Some(CacheCommands::Mounts(args)) => Box::pin(mounts::run(args, ctx)).await,
        Some(CacheCommands::Diff(args)) => diff::run(args, ctx).await,
        Some(CacheCommands::Tree(args)) => Box::pin(tree::run(args, ctx)).await,
        Some(CacheCommands::Prune(args)) => Box::pin(prune::run(args, ctx)).await,
        Some(CacheCommands::Rm(args)) => Box::pin(rm::run(args, ctx)).await,
        Some(CacheCommands::Keygen(args)) => keygen::run(&args, ctx),
        Some(CacheCommands::Sign(args)) => Box::pin(sign::run(args, ctx)).await,
        Some(CacheCommands::Verify(args)) => Box::pin(verify::run(args, ctx)).await,
        None => Ok(ctx.ui.data(help(&["cache"]).trim_end())?),
    }
}
