//! Runs one build on one connected builder: plan, session, solve.

mod error;
mod job;
mod serving;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Definition;

use self::job::Job;
use super::alongside::{Attempts, Meter, RunAgain, Stops};
use super::cache::CacheTarget;
use super::client_cache::{CacheReport, ClientTools};
use super::exports::{self, Export};
use super::imports;
use super::inputs::Inputs;
use super::load::ImageLoader;
use super::spec::BuildSpec;
use super::vcs::Commit;
use crate::buildkit::Client;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::SolveOutcome;
use crate::docker::CredentialSource;
use crate::env::Env;

pub use self::error::BuildError;

/// What a build runs on and with.
pub struct Runner<'a> {
    /// The connected builder.
    pub client: Client,
    /// Where registry credentials come from.
    pub credentials: Arc<dyn CredentialSource>,
    /// Takes images that are loaded into an engine.
    pub loader: Arc<dyn ImageLoader>,
    /// Folder of the docker config file.
    pub config_dir: &'a Path,
    /// The caches to write.
    pub targets: &'a [CacheTarget],
    /// What exports of caches through the session need.
    pub caches: ClientTools,
    /// What the registries were asked about the caches to read.
    pub asked: imports::Asked,
    /// What git was asked about the context.
    pub commit: Commit,
    /// Tells how busy the builder is, where somebody knows.
    pub meter: Option<Arc<dyn Meter>>,
    /// Layers were taken uncompressed out of this builder before; see
    /// [`Store::mark_uncompressed`](crate::builder::Store::mark_uncompressed).
    pub had_uncompressed: bool,
    /// Source of secrets from variables and of the agent's socket.
    pub env: &'a Env,
    /// The engine that images are loaded into imports OCI layouts.
    pub engine_imports_oci: bool,
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
}

/// What a build ended with.
#[derive(Debug, Default)]
pub struct BuildOutcome {
    /// The exporters' and the cache exporters' answers.
    pub response: BTreeMap<String, String>,
    /// Definitions of the result's parts by platform.
    pub definitions: BTreeMap<String, Definition>,
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
    spec: &BuildSpec,
    mut inputs: Inputs,
    build_ref: &str,
    runner: &Runner<'_>,
    stops: &Stops,
    mut on_status: impl FnMut(StatusResponse),
) -> Result<BuildOutcome, BuildError> {
    let stores = ContentStores::default();
    let read = async {
        let (dir, tools) = (&spec.inputs.current_dir, &runner.caches);
        Ok::<_, BuildError>(imports::open(&runner.asked, dir, tools, &stores).await)
    };
    // The registries answer while the builder does.
    let ready = async {
        let job = async {
            let job = Job::set_up(spec, &mut inputs, build_ref, runner, &stores).await?;
            Box::pin(job.fetch_ahead(spec, &inputs, runner, &mut on_status)).await?;
            Ok::<_, BuildError>(job)
        };
        tokio::try_join!(job, read)
    };
    let (mut job, mut read) = tokio::select! {
        ready = Box::pin(ready) => ready?,
        () = stops.cancel.cancelled() => return Err(BuildError::cancelled()),
    };
    read.leave_out(&job.lacking);
    let (client, registries) = (runner.client.clone(), job.caches.registries().to_vec());
    let meter = runner.meter.clone();
    let mut attempts = Attempts::new(client, registries, stores, stops.clone(), meter);
    let solve = async |request: &_, again: RunAgain<'_>, report: &mut dyn FnMut(_)| {
        attempts.solve(request, again, report).await
    };
    let mut request = std::mem::take(&mut job.request);
    let may_run_again = || job.may_run_again();
    let solved = read.solve(&mut request, &stops.cancel, on_status, may_run_again, solve);
    let result = Box::pin(solved).await;
    attempts.end(result.is_err()).await;
    let published = match &result {
        Ok(_) => {
            let (client, observer) = (&runner.client, runner.caches.observer.as_ref());
            let published = job.caches.publish(&request, client, observer, stops);
            published.await.map_err(BuildError::from)
        }
        Err(_) => Ok(Vec::new()),
    };
    job.session.end().await;
    let result = match result {
        Ok(outcome) => published.map(|caches| {
            let mut taken = taken(spec, &job.exports, outcome);
            taken.warnings.append(&mut read.take_warnings());
            BuildOutcome {
                caches,
                build_ref: request.build_ref,
                ..taken
            }
        }),
        Err(solve) => Err(job.failure(solve, &read, stops.cancel.is_cancelled()).await),
    };
    job.caches.stop().await;
    result
}

/// Asks git about the context.
pub fn ask_commit(spec: &BuildSpec, inputs: &Inputs) -> Commit {
    let Some(context) = inputs
        .local_dirs
        .get("context")
        .filter(|_| spec.inputs.context != "-")
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
    Commit::ask(spec.vcs, context.clone(), dockerfile, dirs)
}

/// The answer of a call stands among those of the exporters, as in buildx.
fn taken(spec: &BuildSpec, exports: &[Export], outcome: SolveOutcome) -> BuildOutcome {
    let broke_off = outcome.status_error.map(|error| {
        let error = crate::error::chain(&error);
        format!("the build succeeded, but its progress broke off and may lack steps: {error}")
    });
    let mut response = outcome.exporter_response;
    if spec.call.is_some() {
        let texts = outcome.result_metadata.into_iter();
        response.extend(texts.map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())));
    }
    exports::drop_config_digest(exports, &mut response);
    BuildOutcome {
        response,
        definitions: outcome.definitions,
        warnings: broke_off.into_iter().collect(),
        ..BuildOutcome::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_that_broke_off_is_a_warning() {
        let broken = tonic::Status::unavailable("the stream broke").into();
        let outcome = SolveOutcome {
            status_error: Some(broken),
            ..SolveOutcome::default()
        };
        let [warning] = &taken(&BuildSpec::default(), &[], outcome).warnings[..] else {
            panic!("one warning");
        };
        assert!(warning.contains("the stream broke"), "{warning}");
    }
}
