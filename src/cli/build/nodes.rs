//! Which nodes of the builder build, and for which platforms.

use crate::build::BuildRequest;
use crate::builder::assign::{Match, Share, assign};
use crate::builder::platform::{self, Platform};
use crate::builder::{Absent, Builder, Node, ReachError};
use crate::cli::connect::connect;
use crate::error::CommandError;

/// Gives the platforms to the nodes: by what is known of them, and where that does not do by asking
/// every node. There is always one at least.
///
/// # Errors
///
/// Fails if the builder has no nodes, or one that must be asked cannot be reached.
pub(super) async fn choose(
    builder: &Builder,
    request: &BuildRequest,
) -> Result<Vec<Share>, CommandError> {
    let mut shares = shares(builder, &request.platforms).await?;
    if request.call.is_some() {
        // Every node would answer the same.
        shares.truncate(1);
    }
    Ok(shares)
}

async fn shares(builder: &Builder, wanted: &[Platform]) -> Result<Vec<Share>, CommandError> {
    let nodes = builder.nodes();
    if nodes.is_empty() {
        let name = builder.name();
        return Err(CommandError::failed(format!(
            "builder {name:?} has no nodes"
        )));
    }
    if nodes.len() == 1 {
        let platforms = wanted.to_vec();
        return Ok(vec![Share { node: 0, platforms }]);
    }
    let known: Vec<_> = nodes.iter().map(|n| n.stored().platforms.clone()).collect();
    let (shares, perfect) = assign(wanted, &known, Match::Exact);
    if perfect {
        return Ok(shares);
    }
    let asked = futures_util::future::try_join_all(nodes.iter().map(platforms_of)).await?;
    Ok(assign(wanted, &asked, Match::Compatible).0)
}

/// What was fixed for a node, and what its workers say.
async fn platforms_of(node: &Node) -> Result<Vec<Platform>, CommandError> {
    let reached = connect(node, Absent::Boot, &mut |_| ()).await;
    let client = reached.map_err(|error| match error {
        ReachError::Node(error) => CommandError::from(error),
        ReachError::Speech(error) => error.into(),
    })?;
    let workers = client.list_workers().await?;
    let theirs = workers.into_iter().flat_map(|w| w.platforms);
    let theirs = theirs.map(|p| Platform {
        architecture: p.architecture,
        os: p.os,
        os_version: p.os_version,
        os_features: p.os_features,
        variant: p.variant,
    });
    let fixed = node.stored().platforms.iter().cloned();
    Ok(platform::dedupe(fixed.chain(theirs)))
}
