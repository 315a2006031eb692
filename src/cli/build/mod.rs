//! `docker cachex build`: resolve the arguments, run the build on the builder, show the end.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::build::BuildRequest;
use crate::build::cache::CacheError;
use crate::build::run::{BuildError, BuildOutcome};
use crate::builder::{Builder, Node};
use crate::cache::sign::keyring::Keyring;
use crate::env;
use crate::error::{CommandError, ErrorKind};
use crate::options::boolean::parse_bool;
use crate::options::explain::Explain;
use crate::options::output::apply_push_load;
use crate::progress::{Mode, Progress, Summary};

use self::job::Common;
use self::place::Place;
use self::report::{Ended, Reports};
use self::request::Files;
use self::scope::Scopes;
use super::Context;
use super::invocation::Invocation;
use super::keys;

mod args;
mod cache_progress;
mod call;
mod desktop;
mod display;
mod finish;
mod forecast;
mod job;
mod loader;
mod meter;
mod multi_node;
mod nodes;
mod place;
mod records;
mod report;
mod request;
mod scope;
mod steps;

pub use args::BuildArgs;
pub use forecast::{NodeForecast, forecast};
pub use request::switches_policy_off;

/// Runs the command.
///
/// # Errors
///
/// Fails if the arguments are wrong, the builder cannot be used, or the build fails.
pub async fn run(args: BuildArgs, ctx: &Context) -> Result<(), CommandError> {
    let scopes = cancellable(&ctx.cancel, scope::resolve(&args, ctx)).await??;
    let (mut request, files, scopes, keyring) = resolve(&args, scopes, ctx)?;
    let reports = Reports::resolve(&args, &request, &ctx.env)?;
    request.steps.is_reported = reports.are_wanted();
    let shown = display::choose(&args, ctx)?;
    let is_talkative = !matches!(shown.mode, Mode::Quiet | Mode::RawJson);
    if !is_talkative {
        request.steps.explain = Explain::Off;
    }
    let place = Place::choose(&request, ctx).await?;
    let (nodes, builder) = (place.nodes(), &place.builder);
    let (request, is_kept_nowhere) = with_default_output(request, nodes[0], ctx);
    let checked = place.check(&request)?;
    let dockerfile = checked.inputs[0].dockerfile_name.clone();
    finish::prepare(&files)?;

    // Warnings are printed before the live display begins.
    let invocation = Invocation::new(&place.docker_env, ctx);
    let progress = display::start(shown.mode, builder, request.call.is_some(), ctx)?;
    let noted = reports.notes(nodes.len());
    let (failed_nodes, ends) = (Mutex::default(), Mutex::default());
    let common = Common {
        targets: &checked.division.targets,
        imports: &checked.imports,
        docker_env: &place.docker_env,
        invocation: &invocation,
        builder,
        progress: &progress,
        mode: shown.mode,
        has_several_nodes: nodes.len() > 1,
        provenance: files.provenance,
        noted: &noted,
        scopes: scopes.as_ref(),
        failed: &failed_nodes,
        ends: &ends,
        keyring: &keyring,
        ctx,
    };
    let result = Box::pin(checked.division.run(&nodes, checked.inputs, &common)).await;
    let summary = end(&invocation, progress, ctx).await;
    if is_kept_nowhere {
        warn_without_output(builder, ctx);
    }
    let ended = Ended {
        request: &request,
        targets: &checked.division.targets,
        builder,
        nodes: &nodes,
        noted: &noted,
        result: &result,
    };
    reports.write(ended, ctx);
    steps::explain(result.as_ref().ok(), &failed_nodes.lock(), ctx);
    let scopes = scopes.filter(|_| is_talkative && request.call.is_none());
    if let (Some(scopes), Err(_)) = (&scopes, &result)
        && let Some(line) = scopes.failed(&ends.lock())
    {
        ctx.ui.status(&line);
    }
    let outcome = result?;
    if is_talkative && request.call.is_none() {
        show_details(builder, nodes[0], &outcome, ctx);
    }
    warn(&outcome, ctx);
    if let Some(scopes) = scopes {
        ctx.ui.status(&scopes.ended(&ends.lock()));
    }
    let print_image_id = shown.print_image_id && request.call.is_none();
    finish::render(&outcome, &summary, &files, print_image_id, ctx)?;
    match &request.call {
        Some(call) => call::print(call, &outcome.response, &dockerfile, ctx),
        None => finish::inline_message(&outcome.response, ctx),
    }?;
    steps::check_rate(&outcome.explanations, request.steps.min_hit_rate)
}

