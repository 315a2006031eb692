//! Runs one build on one connected builder: plan, session, solve.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord;
use bollard_buildkit_proto::pb::Definition;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alongside::{Attempts, Meter, Stops};
use super::attrs::{self, AttrError, BuilderFacts};
use super::cache::{self, CacheError, CacheExports};
use super::cache_kinds::Lacking;
use super::caches::Caches;
use super::client_cache::{CacheReport, ClientCacheError, ClientTools};
use super::exports::{self, Export, ExportError, ExportFacts};
use super::imports;
use super::inputs::Inputs;
use super::layout_cache::LayoutCacheError;
use super::load::ImageLoader;
use super::provenance::ProvenanceError;
use super::session::{self, SessionParts, SessionSetupError};
use super::spec::BuildSpec;
use super::vcs::Commit;
use crate::buildkit::session::Session;
use crate::buildkit::session::auth::CredentialSource;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::session::file_send::ExportFailures;
use crate::buildkit::session::file_sync::DirFailures;
use crate::buildkit::solve::{SolveOutcome, SolveRequest};
use crate::buildkit::{Client, RpcError, session::tunnel, subrequest};
use crate::env::Env;

/// Label of a worker of a Docker Engine: the address that `host-gateway` stands for.
const HOST_GATEWAY_LABEL: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

/// Build argument that asks for attributes in the build's record inside images.
const BUILDINFO_ARG: &str = "BUILDKIT_INLINE_BUILDINFO_ATTRS";

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

