//! One build in gateway mode.
//!
//! The client opens `Control.Solve` with no frontend and no definition, which makes the daemon wait
//! for a client that plays the frontend over the gateway service (BuildKit `client/build.go`,
//! `control/gateway`). This side then asks the gateway to run the real frontend, gets its result,
//! with the definition of each part of it, and returns it; the daemon evaluates and exports it.

mod request;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use bollard_buildkit_proto::pb::Definition;
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub use self::request::{Entry, SolveRequest};
use super::client::{Client, GatewayClient};
use super::error::RpcError;
use super::subrequest;

/// How long the solve call may take to notice that the frontend failed, before it is dropped.
const SOLVE_GRACE: Duration = Duration::from_secs(5);
/// How long the daemon may take to report what a cancellation stopped.
const CANCEL_GRACE: Duration = Duration::from_millis(800);
/// How long the status stream may stay silent after the solve has ended, before it is dropped.
const STATUS_GRACE: Duration = Duration::from_secs(5);

/// What a build ended with.
#[derive(Debug, Default)]
pub struct SolveOutcome {
    /// The exporters' and the cache exporter's answers, such as `containerimage.digest`.
    pub exporter_response: BTreeMap<String, String>,
    /// Metadata of the frontend's result, such as the answer of a subrequest.
    pub result_metadata: HashMap<String, Vec<u8>>,
    /// Why the status of the build broke off. The build itself has succeeded.
    pub status_error: Option<RpcError>,
}

/// Loads results into the builder, within the solve that has made it.
#[derive(Debug)]
pub struct Loader {
    gateway: GatewayClient,
    imports: Vec<gateway::CacheOptionsEntry>,
}

impl Loader {
    fn new(gateway: &GatewayClient, request: &SolveRequest) -> Self {
        let imports = request
            .cache_imports
            .iter()
            .map(|entry| gateway::CacheOptionsEntry {
                r#type: entry.kind.clone(),
                attrs: entry.attrs.clone().into_iter().collect(),
            });
        Self {
            gateway: gateway.clone(),
            imports: imports.collect(),
        }
    }

    /// Has the builder make a result, from a cache where one has it, and unpack its layers, which it else puts off
    /// until a step uses them.
    ///
    /// # Errors
    ///
    /// Fails with the daemon's error, or where the connection breaks.
    pub async fn load(&self, definition: Definition) -> Result<(), Status> {
        let mut gateway = self.gateway.clone();
        let solve = gateway::SolveRequest {
            definition: Some(definition),
            cache_imports: self.imports.clone(),
            allow_result_return: true,
            allow_result_array_ref: true,
            ..Default::default()
        };
        let result = gateway
            .solve(solve)
            .await?
            .into_inner()
            .result
            .unwrap_or_default();
        for (_, part) in parts(&result) {
            if !part.id.is_empty() {
                // To look into a tree the daemon mounts it, and for that it unpacks its layers.
                let root = gateway::StatFileRequest {
                    r#ref: part.id.clone(),
                    path: "/".to_owned(),
                    ..Default::default()
                };
                gateway.stat_file(root).await?;
            }
        }
        Ok(())
    }
}

/// Learns how a solve goes, and works beside it on the results of its steps.
#[tonic::async_trait]
pub trait SolveObserver: Send + Sync {
    /// The frontend has made the definitions, by platform; the steps begin next.
    fn begin(&self, definitions: &BTreeMap<String, Definition>);

    /// Called after [`begin`](Self::begin): the steps wait for it.
    async fn prepare(&self, _definitions: &BTreeMap<String, Definition>) {}

    /// Returns whether anything else than [`begin`](Self::begin) and [`built`](Self::built) matters to it. The steps run
    /// before the result is returned then, which takes one more call.
    fn watches_steps(&self) -> bool {
        true
    }

    /// Called when the steps begin, if they are [watched](Self::watches_steps). It is dropped when they have run.
    async fn beside_steps(&self, _loader: Loader) {}

    /// The result is returned next, and then the daemon exports it and writes its caches. Where the steps are
    /// [watched](Self::watches_steps) they have all run. The daemon waits until this returns.
    async fn built(&self);

