//! `prune`: frees the cache of a builder.

use std::time::Duration;

use futures_util::future::try_join_all;
use parking_lot::Mutex;

use crate::builder::Node;
use crate::buildkit::Client;
use crate::buildkit::disk::{CAP_FREE_SPACE_FILTER, PruneRequest};
use crate::error::CommandError;
use crate::options::{duration, size};

use super::Context;
use super::confirm::confirmed;
use super::disk::filter::{self, Filter, Selection, with_configured};
use super::disk::{builder, connect, explained};
use super::docker_env::docker_env;

mod render;

const DANGLING_WARNING: &str =
    "WARNING! This will remove all dangling build cache. Are you sure you want to continue?";
const ALL_WARNING: &str =
    "WARNING! This will remove all build cache. Are you sure you want to continue?";

/// Remove build cache
#[derive(Debug, Clone, clap::Args)]
pub struct PruneArgs {
    /// Include internal/frontend images
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values
    #[arg(long = "filter", value_name = "filter", value_parser = filter::parse)]
    filters: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// Amount of disk space to keep for cache
    #[arg(long, value_name = "bytes", value_parser = size::ram_in_bytes, hide = true)]
    pub keep_storage: Option<u64>,
    /// Maximum amount of disk space allowed to keep for cache
    #[arg(long, value_name = "bytes", value_parser = size::ram_in_bytes)]
    pub max_used_space: Option<u64>,
    /// Target amount of free disk space after pruning
    #[arg(long, value_name = "bytes", value_parser = size::ram_in_bytes)]
    pub min_free_space: Option<u64>,
    /// Amount of disk space always allowed to keep for cache
    #[arg(long, value_name = "bytes", value_parser = size::ram_in_bytes)]
    pub reserved_space: Option<u64>,
    /// Override the default timeout for loading builder status
    #[arg(long, value_name = "duration", default_value = "20s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Provide a more verbose output
    #[arg(long)]
    pub verbose: bool,
}

/// Runs the command: a row on standard output for each record as it goes, and the total.
///
/// # Errors
///
/// Fails if a filter is wrong, a node does not answer, or its BuildKit is too old for a limit.
pub async fn run(args: PruneArgs, ctx: &Context) -> Result<(), CommandError> {
    if args.keep_storage.is_some() {
        ctx.ui.status(
            "Flag --keep-storage has been deprecated, keep-storage flag has been changed to reserved-space",
        );
    }
    let docker_env = docker_env(ctx)?;
    let filters = with_configured(&args.filters, &docker_env.config().prune_filters);
    let request = request(&args, &filters)?;
    let question = if args.all {
        ALL_WARNING
    } else {
        DANGLING_WARNING
    };
    if !args.force && !confirmed(&ctx.ui, question).await? {
        return Ok(());
    }
    let builder = builder(ctx, &docker_env, args.timeout).await?;
    let limits = &request;
    let connects = builder.nodes().iter().map(|node| async move {
        let client = connect(node, ctx, args.timeout).await?;
        check_limits(node, &client, limits).await?;
        Ok::<_, CommandError>((node, client))
    });
    // Nothing is removed anywhere before all nodes are known to take the limits.
    let clients = try_join_all(connects).await?;
    let report = Mutex::new(render::Report::new(args.verbose));
    let prunes = clients.iter().map(|(node, client)| {
        let (report, ui) = (&report, &ctx.ui);
        let mut written = Ok(());
        let request = request.clone();
        async move {
            let done = client.prune(request, |record| {
                let mut report = report.lock();
                let text = report.row(&record, jiff::Timestamp::now());
                if written.is_ok() {
                    written = ui.text(&text);
                }
            });
            if let Err(error) = done.await {
                return Err(explained(node, error).await);
            }
            Ok(written?)
        }
    });
    try_join_all(prunes).await?;
    let report = report.into_inner();
    ctx.ui.text(&report.total())?;
    Ok(())
}

fn request(args: &PruneArgs, filters: &[Filter]) -> Result<PruneRequest, CommandError> {
    let selection = Selection::new(filters).map_err(CommandError::failed)?;
    // The parsers take no more than fits.
    let signed = |bytes: Option<u64>| i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX);
    Ok(PruneRequest {
        filter: vec![selection.expression],
        all: args.all,
        keep_duration: i64::try_from(selection.keep_duration.as_nanos()).unwrap_or(i64::MAX),
        reserved_space: signed(args.reserved_space.or(args.keep_storage)),
        max_used_space: signed(args.max_used_space),
        min_free_space: signed(args.min_free_space),
    })
}

/// An old BuildKit would take no notice of a limit and free everything.
async fn check_limits(
    node: &Node,
    client: &Client,
    request: &PruneRequest,
) -> Result<(), CommandError> {
    if request.max_used_space == 0 && request.min_free_space == 0 {
        return Ok(());
    }
    match client.supports(CAP_FREE_SPACE_FILTER).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(CommandError::failed(
            "buildkit v0.17.0+ is required for max-used-space and min-free-space filters",
        )),
        Err(error) => Err(explained(node, error).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: PruneArgs,
    }

    fn parse(line: &str) -> PruneArgs {
        use clap::Parser as _;
        Line::parse_from(line.split(' ')).args
    }

    #[test]
    fn flags_become_a_request() {
        let args = parse(
            "prune -af --filter until=24h --filter type=regular --reserved-space 1g --max-used-space 2gb --min-free-space 512m",
        );
        let request = request(&args, &args.filters).unwrap();
        let want = PruneRequest {
            filter: vec!["type==regular".to_owned()],
            all: true,
            keep_duration: 24 * 3600 * 1_000_000_000,
            reserved_space: 1 << 30,
            max_used_space: 2 << 30,
            min_free_space: 512 << 20,
        };
        assert_eq!(request, want);
        let old = parse("prune --keep-storage 5k");
        assert_eq!(super::request(&old, &[]).unwrap().reserved_space, 5 << 10);
    }
}
