//! `docker cachex build`: resolve the arguments, run the build on the builder, show the end.

use tokio_util::sync::CancellationToken;

use crate::build::run::{BuildError, BuildOutcome};
use crate::build::{BuildSpec, cache, policy};
use crate::builder::{self, Builder, BuilderError, Node, Surroundings};
use crate::env;
use crate::error::{CommandError, ErrorKind};
use crate::options::boolean::parse_bool;
use crate::options::output::apply_push_load;
use crate::progress::Mode;

use self::job::{Common, Job};
use self::request::Files;
use self::several::Plan;
use super::Context;
use super::invocation::Invocation;

mod args;
mod cache_progress;
mod call;
mod desktop;
mod display;
mod finish;
mod job;
mod loader;
mod meter;
mod nodes;
mod records;
mod request;
mod several;

pub use args::BuildArgs;

/// Runs the command.
///
/// # Errors
///
/// Fails where the arguments are wrong, the builder cannot be used, or the build fails.
pub async fn run(args: BuildArgs, ctx: &Context) -> Result<(), CommandError> {
    let (mut spec, files) = resolve(&args, ctx)?;
    let resolved = display::choose(&args, ctx)?;
    let surroundings = super::surroundings::surroundings(ctx)?;
    let builder = cancellable(
        &ctx.cancel,
        builder::resolve(&surroundings, ctx.builder_name(None)),
    )
    .await??;
    let mut shares = cancellable(&ctx.cancel, nodes::choose(&builder, &spec.platforms)).await??;
    if spec.call.is_some() {
        // Every node would answer the same.
        shares.truncate(1);
        spec.platforms.clone_from(&shares[0].platforms);
    }
    let nodes: Vec<&Node> = shares.iter().map(|s| &builder.nodes()[s.node]).collect();
    let node = nodes[0];
    complete(&mut spec, &surroundings, node)?;
    if spec.outputs.is_empty() && spec.call.is_none() && !no_default_load(ctx) && loads(node) {
        spec.outputs = apply_push_load(Vec::new(), false, true);
    }
    // The caches are checked before the builder is booted for nothing.
    let mut plan = Plan::new(&spec, &shares)?;
    let imports = cache::imports(&spec.cache_from).map_err(cache_failure)?;
    for (spec, node) in plan.specs.iter_mut().zip(&nodes) {
        complete(spec, &surroundings, node)?;
    }
    let inputs = plan.inputs().map_err(failed)?;
    let dockerfile = inputs[0].dockerfile_name.clone();
    if !spec.policy_off {
        let refused = policy::refuse_beside_dockerfile(&inputs[0]);
        refused.map_err(|error| finish::failure(error.into()))?;
    }
    finish::prepare(&files)?;

    // Warnings are printed before the live display begins.
    let invocation = Invocation::new(&surroundings, ctx);
    let progress = display::start(resolved.mode, &builder, spec.call.is_some(), ctx)?;
    let targets = std::mem::take(&mut plan.targets);
    let common = Common {
        targets: &targets,
        imports: &imports,
        surroundings: &surroundings,
        invocation: &invocation,
        builder: &builder,
        progress: &progress,
        mode: resolved.mode,
        has_several_nodes: nodes.len() > 1,
        provenance: files.provenance,
        ctx,
    };
    let common = &common;
    let jobs = plan.specs.iter().zip(nodes);
    let jobs: Vec<Job> = jobs
        .map(|(spec, node)| Job { spec, node, common })
        .collect();
    let result = Box::pin(plan.run(&jobs, inputs, common)).await;
    let in_order = ctx.orderly.token();
    invocation.registries.close().await;
    let summary = progress.finish().await;
    drop(in_order);
    if let Some(remark) = invocation.spool.remark() {
        ctx.ui.warning(remark);
    }
    if resolved.mode != Mode::Quiet && resolved.mode != Mode::RawJson {
        warn_without_output(&spec, &builder, ctx);
    }
    let outcome = result?;
    if spec.call.is_none() && !matches!(resolved.mode, Mode::Quiet | Mode::RawJson) {
        let name = format!("{}/{}/{}", builder.name(), node.name(), outcome.build_ref);
        if let Some(line) = desktop::details(&name, ctx) {
            ctx.ui.status(&line);
        }
    }
    warn(&outcome, ctx);
    let print_image_id = resolved.print_image_id && spec.call.is_none();
    finish::render(&outcome, &summary, &files, print_image_id, ctx)?;
    match &spec.call {
        Some(call) => call::print(call, &outcome.response, &dockerfile, ctx),
        None => finish::inline_message(&outcome.response, ctx),
    }
}

/// Creates the request, and shows what there is to say about it.
fn resolve(args: &BuildArgs, ctx: &Context) -> Result<(BuildSpec, Files), CommandError> {
    for warning in args.legacy.warnings() {
        ctx.ui.warning(&warning);
    }
    let (spec, files, warnings) = request::resolve(args, ctx)?;
    for warning in &warnings {
        ctx.ui.warning(warning);
    }
    Ok((spec, files))
}

/// Shows what a build that succeeded had to do without.
fn warn(outcome: &BuildOutcome, ctx: &Context) {
    for warning in &outcome.warnings {
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

/// Fills in what comes from the store and the docker config.
fn complete(
    spec: &mut BuildSpec,
    surroundings: &Surroundings,
    node: &Node,
) -> Result<(), CommandError> {
    let store_error = |error| CommandError::from(BuilderError::Store(error));
    spec.inputs.node_id = surroundings.store().node_id().map_err(store_error)?;
    let endpoint = surroundings.contexts().resolve(&node.stored().endpoint);
    let host = endpoint.map(|endpoint| endpoint.host).unwrap_or_default();
    spec.proxy_args = surroundings.config().proxy_variables(&host);
    Ok(())
}

/// Tells whether a node's builds are loaded into the engine where nothing else is asked for.
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

fn cache_failure(error: cache::CacheError) -> CommandError {
    finish::failure(BuildError::Cache(error))
}

/// Many expect their image in the engine afterwards; only the cache has it.
fn warn_without_output(spec: &BuildSpec, builder: &Builder, ctx: &Context) {
    if spec.outputs.is_empty() && spec.call.is_none() && !no_default_load(ctx) {
        ctx.ui.warning(&format!(
            "No output specified with {} driver. Build result will only remain in the build cache. \
             To push result image into registry use --push or to load image into docker use --load",
            builder.driver()
        ));
    }
}
