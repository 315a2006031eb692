//! One build made ready: plan, request, session.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord;

use super::serving::Serving;
use super::{BuildError, Runner};
use crate::build::attrs::{self, BuilderFacts};
use crate::build::cache::CacheTarget;
use crate::build::cache_kinds::Lacking;
use crate::build::caches::Caches;
use crate::build::exports::{self, Export, ExportError, ExportFacts};
use crate::build::imports::{Imports, is_of_a_program};
use crate::build::inputs::Inputs;
use crate::build::session::{self, SessionParts};
use crate::build::spec::BuildSpec;
use crate::build::{dockerfile_url, policy};
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::session::file_send::Exports;
use crate::buildkit::session::file_sync::DirFailures;
use crate::buildkit::solve::SolveRequest;
use crate::buildkit::{RpcError, subrequest};

/// Label of a worker of a Docker Engine: the address that `host-gateway` stands for.
const HOST_GATEWAY_LABEL: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

/// Build argument that asks for attributes in the build's record inside images.
const BUILDINFO_ARG: &str = "BUILDKIT_INLINE_BUILDINFO_ATTRS";

/// A build that is set up and can be solved.
pub(super) struct Job {
    pub(super) exports: Vec<Export>,
    pub(super) request: SolveRequest,
    pub(super) caches: Caches,
    /// Kinds of cache that the builder does not have.
    pub(super) lacking: Lacking,
    results: Exports,
    dir_failures: DirFailures,
    pub(super) session: Serving,
    /// Its context comes by standard input.
    only_once: bool,
}

impl Job {
    /// Asks the builder what it is, and serves the session.
    pub(super) async fn set_up(
        spec: &BuildSpec,
        inputs: &mut Inputs,
        build_ref: &str,
        runner: &Runner<'_>,
        stores: &ContentStores,
    ) -> Result<Self, BuildError> {
        let client = &runner.client;
        let builder = async { tokio::try_join!(client.list_workers(), Lacking::ask(client, spec)) };
        let (builder, mut commit) = tokio::join!(builder, runner.commit.attributes());
        let (workers, lacking) = builder.map_err(BuildError::Builder)?;
        let facts = builder_facts(&workers);
        let exports = plan(spec, runner, &workers, facts)?;
        let mut request = request(spec, build_ref, &exports, facts)?;
        let written = runner.targets.iter().map(CacheTarget::entry);
        request.cache_exports = written.filter(|entry| !lacking.has(entry)).collect();
        let only_once = inputs.upload.is_some();
        let caches = Caches::open(runner.targets, &spec.inputs.current_dir, &runner.caches)?;
        caches.offer(stores);
        inputs.offer_layouts(stores);
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
        let ready = session::prepare(inputs, &parts)?;
        ready.session.id().clone_into(&mut request.session);
        request.attrs.append(&mut inputs.attrs.clone());
        request.inputs = std::mem::take(&mut inputs.definitions);
        request.attrs.append(&mut commit);
        ask_call(spec, &mut request);
        Ok(Self {
            exports,
            request,
            caches,
            lacking,
            results: ready.results,
            dir_failures: ready.dir_failures,
            session: Serving::start(&runner.client, ready.session),
            only_once,
        })
    }

    /// Has the builder fetch what decides about the build before it begins: a policy, and a Dockerfile
    /// given by URL.
    pub(super) async fn fetch_ahead(
        &self,
        spec: &BuildSpec,
        inputs: &Inputs,
        runner: &Runner<'_>,
        mut on_status: impl FnMut(StatusResponse),
    ) -> Result<(), BuildError> {
        let (client, session) = (&runner.client, self.request.session.as_str());
        if !spec.policy_off {
            let refused = policy::refuse_in_remote_context(
                &spec.inputs,
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

    /// Tells whether nothing on this side was the reason of a failure, or was used up.
    pub(super) fn may_run_again(&self) -> bool {
        self.dir_failures.first().is_none() && self.spent().is_none()
    }

    /// Tells why the build cannot be run again, if something was used up.
    fn spent(&self) -> Option<&'static str> {
        if self.only_once {
            Some("its context came by standard input and is spent")
        } else if !self.results.may_be_sent_again() {
            Some("part of its result has been handed on already")
        } else {
            None
        }
    }

    /// What happened on this side tells more than what the builder made of it.
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
            return BuildError::ClientCache(failure);
        }
        match self.spent().filter(|_| read.is_to_blame(solve.message())) {
            Some(why) => BuildError::NotAgain { why, solve },
            None => BuildError::Solve(solve),
        }
    }
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
) -> Result<SolveRequest, BuildError> {
    let frontend = attrs::frontend(spec, facts)?;
    Ok(SolveRequest {
        build_ref: build_ref.to_owned(),
        session: String::new(),
        frontend: frontend.name.to_owned(),
        attrs: frontend.attrs,
        inputs: BTreeMap::new(),
        exporters: exports.iter().map(|e| e.entry.clone()).collect(),
        cache_exports: Vec::new(),
        cache_imports: Vec::new(),
        entitlements: frontend.entitlements,
        source_policy: spec.source_policy.clone(),
        internal: false,
    })
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
