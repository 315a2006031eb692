//! `docker cachex build`: resolve the arguments, run the build on the builder, show the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::alongside::Stops;
use crate::build::cache::CacheImport;
use crate::build::client_cache::ClientTools;
use crate::build::imports::Asked;
use crate::build::inputs::Inputs;
use crate::build::run::{self, BuildError, BuildOutcome, Runner};
use crate::build::{BuildSpec, cache, dockerfile_url, provenance};
use crate::builder::{self, BuildRef, Builder, BuilderError, Node, Surroundings};
use crate::buildkit::session::auth::http_client;
use crate::buildkit::{self, Client, RpcError};
use crate::compress::Workers;
use crate::docker::CredentialStore;
use crate::env;
use crate::error::{CommandError, ErrorKind};
use crate::options::boolean::parse_bool;
use crate::options::cache::{CacheTo, Compression, Compressor};
use crate::options::output::apply_push_load;
use crate::progress::{Mode, Progress};

use self::cache_progress::CacheSteps;
use self::several::Plan;
use super::Context;
use super::boot_progress::BootProgress;
use super::registries;

mod args;
mod cache_progress;
mod call;
mod display;
mod finish;
mod loader;
mod meter;
mod nodes;
mod request;
mod several;

pub use args::BuildArgs;

/// Runs the command.
///
/// # Errors
///
/// Fails where the arguments are wrong, the builder cannot be used, or the build fails.
pub async fn run(args: BuildArgs, ctx: &Context) -> Result<(), CommandError> {
    for warning in args.legacy.warnings() {
        ctx.ui.warning(&warning);
    }
    let (mut spec, files, warnings) = request::resolve(&args, ctx)?;
    for warning in &warnings {
        ctx.ui.warning(warning);
    }
    let resolved = display::choose(&args, ctx)?;
    let surroundings = super::surroundings::surroundings(ctx)?;
    let builder =
        cancellable(ctx, builder::resolve(&surroundings, ctx.builder_name(None))).await??;
    let mut shares = cancellable(ctx, nodes::choose(&builder, &spec.platforms)).await??;
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
    cancellable(ctx, fetch_dockerfile(&mut spec)).await??;
    let imports = check_caches(&spec)?;
    let mut plan = Plan::new(&spec, &shares)?;
    for (spec, node) in plan.specs.iter_mut().zip(&nodes) {
        complete(spec, &surroundings, node)?;
    }
    let inputs = plan.inputs().map_err(failed)?;
    let dockerfile = inputs[0].dockerfile_name.clone();
    if !request::policy_is_off(&args)? {
        refuse_policy_file(&inputs[0])?;
    }
    finish::remove_stale(files.iidfile.as_deref())?;

    let progress = display::start(resolved.mode, &builder, spec.call.is_some(), ctx)?;
    let jobs: Vec<Job> = plan
        .specs
        .iter()
        .zip(&nodes)
        .map(|(spec, node)| Job {
            spec,
            imports: &imports,
            surroundings: &surroundings,
            builder: &builder,
            node,
            is_one_of_several: nodes.len() > 1,
            ctx,
            provenance: files.provenance,
        })
        .collect();
    let result = Box::pin(plan.run(&jobs, inputs, &progress, resolved.mode)).await;
    let summary = progress.finish().await;
    if resolved.mode != Mode::Quiet && resolved.mode != Mode::RawJson {
        warn_without_output(&spec, &builder, ctx);
    }
    let outcome = result?;
    for warning in &outcome.warnings {
        ctx.ui.warning(warning);
    }
    for ignored in outcome
        .caches
        .iter()
        .filter_map(|c| c.outcome.as_ref().err())
    {
        ctx.ui.warning(&crate::error::chain(ignored));
    }
    let print_image_id = resolved.print_image_id && spec.call.is_none();
    finish::render(&outcome, &summary, &files, print_image_id, ctx)?;
    match &spec.call {
        Some(call) => call::print(call, &outcome.response, &dockerfile, ctx),
        None => finish::inline_message(&outcome.response, ctx),
    }
}

/// Puts the words of every failed build before an error of its preparation.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CommandError {
    CommandError::failed(format!("failed to build: {}", crate::error::chain(&error)))
}