    /// A step has failed, or the user has cancelled. The daemon holds the results of the others until
    /// this returns.
    async fn broken(&self);

    /// Returns whether the build is run again after the error of a step. Then nothing is to be kept of this
    /// run, and [`broken`](Self::broken) is not called.
    fn is_run_again(&self, error: &Status) -> bool;
}

/// Runs a build and hands every status message to `on_status`, in order.
///
/// When `cancel` fires the build is cancelled in the daemon; what the daemon reports of that is still
/// handed on for a moment. Dropping the future cancels too.
///
/// # Errors
///
/// Fails with the daemon's error of the build, or where the connection breaks. A status that breaks off fails no build:
/// see [`SolveOutcome::status_error`].
pub async fn solve(
    client: &Client,
    request: &SolveRequest,
    observer: Option<&dyn SolveObserver>,
    cancel: &CancellationToken,
    on_status: impl FnMut(control::StatusResponse),
) -> Result<SolveOutcome, RpcError> {
    let (solve_ended, solve_end) = tokio::sync::oneshot::channel();
    let build = async {
        let cancelled = async {
            cancel.cancelled().await;
            if let Some(observer) = observer {
                observer.broken().await;
            }
        };
        let result = tokio::select! {
            result = Box::pin(run_build(client, request, observer, cancel)) => result,
            // Leaving the branch drops the call, which resets its stream; the daemon takes that for
            // a cancellation.
            () = cancelled => Err(Status::cancelled("the build was cancelled").into()),
        };
        // The receiver is gone only where the status stream has ended before.
        let _sent = solve_ended.send(());
        result
    };
    let status = forward_status(client, &request.build_ref, solve_end, on_status);
    let bounded = async {
        tokio::select! {
            result = status => result,
            () = after(cancel, CANCEL_GRACE) => Ok(()),
        }
    };
    let (result, status) = tokio::join!(build, bounded);
    ended(result, status)
}

/// The solve decides what a build ended with, and never its status.
fn ended(
    result: Result<SolveOutcome, RpcError>,
    status: Result<(), RpcError>,
) -> Result<SolveOutcome, RpcError> {
    Ok(SolveOutcome {
        status_error: status.err(),
        ..result?
    })
}

/// Waits for the cancellation and then for a while.
async fn after(cancel: &CancellationToken, grace: Duration) {
    cancel.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Solves a definition: a part of a build that runs, or one that has ended. Nothing is shown of it.
/// Dropping the future cancels it.
///
/// # Errors
///
/// Fails with the daemon's error, or where the connection breaks.
pub async fn solve_definition(
    client: &Client,
    request: &SolveRequest,
    definition: Definition,
) -> Result<(), RpcError> {
    let mut request = request.to_control();
    request.frontend_attrs.clear();
    request.definition = Some(definition);
    client.control().solve(request).await?;
    Ok(())
}

async fn run_build(
    client: &Client,
    request: &SolveRequest,
    observer: Option<&dyn SolveObserver>,
    cancel: &CancellationToken,
) -> Result<SolveOutcome, RpcError> {
    let frontend = run_frontend(client, request, observer, cancel);
    let (mut outcome, solved) = beside(client, request.to_control(), frontend).await?;
    outcome.exporter_response = solved.exporter_response.into_iter().collect();
    Ok(outcome)
}

/// Calls Solve, which waits for a frontend of this side, and runs that frontend beside it.
pub(super) async fn beside<T>(
    client: &Client,
    request: control::SolveRequest,
    frontend: impl Future<Output = Result<T, RpcError>>,
) -> Result<(T, control::SolveResponse), RpcError> {
    let mut control = client.control();
    let solve = control.solve(request);
    tokio::pin!(solve, frontend);
    let (solved, result) = tokio::select! {
        // The daemon's own answer wins: it says why the frontend's call was refused.
        biased;
        solved = &mut solve => (solved?, frontend.await),
        result = &mut frontend => match result {
            Ok(result) => (solve.await?, Ok(result)),
            Err(error) => match tokio::time::timeout(SOLVE_GRACE, solve).await {
                Ok(Err(status)) => return Err(status.into()),
                Ok(Ok(_)) | Err(_) => return Err(error),
            },
        },
    };
    Ok((result?, solved.into_inner()))
}

/// Plays the frontend: runs the real one and returns its result to the daemon.
///
/// A result is evaluated by the daemon once it is returned. For an observer it is evaluated before:
/// then the daemon still holds the results of the steps when one of them fails.
async fn run_frontend(
    client: &Client,
    request: &SolveRequest,
    observer: Option<&dyn SolveObserver>,
    cancel: &CancellationToken,
) -> Result<SolveOutcome, RpcError> {
    let mut gateway = client.gateway(&request.build_ref)?;
    let mut result = call_frontend(&mut gateway, request).await;
    if let (Ok(made), Some(observer)) = (&result, observer) {
        let definitions = definitions(made);
        observer.begin(&definitions);
        observer.prepare(&definitions).await;
        if observer.watches_steps()
            && let Err(status) = {
                let loader = Loader::new(&gateway, request);
                run_steps(&gateway, made, (observer, loader), cancel).await
            }
        {
            result = Err(status);
        }
    }
    match result {
        Ok(result) => {
            if let Some(observer) = observer {
                observer.built().await;
            }
            let outcome = SolveOutcome {
                result_metadata: result.metadata.clone(),
                ..Default::default()
            };
            gateway
                .r#return(gateway::ReturnRequest {
                    result: Some(result),
                    error: None,
                })
                .await?;
            Ok(outcome)
        }
        Err(status) => {
            return_error(&mut gateway, &status).await;
            Err(status.into())
        }
    }
}

