//! Why a build failed.

use thiserror::Error;

use super::session::SessionSetupError;
use crate::build::cache::CacheError;
use crate::build::cache::export::{CacheSetError, LayoutExportError, RegistryExportError};
use crate::build::context::dockerfile_url::FetchError;
use crate::build::context::policy::PolicyError;
use crate::build::explain::tell::StepThatRuns;
use crate::build::output::layout::LayoutOutputError;
use crate::build::output::provenance::ProvenanceError;
use crate::build::plan::PlanError;
use crate::buildkit::RpcError;
use crate::buildkit::session::file_send::ExportFailure;
use crate::buildkit::session::file_sync::DirFailure;

/// Why a build failed.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The builder cannot do what is asked, or the outputs cannot be served.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The caches cannot be served.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The build succeeded and a cache was not exported.
    #[error(transparent)]
    RegistryExport(#[from] RegistryExportError),
    /// A cache was not written to its folder.
    #[error(transparent)]
    LayoutExport(#[from] LayoutExportError),
    /// The result was not written to its layout folder.
    #[error(transparent)]
    LayoutOutput(#[from] LayoutOutputError),
    /// A policy would have to be enforced, or cannot be looked for.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A Dockerfile given by URL cannot be had.
    #[error(transparent)]
    Dockerfile(#[from] FetchError),
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
    /// The builder could not ask this side any more.
    #[error("the session with the builder broke ({why})")]
    SessionLost {
        /// How.
        why: String,
        /// What the builder made of it.
        #[source]
        solve: RpcError,
    },
    /// The build died of a cache that it could do without.
    #[error("a cache cannot be read, and the build is not run again without it: {why}")]
    NotAgain {
        /// What stands against it.
        why: &'static str,
        /// The builder's error.
        #[source]
        solve: RpcError,
    },
    /// A step would have run, and none may.
    #[error("no step may run (--require-cached), but {} had to: {}", .0.step, .0.cause)]
    NotCached(StepThatRuns),
    /// The builder went away.
    #[error("the connection to the builder broke")]
    Broken(#[source] RpcError),
    /// A folder could not be sent.
    #[error("cannot send a local folder")]
    LocalDir {
        /// What went wrong here.
        #[source]
        failure: DirFailure,
        /// What the builder made of it.
        solve: RpcError,
    },
    /// The result could not be taken on this side.
    #[error("failed to export")]
    Sink {
        /// What went wrong here.
        #[source]
        failure: ExportFailure,
        /// What the builder made of it.
        solve: RpcError,
    },
}

impl From<CacheSetError> for BuildError {
    fn from(error: CacheSetError) -> Self {
        match error {
            CacheSetError::Registry(error) => Self::RegistryExport(error),
            CacheSetError::Layout(error) => Self::LayoutExport(error),
            CacheSetError::Cancelled => Self::cancelled(),
        }
    }
}

impl BuildError {
    /// Returns the error of a build that the user has cancelled.
    pub(super) fn cancelled() -> Self {
        Self::Solve(tonic::Status::cancelled("the build was cancelled").into())
    }

    /// Returns the builder's error, if it has one.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Builder(error)
            | Self::Solve(error)
            | Self::Broken(error)
            | Self::SessionLost { solve: error, .. }
            | Self::NotAgain { solve: error, .. }
            | Self::LocalDir { solve: error, .. }
            | Self::Sink { solve: error, .. }
            | Self::Policy(PolicyError::Solve(error))
            | Self::Dockerfile(FetchError::Solve { source: error, .. }) => Some(error),
            _ => None,
        }
    }
}