/// Ends what is still under way, and the display.
async fn end(invocation: &Invocation, progress: Progress, ctx: &Context) -> Summary {
    let in_order = ctx.orderly.token();
    invocation.registries.close().await;
    let summary = progress.finish().await;
    drop(in_order);
    if let Some(remark) = invocation.spool.remark() {
        ctx.ui.warning(remark);
    }
    summary
}

/// What the arguments come to: the request, the files to write, the scopes of `--cache` and the keys.
type Resolved = (BuildRequest, Files, Option<Scopes>, Arc<Keyring>);

/// Creates the request, and shows what there is to say about it.
fn resolve(
    args: &BuildArgs,
    mut scopes: Option<Scopes>,
    ctx: &Context,
) -> Result<Resolved, CommandError> {
    for warning in args.legacy.warnings() {
        ctx.ui.warning(&warning);
    }
    let (mut request, files, mut warnings) = request::resolve(args, ctx)?;
    if let Some(scopes) = &mut scopes {
        scopes.add_to(&mut request)?;
    }
    let keyring = keys::of_build(&request, args.trust.as_deref(), &ctx.env, &mut warnings)?;
    for warning in &warnings {
        ctx.ui.warning(warning);
    }
    Ok((request, files, scopes, Arc::new(keyring)))
}

/// Returns the request with the output that the node has where none is asked for, and whether the result then goes
/// nowhere although it could go somewhere by default.
fn with_default_output(request: BuildRequest, node: &Node, ctx: &Context) -> (BuildRequest, bool) {
    let has_none = request.outputs.is_empty() && request.call.is_none();
    if !has_none || no_default_load(ctx) {
        return (request, false);
    }
    if !loads(node) {
        return (request, true);
    }
    let outputs = apply_push_load(Vec::new(), false, true);
    (BuildRequest { outputs, ..request }, false)
}

/// Shows where Docker Desktop has the build.
fn show_details(builder: &Builder, node: &Node, outcome: &BuildOutcome, ctx: &Context) {
    let name = format!("{}/{}/{}", builder.name(), node.name(), outcome.build_ref);
    if let Some(line) = desktop::details(&name, ctx) {
        ctx.ui.status(&line);
    }
}

/// Shows what a build that succeeded had to do without.
fn warn(outcome: &BuildOutcome, ctx: &Context) {
    for warning in outcome.warnings.iter().chain(&outcome.not_written) {
        ctx.ui.warning(warning);
    }
    let caches = outcome.caches.iter();
    for ignored in caches.filter_map(|cache| cache.outcome.as_ref().err()) {
        ctx.ui.warning(&crate::error::chain(ignored));
    }
}

/// Puts the words of every failed build before an error of its preparation.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CommandError {
    CommandError::failed(format!("failed to build: {}", crate::error::chain(&error)))
}

async fn cancellable<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, CommandError> {
    tokio::select! {
        value = work => Ok(value),
        () = cancel.cancelled() => {
            Err(CommandError::new(ErrorKind::Cancelled, "the build was cancelled"))
        }
    }
}

/// Returns whether a node's builds are loaded into the engine where nothing else is asked for.
fn loads(node: &Node) -> bool {
    let option = node.stored().driver_opts.get("default-load");
    option.is_some_and(|text| parse_bool(text) == Some(true))
}

fn no_default_load(ctx: &Context) -> bool {
    let text = ctx.env.non_empty(env::BUILDX_NO_DEFAULT_LOAD);
    text.is_some_and(|text| {
        parse_bool(text).unwrap_or_else(|| {
            ctx.ui.warning(&format!(
                "invalid non-bool value for {}: {text}",
                env::BUILDX_NO_DEFAULT_LOAD
            ));
            false
        })
    })
}

fn cache_failure(error: CacheError) -> CommandError {
    finish::failure(BuildError::Cache(error))
}

/// Many expect their image in the engine afterwards; only the cache has it.
fn warn_without_output(builder: &Builder, ctx: &Context) {
    ctx.ui.warning(&format!(
        "No output specified with {} driver. Build result will only remain in the build cache. \
         To push result image into registry use --push or to load image into docker use --load",
        builder.driver()
    ));
}
