//! One HTTP/2 connection to BuildKit over any byte stream, and the stubs on it.

use std::io;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord;
use bollard_buildkit_proto::moby::buildkit::v1::{InfoRequest, ListWorkersRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use super::error::RpcError;

/// The largest message taken from or sent to BuildKit. BuildKit itself uses 16 MiB on both sides
/// (BuildKit `session/grpc.go`, `client/client.go`).
pub const MAX_MESSAGE: usize = 16 << 20;

/// The largest list of headers or trailers that is taken, in bytes: grpc-go's limit. With hyper's 16 KiB
/// grpc-go refuses to send the ignore patterns of a context, or an error that quotes a large Dockerfile.
pub(super) const MAX_HEADER_LIST: u32 = 16 << 20;

/// HTTP/2 receive window of a stream and of the connection. The default of 64 KiB would stop bulk
/// data (content, context) once per round trip through the container's exec.
pub const WINDOW: u32 = 8 << 20;

/// The authority where the address of the daemon has none, such as a unix socket.
const NO_AUTHORITY: &str = "buildkit";

/// Metadata key that tells the gateway which build a call belongs to (BuildKit `client/buildid`).
const BUILD_ID_KEY: &str = "buildkit-controlapi-buildid";

/// A connection to a BuildKit daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// The gateway stub of one build.
pub type GatewayClient = LlbBridgeClient<InterceptedService<Channel, BuildId>>;

/// Adds the build's identifier to every gateway call.
#[derive(Debug, Clone)]
pub struct BuildId(MetadataValue<tonic::metadata::Ascii>);

impl Interceptor for BuildId {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(BUILD_ID_KEY, self.0.clone());
        Ok(request)
    }
}

impl Client {
    /// Starts HTTP/2 on a byte stream whose other end is a BuildKit daemon.
    ///
    /// # Errors
    ///
    /// Fails if the stream ends or does not speak HTTP/2.
    pub async fn connect<S>(stream: S) -> Result<Self, RpcError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::connect_as(stream, None).await
    }

    /// Starts HTTP/2 as [`connect`](Self::connect) does. A proxy in front of the daemon may choose it by
    /// the `authority`, the host name of its address.
    ///
    /// # Errors
    ///
    /// Fails as [`connect`](Self::connect), and for an authority that no header can hold.
    pub async fn connect_as<S>(stream: S, authority: Option<&str>) -> Result<Self, RpcError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let origin = format!("http://{}", authority.unwrap_or(NO_AUTHORITY));
        let origin = Uri::try_from(origin)
            .map_err(|_| RpcError::from(Status::invalid_argument("invalid host name")))?;
        let stream = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = Arc::clone(&stream);
            async move {
                // A stream cannot be dialled again: a second connect means that the first one died.
                stream.lock().await.take().map(TokioIo::new).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was closed")
                })
            }
        });
        let channel = Endpoint::from(origin)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .connect_with_connector(connector)
            .await
            .map_err(|error| RpcError::transport(&error))?;
        Ok(Self { channel })
    }

    /// Returns the connection itself, for services without a generated stub.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns the stub of the Control service.
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// Returns the gateway stub bound to the build with this identifier.
    ///
    /// # Errors
    ///
    /// Fails if the identifier is not a valid header value.
    pub fn gateway(&self, build_id: &str) -> Result<GatewayClient, RpcError> {
        let value = MetadataValue::try_from(build_id)
            .map_err(|_| RpcError::from(Status::invalid_argument("invalid build identifier")))?;
        Ok(
            LlbBridgeClient::with_interceptor(self.channel.clone(), BuildId(value))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
    }

    /// Returns the daemon's workers, the default one first.
    ///
    /// # Errors
    ///
    /// Fails if the daemon does not answer or is no BuildKit.
    pub async fn list_workers(&self) -> Result<Vec<WorkerRecord>, RpcError> {
        let response = self
            .control()
            .list_workers(ListWorkersRequest::default())
            .await?;
        Ok(response.into_inner().record)
    }

    /// Returns the daemon's version such as `v0.25.1`, if it reports one (BuildKit 0.11 and newer).
    ///
    /// # Errors
    ///
    /// Fails if the daemon does not answer.
    pub async fn version(&self) -> Result<Option<String>, RpcError> {
        match self.control().info(InfoRequest {}).await {
            Ok(response) => Ok(response.into_inner().buildkit_version.map(|v| v.version)),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            Err(status) => Err(status.into()),
        }
    }
}
