//! What BuildKit's cache takes on its disk, and freeing it (BuildKit `control.DiskUsage`, `Prune`).

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use tokio_stream::StreamExt as _;

use super::client::Client;
use super::error::RpcError;
use super::new_id;

pub use control::{PruneRequest, UsageRecord};

/// The capability of a daemon that heeds `max_used_space` and `min_free_space` of a [`PruneRequest`];
/// an older one ignores them and would free everything (BuildKit `solver/pb`).
pub const CAP_FREE_SPACE_FILTER: &str = "gc.freespacefilter";

impl Client {
    /// Returns the records of the daemon's cache that pass the filters, the smallest first.
    ///
    /// # Errors
    ///
    /// Fails if the daemon does not answer or does not know a filter.
    pub async fn disk_usage(&self, filter: Vec<String>) -> Result<Vec<UsageRecord>, RpcError> {
        let request = control::DiskUsageRequest {
            filter,
            age_limit: 0,
        };
        let mut records = self
            .control()
            .disk_usage(request)
            .await?
            .into_inner()
            .record;
        records.sort_by(|a, b| a.size.cmp(&b.size).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }

    /// Frees what the request allows; each record that is gone is handed to `on_record` at once.
    ///
    /// # Errors
    ///
    /// Fails if the daemon does not answer or stops half-way; what is gone stays gone.
    pub async fn prune(
        &self,
        request: PruneRequest,
        mut on_record: impl FnMut(UsageRecord),
    ) -> Result<(), RpcError> {
        let mut records = self.control().prune(request).await?.into_inner();
        while let Some(record) = records.next().await {
            on_record(record?);
        }
        Ok(())
    }

    /// Returns whether the daemon has a capability of LLB. Only the gateway tells its capabilities, so
    /// an internal build without content is opened for the question.
    ///
    /// # Errors
    ///
    /// Fails if the daemon does not answer.
    pub async fn supports(&self, capability: &str) -> Result<bool, RpcError> {
        let build_ref = new_id();
        let mut control = self.control();
        let solve = control.solve(control::SolveRequest {
            r#ref: build_ref.clone(),
            internal: true,
            // Daemons look into it without asking whether it is there.
            cache: Some(control::CacheOptions::default()),
            ..control::SolveRequest::default()
        });
        let ask = async {
            let mut gateway = self.gateway(&build_ref)?;
            let answer = gateway.ping(gateway::PingRequest {}).await?.into_inner();
            // An empty result ends the build; a daemon may not survive that there is none.
            let end = gateway::ReturnRequest {
                result: Some(gateway::Result::default()),
                error: None,
            };
            gateway.r#return(end).await?;
            let mut known = answer.llb_caps.iter();
            Ok::<_, RpcError>(known.any(|cap| cap.enabled && cap.id == capability))
        };
        tokio::pin!(solve, ask);
        tokio::select! {
            // The daemon's own answer wins: it says why the gateway's call was refused.
            biased;
            solved = &mut solve => {
                solved?;
                ask.await
            }
            answer = &mut ask => {
                let answer = answer?;
                solve.await?;
                Ok(answer)
            }
        }
    }
}
