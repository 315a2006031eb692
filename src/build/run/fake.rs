//! A BuildKit daemon of the tests, at the other end of a pipe in memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::{Control, ControlServer};
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::{
    LlbBridge, LlbBridgeServer,
};
use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord};
use bollard_buildkit_proto::pb::Definition;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::buildkit::Client;

/// Metadata key of a build's identifier in calls of the gateway.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// What happens in one solve of a build.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt {
    /// What is reported.
    pub(super) reports: Vec<control::StatusResponse>,
    /// The message of the error that it ends with.
    pub(super) error: Option<String>,
    /// It goes on until it is cancelled.
    pub(super) hangs: bool,
    /// It goes on until a part of it has been exported beside it.
    pub(super) waits_for_part: bool,
}

/// The daemon. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct FakeDaemon(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    definition: Definition,
    /// Attempts to come.
    script: Mutex<VecDeque<Attempt>>,
    /// Attempts by the identifier of their build.
    begun: Mutex<HashMap<String, Attempt>>,
    /// Identifiers of builds whose steps run.
    running: watch::Sender<HashSet<String>>,
    /// Identifiers of builds whose frontend has returned, with its error.
    returned: watch::Sender<HashMap<String, Option<rpc::Status>>>,
    builds: Mutex<Vec<control::SolveRequest>>,
    parts: watch::Sender<Vec<control::SolveRequest>>,
    /// How often it was asked what is on its disk.
    disk: AtomicUsize,
}

impl FakeDaemon {
    /// A daemon whose frontend makes this definition, and whose solves go so.
    pub(super) fn new(definition: Definition, script: impl IntoIterator<Item = Attempt>) -> Self {
        Self(Arc::new(Shared {
            definition,
            script: Mutex::new(script.into_iter().collect()),
            begun: Mutex::default(),
            running: watch::Sender::default(),
            returned: watch::Sender::default(),
            builds: Mutex::default(),
            parts: watch::Sender::default(),
            disk: AtomicUsize::default(),
        }))
    }

    /// Connects to it.
    pub(super) async fn client(&self) -> Client {
        let (near, far) = tokio::io::duplex(256 << 10);
        let server = tonic::transport::Server::builder()
            .add_service(ControlServer::new(self.clone()))
            .add_service(LlbBridgeServer::new(self.clone()));
        let incoming = stream::once(async { Ok::<_, std::io::Error>(far) });
        tokio::spawn(server.serve_with_incoming(incoming.chain(stream::pending())));
        Client::connect(near).await.unwrap()
    }

    /// Returns what the builds were asked with.
    pub(super) fn builds(&self) -> Vec<control::SolveRequest> {
        self.0.builds.lock().clone()
    }

    /// Returns what was exported beside them.
    pub(super) fn parts(&self) -> Vec<control::SolveRequest> {
        self.0.parts.borrow().clone()
    }

    /// Returns how often it was asked what is on its disk.
    pub(super) fn disk_asked(&self) -> usize {
        self.0.disk.load(Ordering::SeqCst)
    }

    /// Begins with the next attempt of the script, or returns the one of a build.
    fn attempt(&self, build: &str) -> Attempt {
        let mut begun = self.0.begun.lock();
        let next = || self.0.script.lock().pop_front();
        let attempt = begun.entry(build.to_owned());
        let attempt =
            attempt.or_insert_with(|| next().expect("an attempt more than in the script"));
        attempt.clone()
    }

    /// Runs the steps of a build.
    async fn evaluated(&self, build: &str) -> Result<(), Status> {
        let attempt = self.attempt(build);
        self.0.running.send_modify(|running| {
            running.insert(build.to_owned());
        });
        if attempt.hangs {
            std::future::pending::<()>().await;
        }
        if attempt.waits_for_part {
            let mut parts = self.0.parts.subscribe();
            parts.wait_for(|parts| !parts.is_empty()).await.unwrap();
        }
        attempt
            .error
            .map_or(Ok(()), |error| Err(Status::unknown(error)))
    }
}

fn build_of<T>(request: &Request<T>) -> String {
    let id = request.metadata().get(BUILD_ID).unwrap();
    id.to_str().unwrap().to_owned()
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not of this daemon"))
}

#[tonic::async_trait]
impl Control for FakeDaemon {
    type PruneStream = BoxStream<'static, Result<control::UsageRecord, Status>>;
    type StatusStream = BoxStream<'static, Result<control::StatusResponse, Status>>;
    type SessionStream = BoxStream<'static, Result<control::BytesMessage, Status>>;
    type ListenBuildHistoryStream = BoxStream<'static, Result<control::BuildHistoryEvent, Status>>;

    async fn solve(
        &self,
        request: Request<control::SolveRequest>,
    ) -> Result<Response<control::SolveResponse>, Status> {
        let request = request.into_inner();
        if request.definition.is_some() {
            self.0.parts.send_modify(|parts| parts.push(request));
            return Ok(Response::new(control::SolveResponse::default()));
        }
        let build = request.r#ref.clone();
        self.attempt(&build);
        self.0.builds.lock().push(request);
        let mut returned = self.0.returned.subscribe();
        let returned = returned.wait_for(|returned| returned.contains_key(&build));
        let error = returned.await.unwrap()[&build].clone();
        if let Some(error) = error {
            return Err(Status::new(Code::from(error.code), error.message));
        }
        self.evaluated(&build).await?;
        Ok(Response::new(control::SolveResponse {
            exporter_response: [("k".to_owned(), "v".to_owned())].into(),
        }))
    }

