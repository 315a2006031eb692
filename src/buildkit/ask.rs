//! Questions about a build, answered by the builder without running any of its steps. The builder's history does not
//! have them.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use bollard_buildkit_proto::pb::{Definition, Platform};
use futures_util::future::join_all;
use tonic::Status;

use super::client::{Client, GatewayClient};
use super::error::RpcError;
use super::solve::{
    SolveRequest, beside, call_frontend, definitions, forward_status, return_error,
};

/// An image of which the config is wanted.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name, with a digest.
    pub reference: String,
    /// For which platform.
    pub platform: Platform,
}

/// Runs the frontend of a build and returns the definitions that it makes, by platform. Every status message goes to
/// `on_status`. Dropping the future cancels it in the daemon.
///
/// # Errors
///
/// Fails with the daemon's error, or if the connection breaks.
pub async fn definitions_of(
    client: &Client,
    request: &SolveRequest,
    on_status: impl FnMut(control::StatusResponse),
) -> Result<BTreeMap<String, Definition>, RpcError> {
    let solve = control::SolveRequest {
        exporters: Vec::new(),
        exporter_deprecated: String::new(),
        exporter_attrs_deprecated: [].into(),
        cache: None,
        internal: true,
        ..request.to_control()
    };
    ask(client, solve, on_status, async |mut gateway| {
        let made = call_frontend(&mut gateway, request).await?;
        Ok(definitions(&made))
    })
    .await
}

/// Returns the configs of images, in their order; `None` for one that the builder cannot find. `session` is the
/// identifier of a session that has the credentials for them.
///
/// # Errors
///
/// Fails with the daemon's error, or if the connection breaks.
pub async fn image_configs(
    client: &Client,
    session: &str,
    images: &[Image],
) -> Result<Vec<Option<Vec<u8>>>, RpcError> {
    let solve = control::SolveRequest {
        r#ref: super::new_id(),
        session: session.to_owned(),
        internal: true,
        ..Default::default()
    };
    let one = async |mut gateway: GatewayClient, image: &Image| {
        let request = gateway::ResolveImageConfigRequest {
            r#ref: image.reference.clone(),
            platform: Some(image.platform.clone()),
            resolve_mode: "default".to_owned(),
            log_name: format!("[internal] load metadata for {}", image.reference),
            ..Default::default()
        };
        match gateway.resolve_image_config(request).await {
            Ok(answer) => Some(answer.into_inner().config),
            Err(status) => {
                tracing::debug!(image = image.reference, error = %status, "no image config");
                None
            }
        }
    };
    ask(client, solve, drop, async |gateway| {
        let all = images.iter().map(|image| one(gateway.clone(), image));
        Ok(join_all(all).await)
    })
    .await
}

/// Plays a frontend that asks something and whose result is empty.
pub(super) async fn ask<T>(
    client: &Client,
    solve: control::SolveRequest,
    on_status: impl FnMut(control::StatusResponse),
    question: impl AsyncFnOnce(GatewayClient) -> Result<T, Status>,
) -> Result<T, RpcError> {
    let build_ref = solve.r#ref.clone();
    let (ended, end) = tokio::sync::oneshot::channel();
    let asked = async {
        let frontend = async {
            let mut gateway = client.gateway(&build_ref)?;
            match question(gateway.clone()).await {
                Ok(answer) => {
                    let nothing = gateway::ReturnRequest {
                        result: Some(gateway::Result::default()),
                        error: None,
                    };
                    gateway.r#return(nothing).await?;
                    Ok(answer)
                }
                Err(status) => {
                    return_error(&mut gateway, &status).await;
                    Err(status.into())
                }
            }
        };
        let answer = beside(client, solve, frontend).await;
        // The receiver is gone only if the status stream has ended before.
        let _sent = ended.send(());
        answer
    };
    let status = forward_status(client, &build_ref, end, on_status);
    let (answer, status) = tokio::join!(asked, status);
    if let Err(error) = status {
        tracing::debug!(error = %crate::error::chain(&error), "the status of a question ended early");
    }
    Ok(answer?.0)
}
