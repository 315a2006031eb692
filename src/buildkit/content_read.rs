//! Reads small blobs of the daemon's own content store over the control connection
//! (containerd's `services/content/v1`, of which only `Read` is used).

use bollard_buildkit_proto::moby::buildkit::v1::Descriptor;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::client::{Client, MAX_MESSAGE};
use super::error::RpcError;
use crate::digest::{Digest, DigestError};

/// The largest blob that is read into memory.
pub const MAX_BLOB: u64 = 64 << 20;

const READ: &str = "/containerd.services.content.v1.Content/Read";

#[derive(Clone, PartialEq, prost::Message)]
struct ReadContentRequest {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    offset: i64,
    /// 0: to the end.
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadContentResponse {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

/// Why a blob cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The descriptor has no digest that can be checked.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The blob is larger than a blob of its kind is.
    #[error("blob {digest} is larger than {MAX_BLOB} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
    },
    /// What came is not the blob.
    #[error("blob {digest} came with other bytes than it should have")]
    Mismatch {
        /// The blob.
        digest: Digest,
    },
    /// The daemon does not give it.
    #[error("cannot read blob {digest} from the builder")]
    Rpc {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: RpcError,
    },
}

/// Reads the blob of a descriptor. Its size and digest are verified.
///
/// # Errors
///
/// Fails if the daemon does not have it, or it is larger than [`MAX_BLOB`].
pub async fn read(client: &Client, descriptor: &Descriptor) -> Result<Vec<u8>, ReadError> {
    let digest: Digest = descriptor.digest.parse()?;
    let size = u64::try_from(descriptor.size).unwrap_or(0);
    if size > MAX_BLOB {
        return Err(ReadError::TooLarge { digest });
    }
    let data = match receive(client, digest.as_str(), size).await {
        Ok(data) => data,
        Err(status) => {
            let source = status.into();
            return Err(ReadError::Rpc { digest, source });
        }
    };
    if data.len() as u64 != size || Digest::of(&data).as_str() != digest.as_str() {
        return Err(ReadError::Mismatch { digest });
    }
    Ok(data)
}

/// Reads at most one byte more than `size`.
async fn receive(client: &Client, digest: &str, size: u64) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(client.channel()).max_decoding_message_size(MAX_MESSAGE);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = ReadContentRequest {
        digest: digest.to_owned(),
        ..Default::default()
    };
    let codec = ProstCodec::<ReadContentRequest, ReadContentResponse>::default();
    let path = PathAndQuery::from_static(READ);
    let response = grpc.server_streaming(Request::new(request), path, codec);
    let mut stream = response.await?.into_inner();
    let mut data = Vec::new();
    while let Some(part) = stream.message().await? {
        data.extend_from_slice(&part.data);
        if data.len() as u64 > size {
            break;
        }
    }
    Ok(data)
}
