//! A gRPC service with one bidirectional method whose messages a hand-made codec reads.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::BoxStream;
use tonic::codec::Codec;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::MAX_MESSAGE;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the method sends.
pub(super) type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// The one method of a service.
#[tonic::async_trait]
pub(super) trait BidiMethod: Send + Sync + 'static {
    /// Full name of the service.
    const SERVICE: &'static str;
    /// Path of the method; any other method of the service is unimplemented.
    const PATH: &'static str;
    /// What the method takes and sends.
    type Message: Send + Sync + 'static;
    /// Reads and writes the messages.
    type Codec: Codec<Encode = Self::Message, Decode = Self::Message> + Default + Send + Sync;

    /// Answers a call.
    async fn call(
        &self,
        request: Request<Streaming<Self::Message>>,
    ) -> Result<Replies<Self::Message>, Status>;
}

/// The service of a [`BidiMethod`].
pub(super) struct BidiServer<M>(Arc<M>);

impl<M> BidiServer<M> {
    pub(super) fn new(method: M) -> Self {
        Self(Arc::new(method))
    }
}

impl<M> Clone for BidiServer<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: BidiMethod> fmt::Debug for BidiServer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BidiServer").field(&M::SERVICE).finish()
    }
}

impl<M: BidiMethod> NamedService for BidiServer<M> {
    const NAME: &'static str = M::SERVICE;
}

impl<M: BidiMethod> tower_service::Service<http::Request<tonic::body::Body>> for BidiServer<M> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let method = Call(Arc::clone(&self.0));
        Box::pin(async move {
            if request.uri().path() != M::PATH {
                return Ok(
                    Status::unimplemented("the client does not have this method").into_http(),
                );
            }
            let mut grpc = Grpc::new(M::Codec::default())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Call<M>(Arc<M>);

impl<M: BidiMethod> StreamingService<M::Message> for Call<M> {
    type Response = M::Message;
    type ResponseStream = Replies<M::Message>;
    type Future = BoxFuture<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<M::Message>>) -> Self::Future {
        let method = Arc::clone(&self.0);
        Box::pin(async move { method.call(request).await.map(Response::new) })
    }
}
