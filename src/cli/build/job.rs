//! One build on one node: reach the node, build, read the provenance.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cache_progress::CacheSteps;
use super::report::NodeNotes;
use super::scope::Scopes;
use super::{cancellable, desktop, finish, loader, meter};
use crate::build::BuildRequest;
use crate::build::cache::early::Meter;
use crate::build::cache::export::Pushes;
use crate::build::cache::import::Probes;
use crate::build::cache::{CacheEnds, CacheImport, CacheTarget, CacheTools, Cancellation};
use crate::build::context::inputs::Inputs;
use crate::build::context::vcs::Commit;
use crate::build::explain::Explanation;
use crate::build::explain::forecast::Forecast;
use crate::build::output::provenance;
use crate::build::plan::NodeFacts;
use crate::build::run::{self, BuildError, BuildOutcome, Runner};
use crate::builder::{Absent, Builder, DockerEnv, Node, ReachError};
use crate::buildkit::{self, Client, RpcError};
use crate::cache::sign::keyring::Keyring;
use crate::cli::Context;
use crate::cli::boot_progress::BootProgress;
use crate::cli::connect::connect;
use crate::cli::invocation::Invocation;
use crate::error::CommandError;
use crate::progress::{Mode, Progress, StatusSender};

/// What the jobs of one command have in common.
pub(super) struct Common<'a> {
    /// The caches to write.
    pub(super) targets: &'a [CacheTarget],
    /// The caches to read.
    pub(super) imports: &'a [CacheImport],
    /// Docker's settings and the store of builders.
    pub(super) docker_env: &'a Arc<DockerEnv>,
    /// Credentials, registries and threads.
    pub(super) invocation: &'a Invocation,
    /// The builder that the nodes belong to.
    pub(super) builder: &'a Builder,
    /// The display.
    pub(super) progress: &'a Progress,
    /// How it shows the build.
    pub(super) mode: Mode,
    /// The steps of each node have its name before theirs.
    pub(super) has_several_nodes: bool,
    /// How much of the provenance is read after the build.
    pub(super) provenance: provenance::Mode,
    /// What is noted on each node for a report; nothing where there is none.
    pub(super) noted: &'a [NodeNotes],
    /// The caches that `--cache` chose.
    pub(super) scopes: Option<&'a Scopes>,
    /// Takes why the steps of builds ran that fail.
    pub(super) failed: &'a Mutex<Vec<Explanation>>,
    /// Takes what became of the caches.
    pub(super) ends: &'a Mutex<CacheEnds>,
    /// The keys that sign and verify caches.
    pub(super) keyring: &'a Arc<Keyring>,
    /// The command's context.
    pub(super) ctx: &'a Context,
}

/// One build on one node.
pub(super) struct Job<'a> {
    /// What the node is asked for.
    pub(super) request: &'a BuildRequest,
    /// The node.
    pub(super) node: &'a Node,
    /// What is noted of it for a report.
    pub(super) notes: Option<&'a NodeNotes>,
    /// What it has in common with the jobs of other nodes.
    pub(super) common: &'a Common<'a>,
}

/// A node that is ready to build.
struct Reached {
    client: Client,
    engine_imports_oci: bool,
    meter: Option<Arc<dyn Meter>>,
}