/// Lets the daemon run the steps of a result, and tells the observer if that fails.
async fn run_steps(
    gateway: &GatewayClient,
    made: &gateway::Result,
    (observer, loader): (&dyn SolveObserver, Loader),
    cancel: &CancellationToken,
) -> Result<(), Status> {
    let beside = async {
        observer.beside_steps(loader).await;
        std::future::pending().await
    };
    let evaluated = tokio::select! {
        evaluated = evaluate(gateway, made, cancel) => evaluated,
        evaluated = beside => evaluated,
    };
    if let Err(status) = &evaluated
        && !observer.is_run_again(status)
    {
        observer.broken().await;
    }
    evaluated
}

/// Runs the real frontend, and another one where it does not know the request.
pub(super) async fn call_frontend(
    gateway: &mut GatewayClient,
    request: &SolveRequest,
) -> Result<gateway::Result, Status> {
    let request = request.to_gateway();
    let response = match gateway.solve(request.clone()).await {
        Ok(response) => response,
        Err(status) => {
            let Some(other) = subrequest::fallback(request, &status) else {
                return Err(status);
            };
            // Where that one fails too, the first error is the one that tells about the user's frontend.
            gateway.solve(other).await.map_err(|_| status)?
        }
    };
    Ok(response.into_inner().result.unwrap_or_default())
}

/// Lets the daemon run the steps of a result. A cancelled one never ends here: the steps stop, and
/// the rest of the build is cancelled by who waits for it.
async fn evaluate(
    gateway: &GatewayClient,
    result: &gateway::Result,
    cancel: &CancellationToken,
) -> Result<(), Status> {
    // An empty part, such as that of `FROM scratch`, has no identifier.
    let parts = parts(result)
        .into_iter()
        .filter(|(_, part)| !part.id.is_empty());
    let parts = parts.map(|(_, part)| evaluate_part(gateway.clone(), part));
    tokio::select! {
        evaluated = futures_util::future::try_join_all(parts) => evaluated.map(drop),
        () = cancel.cancelled() => std::future::pending().await,
    }
}

/// Lets the daemon run the steps of a part of a result.
pub(super) async fn evaluate_part(
    mut gateway: GatewayClient,
    part: &gateway::Ref,
) -> Result<(), Status> {
    let request = gateway::EvaluateRequest {
        r#ref: part.id.clone(),
    };
    match gateway.evaluate(request).await {
        // A daemon that cannot (before BuildKit 0.12) evaluates what is returned to it, or read.
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(()),
        evaluated => evaluated.map(drop),
    }
}

