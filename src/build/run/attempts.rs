//! The solves of one build: it is solved, and ends or is solved again without what could not be read.

use std::sync::Arc;
use std::time::Instant;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use super::Runner;
use super::observer::Observers;
use super::ready::ReadyBuild;
use super::status_pipeline::StatusPipeline;
use crate::build::cache::Cancellation;
use crate::build::cache::early::{EarlyExports, EarlyObserver};
use crate::build::cache::import::Imports;
use crate::build::cache::import::ahead::Ahead;
use crate::build::context::inputs::Folders;
use crate::build::explain::recorder::Recorder;
use crate::build::explain::{Builder, Explainer};
use crate::build::mounts::beside::Saves;
use crate::build::mounts::restore::Restorer;
use crate::build::mounts::watch::MountWatch;
use crate::build::request::BuildRequest;
use crate::buildkit::RpcError;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::{self, SolveObserver, SolveOutcome, SolveRequest};

/// What all attempts have in common.
pub(super) struct Attempts<'a> {
    pub(super) build: &'a ReadyBuild,
    pub(super) runner: &'a Runner<'a>,
    pub(super) stores: ContentStores,
    pub(super) cancellation: &'a Cancellation,
    pub(super) explainer: Option<&'a Explainer>,
    pub(super) recorder: Option<&'a Recorder>,
    pub(super) mounts: Option<&'a MountWatch>,
    pub(super) saves: Option<&'a Saves>,
    /// The build.
    pub(super) wishes: &'a BuildRequest,
    /// The folders of its contexts.
    pub(super) folders: &'a Folders,
}

/// The last attempt, with the build's result.
pub(super) struct LastAttempt {
    pub(super) request: SolveRequest,
    pub(super) result: Result<SolveOutcome, RpcError>,
    early: Option<Arc<EarlyExports>>,
}

impl Attempts<'_> {
    /// Solves until the build ends. It is solved again as long as it fails because of a cache that it can do without;
    /// what it sent or took on this side must not be the reason, and must not be spent.
    pub(super) async fn run(
        &self,
        imports: &mut Imports,
        mut build_ref: String,
        status: &mut StatusPipeline<impl FnMut(StatusResponse)>,
    ) -> LastAttempt {
        let Self {
            build,
            cancellation,
            ..
        } = self;
        loop {
            let request = build
                .plan
                .solve_request(build_ref, &build.names, imports.entries());
            let early = self.early_exports(&request);
            status.begin(imports.origins(), early.clone());
            if let Some(explainer) = self.explainer {
                explainer.solve_begins();
            }
            if let Some(recorder) = self.recorder {
                recorder.solve_begins();
            }
            let result = self
                .solve(&request, early.as_deref(), imports, status)
                .await;
            status.end();
            let recovers = match &result {
                Err(error) if build.may_run_again() => {
                    imports.recover(error, &cancellation.graceful).await
                }
                _ => false,
            };
            if !recovers {
                if let Some(explainer) = self.explainer {
                    explainer.end();
                }
                imports.warn_of_unread(status.unread());
                status.show_failures();
                return LastAttempt {
                    request,
                    result,
                    early,
                };
            }
            status.show_cancelled();
            if let Some(early) = early {
                early.stop().await;
            }
            build_ref = crate::buildkit::new_id();
        }
    }

    async fn solve(
        &self,
        request: &SolveRequest,
        early: Option<&EarlyExports>,
        imports: &Imports,
        status: &mut StatusPipeline<impl FnMut(StatusResponse)>,
    ) -> Result<SolveOutcome, RpcError> {
        let again = |message: &str| self.build.may_run_again() && imports.is_to_blame(message);
        let ahead = (!request.cache_imports.is_empty()).then(Ahead::default);
        let observers = Observers {
            early: early.map(|early| EarlyObserver::new(early, &again)),
            explainer: self.explainer,
            recorder: self.recorder,
            caches: &self.build.caches,
            mounts: self.restorer(imports),
            ahead: ahead.as_ref(),
        };
        let observer = (!observers.are_none()).then_some(&observers as &dyn SolveObserver);
        let (client, cancel) = (&self.runner.client, &self.cancellation.graceful);
        solve::solve(client, request, observer, cancel, |report| {
            if let Some(explainer) = self.explainer {
                explainer.observe(&report);
            }
            if let Some(recorder) = self.recorder {
                recorder.observe(&report);
            }
            if let Some(mounts) = self.mounts {
                let has_ended = mounts.observe(&report);
                if let Some(saves) = self.saves.filter(|_| has_ended) {
                    saves.begin(mounts);
                }
            }
            if let Some(ahead) = &ahead {
                ahead.observe(&report);
            }
            status.push(report);
        })
        .await
    }

    fn restorer<'a>(&'a self, imports: &'a Imports) -> Option<Restorer<'a>> {
        let caches = &self.runner.caches;
        Some(Restorer {
            watch: self.mounts?,
            request: self.wishes,
            folders: self.folders,
            imports,
            builder: Builder {
                client: self.runner.client.clone(),
                session: self.build.names.id.clone(),
            },
            observer: caches.observer.as_ref(),
        })
    }

    fn early_exports(&self, request: &SolveRequest) -> Option<Arc<EarlyExports>> {
        let early = EarlyExports::new(
            self.build.caches.registries().to_vec(),
            self.runner.client.clone(),
            self.stores.clone(),
            request,
            self.cancellation.clone(),
            self.runner.meter.clone(),
        );
        early.map(Arc::new)
    }
}

impl LastAttempt {
    /// Returns until when the caches of a build that has failed may be stored; `None` where none is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.early.as_ref()?.deadline())
    }

    /// Ends the exports beside it. What has finished is kept if it failed.
    pub(super) async fn end_exports(&self) {
        match &self.early {
            Some(early) if self.result.is_err() => early.keep().await,
            Some(early) => early.stop().await,
            None => {}
        }
    }
}
