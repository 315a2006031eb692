//! What `du` and `prune` share: connections to the nodes, filters, and the texts of a record.

use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

use crate::builder::{Absent, BootEvent, Builder, DockerEnv, Node, ReachError, resolve};
use crate::buildkit::{Client, RpcError};
use crate::error::CommandError;

use super::{Context, connect};

pub(super) mod filter;
pub(super) mod record;
pub(super) mod tabs;

/// Finds the builder whose cache is meant. The engine's own is one, too.
pub(super) async fn builder(
    ctx: &Context,
    docker_env: &Arc<DockerEnv>,
    timeout: Duration,
) -> Result<Builder, CommandError> {
    let found = resolve::with_engine(docker_env, ctx.builder_name(None));
    Ok(within(timeout, found).await??)
}

/// Connects to a node that runs. It is not booted: a node that does not run has nothing to show.
pub(super) async fn connect(
    node: &Node,
    ctx: &Context,
    timeout: Duration,
) -> Result<Client, CommandError> {
    let mut told = |event| {
        if let BootEvent::StepBegin { node, step } = event {
            ctx.ui.status(&format!("{node}: {step}"));
        }
    };
    let connect = async {
        match connect::connect(node, Absent::Leave, &mut told).await {
            Ok(client) => Ok(client),
            Err(ReachError::Node(error)) => Err(error.into()),
            Err(ReachError::Speech(error)) => Err(explained(node, error).await),
        }
    };
    Box::pin(within(timeout, connect)).await?
}

/// A connection that breaks, or is no BuildKit's, has a reason, which the driver may know.
pub(super) async fn explained(node: &Node, error: RpcError) -> CommandError {
    // What breaks in the middle of a call comes as its cancellation.
    let may_be_the_connection =
        error.is_connection_broken() || matches!(error.code(), Code::Unavailable | Code::Unknown);
    if may_be_the_connection && let Some(reason) = node.driver().diagnose().await {
        return reason.into();
    }
    error.into()
}

/// A time-out of zero means none.
async fn within<T>(timeout: Duration, work: impl Future<Output = T>) -> Result<T, CommandError> {
    if timeout.is_zero() {
        return Ok(work.await);
    }
    tokio::time::timeout(timeout, work).await.map_err(|_| {
        CommandError::failed(format!(
            "the builder did not answer within {} s",
            timeout.as_secs_f64()
        ))
    })
}
