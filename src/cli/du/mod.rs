//! `du`: what the cache of a builder takes on disk.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::error::CommandError;
use crate::options::duration;

use super::Context;
use super::disk::filter::{self, Filter, Selection};
use super::disk::{builder, connect, explained};
use super::docker_env::docker_env;

mod render;

/// Disk usage
#[derive(Debug, Clone, clap::Args)]
pub struct DuArgs {
    /// Provide filter values
    #[arg(long = "filter", value_name = "filter", value_parser = filter::parse)]
    filters: Vec<Filter>,
    /// Format the output: table, json, pretty, or a template such as '{{.ID}}'
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Override the default timeout for loading builder status
    #[arg(long, value_name = "duration", default_value = "20s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Shorthand for "--format=pretty"
    #[arg(long)]
    pub verbose: bool,
}

impl DuArgs {
    /// Returns whether the form of the output is one that is known here.
    pub(super) fn has_known_format(&self) -> bool {
        let format = self.format.as_deref().filter(|format| !format.is_empty());
        render::Format::parse(format, self.verbose).is_ok()
    }
}

/// Runs the command: the records of all nodes on standard output, and without a filter the totals.
///
/// # Errors
///
/// Fails if a filter or the format is wrong, or a node does not answer.
pub async fn run(args: DuArgs, ctx: &Context) -> Result<(), CommandError> {
    let format = args.format.as_deref().filter(|format| !format.is_empty());
    if format.is_some() && args.verbose {
        return Err(CommandError::failed(
            "--format and --verbose cannot be used together",
        ));
    }
    let format = render::Format::parse(format, args.verbose).map_err(CommandError::failed)?;
    let selection = Selection::new(&args.filters).map_err(CommandError::failed)?;
    let docker_env = docker_env(ctx)?;
    let builder = builder(ctx, &docker_env, args.timeout).await?;
    let asked = builder.nodes().iter().map(|node| async {
        let client = connect(node, ctx, args.timeout).await?;
        let asked = client.disk_usage(vec![selection.expression.clone()]);
        match asked.await {
            Ok(records) => Ok(records),
            Err(error) => Err(explained(node, error).await),
        }
    });
    let records: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
    let mut text = format
        .render(&records, jiff::Timestamp::now())
        .map_err(CommandError::failed)?;
    let is_whole = args.filters.iter().all(Filter::is_empty);
    if format.has_totals() && is_whole {
        text.push_str(&render::totals(&records));
    }
    ctx.ui.text(&text)?;
    Ok(())
}