/// Why a build failed.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The outputs cannot be served.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The caches cannot be served.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The build succeeded and a cache was not exported.
    #[error(transparent)]
    ClientCache(#[from] ClientCacheError),
    /// A cache was not written to its folder.
    #[error(transparent)]
    LayoutCache(#[from] LayoutCacheError),
    /// The builder cannot do what is asked.
    #[error(transparent)]
    Attr(#[from] AttrError),
    /// A secret or an agent is not there.
    #[error(transparent)]
    Session(#[from] SessionSetupError),
    /// The provenance for the metadata file cannot be read.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// The builder does not answer as BuildKit does.
    #[error("cannot talk to the builder")]
    Builder(#[source] RpcError),
    /// The build itself failed.
    #[error("failed to solve")]
    Solve(#[source] RpcError),
    /// The builder went away.
    #[error("the connection to the builder broke")]
    Broken(#[source] RpcError),
    /// A folder could not be sent.
    #[error("cannot send a local folder")]
    LocalDir {
        /// What went wrong here.
        #[source]
        failure: crate::buildkit::session::file_sync::DirFailure,
        /// What the builder made of it.
        solve: RpcError,
    },
    /// The result could not be taken on this side.
    #[error("failed to export")]
    Sink {
        /// What went wrong here.
        #[source]
        failure: crate::buildkit::session::file_send::ExportFailure,
        /// What the builder made of it.
        solve: RpcError,
    },
}

impl BuildError {
    /// Returns the builder's error, if it has one.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Builder(error)
            | Self::Solve(error)
            | Self::Broken(error)
            | Self::LocalDir { solve: error, .. }
            | Self::Sink { solve: error, .. } => Some(error),
            _ => None,
        }
    }
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
    on_status: impl FnMut(StatusResponse),
) -> Result<BuildOutcome, BuildError> {
    let cancel = &stops.cancel;
    let asked = async {
        let builder = async {
            tokio::try_join!(
                runner.client.list_workers(),
                Lacking::ask(&runner.client, spec)
            )
        };
        tokio::join!(builder, runner.commit.attributes())
    };
    let ((workers, lacking), mut commit) = tokio::select! {
        (builder, commit) = asked => (builder.map_err(BuildError::Builder)?, commit),
        () = cancel.cancelled() => return Err(BuildError::Solve(cancelled())),
    };
    let facts = builder_facts(&workers);
    let exports = plan(spec, runner, &workers, facts)?;
    let (mut request, cache_exports) = request(spec, build_ref, &exports, facts)?;
    request.cache_exports.retain(|entry| !lacking.has(entry));
    let stores = ContentStores::default();
    // Standard input can be sent only once.
    let only_once = inputs.upload.is_some();
    let opened = async {
        let caches = Caches::open(&cache_exports, spec, &runner.caches)?;
        let read = cache::imports(&spec.cache_from)?;
        let (dir, tools) = (&spec.inputs.current_dir, &runner.caches);
        let read = imports::open(&read, &runner.asked, dir, tools, &stores).await;
        Ok::<_, BuildError>((caches, read))
    };
    let (caches, mut read) = tokio::select! {
        caches = Box::pin(opened) => caches?,
        () = cancel.cancelled() => return Err(BuildError::Solve(cancelled())),
    };
    read.leave_out(&lacking);
    caches.offer(&stores);
    inputs.offer_layouts(&stores);
    let parts = SessionParts {
        secrets: &spec.secrets,
        ssh: &spec.ssh,
        exports: &exports,
        credentials: Arc::clone(&runner.credentials),
        loader: Arc::clone(&runner.loader),
        stores: stores.clone(),
        config_dir: runner.config_dir,
        env: runner.env,
    };
    let ready = session::prepare(&mut inputs, &parts)?;
    request.session = ready.session.id().to_owned();
    request.attrs.append(&mut inputs.attrs.clone());
    request.inputs = std::mem::take(&mut inputs.definitions);
    request.attrs.append(&mut commit);
    ask_call(spec, &mut request);

    let session_end = CancellationToken::new();
    let mut session = serve_session(&runner.client, ready.session, session_end.clone());
    let may_run_again =
        || !only_once && ready.dir_failures.first().is_none() && ready.failures.get().is_empty();
    let client = runner.client.clone();
    let (lanes, meter) = (caches.lanes(), runner.meter.clone());
    let mut attempts = Attempts::new(client, lanes, stores, stops.clone(), meter);
    let solve =
        async |request: &_, report: &mut dyn FnMut(_)| attempts.solve(request, report).await;
    let result = Box::pin(read.solve(&mut request, cancel, on_status, may_run_again, solve)).await;
    attempts.end(result.is_err()).await;
    let published = match &result {
        Ok(_) => caches.publish(&request, runner, cancel).await,
        Err(_) => Ok(Vec::new()),
    };
    session_end.cancel();
    while session.join_next().await.is_some() {}

    let result = match result {
        Ok(outcome) => published.map(|caches| BuildOutcome {
            caches,
            warnings: read.take_warnings(),
            build_ref: request.build_ref,
            ..taken(spec, &exports, outcome)
        }),
        Err(solve) => Err(failure(solve, &ready.dir_failures, &ready.failures, &caches).await),
    };
    caches.stop(&runner.caches).await;
    result
}

fn plan(
    spec: &BuildSpec,
    runner: &Runner<'_>,
    workers: &[WorkerRecord],
    facts: BuilderFacts,
) -> Result<Vec<Export>, ExportError> {
    let mut exports = exports::plan(
        &spec.outputs,
        &spec.tags,
        &spec.annotations,
        runner.facts(spec),
    )?;
    if exports.len() > 1 && too_old_for_several_exporters(workers) {
        return Err(ExportError::Several);
    }
    exports::add_image_attrs(
        &mut exports,
        spec.build_args.get(BUILDINFO_ARG).map(String::as_str),
        spec.no_oci_artifact && facts.attestations,
    );
    Ok(exports)
}

/// Asks for the answer of a call, and not for a build.
fn ask_call(spec: &BuildSpec, request: &mut SolveRequest) {
    if let Some(call) = &spec.call {
        subrequest::ask(&call.name, &mut request.attrs);
        request.internal = true;
    }
}

/// What happened on this side tells more than what the builder made of it.
async fn failure(
    solve: RpcError,
    dirs: &DirFailures,
    sinks: &ExportFailures,
    caches: &Caches,
) -> BuildError {
    if solve.is_cancelled() {
        return BuildError::Solve(solve);
    }
    if solve.is_connection_broken() {
        return BuildError::Broken(solve);
    }
    if let Some(failure) = dirs.first() {
        return BuildError::LocalDir { failure, solve };
    }
    if let Some(failure) = sinks.get().into_iter().next() {
        return BuildError::Sink { failure, solve };
    }
    match caches.failure().await {
        Some(failure) => BuildError::ClientCache(failure),
        None => BuildError::Solve(solve),
    }
}

/// The answer of a call stands among those of the exporters, as in buildx.
fn taken(spec: &BuildSpec, exports: &[Export], outcome: SolveOutcome) -> BuildOutcome {
    let mut response = outcome.exporter_response;
    if spec.call.is_some() {
        let texts = outcome.result_metadata.into_iter();
        response.extend(texts.map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())));
    }
    exports::drop_config_digest(exports, &mut response);
    BuildOutcome {
        response,
        definitions: outcome.definitions,
        ..BuildOutcome::default()
    }
}

impl Runner<'_> {
    fn facts(&self, spec: &BuildSpec) -> ExportFacts {
        let attested = spec.attests.values().any(Option::is_some);
        ExportFacts {
            engine_imports_oci: self.engine_imports_oci,
            result_is_list: spec.platforms.len() > 1 || attested,
            stdout_is_terminal: self.stdout_is_terminal,
            recompress: self.had_uncompressed,
        }
    }
}

fn request(
    spec: &BuildSpec,
    build_ref: &str,
    exports: &[Export],
    facts: BuilderFacts,
) -> Result<(SolveRequest, CacheExports), BuildError> {
    let frontend = attrs::frontend(spec, facts)?;
    let caches = cache::exports(&spec.cache_to, &spec.tags, &spec.outputs, &spec.build_args)?;
    let request = SolveRequest {
        build_ref: build_ref.to_owned(),
        session: String::new(),
        frontend: frontend.name.to_owned(),
        attrs: frontend.attrs,
        inputs: BTreeMap::new(),
        exporters: exports.iter().map(|e| e.entry.clone()).collect(),
        cache_exports: caches.entries.clone(),
        cache_imports: Vec::new(),
        entitlements: frontend.entitlements,
        source_policy: spec.source_policy.clone(),
        internal: false,
    };
    Ok((request, caches))
}

/// BuildKit takes several exporters since 0.13, and workers tell its version since 0.11; a build of
/// no release (0.0.0) is taken for a new one.
fn too_old_for_several_exporters(workers: &[WorkerRecord]) -> bool {
    let Some(version) = workers.first().and_then(|w| w.buildkit_version.as_ref()) else {
        return true;
    };
    let mut numbers = version
        .version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(minor))) => (1..13).contains(&minor),
        _ => false,
    }
}

