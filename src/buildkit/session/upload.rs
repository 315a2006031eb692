//! `moby.upload.v1.Upload`: streams that the daemon reads once, such as a build context on standard
//! input. A source names them by the URL that [`Uploads::add`] returns.

use std::collections::HashMap;
use std::fmt;

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::{Upload, UploadServer};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::MAX_MESSAGE;

pub(super) const METHODS: &[&str] = &["/moby.upload.v1.Upload/Pull"];

/// Metadata key of the path in the URL (BuildKit `session/upload`).
const KEY_PATH: &str = "urlpath";
/// The host that makes the HTTP source of BuildKit ask the session.
const URL_PREFIX: &str = "http://buildkit-session/";
/// Bytes of one message.
const CHUNK: u64 = 256 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Streams by identifier, each handed out once.
#[derive(Default)]
pub struct Uploads {
    readers: Mutex<HashMap<String, Reader>>,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").finish_non_exhaustive()
    }
}

impl Uploads {
    /// Adds a stream and returns its URL.
    pub fn add<R>(&self, reader: R) -> String
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let id = crate::buildkit::new_id();
        let url = format!("{URL_PREFIX}{id}");
        self.readers.lock().insert(id, Box::new(reader));
        url
    }

    fn take(&self, id: &str) -> Option<Reader> {
        self.readers.lock().remove(id)
    }
}

/// Creates the service.
pub(super) fn service(uploads: Uploads) -> UploadServer<Uploads> {
    UploadServer::new(uploads).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl Upload for Uploads {
    type PullStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request
            .metadata()
            .get(KEY_PATH)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let id = path.rsplit('/').next().unwrap_or_default();
        let reader = self
            .take(id)
            .ok_or_else(|| Status::unknown(format!("the session has no upload {id:?}")))?;
        let messages = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            let mut data = Vec::with_capacity(64 << 10);
            match (&mut reader).take(CHUNK).read_buf(&mut data).await {
                Ok(0) => None,
                Ok(_) => Some((Ok(BytesMessage { data }), Some(reader))),
                Err(error) => Some((
                    Err(Status::unknown(format!("cannot read the upload: {error}"))),
                    None,
                )),
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}
