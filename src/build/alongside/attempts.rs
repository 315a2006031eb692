//! The solves of one build: it is run again where it dies of a cache that it can do without.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::Definition;
use tonic::Status;

use super::{Alongside, Meter, Stops};
use crate::build::client_cache::ClientCache;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::{self, Companion, SolveOutcome, SolveRequest};
use crate::buildkit::{Client, RpcError};

/// Tells whether a build is run again after an error with this message.
pub type RunAgain<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// The solves of one build, each with the exports beside it.
#[derive(Debug)]
pub struct Attempts {
    client: Client,
    caches: Vec<Arc<ClientCache>>,
    stores: ContentStores,
    stops: Stops,
    meter: Option<Arc<dyn Meter>>,
    last: Option<Alongside>,
}

impl Attempts {
    /// Makes ready for a build that exports to these caches on a builder as busy as `meter` tells.
    pub fn new(
        client: Client,
        caches: Vec<Arc<ClientCache>>,
        stores: ContentStores,
        stops: Stops,
        meter: Option<Arc<dyn Meter>>,
    ) -> Self {
        Self {
            client,
            caches,
            stores,
            stops,
            meter,
            last: None,
        }
    }

    /// Solves. After an error that is run `again` nothing is exported any more: the next run finds the
    /// results in the builder.
    ///
    /// # Errors
    ///
    /// Fails as [`solve`](solve::solve) does.
    pub async fn solve(
        &mut self,
        request: &SolveRequest,
        again: RunAgain<'_>,
        report: &mut dyn FnMut(StatusResponse),
    ) -> Result<SolveOutcome, RpcError> {
        if let Some(last) = self.last.take() {
            last.stop().await;
        }
        let cancel = &self.stops.cancel;
        let beside = Alongside::new(
            self.caches.clone(),
            self.client.clone(),
            self.stores.clone(),
            request,
            self.stops.clone(),
            self.meter.clone(),
        );
        let beside = &*self.last.insert(match beside {
            Some(beside) => beside,
            None => return solve::solve(&self.client, request, None, cancel, report).await,
        });
        let on_status = |status| {
            beside.observe(&status);
            report(status);
        };
        let companion = Attempt { beside, again };
        solve::solve(&self.client, request, Some(&companion), cancel, on_status).await
    }

    /// Ends the exports beside the last solve. What has finished is kept where it failed.
    pub async fn end(self, has_failed: bool) {
        match self.last {
            Some(last) if has_failed => last.keep().await,
            Some(last) => last.stop().await,
            None => {}
        }
    }
}

/// The exports beside a solve that may be followed by another.
struct Attempt<'a> {
    beside: &'a Alongside,
    again: RunAgain<'a>,
}

#[tonic::async_trait]
impl Companion for Attempt<'_> {
    fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        self.beside.begin(definitions);
    }

    fn built(&self) {
        self.beside.built();
    }

    async fn broken(&self) {
        self.beside.broken().await;
    }

    fn is_run_again(&self, error: &Status) -> bool {
        (self.again)(error.message())
    }
}
