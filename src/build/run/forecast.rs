//! A build that is only looked at: the frontend runs, and nothing else.

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use super::status_pipeline::StatusPipeline;
use super::{BuildError, Runner, ready};
use crate::build::cache::Cancellation;
use crate::build::context::inputs::Inputs;
use crate::build::explain::Builder;
use crate::build::explain::forecast::{self, Forecast};
use crate::build::request::BuildRequest;
use crate::buildkit::ask;
use crate::buildkit::session::content::ContentStores;

/// Tells what will become of the steps of a build.
///
/// # Errors
///
/// See [`BuildError`].
pub async fn forecast(
    request: &BuildRequest,
    mut inputs: Inputs,
    runner: &Runner<'_>,
    cancellation: &Cancellation,
    on_status: impl FnMut(StatusResponse),
) -> Result<Forecast, BuildError> {
    let stores = ContentStores::default();
    let observer = runner.caches.observer.clone();
    let mut status = StatusPipeline::new(runner.raw_status, on_status, observer);
    let cancelled = cancellation.graceful.cancelled();
    let work = async {
        let ready = ready(request, &mut inputs, runner, &stores, &mut status);
        let (mut build, imports) = Box::pin(ready).await?;
        // The builder is not to read the caches.
        let build_ref = crate::buildkit::new_id();
        let solve = build
            .plan
            .solve_request(build_ref, &build.names, Vec::new());
        let definitions = ask::definitions_of(&runner.client, &solve, |report| status.show(report));
        let result = match Box::pin(definitions).await {
            Ok(definitions) => {
                let builder = Builder {
                    client: runner.client.clone(),
                    session: build.names.id.clone(),
                };
                let folders = inputs.folders();
                let mut found = imports.found(status.unread());
                found.extend(imports.out_of_reach());
                let forecast = forecast::of(request, &definitions, folders, found, &builder);
                Ok(Box::pin(forecast).await)
            }
            Err(error) => Err(build.failure(error, &imports, false).await),
        };
        build.session.end().await;
        build.caches.stop().await;
        result
    };
    tokio::select! {
        forecast = Box::pin(work) => forecast,
        () = cancelled => Err(BuildError::cancelled()),
    }
}
