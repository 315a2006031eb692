//! `grpc.health.v1.Health`: tells BuildKit that the session is alive.
//!
//! BuildKit asks every 5 s and ends the session after two failures (BuildKit `session/grpc.go`).

use std::collections::HashMap;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

pub(super) const METHODS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
];

/// Creates the service.
pub(super) fn service() -> HealthServer<AlwaysServing> {
    HealthServer::new(AlwaysServing)
}

/// The session as a whole is the only thing that has a health, and it is good while it answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlwaysServing;

const SERVING: HealthCheckResponse = HealthCheckResponse {
    status: ServingStatus::Serving as i32,
};

#[tonic::async_trait]
impl Health for AlwaysServing {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service.is_empty() {
            Ok(Response::new(SERVING))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse {
            statuses: HashMap::from([(String::new(), SERVING)]),
        }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let status = if request.get_ref().service.is_empty() {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        let first = HealthCheckResponse {
            status: status.into(),
        };
        let answers = stream::iter([Ok(first)]).chain(stream::pending());
        Ok(Response::new(answers.boxed()))
    }
}
