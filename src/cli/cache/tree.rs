//! `cache tree`: the steps of a cache with their layers.

use crate::cache::outline::Outline;
use crate::cli::Context;
use crate::error::CommandError;

use super::inspect::load_with_record;
use super::like::LikeArgs;
use super::output::Format;
use super::place::{self, Places};

mod render;

/// Show the steps of a cache, each under the one that it lies on
///
/// The cache is one as in `cache inspect`. Names, stages, platforms and run times come from the record that this
/// program writes into caches; without one steps are shown by their keys, or by the names that a build given with --like
/// has for them.
///
/// Fields of `--format`: steps (key, parent, name, stage, platform, size, layer, diffId, createdAt, lastUsed,
/// milliseconds, otherWays), leftOut. A parent is the index of a step. Sizes are bytes.
#[derive(Debug, Clone, clap::Args)]
pub struct TreeArgs {
    /// The cache: a reference or a folder
    #[arg(value_name = "CACHE")]
    cache: String,
    /// Format the output: table, json, or a template such as '{{.leftOut}}'
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    like: LikeArgs,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if there is no cache, or it cannot be read.
pub async fn run(args: TreeArgs, ctx: &Context) -> Result<(), CommandError> {
    let format = Format::parse(&args.format).map_err(CommandError::failed)?;
    let like = args.like.read(ctx)?;
    let source = Places::new(ctx).find(&args.cache, args.insecure)?;
    let waiting = format!("reading the cache {}", args.cache);
    let loaded = ctx
        .ui
        .patiently(&waiting, Box::pin(load_with_record(&source)))
        .await;
    let (loaded, record) = loaded.map_err(|error| place::failure(&args.cache, &error, ctx))?;
    let record = match like {
        Some(like) => Some(Box::pin(like.add_to(record)).await?),
        None => record,
    };
    let outline = Outline::of(&loaded, record.as_ref());
    let now = jiff::Timestamp::now();
    let text = format.render(&outline, || render::table(&outline, now));
    Ok(ctx.ui.text(&text.map_err(CommandError::failed)?)?)
}
