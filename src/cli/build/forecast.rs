//! What will become of the steps of a build: everything that comes before it, and then the frontend alone.

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::args::BuildArgs;
use super::job::{Common, Job};
use super::place::Place;
use super::request::gates;
use super::{cancellable, display, resolve, scope};
use crate::build::cache::Cancellation;
use crate::build::explain::forecast::Forecast;
use crate::build::output::provenance;
use crate::cli::Context;
use crate::cli::invocation::Invocation;
use crate::error::CommandError;

/// The forecast of one node.
#[derive(Debug)]
pub struct NodeForecast {
    /// The node's name.
    pub node: String,
    /// What will become of its steps.
    pub forecast: Forecast,
    /// The caches that nobody named: those that `--cache` chose.
    pub chosen: Vec<String>,
}

/// Tells what will become of the steps of a build, for each node that it would run on.
///
/// # Errors
///
/// Fails if the arguments are wrong, the builder cannot be used, or the frontend fails.
pub async fn forecast(args: &BuildArgs, ctx: &Context) -> Result<Vec<NodeForecast>, CommandError> {
    let scopes = cancellable(&ctx.cancel, scope::resolve(args, ctx)).await??;
    let (mut request, _, scopes, keyring) = resolve(args, scopes, ctx)?;
    let chosen = scopes.map_or_else(Vec::new, |scopes| scopes.read_refs());
    if request.call.is_some() {
        return Err(CommandError::failed(
            "a question to the frontend (--call, --check) has no steps that a cache could serve",
        ));
    }
    gates(&request.steps)?;
    // Nothing is made, so nothing has to be written, loaded or described.
    request.outputs.clear();
    request.cache_to.clear();
    request.attests.clear();
    request.default_provenance = false;
    let shown = display::choose(args, ctx)?;
    let place = Place::choose(&request, ctx).await?;
    let nodes = place.nodes();
    let checked = place.check(&request)?;
    let invocation = Invocation::new(&place.docker_env, ctx);
    let progress = display::start(shown.mode, &place.builder, true, ctx)?;
    let common = Common {
        targets: &checked.division.targets,
        imports: &checked.imports,
        docker_env: &place.docker_env,
        invocation: &invocation,
        builder: &place.builder,
        progress: &progress,
        mode: shown.mode,
        has_several_nodes: nodes.len() > 1,
        provenance: provenance::Mode::Disabled,
        noted: &[],
        scopes: None,
        failed: &Mutex::default(),
        ends: &Mutex::default(),
        keyring: &keyring,
        ctx,
    };
    let cancellation = Cancellation {
        graceful: ctx.cancel.child_token(),
        force: ctx.hurry.clone(),
        failed: CancellationToken::new(),
    };
    let jobs = checked
        .division
        .requests
        .iter()
        .zip(&nodes)
        .zip(checked.inputs);
    let forecasts = jobs.map(async |((request, node), inputs)| {
        let common = &common;
        let job = Job {
            request,
            node,
            notes: None,
            common,
        };
        let forecast = Box::pin(job.forecast(inputs, &cancellation)).await?;
        Ok::<_, CommandError>(NodeForecast {
            node: node.name().to_owned(),
            forecast,
            chosen: chosen.clone(),
        })
    });
    let forecasts = try_join_all(forecasts).await;
    invocation.registries.close().await;
    progress.finish().await;
    forecasts
}
