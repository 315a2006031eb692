//! Who learns how a solve goes: the exports beside it, who explains it, who notes what caches tell of it, and who looks after
//! its cache mounts.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::Definition;
use tonic::Status;

use crate::build::cache::early::EarlyObserver;
use crate::build::cache::export::CacheSet;
use crate::build::cache::import::ahead::Ahead;
use crate::build::explain::Explainer;
use crate::build::explain::recorder::Recorder;
use crate::build::mounts::restore::Restorer;
use crate::buildkit::solve::{Loader, SolveObserver};

/// Passes on what is observed of a solve.
pub(super) struct Observers<'a> {
    pub(super) early: Option<EarlyObserver<'a>>,
    pub(super) explainer: Option<&'a Explainer>,
    pub(super) recorder: Option<&'a Recorder>,
    pub(super) caches: &'a CacheSet,
    pub(super) mounts: Option<Restorer<'a>>,
    pub(super) ahead: Option<&'a Ahead>,
}

impl Observers<'_> {
    /// Returns whether there is anybody.
    pub(super) fn are_none(&self) -> bool {
        let hears = self.explainer.is_some() || self.recorder.is_some();
        self.early.is_none() && !hears && self.mounts.is_none() && self.ahead.is_none()
    }
}

#[tonic::async_trait]
impl SolveObserver for Observers<'_> {
    fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        if let Some(explainer) = self.explainer {
            explainer.begin(definitions);
        }
        if let Some(recorder) = self.recorder {
            recorder.begin(definitions);
        }
        if let Some(early) = &self.early {
            early.begin(definitions);
        }
        if let Some(ahead) = self.ahead {
            ahead.begin(definitions);
        }
    }

    async fn prepare(&self, definitions: &BTreeMap<String, Definition>) {
        if let Some(mounts) = &self.mounts {
            Box::pin(mounts.restore(definitions)).await;
        }
    }

    fn watches_steps(&self) -> bool {
        // The status of the steps is enough for an explanation.
        self.early.is_some() || self.ahead.is_some()
    }

    async fn beside_steps(&self, loader: Loader) {
        if let Some(ahead) = self.ahead {
            ahead.run(&loader).await;
        }
    }

    async fn built(&self) {
        if let Some(early) = &self.early {
            early.built().await;
        }
        if let Some(mounts) = &self.mounts
            && self.watches_steps()
        {
            mounts.watch.built();
        }
        if self.recorder.is_some() || self.mounts.is_some() {
            self.caches.hold_records().await;
        }
    }

    async fn broken(&self) {
        if let Some(early) = &self.early {
            early.broken().await;
        }
    }

    fn is_run_again(&self, error: &Status) -> bool {
        self.early
            .as_ref()
            .is_some_and(|early| early.is_run_again(error))
    }
}
