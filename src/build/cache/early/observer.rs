//! Ties the early exports to the solve that they run beside.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::Definition;
use tonic::Status;

use super::EarlyExports;
use crate::buildkit::solve::SolveObserver;

/// Returns whether a build is run again after an error with this message.
pub type RunAgain<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// Observes a solve for the exports beside it. After an error that is run again nothing is kept: the next run finds the
/// results in the builder.
#[derive(Clone, Copy)]
pub struct EarlyObserver<'a> {
    early: &'a EarlyExports,
    again: RunAgain<'a>,
}

impl std::fmt::Debug for EarlyObserver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarlyObserver").finish_non_exhaustive()
    }
}

impl<'a> EarlyObserver<'a> {
    /// Observes for these exports.
    pub fn new(early: &'a EarlyExports, again: RunAgain<'a>) -> Self {
        Self { early, again }
    }
}

#[tonic::async_trait]
impl SolveObserver for EarlyObserver<'_> {
    fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        self.early.begin(definitions);
    }

    async fn built(&self) {
        self.early.built();
    }

    async fn broken(&self) {
        self.early.broken().await;
    }

    fn is_run_again(&self, error: &Status) -> bool {
        (self.again)(error.message())
    }
}
