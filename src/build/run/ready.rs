//! One build made ready: its plan, its session, its caches.

use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Platform;

use super::serving::Serving;
use super::session::{self, SessionParts};
use super::{BuildError, Runner};
use crate::build::cache::UnsupportedBackends;
use crate::build::cache::export::CacheSet;
use crate::build::cache::import::{Imports, is_of_a_program};
use crate::build::context::inputs::Inputs;
use crate::build::context::{dockerfile_url, policy};
use crate::build::output::layout::LayoutOutput;
use crate::build::plan::{BuildPlan, BuilderFacts, PlanContext, SessionNames, plan};
use crate::build::request::BuildRequest;
use crate::buildkit::RpcError;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::session::file_send::Exports;
use crate::buildkit::session::file_sync::DirFailures;

/// A build that is set up and can be solved.
pub(super) struct ReadyBuild {
    pub(super) plan: BuildPlan,
    pub(super) caches: CacheSet,
    /// The folder of an output with `tar=false`.
    pub(super) layout: Option<LayoutOutput>,
    /// The platform for which the builder builds where none is named.
    pub(super) platform: Option<Platform>,
    /// Cache backends that the builder does not have.
    pub(super) unsupported: UnsupportedBackends,
    pub(super) session: Serving,
    pub(super) names: SessionNames,
    /// A remark about each cache that is not written because the login may not push.
    pub(super) refused: Vec<String>,
    results: Exports,
    dir_failures: DirFailures,
}

impl ReadyBuild {
    /// Asks the builder what it is, plans the build, and serves the session.
    pub(super) async fn set_up(
        request: &BuildRequest,
        inputs: &mut Inputs,
        runner: &Runner<'_>,
        stores: &ContentStores,
    ) -> Result<Self, BuildError> {
        let client = &runner.client;
        let unsupported = UnsupportedBackends::ask(client, &request.cache_to, &request.cache_from);
        let builder = async { tokio::try_join!(client.list_workers(), unsupported) };
        let allowed = runner.pushes.allowed(runner.targets);
        let (builder, commit, allowed, reads_zstd) = tokio::join!(
            builder,
            runner.commit.attributes(),
            allowed,
            runner.probes.hold_zstd(),
        );
        let (targets, refused) = allowed;
        let (workers, unsupported) = builder.map_err(BuildError::Builder)?;
        let facts = BuilderFacts::new(&workers, unsupported);
        let upload = inputs.upload.take();
        let context = PlanContext {
            targets: &targets,
            inputs,
            commit: &commit,
            node: &runner.facts,
            builder: &facts,
            reads_zstd,
        };
        let plan = plan(request, context)?;
        let current_dir = &request.inputs.current_dir;
        let caches = CacheSet::open(&targets, current_dir, &runner.caches)?;
        caches.offer(stores);
        inputs.offer_layouts(stores);
        let layout = LayoutOutput::open(&plan.exports, stores)?;
        let parts = SessionParts {
            secrets: &request.secrets,
            ssh: &request.ssh,
            exports: &plan.exports,
            tokens: Arc::clone(&runner.tokens),
            loader: Arc::clone(&runner.loader),
            stores: stores.clone(),
            config_dir: runner.config_dir,
            env: runner.env,
        };
        let ready = session::prepare(inputs, upload, &parts)?;
        Ok(Self {
            plan,
            caches,
            layout,
            platform: facts.platform,
            unsupported: facts.unsupported,
            session: Serving::start(client, ready.session),
            names: ready.names,
            refused,
            results: ready.results,
            dir_failures: ready.dir_failures,
        })
    }

    /// Has the builder fetch what decides about the build before it begins: a policy, and a Dockerfile
    /// given by URL.
    pub(super) async fn fetch_ahead(
        &self,
        request: &BuildRequest,
        inputs: &Inputs,
        runner: &Runner<'_>,
        mut on_status: impl FnMut(StatusResponse),
    ) -> Result<(), BuildError> {
        let (client, session) = (&runner.client, self.names.id.as_str());
        if !request.policy_off {
            let refused = policy::refuse_in_remote_context(
                &request.inputs,
                inputs,
                client,
                session,
                &mut on_status,
            );
            Box::pin(refused).await?;
        }
        if let Some(file) = &inputs.url_dockerfile {
            dockerfile_url::fetch(file, client, session, on_status).await?;
        }
        Ok(())
    }

    /// Returns whether nothing on this side was the reason of a failure, or was used up.
    pub(super) fn may_run_again(&self) -> bool {
        self.dir_failures.first().is_none() && self.spent().is_none()
    }

    /// Returns why the build cannot be run again, if something was used up.
    fn spent(&self) -> Option<&'static str> {
        if self.names.upload_url.is_some() {
            Some("its context came by standard input and is spent")
        } else if !self.results.may_be_sent_again() {
            Some("part of its result has been handed on already")
        } else {
            None
        }
    }

    /// Returns the error of a build: what happened on this side says more than what the builder made of it.
    pub(super) async fn failure(
        &self,
        solve: RpcError,
        read: &Imports,
        is_cancelled: bool,
    ) -> BuildError {
        if is_cancelled && solve.is_cancelled() {
            return BuildError::Solve(solve);
        }
        if solve.is_connection_broken() {
            return BuildError::Broken(solve);
        }
        let lost = self.session.lost.clone();
        if let Some(why) = lost.filter(|_| !is_of_a_program(solve.message())) {
            return BuildError::SessionLost { why, solve };
        }
        if solve.is_cancelled() {
            return BuildError::Solve(solve);
        }
        if let Some(failure) = self.dir_failures.first() {
            return BuildError::LocalDir { failure, solve };
        }
        if let Some(failure) = self.results.failures().get().into_iter().next() {
            return BuildError::Sink { failure, solve };
        }
        if let Some(failure) = self.caches.failure().await {
            return BuildError::RegistryExport(failure);
        }
        match self.spent().filter(|_| read.is_to_blame(solve.message())) {
            Some(why) => BuildError::NotAgain { why, solve },
            None => BuildError::Solve(solve),
        }
    }
}
