//! Loads images into the Docker Engine of a docker context.

use std::io;
use std::sync::Arc;

use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::build::output::load::ImageLoader;
use crate::builder::{BuilderError, DockerEnv};
use crate::docker::{Engine, EngineError};
use crate::progress::StatusSender;

/// Name of the image store's driver in an engine that keeps images in containerd
/// (moby `daemon/info.go`); such an engine imports OCI layouts.
const CONTAINERD_STORE: &str = "io.containerd.snapshotter.v1";

/// Loads into engines that docker contexts name.
#[derive(Debug)]
pub(super) struct EngineLoader {
    docker_env: Arc<DockerEnv>,
    progress: StatusSender,
}

impl EngineLoader {
    /// Creates a loader that shows each load as a step.
    pub(super) fn new(docker_env: Arc<DockerEnv>, progress: StatusSender) -> Self {
        Self {
            docker_env,
            progress,
        }
    }
}

impl ImageLoader for EngineLoader {
    fn load(
        &self,
        context: String,
        tarball: mpsc::Receiver<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let docker_env = Arc::clone(&self.docker_env);
        let step = self.progress.step("importing to docker");
        Box::pin(async move {
            let result = async {
                let engine = engine(&docker_env, &context).await?;
                Ok::<_, BuilderError>(load(&engine, tarball).await?)
            };
            match result.await {
                Ok(()) => {
                    step.done();
                    Ok(())
                }
                Err(error) => {
                    let text = crate::error::chain(&error);
                    step.fail(&text);
                    Err(io::Error::other(text))
                }
            }
        })
    }
}

async fn load(engine: &Engine, tarball: mpsc::Receiver<Bytes>) -> Result<(), EngineError> {
    let body = ReceiverStream::new(tarball).map(Ok::<_, io::Error>);
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let mut answers = std::pin::pin!(engine.api().import_image_stream(options, body, None));
    while let Some(answer) = answers.next().await {
        answer.map_err(|error| engine.error("load the image", error))?;
    }
    Ok(())
}

/// Connects to the engine of a docker context; an empty name is the current one.
async fn engine(docker_env: &DockerEnv, context: &str) -> Result<Engine, BuilderError> {
    let context = match context {
        "" => docker_env.contexts().current_name(),
        name => name,
    };
    docker_env.engine(context).await
}

/// Asks an engine whether it imports OCI layouts.
///
/// # Errors
///
/// Fails if the engine does not answer.
pub(super) async fn imports_oci(
    docker_env: &DockerEnv,
    context: &str,
) -> Result<bool, BuilderError> {
    let engine = engine(docker_env, context).await?;
    let info = engine.api().info().await;
    let info = info.map_err(|error| engine.error("ask the engine for its image store", error))?;
    let status = info.driver_status.unwrap_or_default();
    Ok(status
        .iter()
        .any(|pair| pair.iter().any(|text| text == CONTAINERD_STORE)))
}