    async fn status(
        &self,
        request: Request<control::StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let build = request.into_inner().r#ref;
        let reports = self.attempt(&build).reports.into_iter().map(Ok);
        let mut running = self.0.running.subscribe();
        let reports = stream::once(async move {
            running
                .wait_for(|running| running.contains(&build))
                .await
                .unwrap();
            stream::iter(reports)
        });
        Ok(Response::new(reports.flatten().boxed()))
    }

    async fn session(
        &self,
        _request: Request<Streaming<control::BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Ok(Response::new(stream::pending().boxed()))
    }

    async fn list_workers(
        &self,
        _request: Request<control::ListWorkersRequest>,
    ) -> Result<Response<control::ListWorkersResponse>, Status> {
        let worker = WorkerRecord {
            buildkit_version: Some(BuildkitVersion {
                version: "v0.25.1".to_owned(),
                ..BuildkitVersion::default()
            }),
            ..WorkerRecord::default()
        };
        Ok(Response::new(control::ListWorkersResponse {
            record: vec![worker],
        }))
    }

    async fn disk_usage(
        &self,
        _request: Request<control::DiskUsageRequest>,
    ) -> Result<Response<control::DiskUsageResponse>, Status> {
        self.0.disk.fetch_add(1, Ordering::SeqCst);
        unimplemented()
    }

    async fn prune(
        &self,
        _request: Request<control::PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        unimplemented()
    }

    async fn info(
        &self,
        _request: Request<control::InfoRequest>,
    ) -> Result<Response<control::InfoResponse>, Status> {
        unimplemented()
    }

    async fn listen_build_history(
        &self,
        _request: Request<control::BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        unimplemented()
    }

    async fn update_build_history(
        &self,
        _request: Request<control::UpdateBuildHistoryRequest>,
    ) -> Result<Response<control::UpdateBuildHistoryResponse>, Status> {
        unimplemented()
    }
}

#[tonic::async_trait]
impl LlbBridge for FakeDaemon {
    type ExecProcessStream = BoxStream<'static, Result<gateway::ExecMessage, Status>>;

    async fn solve(
        &self,
        _request: Request<gateway::SolveRequest>,
    ) -> Result<Response<gateway::SolveResponse>, Status> {
        let part = gateway::Ref {
            id: "result".to_owned(),
            def: Some(self.0.definition.clone()),
        };
        let result = gateway::Result {
            result: Some(gateway::result::Result::Ref(part)),
            ..gateway::Result::default()
        };
        Ok(Response::new(gateway::SolveResponse {
            result: Some(result),
            ..gateway::SolveResponse::default()
        }))
    }

    async fn evaluate(
        &self,
        request: Request<gateway::EvaluateRequest>,
    ) -> Result<Response<gateway::EvaluateResponse>, Status> {
        self.evaluated(&build_of(&request)).await?;
        Ok(Response::new(gateway::EvaluateResponse {}))
    }

    async fn r#return(
        &self,
        request: Request<gateway::ReturnRequest>,
    ) -> Result<Response<gateway::ReturnResponse>, Status> {
        let (build, error) = (build_of(&request), request.into_inner().error);
        self.0.returned.send_modify(|returned| {
            returned.insert(build, error);
        });
        Ok(Response::new(gateway::ReturnResponse {}))
    }

    async fn resolve_image_config(
        &self,
        _request: Request<gateway::ResolveImageConfigRequest>,
    ) -> Result<Response<gateway::ResolveImageConfigResponse>, Status> {
        unimplemented()
    }

    async fn resolve_source_meta(
        &self,
        _request: Request<gateway::ResolveSourceMetaRequest>,
    ) -> Result<Response<gateway::ResolveSourceMetaResponse>, Status> {
        unimplemented()
    }

    async fn read_file(
        &self,
        _request: Request<gateway::ReadFileRequest>,
    ) -> Result<Response<gateway::ReadFileResponse>, Status> {
        unimplemented()
    }

    async fn read_dir(
        &self,
        _request: Request<gateway::ReadDirRequest>,
    ) -> Result<Response<gateway::ReadDirResponse>, Status> {
        unimplemented()
    }

    async fn stat_file(
        &self,
        _request: Request<gateway::StatFileRequest>,
    ) -> Result<Response<gateway::StatFileResponse>, Status> {
        unimplemented()
    }

    async fn ping(
        &self,
        _request: Request<gateway::PingRequest>,
    ) -> Result<Response<gateway::PongResponse>, Status> {
        unimplemented()
    }

    async fn inputs(
        &self,
        _request: Request<gateway::InputsRequest>,
    ) -> Result<Response<gateway::InputsResponse>, Status> {
        unimplemented()
    }

    async fn new_container(
        &self,
        _request: Request<gateway::NewContainerRequest>,
    ) -> Result<Response<gateway::NewContainerResponse>, Status> {
        unimplemented()
    }

    async fn release_container(
        &self,
        _request: Request<gateway::ReleaseContainerRequest>,
    ) -> Result<Response<gateway::ReleaseContainerResponse>, Status> {
        unimplemented()
    }

    async fn read_file_container(
        &self,
        _request: Request<gateway::ReadFileRequest>,
    ) -> Result<Response<gateway::ReadFileResponse>, Status> {
        unimplemented()
    }

    async fn read_dir_container(
        &self,
        _request: Request<gateway::ReadDirRequest>,
    ) -> Result<Response<gateway::ReadDirResponse>, Status> {
        unimplemented()
    }

    async fn stat_file_container(
        &self,
        _request: Request<gateway::StatFileRequest>,
    ) -> Result<Response<gateway::StatFileResponse>, Status> {
        unimplemented()
    }

    async fn exec_process(
        &self,
        _request: Request<Streaming<gateway::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        unimplemented()
    }

    async fn warn(
        &self,
        _request: Request<gateway::WarnRequest>,
    ) -> Result<Response<gateway::WarnResponse>, Status> {
        unimplemented()
    }
}
