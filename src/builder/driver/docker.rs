//! The docker driver: the BuildKit inside the Docker engine. It is listed and refused for builds.

use bytes::Bytes;
use http::HeaderMap;

use crate::builder::ByteStream;
use crate::builder::error::BuilderError;
use crate::docker::engine::Engine;

/// Connects to the BuildKit inside a Docker engine (Engine API `POST /grpc`).
///
/// # Errors
///
/// Fails if the engine has none.
pub async fn dial(engine: &Engine) -> Result<ByteStream, BuilderError> {
    let stream = engine
        .hijack("/grpc", "h2c", &HeaderMap::new(), Bytes::new())
        .await?;
    Ok(Box::new(stream))
}
