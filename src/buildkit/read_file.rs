//! Reading a file of what a definition makes, in the daemon. It is not a build of the user's: the
//! builder's history does not have it.

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use bollard_buildkit_proto::pb::Definition;
use tonic::{Code, Status};

use super::client::{Client, GatewayClient};
use super::error::RpcError;
use super::solve::{beside, evaluate_part, forward_status, parts, return_error};

/// Which file, of what.
#[derive(Debug, Clone)]
pub struct FileRequest<'a> {
    /// Identifier of the session that has the secrets for it.
    pub session: &'a str,
    /// What makes the tree that the file is in.
    pub definition: Definition,
    /// Where it is in the tree.
    pub path: &'a str,
    /// How much of it is read, in bytes.
    pub limit: u64,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its size in bytes.
    pub size: u64,
    /// What it begins with: no more than was asked for.
    pub data: Vec<u8>,
}

/// Reads a file; `None` if there is none. Every status message goes to `on_status`. Dropping the future
/// cancels it in the daemon.
///
/// # Errors
///
/// Fails with the daemon's error, or if the connection breaks.
pub async fn read_file(
    client: &Client,
    request: FileRequest<'_>,
    on_status: impl FnMut(control::StatusResponse),
) -> Result<Option<File>, RpcError> {
    let build_ref = super::new_id();
    let solve = control::SolveRequest {
        r#ref: build_ref.clone(),
        session: request.session.to_owned(),
        internal: true,
        ..Default::default()
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    let read = async {
        let read = beside(client, solve, read_as_frontend(client, &build_ref, request)).await;
        // The receiver is gone only if the status stream has ended before.
        let _sent = ended.send(());
        read
    };
    let status = forward_status(client, &build_ref, end, on_status);
    let (read, status) = tokio::join!(read, status);
    if let Err(error) = status {
        tracing::debug!(error = %crate::error::chain(&error), "the status of a fetch ended early");
    }
    Ok(read?.0)
}

/// Plays a frontend whose result is empty. Unlike the frontend of a solve it asks no other frontend and has no
/// observer.
async fn read_as_frontend(
    client: &Client,
    build_ref: &str,
    request: FileRequest<'_>,
) -> Result<Option<File>, RpcError> {
    let mut gateway = client.gateway(build_ref)?;
    match find(&mut gateway, request).await {
        Ok(file) => {
            let nothing = gateway::ReturnRequest {
                result: Some(gateway::Result::default()),
                error: None,
            };
            gateway.r#return(nothing).await?;
            Ok(file)
        }
        Err(status) => {
            return_error(&mut gateway, &status).await;
            Err(status.into())
        }
    }
}

async fn find(
    gateway: &mut GatewayClient,
    request: FileRequest<'_>,
) -> Result<Option<File>, Status> {
    let solve = gateway::SolveRequest {
        definition: Some(request.definition),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..Default::default()
    };
    let result = gateway.solve(solve).await?.into_inner();
    let result = result.result.unwrap_or_default();
    let Some((_, tree)) = parts(&result).first().copied() else {
        return Ok(None);
    };
    // An empty tree has no identifier.
    if tree.id.is_empty() {
        return Ok(None);
    }
    // What cannot be fetched must not be taken for a missing file below.
    evaluate_part(gateway.clone(), tree).await?;
    let stat = gateway::StatFileRequest {
        r#ref: tree.id.clone(),
        path: request.path.to_owned(),
        ..Default::default()
    };
    let stat = match gateway.stat_file(stat).await {
        Ok(stat) => stat.into_inner().stat.unwrap_or_default(),
        Err(status) if is_missing(&status) => return Ok(None),
        Err(status) => return Err(status),
    };
    let read = gateway::ReadFileRequest {
        r#ref: tree.id.clone(),
        file_path: request.path.to_owned(),
        range: Some(gateway::FileRange {
            offset: 0,
            length: i64::try_from(request.limit).unwrap_or(i64::MAX),
        }),
        ..Default::default()
    };
    let data = match request.limit {
        0 => Vec::new(),
        _ => gateway.read_file(read).await?.into_inner().data,
    };
    let size = u64::try_from(stat.size).unwrap_or_default();
    Ok(Some(File { size, data }))
}

/// The daemon passes on the error of its file system, which is seldom typed.
pub(super) fn is_missing(status: &Status) -> bool {
    let message = status.message();
    status.code() == Code::NotFound
        || message.contains("no such file or directory")
        || message.contains("not a directory")
}