fn builder_facts(workers: &[WorkerRecord]) -> BuilderFacts {
    let worker = workers.first();
    BuilderFacts {
        // Workers tell their version since BuildKit 0.11, the first that makes attestations.
        attestations: worker.is_some_and(|w| w.buildkit_version.is_some()),
        host_gateway: worker
            .and_then(|w| w.labels.get(HOST_GATEWAY_LABEL))
            .and_then(|ip| ip.parse::<IpAddr>().ok()),
    }
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
    let dirs = inputs.local_dirs.clone();
    Commit::ask(spec.vcs, context.clone(), dockerfile, dirs)
}

/// Serves the session beside the solve. A session that breaks makes the builder fail the build, and
/// its error is the one to show; this one is for the log.
fn serve_session(client: &Client, session: Session, end: CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let channel = client.channel();
    tasks.spawn(async move {
        let opened = tokio::select! {
            opened = tunnel::open(channel, session.metadata()) => opened,
            () = end.cancelled() => return,
        };
        match opened {
            Ok(stream) => {
                if let Err(error) = session.serve(stream, end).await {
                    tracing::debug!(error = %crate::error::chain(&error), "the session broke");
                }
            }
            Err(status) => tracing::debug!(error = %status, "the session was refused"),
        }
    });
    tasks
}

pub(super) fn cancelled() -> RpcError {
    tonic::Status::cancelled("the build was cancelled").into()
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::types::BuildkitVersion;

    use super::*;

    #[test]
    fn several_exporters_need_a_version() {
        for (version, too_old) in [
            ("v0.12.5", true),
            ("v0.11.0-rc1", true),
            ("v0.13.0", false),
            ("0.25.1", false),
            ("v1.0.0", false),
            ("v0.0.0+unknown", false),
            ("strange", false),
        ] {
            let worker = WorkerRecord {
                buildkit_version: Some(BuildkitVersion {
                    version: version.into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            assert_eq!(
                too_old_for_several_exporters(&[worker]),
                too_old,
                "{version}"
            );
        }
        assert!(too_old_for_several_exporters(&[WorkerRecord::default()]));
    }
}