impl Job<'_> {
    /// Builds until the end, or until it is stopped. When this returns nothing of it is under way any more.
    ///
    /// # Errors
    ///
    /// Fails if the node cannot be reached, or the build fails or is stopped.
    pub(super) async fn run(
        &self,
        inputs: Inputs,
        cancellation: &Cancellation,
    ) -> Result<BuildOutcome, CommandError> {
        self.record_activity();
        let caches = self.cache_tools();
        // Registries and git answer while the builder is being reached.
        let probes = Probes::start(self.common.imports, &caches.registries, &caches.keyring);
        let pushes = Pushes::start(self.common.targets, &caches.registries);
        let commit = run::ask_commit(self.request, &inputs);
        let reached = cancellable(&cancellation.graceful, self.ready(&probes)).await??;
        let show = self.show_scopes(probes.clone());
        let runner = self.runner(reached, caches, (probes, pushes), commit);
        self.mark_compression()?;
        let build_ref = buildkit::new_id();
        self.record_build(&build_ref);
        let reports = self.sender().with_reset_time();
        let on_status = |status| reports.send(status);
        let _in_order = self.common.ctx.orderly.token();
        let build = run::run(
            self.request,
            inputs,
            &build_ref,
            &runner,
            cancellation,
            on_status,
        );
        match beside(Box::pin(build), show).await {
            Ok(outcome) => {
                if outcome.build_ref != build_ref {
                    self.record_build(&outcome.build_ref);
                }
                let described = self.described(outcome, &runner.client);
                cancellable(&cancellation.graceful, described).await?
            }
            Err(BuildError::Builder(error)) => Err(self.broken(error).await),
            Err(error @ BuildError::Broken(_)) => Err(self.with_logs(finish::failure(error))),
            Err(error) => Err(self.with_details(finish::failure(error), &build_ref)),
        }
    }

    /// Tells what will become of the steps. Nothing runs but the frontend.
    ///
    /// # Errors
    ///
    /// Fails if the node cannot be reached, or the frontend fails or is stopped.
    pub(super) async fn forecast(
        &self,
        inputs: Inputs,
        cancellation: &Cancellation,
    ) -> Result<Forecast, CommandError> {
        let caches = self.cache_tools();
        let probes = Probes::start(self.common.imports, &caches.registries, &caches.keyring);
        let commit = run::ask_commit(self.request, &inputs);
        let reached = cancellable(&cancellation.graceful, self.ready(&probes)).await??;
        let runner = self.runner(reached, caches, (probes, Pushes::default()), commit);
        let reports = self.sender().with_reset_time();
        let on_status = |status| reports.send(status);
        let _in_order = self.common.ctx.orderly.token();
        let forecast = run::forecast(self.request, inputs, &runner, cancellation, on_status);
        match Box::pin(forecast).await {
            Ok(forecast) => Ok(forecast),
            Err(BuildError::Builder(error)) => Err(self.broken(error).await),
            Err(error @ BuildError::Broken(_)) => Err(self.with_logs(finish::failure(error))),
            Err(error) => Err(finish::failure(error)),
        }
    }

    async fn show_scopes(&self, probes: Probes) {
        if let Some(scopes) = self.common.scopes.filter(|_| self.request.call.is_none()) {
            scopes.show(probes, self.sender()).await;
        }
    }

    /// A build that failed in the builder can be looked at there.
    fn with_details(&self, error: CommandError, build_ref: &str) -> CommandError {
        if self.request.call.is_some() {
            return error;
        }
        let details = desktop::details(&self.build_name(build_ref), self.common.ctx);
        CommandError {
            footer: details.unwrap_or_default(),
            ..error
        }
    }

    fn build_name(&self, build_ref: &str) -> String {
        let (builder, node) = (self.common.builder.name(), self.node.name());
        format!("{builder}/{node}/{build_ref}")
    }

    /// Reaches the node, unless a cache that must be verified is not signed as it must be.
    async fn ready(&self, probes: &Probes) -> Result<Reached, CommandError> {
        let verified = async { probes.required().await.map_err(CommandError::failed) };
        let (reached, ()) = tokio::try_join!(Box::pin(self.reach()), verified)?;
        Ok(reached)
    }

    /// Connects to the node, and asks what else must be known of it.
    async fn reach(&self) -> Result<Reached, CommandError> {
        let (client, engine_imports_oci) = tokio::join!(self.connect(), self.engine_imports_oci());
        Ok(Reached {
            client: client?,
            engine_imports_oci: engine_imports_oci?,
            meter: meter::of(self.node).await,
        })
    }

    async fn engine_imports_oci(&self) -> Result<bool, CommandError> {
        let Some(output) = self.request.outputs.iter().find(|output| output.loads()) else {
            return Ok(false);
        };
        let context = output.attrs.get("context").map_or("", String::as_str);
        Ok(loader::imports_oci(self.common.docker_env, context).await?)
    }

    fn runner(
        &self,
        reached: Reached,
        caches: CacheTools,
        (probes, pushes): (Probes, Pushes),
        commit: Commit,
    ) -> Runner<'_> {
        let Common {
            docker_env,
            invocation,
            builder,
            ctx,
            ..
        } = self.common;
        let loader = loader::EngineLoader::new(Arc::clone(docker_env), self.sender());
        let config = &docker_env.config().path;
        let store = docker_env.store();
        Runner {
            client: reached.client,
            tokens: Arc::clone(&invocation.tokens),
            loader: Arc::new(loader),
            config_dir: config.parent().unwrap_or(Path::new(".")),
            targets: self.common.targets,
            pushes,
            caches,
            probes,
            commit,
            meter: reached.meter,
            facts: NodeFacts {
                proxy_args: self.proxy_args(),
                is_part_of_index: self.common.has_several_nodes,
                had_uncompressed: store.is_marked_uncompressed(builder.name(), self.node.name()),
                had_zstd: store.is_marked_zstd(builder.name(), self.node.name()),
                engine_imports_oci: reached.engine_imports_oci,
                stdout_is_terminal: ctx.ui.stdout_is_terminal(),
            },
            raw_status: self.common.mode == Mode::RawJson,
            env: &ctx.env,
            failed: self.common.failed,
            known: self.notes.map(NodeNotes::known),
            ends: self.common.ends,
        }
    }

    /// Returns the proxy variables of the docker config for this node.
    fn proxy_args(&self) -> BTreeMap<String, String> {
        let docker_env = self.common.docker_env;
        let endpoint = docker_env.contexts().resolve(&self.node.stored().endpoint);
        let host = endpoint.map(|endpoint| endpoint.host).unwrap_or_default();
        docker_env.config().proxy_variables(&host)
    }

    fn cache_tools(&self) -> CacheTools {
        let invocation = self.common.invocation;
        CacheTools {
            registries: Arc::clone(&invocation.registries),
            workers: invocation.workers.clone(),
            spool_dir: invocation.spool.clone(),
            keyring: Arc::clone(self.common.keyring),
            refusals: invocation.refusals.clone(),
            observer: Arc::new(CacheSteps::new(self.sender())),
        }
    }

    /// Returns a source of steps of this node.
    fn sender(&self) -> StatusSender {
        let sender = self.common.progress.sender();
        let sender = match self.notes {
            Some(notes) => notes.noting(sender),
            None => sender,
        };
        if self.common.has_several_nodes {
            sender.with_prefix(self.node.name())
        } else {
            sender
        }
    }

    /// Adds to a build what there is to read about it in the builder.
    async fn described(
        &self,
        mut outcome: BuildOutcome,
        client: &Client,
    ) -> Result<BuildOutcome, CommandError> {
        if self.request.call.is_some() {
            return Ok(outcome);
        }
        let mut provenance = self.provenance(client, &outcome.build_ref).await?;
        outcome.response.append(&mut provenance);
        let name = self.build_name(&outcome.build_ref);
        outcome.response.insert("buildx.build.ref".into(), name);
        Ok(outcome)
    }

    async fn provenance(
        &self,
        client: &Client,
        build_ref: &str,
    ) -> Result<BTreeMap<String, String>, CommandError> {
        let mode = self.common.provenance;
        if mode == provenance::Mode::Disabled {
            return Ok(BTreeMap::new());
        }
        let step = self.sender().step(provenance::STEP);
        match provenance::fetch(client, build_ref, mode).await {
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

    async fn connect(&self) -> Result<Client, CommandError> {
        let mut boot = BootProgress::new(self.common.progress, self.common.has_several_nodes);
        match connect(self.node, Absent::Boot, &mut |event| boot.event(event)).await {
            Ok(client) => Ok(client),
            Err(ReachError::Node(error)) => Err(error.into()),
            Err(ReachError::Speech(error)) => Err(self.broken(error).await),
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
}

/// Waits for the end of some work, which something is shown beside; the work does not wait for that.
async fn beside<T>(work: impl Future<Output = T>, show: impl Future<Output = ()>) -> T {
    let (mut work, show) = (pin!(work), pin!(show));
    tokio::select! {
        biased;
        () = show => {}
        ended = &mut work => return ended,
    }
    work.await
}
