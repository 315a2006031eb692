//! Runs one build on one connected builder: plan, session, solve, publish.

mod attempts;
mod error;
mod ready;
mod serving;
mod session;
mod status_pipeline;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use self::attempts::{Attempts, LastAttempt};
use self::ready::ReadyBuild;
use self::status_pipeline::StatusPipeline;
use super::cache::early::Meter;
use super::cache::import::{self, Imports, Probes};
use super::cache::{CacheReport, CacheTarget, CacheTools, Cancellation};
use super::context::inputs::Inputs;
use super::context::vcs::Commit;
use super::output::exporters::{self, Export};
use super::output::load::ImageLoader;
use super::plan::NodeFacts;
use super::request::BuildRequest;
use crate::buildkit::Client;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::SolveOutcome;
use crate::docker::token::Tokens;
use crate::env::Env;

pub use self::error::BuildError;

/// What a build runs on and with.
pub struct Runner<'a> {
    /// The connected builder.
    pub client: Client,
    /// Registry credentials, and the tokens got with them.
    pub tokens: Arc<Tokens>,
    /// Takes images that are loaded into an engine.
    pub loader: Arc<dyn ImageLoader>,
    /// Folder of the docker config file.
    pub config_dir: &'a Path,
    /// The caches to write.
    pub targets: &'a [CacheTarget],
    /// What exports of caches through the session need.
    pub caches: CacheTools,
    /// What the registries were asked about the caches to read.
    pub probes: Probes,
    /// What git was asked about the context.
    pub commit: Commit,
    /// Status reports are shown as they are, for tools that parse them.
    pub raw_status: bool,
    /// Tells how busy the builder is, where somebody knows.
    pub meter: Option<Arc<dyn Meter>>,
    /// What is known about the node.
    pub facts: NodeFacts,
    /// Source of secrets from variables and of the agent's socket.
    pub env: &'a Env,
}

/// What a build ended with.
#[derive(Debug, Default)]
pub struct BuildOutcome {
    /// The exporters' and the cache exporters' answers.
    pub response: BTreeMap<String, String>,
    /// What became of the caches that this program stored.
    pub caches: Vec<CacheReport>,
    /// What there is to say about the caches that were read, or not.
    pub warnings: Vec<String>,
    /// Identifier of the build; not the one that was given where it was run again.
    pub build_ref: String,
}

/// Runs the build.
///
/// When the user cancels the build is cancelled in the builder and an error of code `Cancelled` comes
/// back.
///
/// # Errors
///
/// See [`BuildError`].
pub async fn run(
    request: &BuildRequest,
    mut inputs: Inputs,
    build_ref: &str,
    runner: &Runner<'_>,
    cancellation: &Cancellation,
    on_status: impl FnMut(StatusResponse),
) -> Result<BuildOutcome, BuildError> {
    let stores = ContentStores::default();
    let observer = Arc::clone(&runner.caches.observer);
    let mut status = StatusPipeline::new(runner.raw_status, on_status, observer);
    let ready = ready(request, &mut inputs, runner, &stores, &mut status);
    let (build, mut imports) = tokio::select! {
        ready = Box::pin(ready) => ready?,
        () = cancellation.graceful.cancelled() => return Err(BuildError::cancelled()),
    };
    let attempts = Attempts {
        build: &build,
        runner,
        stores,
        cancellation,
    };
    let last = attempts.run(&mut imports, build_ref.to_owned(), &mut status);
    let last = Box::pin(last).await;
    if last.result.is_err() {
        cancellation.failed.cancel();
    }
    last.end_exports().await;
    finish(request, build, imports, last, runner, cancellation).await
}

/// Publishes the caches of a build that succeeded, ends its session, and returns what it ended with.
async fn finish(
    request: &BuildRequest,
    mut build: ReadyBuild,
    mut imports: Imports,
    last: LastAttempt,
    runner: &Runner<'_>,
    cancellation: &Cancellation,
) -> Result<BuildOutcome, BuildError> {
    let published = match &last.result {
        Ok(outcome) => {
            let written = match &build.layout {
                Some(layout) => layout.publish(&outcome.exporter_response).await,
                None => Ok(()),
            };
            // The caches are published even if the image is not.
            let (client, observer) = (&runner.client, runner.caches.observer.as_ref());
            let caches = &build.caches;
            let published = caches.publish(&last.request, client, observer, cancellation);
            let published = published.await;
            written
                .map_err(BuildError::from)
                .and(published.map_err(BuildError::from))
        }
        Err(_) => Ok(Vec::new()),
    };
    build.session.end().await;
    let result = match last.result {
        Ok(outcome) => published.map(|caches| {
            let warnings = imports.take_warnings();
            BuildOutcome {
                caches,
                build_ref: last.request.build_ref,
                ..taken(request, &build.plan.exports, outcome, warnings)
            }
        }),
        Err(solve) => {
            let is_cancelled = cancellation.graceful.is_cancelled();
            Err(build.failure(solve, &imports, is_cancelled).await)
        }
    };
    build.caches.stop().await;
    result
}

/// Gets ready to solve: the registries answer while the builder does.
async fn ready(
    request: &BuildRequest,
    inputs: &mut Inputs,
    runner: &Runner<'_>,
    stores: &ContentStores,
    status: &mut StatusPipeline<impl FnMut(StatusResponse)>,
) -> Result<(ReadyBuild, Imports), BuildError> {
    let current_dir = &request.inputs.current_dir;
    let imports = import::open(&runner.probes, current_dir, &runner.caches, stores);
    let build = async {
        let build = Box::pin(ReadyBuild::set_up(request, inputs, runner, stores)).await?;
        let on_status = |report| status.show(report);
        Box::pin(build.fetch_ahead(request, inputs, runner, on_status)).await?;
        Ok::<_, BuildError>(build)
    };
    let imports = async { Ok(imports.await) };
    let (build, mut imports) = tokio::try_join!(build, imports)?;
    imports.leave_out(&build.unsupported);
    Ok((build, imports))
}

/// Asks git about the context.
pub fn ask_commit(request: &BuildRequest, inputs: &Inputs) -> Commit {
    let Some(context) = inputs
        .local_dirs
        .get("context")
        .filter(|_| request.inputs.context != "-")
    else {
        return Commit::none();
    };
    let name = inputs.attrs.get("filename");
    let dockerfile = inputs.local_dirs.get("dockerfile").unwrap_or(context);
    let dockerfile = dockerfile.join(name.map_or("Dockerfile", String::as_str));
    // What came by standard input or from a URL lies in a temporary folder.
    let is_users = !inputs.attrs.contains_key("dockerfilekey");
    let dockerfile = is_users.then_some(dockerfile);
    let dirs = inputs.local_dirs.clone();
    Commit::ask(request.vcs, context.clone(), dockerfile, dirs)
}

/// Returns what a solve brought. The answer of a call is among those of the exporters, as in buildx.
fn taken(
    request: &BuildRequest,
    exports: &[Export],
    outcome: SolveOutcome,
    warnings: Vec<String>,
) -> BuildOutcome {
    let broke_off = outcome.status_error.map(|error| {
        let error = crate::error::chain(&error);
        format!("the build succeeded, but its progress broke off and may lack steps: {error}")
    });
    let mut response = outcome.exporter_response;
    if request.call.is_some() {
        let texts = outcome.result_metadata.into_iter();
        response.extend(texts.map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())));
    }
    exporters::drop_config_digest(exports, &mut response);
    BuildOutcome {
        response,
        warnings: broke_off.into_iter().chain(warnings).collect(),
        ..BuildOutcome::default()
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