async fn cancellable<T>(ctx: &Context, work: impl Future<Output = T>) -> Result<T, CommandError> {
    tokio::select! {
        value = work => Ok(value),
        () = ctx.cancel.cancelled() => {
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

async fn fetch_dockerfile(spec: &mut BuildSpec) -> Result<(), CommandError> {
    let Some(url) = spec.inputs.dockerfile_url() else {
        return Ok(());
    };
    let http = http_client().build().map_err(failed)?;
    spec.inputs.fetched = Some(dockerfile_url::fetch(&http, url).await.map_err(failed)?);
    Ok(())
}

/// buildx keeps a build to the policy that lies beside its Dockerfile. What it would forbid must not
/// be built for want of looking.
fn refuse_policy_file(inputs: &Inputs) -> Result<(), CommandError> {
    let folder = inputs.local_dirs.get("dockerfile");
    let (Some(folder), Some(name)) = (folder, inputs.attrs.get("filename")) else {
        return Ok(());
    };
    let policy = folder.join(format!("{name}.rego"));
    if !policy.exists() {
        return Ok(());
    }
    Err(CommandError::failed(format!(
        "the policy {} is not supported by this version of cachex",
        policy.display()
    ))
    .hint("docker buildx build heeds it; --policy disabled=true builds without"))
}

/// The caches are checked before the builder is booted for nothing.
///
/// Returns those to read.
fn check_caches(spec: &BuildSpec) -> Result<Vec<CacheImport>, CommandError> {
    cache::exports(&spec.cache_to, &spec.tags, &spec.outputs, &spec.build_args)
        .and_then(|_| cache::imports(&spec.cache_from))
        .map_err(|error| finish::failure(BuildError::Cache(error)))
}

/// One build on one node.
struct Job<'a> {
    spec: &'a BuildSpec,
    /// The caches to read.
    imports: &'a [CacheImport],
    surroundings: &'a Arc<Surroundings>,
    builder: &'a Builder,
    node: &'a Node,
    is_one_of_several: bool,
    ctx: &'a Context,
    /// How much of the provenance is read after the build.
    provenance: provenance::Mode,
}

impl Job<'_> {
    async fn run(
        &self,
        inputs: Inputs,
        progress: &Progress,
        mode: Mode,
    ) -> Result<BuildOutcome, CommandError> {
        self.record_activity();
        // One store for the builder's questions and for our own requests: what a helper answered is
        // remembered, and a warning is told once.
        let credentials = Arc::new(self.credentials()?);
        let caches = self.cache_tools(progress, Arc::clone(&credentials));
        // Registries and git answer while the builder is being reached.
        let asked = Asked::start(self.imports, &caches.registries);
        let commit = run::ask_commit(self.spec, &inputs);
        let engine_imports_oci = async {
            match self.spec.outputs.iter().find(|output| output.loads()) {
                Some(output) => {
                    let context = output.attrs.get("context").map_or("", String::as_str);
                    loader::imports_oci(self.surroundings, context).await
                }
                None => Ok(false),
            }
        };
        let work = async { tokio::join!(self.connect(progress), engine_imports_oci) };
        let (client, engine_imports_oci) = cancellable(self.ctx, Box::pin(work)).await?;
        let runner = Runner {
            client: client?,
            caches,
            asked,
            commit,
            meter: meter::of(self.node).await,
            credentials,
            loader: Arc::new(loader::EngineLoader::new(
                Arc::clone(self.surroundings),
                progress.sender(),
            )),
            config_dir: self
                .surroundings
                .config()
                .path
                .parent()
                .unwrap_or(Path::new(".")),
            had_uncompressed: self
                .surroundings
                .store()
                .is_marked_uncompressed(self.builder.name(), self.node.name()),
            env: &self.ctx.env,
            engine_imports_oci: engine_imports_oci?,
            stdout_is_terminal: self.ctx.ui.stdout_is_terminal(),
        };
        self.mark_uncompressed()?;
        let build_ref = buildkit::new_id();
        self.record_build(&build_ref);
        let reports = display::Reports::new(progress, mode);
        let on_status = |status| reports.send(status);
        let stops = Stops {
            cancel: self.ctx.cancel.clone(),
            hurry: self.ctx.hurry.clone(),
        };
        let build = run::run(self.spec, inputs, &build_ref, &runner, &stops, on_status);
        let result = Box::pin(build).await;
        match result {
            Ok(mut outcome) => {
                if outcome.build_ref != build_ref {
                    self.record_build(&outcome.build_ref);
                }
                let build_ref = outcome.build_ref.clone();
                if self.spec.call.is_none() {
                    let provenance = self.provenance(&runner.client, &build_ref, progress);
                    let mut provenance = cancellable(self.ctx, provenance).await??;
                    outcome.response.append(&mut provenance);
                    let name = format!("{}/{}/{build_ref}", self.builder.name(), self.node.name());
                    outcome.response.insert("buildx.build.ref".into(), name);
                }
                Ok(outcome)
            }
            Err(BuildError::Builder(error)) => Err(self.broken(error).await),
            Err(error @ BuildError::Broken(_)) => Err(self.with_logs(finish::failure(error))),
            Err(error) => Err(finish::failure(error)),
        }
    }

    async fn provenance(
        &self,
        client: &Client,
        build_ref: &str,
        progress: &Progress,
    ) -> Result<BTreeMap<String, String>, CommandError> {
        if self.provenance == provenance::Mode::Disabled {
            return Ok(BTreeMap::new());
        }
        let step = progress.sender().step(provenance::STEP);
        match provenance::fetch(client, build_ref, self.provenance).await {
            Ok(entries) => {
                step.done();
                Ok(entries)
            }
            Err(error) => {
                step.fail(&crate::error::chain(&error));
                Err(finish::failure(error.into()))
            }
        }
    }

    async fn connect(&self, progress: &Progress) -> Result<Client, CommandError> {
        let mut boot = BootProgress::new(progress, self.is_one_of_several);
        let stream = self.node.dial(&mut |event| boot.event(event)).await?;
        match Client::connect_as(stream, self.node.driver().authority()).await {
            Ok(client) => Ok(client),
            Err(error) => Err(self.broken(error).await),
        }
    }

    /// A connection that is no BuildKit's has a reason, which the driver may know.
    async fn broken(&self, error: RpcError) -> CommandError {
        match self.node.driver().diagnose().await {
            Some(reason) => reason.into(),
            None => self.with_logs(finish::failure(BuildError::Builder(error))),
        }
    }

    /// A builder that went away may have told its logs why.
    fn with_logs(&self, error: CommandError) -> CommandError {
        match self.node.driver().container() {
            Some(container) => error.hint(format!("docker logs {container}")),
            None => error,
        }
    }

    fn credentials(&self) -> Result<CredentialStore, CommandError> {
        let store = CredentialStore::new(self.surroundings.config().clone(), &self.ctx.env)
            .with_scoped(self.surroundings.store().dir())?;
        for warning in store.warnings() {
            self.ctx.ui.warning(warning);
        }
        Ok(store)
    }

    fn cache_tools(&self, progress: &Progress, credentials: Arc<CredentialStore>) -> ClientTools {
        let env = &self.ctx.env;
        ClientTools {
            registries: Arc::new(registries::registries(credentials, env)),
            workers: Workers::all_cores(),
            spool_dir: env.temp_dir(),
            observer: Arc::new(CacheSteps::new(progress.sender())),
        }
    }

    /// A build that takes layers uncompressed leaves a mark, before it does.
    fn mark_uncompressed(&self) -> Result<(), CommandError> {
        let takes = |cache: &CacheTo| match cache {
            CacheTo::Registry(cache) => {
                cache.compressor == Compressor::Client
                    || cache.compression == Some(Compression::Uncompressed)
            }
            CacheTo::Other { attrs, .. } => {
                attrs.get("compression").map(String::as_str) == Some("uncompressed")
            }
        };
        if self.spec.cache_to.iter().any(takes) {
            let store = self.surroundings.store();
            store
                .mark_uncompressed(self.builder.name(), self.node.name())
                .map_err(BuilderError::Store)?;
        }
        Ok(())
    }

    /// `docker buildx ls` shows when a builder was last used. A store that cannot be written is no
    /// reason not to build.
    fn record_activity(&self) {
        if let Err(error) = self
            .surroundings
            .store()
            .record_activity(self.builder.name())
        {
            tracing::debug!(error = %crate::error::chain(&error), "cannot record the activity");
        }
    }

    /// `docker buildx history` shows name and context of a build from this record.
    fn record_build(&self, build_ref: &str) {
        let state = self.local_state();
        let (builder, node) = (self.builder.name(), self.node.name());
        if let Err(error) = self
            .surroundings
            .store()
            .save_ref(builder, node, build_ref, &state)
        {
            tracing::debug!(error = %crate::error::chain(&error), "cannot record the build");
        }
    }

    fn local_state(&self) -> BuildRef {
        let inputs = &self.spec.inputs;
        let remote = crate::build::inputs::is_remote_url(&inputs.context);
        let absolute = |path: &str| -> String {
            let path: PathBuf = inputs.current_dir.join(path).components().collect();
            path.display().to_string()
        };
        let local = |path: &str| match path {
            "" | "-" => path.to_owned(),
            _ if remote => path.to_owned(),
            _ => absolute(path),
        };
        BuildRef {
            target: "default".to_owned(),
            local_path: local(&inputs.context),
            dockerfile_path: local(inputs.dockerfile.as_deref().unwrap_or_default()),
            ..BuildRef::default()
        }
    }
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
