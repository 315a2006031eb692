//! Where a build runs, and what can be wrong with its request there: looked at before a builder is booted for nothing.

use std::sync::Arc;

use super::multi_node::Division;
use super::{cache_failure, cancellable, failed, finish, nodes};
use crate::build::BuildRequest;
use crate::build::cache::import::{self, CacheImport};
use crate::build::context::inputs::Inputs;
use crate::build::context::policy;
use crate::builder::assign::Share;
use crate::builder::{self, Builder, BuilderError, DockerEnv, Node};
use crate::cli::Context;
use crate::cli::docker_env::docker_env;
use crate::error::CommandError;

/// The builder of a build, and what each of its nodes builds.
#[derive(Debug)]
pub(super) struct Place {
    /// Docker's settings.
    pub(super) docker_env: Arc<DockerEnv>,
    /// The builder.
    pub(super) builder: Builder,
    shares: Vec<Share>,
}

/// A request that may be built.
#[derive(Debug)]
pub(super) struct Checked {
    /// What each node is asked for.
    pub(super) division: Division,
    /// The caches to read.
    pub(super) imports: Vec<CacheImport>,
    /// The inputs of each node.
    pub(super) inputs: Vec<Inputs>,
}

impl Place {
    /// Chooses builder and nodes.
    ///
    /// # Errors
    ///
    /// Fails if there is no such builder, it cannot be used here, or it has no nodes.
    pub(super) async fn choose(
        request: &BuildRequest,
        ctx: &Context,
    ) -> Result<Self, CommandError> {
        let docker_env = docker_env(ctx)?;
        let builder = builder::resolve(&docker_env, ctx.builder_name(None));
        let builder = cancellable(&ctx.cancel, builder).await??;
        let shares = cancellable(&ctx.cancel, nodes::choose(&builder, request)).await??;
        Ok(Self {
            docker_env,
            builder,
            shares,
        })
    }

    /// Returns the nodes that build; there is one at least.
    pub(super) fn nodes(&self) -> Vec<&Node> {
        let nodes = self.builder.nodes();
        self.shares.iter().map(|s| &nodes[s.node]).collect()
    }

    /// Checks a request and prepares its inputs.
    ///
    /// # Errors
    ///
    /// Fails if its caches, outputs or inputs cannot be used, or it has a policy that only buildx enforces.
    pub(super) fn check(&self, request: &BuildRequest) -> Result<Checked, CommandError> {
        let division = Division::new(request, &self.shares)?;
        let imports = import::imports(&request.cache_from).map_err(cache_failure)?;
        let node_id = self.docker_env.store().node_id();
        let node_id = node_id.map_err(BuilderError::Store)?;
        let inputs = division.inputs(&node_id).map_err(failed)?;
        if !request.policy_off {
            let refused = inputs
                .iter()
                .take(1)
                .try_for_each(policy::refuse_beside_dockerfile);
            refused.map_err(|error| finish::failure(error.into()))?;
        }
        Ok(Checked {
            division,
            imports,
            inputs,
        })
    }
}
