//! Large caches, and many of them: what the build can use is found out before it is solved.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Runner;
use super::ready::ReadyBuild;
use crate::build::cache::import::Imports;
use crate::build::cache::import::choose::Usable;
use crate::build::context::inputs::Inputs;
use crate::build::explain::{Builder, usable};
use crate::build::request::{BuildRequest, NoCache};
use crate::buildkit::ask;

/// How long a build waits for it. Without an answer large caches are cut by their age.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has the frontend make the steps, if that is worth it, and reads of the caches only what these can use.
pub(super) async fn choose(
    imports: &mut Imports,
    request: &BuildRequest,
    inputs: &Inputs,
    build: &ReadyBuild,
    runner: &Runner<'_>,
) {
    if !imports.is_choice() {
        return;
    }
    // A context that comes by standard input can be read once.
    let may_ask = request.call.is_none()
        && request.no_cache != NoCache::Always
        && build.names.upload_url.is_none();
    let usable = if may_ask {
        let asked = ask_frontend(imports, inputs, build, runner);
        let asked = tokio::time::timeout(PATIENCE, Box::pin(asked)).await;
        asked.ok().flatten()
    } else {
        None
    };
    imports.settle(&usable.unwrap_or_default()).await;
}

async fn ask_frontend(
    imports: &Imports,
    inputs: &Inputs,
    build: &ReadyBuild,
    runner: &Runner<'_>,
) -> Option<Vec<Usable>> {
    let build_ref = crate::buildkit::new_id();
    let solve = build
        .plan
        .solve_request(build_ref, &build.names, Vec::new());
    let definitions = ask::definitions_of(&runner.client, &solve, drop);
    match Box::pin(definitions).await {
        Ok(definitions) => {
            let builder = Builder {
                client: runner.client.clone(),
                session: build.names.id.clone(),
            };
            let folders = inputs.folders();
            let found = imports.found(&BTreeMap::new());
            Some(Box::pin(usable::of(&definitions, folders, found, &builder)).await)
        }
        Err(error) => {
            // The build says it better.
            let error = crate::error::chain(&error);
            tracing::debug!(
                error,
                "it is not known what the build can use of its caches"
            );
            None
        }
    }
}
