//! `cache`: commands about registry caches themselves. They need no builder.
//!
//! To add one: its `mod` line, a variant of [`CacheCommands`] and its arm in [`run`].

use crate::error::CommandError;

use super::Context;

pub mod inspect;
mod place;

/// Look into registry caches
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_value_name = "COMMAND", arg_required_else_help = true)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommands,
}

/// The commands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CacheCommands {
    /// Show what is in a cache
    Inspect(inspect::InspectArgs),
}

/// Runs the command.
///
/// # Errors
///
/// Fails with the error of the command.
pub async fn run(args: CacheArgs, ctx: &Context) -> Result<(), CommandError> {
    match args.command {
        CacheCommands::Inspect(args) => inspect::run(args, ctx).await,
    }
}