/// Tells the daemon that the frontend failed, so that the build ends with this error.
pub(super) async fn return_error(gateway: &mut GatewayClient, status: &Status) {
    let mut error = rpc::Status::decode(status.details()).unwrap_or_default();
    error.code = status.code().into();
    status.message().clone_into(&mut error.message);
    let request = gateway::ReturnRequest {
        result: None,
        error: Some(error),
    };
    if let Err(status) = gateway.r#return(request).await {
        tracing::debug!(error = %status, "the daemon did not take the frontend's error");
    }
}

/// Returns the parts of a result by platform.
pub(super) fn parts(result: &gateway::Result) -> Vec<(&str, &gateway::Ref)> {
    use gateway::result::Result as Form;
    match &result.result {
        Some(Form::Ref(part)) => vec![("", part)],
        Some(Form::Refs(parts)) => {
            let parts = parts.refs.iter();
            parts.map(|(key, part)| (key.as_str(), part)).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn definitions(result: &gateway::Result) -> BTreeMap<String, Definition> {
    let parts = parts(result).into_iter();
    let defined = parts.filter_map(|(key, part)| Some((key.to_owned(), part.def.clone()?)));
    defined.collect()
}

/// Reads the status stream until the daemon ends it, or until it stays silent after the solve.
pub(super) async fn forward_status(
    client: &Client,
    build_ref: &str,
    solve_end: tokio::sync::oneshot::Receiver<()>,
    mut on_status: impl FnMut(control::StatusResponse),
) -> Result<(), RpcError> {
    let request = control::StatusRequest {
        r#ref: build_ref.to_owned(),
    };
    let mut control = client.control();
    let opened = control.status(request);
    tokio::pin!(opened, solve_end);
    let mut ended = false;
    let mut stream = loop {
        tokio::select! {
            response = &mut opened => break response?.into_inner(),
            _ = &mut solve_end, if !ended => ended = true,
            () = tokio::time::sleep(STATUS_GRACE), if ended => return Ok(()),
        }
    };
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(status)) => on_status(status),
                None => return Ok(()),
                // The solve's own error tells more than the stream that ended with it.
                Some(Err(_)) if ended => return Ok(()),
                Some(Err(status)) => return Err(status.into()),
            },
            _ = &mut solve_end, if !ended => ended = true,
            () = tokio::time::sleep(STATUS_GRACE), if ended => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::map;

    fn entry(kind: &str, attrs: &[(&str, &str)]) -> Entry {
        Entry {
            kind: kind.to_owned(),
            attrs: map(attrs),
        }
    }

    #[test]
    fn imports_are_an_attribute_of_the_frontend_too() {
        let request = SolveRequest {
            cache_imports: vec![entry("registry", &[("ref", "r/app:cache")])],
            ..Default::default()
        };
        let json = r#"[{"Type":"registry","Attrs":{"ref":"r/app:cache"}}]"#;
        assert_eq!(request.to_gateway().frontend_opt["cache-imports"], json);
        let control = request.to_control();
        assert_eq!(control.frontend_attrs["cache-imports"], json);
        assert_eq!(
            control.cache.unwrap().imports[0].attrs["ref"],
            "r/app:cache"
        );
    }

    #[test]
    fn a_status_that_breaks_off_fails_no_build() {
        let broken = || RpcError::from(Status::unavailable("the stream broke"));
        let outcome = ended(Ok(SolveOutcome::default()), Err(broken())).unwrap();
        assert!(outcome.status_error.is_some());
        let refused = Status::invalid_argument("refused").into();
        let error = ended(Err(refused), Err(broken())).unwrap_err();
        assert_eq!(error.message(), "refused");
    }

    #[test]
    fn without_imports_there_is_no_such_attribute() {
        assert!(SolveRequest::default().to_gateway().frontend_opt.is_empty());
    }

    #[test]
    fn control_solve_names_no_frontend_and_both_forms_of_the_exporter() {
        let request = SolveRequest {
            frontend: "dockerfile.v0".into(),
            exporters: vec![entry("image", &[("name", "r/app")]), entry("local", &[])],
            ..Default::default()
        };
        let control = request.to_control();
        assert_eq!(control.frontend, "");
        assert_eq!(control.exporters.len(), 2);
        assert_eq!(control.exporter_deprecated, "image");
        assert_eq!(request.to_gateway().frontend, "dockerfile.v0");
    }
}
