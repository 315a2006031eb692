//! What a build has reported, kept for who looks at it when the build is over.

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use parking_lot::Mutex;

use super::model::{LogPolicy, Model, Traffic};
use super::time::Time;

/// Keeps the steps of one node without their logs, with the names that the builder gives them.
#[derive(Debug)]
pub struct Trace(Mutex<Model>);

impl Default for Trace {
    fn default() -> Self {
        Self(Mutex::new(empty()))
    }
}

fn empty() -> Model {
    Model::new(LogPolicy::lines(false))
}

impl Trace {
    /// Returns what was reported until now, and begins anew.
    pub fn finish(&self) -> Model {
        std::mem::replace(&mut *self.0.lock(), empty())
    }

    pub(super) fn take(&self, status: &StatusResponse) {
        let status = StatusResponse {
            vertexes: status.vertexes.clone(),
            statuses: status.statuses.clone(),
            ..StatusResponse::default()
        };
        self.0.lock().apply(&status, Time::now());
    }

    pub(super) fn note(&self, digest: &str, text: &str) {
        self.0.lock().note(digest, text.to_owned());
    }

    pub(super) fn traffic(&self, more: Traffic) {
        self.0.lock().add_traffic(more);
    }
}
