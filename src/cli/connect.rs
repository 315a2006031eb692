//! Connecting to the BuildKit of a node, for all commands that speak to one.

use crate::builder::{Absent, BootEvent, ByteStream, Node, ReachError, Unanswered};
use crate::buildkit::{Client, RpcError};

impl Unanswered for RpcError {
    fn is_unanswered(&self) -> bool {
        self.is_connection_broken() || self.code() == tonic::Code::Unavailable
    }
}

/// Connects to the BuildKit of a node and waits for its first answer.
///
/// # Errors
///
/// Fails as [`Node::reach`].
pub(super) async fn connect(
    node: &Node,
    absent: Absent,
    progress: &mut (dyn FnMut(BootEvent) + Send),
) -> Result<Client, ReachError<RpcError>> {
    let authority = node.driver().authority();
    let reached = node.reach(absent, progress, |stream| speak(stream, authority));
    // Booting is a large future, and every command holds one.
    Box::pin(reached).await
}

/// Whatever BuildKit answers to the cheapest question, it answers.
async fn speak(stream: ByteStream, authority: Option<&str>) -> Result<Client, RpcError> {
    let client = Client::connect_as(stream, authority).await?;
    match client.version().await {
        Err(error) if error.is_unanswered() => Err(error),
        Ok(_) | Err(_) => Ok(client),
    }
}
