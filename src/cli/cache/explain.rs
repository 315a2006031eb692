//! `cache explain`: which steps of a build would run, and why, without building.

use serde_json::{Value, json};

use crate::build::explain::forecast::Forecast;
use crate::cli::Context;
use crate::cli::build::{BuildArgs, NodeForecast};
use crate::error::{CommandError, ErrorKind};
use crate::exit;
use crate::explain::Outcome;
use crate::explain::table::{self, Row};
use crate::text::foreign;

use super::like;

/// Tell which steps of a build would run, and why, without building
///
/// The Dockerfile's frontend runs, and nothing else: no step runs, no layer moves. The steps are looked up in the
/// caches of --cache-from, as on a builder that has nothing of its own.
#[derive(Debug, Clone, clap::Args)]
#[command(override_usage = "docker cachex cache explain [OPTIONS] [BUILD OPTIONS] PATH | URL | -")]
pub struct ExplainArgs {
    /// Exit with code 3 if a step would run
    #[arg(long)]
    exit_code: bool,
    /// Form of the answer ("table", "json")
    #[arg(long, value_name = "string", default_value = "table")]
    format: Format,
    #[command(flatten)]
    // A doc comment would become help text of the command.
    build: BuildArgs,
}

/// What is said where there is nothing to compare with.
const NO_CACHE: &str = "there is no cache to look the steps up in, so all of them would run: name one with --cache-from or --cache";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the arguments are wrong, the builder cannot be used, or the frontend fails.
pub async fn run(args: ExplainArgs, ctx: &Context) -> Result<(), CommandError> {
    let nodes = Box::pin(like::forecast(args.build, ctx)).await?;
    match args.format {
        Format::Table => show(&nodes, ctx)?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&to_json(&nodes));
            let text = text.map_err(CommandError::failed)?;
            ctx.ui.data(&foreign::json(&text))?;
        }
    }
    let rows = nodes.iter().flat_map(|node| &node.forecast.rows);
    let mut rows = rows.filter(|row| row.outcome != Outcome::Served);
    if args.exit_code && rows.next().is_some() {
        let code = ErrorKind::Status(exit::NOT_CACHED);
        return Err(CommandError::new(code, "a step would run"));
    }
    Ok(())
}

fn show(nodes: &[NodeForecast], ctx: &Context) -> Result<(), CommandError> {
    for node in nodes {
        let Forecast {
            rows,
            no_cache,
            unread,
            read,
            ..
        } = &node.forecast;
        match no_cache {
            Some(line) => ctx.ui.warning(line),
            None if *read == 0 => ctx.ui.warning(NO_CACHE),
            None => {
                for (name, error) in unread {
                    if error.is_none() && node.chosen.contains(name) {
                        // A scope that nobody has written yet is nothing to be told of.
                        continue;
                    }
                    let why = error.as_deref().unwrap_or("it does not exist");
                    let (name, why) = (foreign::line(name), foreign::line(why));
                    ctx.ui
                        .warning(&format!("cannot read the cache {name}: {why}"));
                }
            }
        }
        if nodes.len() > 1 {
            ctx.ui.data(&format!("{}:", node.node))?;
        }
        ctx.ui.data(table::text(rows).trim_end())?;
    }
    Ok(())
}

fn to_json(nodes: &[NodeForecast]) -> Value {
    let all = nodes.iter().flat_map(|node| {
        let rows = node.forecast.rows.iter();
        rows.map(|row| step(&node.node, row))
    });
    let unread = nodes.iter().flat_map(|node| &node.forecast.unread);
    let unread = unread.map(|(name, error)| json!({"cache": name, "error": error}));
    json!({"steps": all.collect::<Vec<_>>(), "unread": unread.collect::<Vec<_>>()})
}

fn step(node: &str, row: &Row) -> Value {
    let state = match row.outcome {
        Outcome::Served => "hit",
        Outcome::Ran | Outcome::Twin => "run",
        Outcome::Perhaps => "perhaps",
        Outcome::Unknown | Outcome::NotTold => "unknown",
    };
    json!({
        "node": node,
        "step": row.step,
        "digest": row.digest,
        "dockerfile": row.place.as_ref().map(|place| &place.file),
        "line": row.place.as_ref().map(|place| place.first),
        "state": state,
        "cache": row.cache_name,
        "cause": row.code,
        "why": (!row.why.is_empty()).then_some(&row.why),
    })
}
