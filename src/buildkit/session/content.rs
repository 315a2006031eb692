//! `containerd.services.content.v1.Content`: stores of blobs that the daemon reads and writes.
//!
//! BuildKit's `type=local` caches and its OCI layout contexts go through it: each call names a store
//! by the metadata key `buildkit-attachable-store-id` (BuildKit `session/content`). What a store does
//! with the blobs is its own affair; this service speaks the protocol of containerd's
//! `contentserver`, as far as BuildKit uses it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::MAX_MESSAGE;
use super::tasks::{Tasks, WorkStream};
use crate::buildkit::proto::content as wire;
use crate::buildkit::proto::content::content_server::{Content, ContentServer};
use crate::digest::Digest;

pub(super) const METHODS: &[&str] = &[
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Update",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.content.v1.Content/Status",
    "/containerd.services.content.v1.Content/Write",
    "/containerd.services.content.v1.Content/Abort",
];

const KEY_STORE: &str = "buildkit-attachable-store-id";
/// Replies to a writer that wait for the connection; BuildKit sends one request at a time.
const QUEUE: usize = 4;

/// A blob that the daemon is about to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// Key of the write, such as `layer-sha256:…`; for a manifest or a config it is the digest itself.
    pub key: String,
    /// Digest that the content will have.
    pub digest: Digest,
    /// Size in bytes that it will have, if the daemon reports it.
    pub size: Option<u64>,
}

impl NewBlob {
    /// Returns whether it is a manifest or a config: BuildKit writes those under their own digest as key,
    /// and layers under another (`cache/remotecache/export.go`, containerd `content.WriteBlob`).
    pub fn is_metadata(&self) -> bool {
        self.key == self.digest.as_str()
    }
}

/// Why a store does not do what it is asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It has no such blob.
    #[error("{0}: not found")]
    NotFound(Digest),
    /// It cannot.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// Creates a failure of an error with all its causes.
    pub fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed(crate::error::chain(error))
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound(_) => Self::not_found(error.to_string()),
            // Never `Unavailable`: containerd's client would try again without end.
            StoreError::Failed(text) => Self::unknown(text.clone()),
        }
    }
}

/// The content of a blob, piece by piece.
pub type Pieces = BoxStream<'static, Result<Bytes, StoreError>>;

/// What a store says to a new blob.
pub enum Write {
    /// It has it already; the daemon does not even read it.
    Exists,
    /// It takes it.
    Open(Box<dyn BlobWriter>),
}

/// A place for blobs.
#[tonic::async_trait]
pub trait ContentStore: Send + Sync + 'static {
    /// Returns the size of a blob in bytes.
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError>;

    /// Reads a blob from an offset on, `size` bytes or to its end. A store that only takes blobs has
    /// none to read: an export asks for sizes alone.
    async fn read(
        &self,
        digest: &Digest,
        _offset: u64,
        _size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        Err(StoreError::NotFound(digest.clone()))
    }

    /// Begins to take a blob. Of one digest there is one writer at a time.
    async fn write(&self, blob: NewBlob) -> Result<Write, StoreError>;
}

/// Takes the content of one blob. Dropped before [`commit`](Self::commit), it must leave nothing.
#[tonic::async_trait]
pub trait BlobWriter: Send {
    /// Takes the next bytes; returning late holds the daemon back.
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError>;

    /// Ends the blob. The store itself makes sure that digest and size are as announced, now or before
    /// it lets anything refer to the blob.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// The stores of a session by identifier. Clones share them; they may be added and removed while the
/// session is served.
#[derive(Clone, Default)]
pub struct ContentStores {
    stores: Arc<RwLock<HashMap<String, Offered>>>,
}

#[derive(Clone)]
struct Offered {
    store: Arc<dyn ContentStore>,
    /// Name under which its blobs are locked.
    family: String,
}

impl fmt::Debug for ContentStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stores = self.stores.read();
        f.debug_set().entries(stores.keys()).finish()
    }
}

impl ContentStores {
    /// Adds a store under the identifier that the daemon will use: `local:DEST` for a cache of
    /// `type=local`, `oci:NAME` for a layout context.
    pub fn add(&self, id: impl Into<String>, store: Arc<dyn ContentStore>) {
        let id = id.into();
        self.add_to(id.clone(), id, store);
    }

    /// Adds a store that keeps its blobs together with all others of its family: of one digest there is
    /// one writer at a time among them.
    pub fn add_to(
        &self,
        family: impl Into<String>,
        id: impl Into<String>,
        store: Arc<dyn ContentStore>,
    ) {
        let family = family.into();
        let mut stores = self.stores.write();
        stores.insert(id.into(), Offered { store, family });
    }

    /// Takes a store away; calls that are under way go on.
    pub fn remove(&self, id: &str) {
        let mut stores = self.stores.write();
        stores.remove(id);
    }

    fn choose(&self, metadata: &MetadataMap) -> Result<Offered, Status> {
        let id = metadata
            .get(KEY_STORE)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| Status::invalid_argument("the request names no store"))?;
        let stores = self.stores.read();
        let store = stores.get(id).cloned();
        store.ok_or_else(|| Status::not_found(format!("unknown store {id}")))
    }
}

/// Creates the service.
pub(super) fn service(stores: ContentStores, tasks: Tasks) -> ContentServer<ContentService> {
    let service = ContentService {
        stores,
        tasks,
        locks: Arc::default(),
    };
    ContentServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// The service.
#[derive(Debug)]
pub(super) struct ContentService {
    stores: ContentStores,
    tasks: Tasks,
    locks: Arc<Locks>,
}

/// One lock for each blob that is being written: two solves that export one layer at the same time
/// must not both send it.
#[derive(Debug, Default)]
struct Locks(Mutex<LockTable>);

/// A lock by family of stores and digest; it lives as long as somebody holds it or waits for it.
type LockTable = HashMap<(String, Digest), Weak<AsyncMutex<()>>>;

impl Locks {
    async fn lock(&self, family: &str, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            let slot = locks
                .entry((family.to_owned(), digest.clone()))
                .or_default();
            slot.upgrade().unwrap_or_else(|| {
                let lock = Arc::default();
                *slot = Arc::downgrade(&lock);
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[tonic::async_trait]
impl Content for ContentService {
    type ReadStream = BoxStream<'static, Result<wire::ReadContentResponse, Status>>;
    type WriteStream = WorkStream<wire::WriteContentResponse>;

    async fn info(
        &self,
        request: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        let store = self.stores.choose(request.metadata())?.store;
        let digest = digest(&request.get_ref().digest)?;
        let size = store.size(&digest).await?;
        Ok(Response::new(wire::InfoResponse {
            info: Some(info(&digest, size)?),
        }))
    }

    /// Labels are for containerd's garbage collection; a store here has none to keep.
    async fn update(
        &self,
        request: Request<wire::UpdateRequest>,
    ) -> Result<Response<wire::UpdateResponse>, Status> {
        let store = self.stores.choose(request.metadata())?.store;
        let wanted = request.into_inner().info.unwrap_or_default();
        let digest = digest(&wanted.digest)?;
        let mut found = info(&digest, store.size(&digest).await?)?;
        found.labels = wanted.labels;
        Ok(Response::new(wire::UpdateResponse { info: Some(found) }))
    }

    async fn read(
        &self,
        request: Request<wire::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let store = self.stores.choose(request.metadata())?.store;
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let offset = u64::try_from(request.offset)
            .map_err(|_| Status::out_of_range("the offset is negative"))?;
        let size = u64::try_from(request.size).ok().filter(|size| *size > 0);
        let pieces = store.read(&digest, offset, size).await?;
        let mut at = request.offset;
        let messages = pieces.map(move |piece| {
            let data = piece?;
            let offset = at;
            at = at.saturating_add(i64::try_from(data.len()).unwrap_or(i64::MAX));
            Ok(wire::ReadContentResponse { offset, data })
        });
        Ok(Response::new(messages.boxed()))
    }

    /// No write outlives its stream, so there is never one to resume.
    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        self.stores.choose(request.metadata())?;
        let key = &request.get_ref().r#ref;
        Err(Status::not_found(format!("no write {key:?}")))
    }

    async fn write(
        &self,
        request: Request<Streaming<wire::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let Offered { store, family } = self.stores.choose(request.metadata())?;
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("a write without a message"))?;
        let blob = new_blob(&first)?;
        let guard = self.locks.lock(&family, &blob.digest).await;
        let writer = match store.write(blob.clone()).await? {
            Write::Exists => {
                let text = format!("blob with expected digest {} exists", blob.digest);
                return Err(Status::already_exists(text));
            }
            Write::Open(writer) => writer,
        };
        let (replies, received) = mpsc::channel(QUEUE);
        let open = OpenWrite {
            blob,
            writer: Some(writer),
            offset: 0,
            replies,
            _guard: guard,
        };
        let work = self.tasks.spawn(open.serve(first, requests));
        Ok(Response::new(WorkStream::new(received, work)))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Result<Response<()>, Status> {
        self.stores.choose(request.metadata())?;
        Ok(Response::new(()))
    }
}

/// One write in progress.
struct OpenWrite {
    blob: NewBlob,
    writer: Option<Box<dyn BlobWriter>>,
    offset: i64,
    replies: mpsc::Sender<wire::WriteContentResponse>,
    /// Held until the store has the blob or has given it up.
    _guard: OwnedMutexGuard<()>,
}

impl OpenWrite {
    async fn serve(
        mut self,
        first: wire::WriteContentRequest,
        mut requests: Streaming<wire::WriteContentRequest>,
    ) -> Result<(), Status> {
        let mut next = Some(first);
        while let Some(request) = next.take() {
            let action = request.action();
            let reply = self.handle(request).await?;
            if self.replies.send(reply).await.is_err() {
                // Nobody hears any more; the writer is dropped and leaves nothing.
                return Ok(());
            }
            if action == wire::WriteAction::Commit {
                return Ok(());
            }
            next = requests.message().await?;
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        request: wire::WriteContentRequest,
    ) -> Result<wire::WriteContentResponse, Status> {
        let action = request.action();
        let mut reply = wire::WriteContentResponse {
            action: action.into(),
            ..Default::default()
        };
        if action != wire::WriteAction::Stat {
            if request.offset != self.offset {
                return Err(Status::out_of_range(format!(
                    "write at {} must be at the current offset {}",
                    request.offset, self.offset
                )));
            }
            self.take(request.data).await?;
        }
        match action {
            wire::WriteAction::Stat => {
                reply.total = self
                    .blob
                    .size
                    .and_then(|s| i64::try_from(s).ok())
                    .unwrap_or(0);
            }
            wire::WriteAction::Write => {}
            wire::WriteAction::Commit => {
                self.check(&request.expected, request.total)?;
                if let Some(writer) = self.writer.take() {
                    writer.commit().await?;
                }
                reply.digest = self.blob.digest.to_string();
            }
        }
        reply.offset = self.offset;
        Ok(reply)
    }

    async fn take(&mut self, data: Bytes) -> Result<(), Status> {
        if data.is_empty() {
            return Ok(());
        }
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        let writer = self
            .writer
            .as_mut()
            .ok_or_else(|| Status::failed_precondition("the write is over"))?;
        writer.write(data).await?;
        self.offset = self.offset.saturating_add(length);
        Ok(())
    }

    /// The commit names what the daemon believes to have written.
    fn check(&self, expected: &str, total: i64) -> Result<(), Status> {
        let wanted = self.blob.size.and_then(|s| i64::try_from(s).ok());
        let total = if total > 0 { Some(total) } else { wanted };
        if total.is_some_and(|total| total != self.offset) {
            return Err(Status::failed_precondition(format!(
                "unexpected commit size {}, expected {}",
                self.offset,
                total.unwrap_or_default()
            )));
        }
        if !expected.is_empty() && expected != self.blob.digest.as_str() {
            return Err(Status::failed_precondition(format!(
                "unexpected commit digest {expected}, announced was {}",
                self.blob.digest
            )));
        }
        Ok(())
    }
}

fn new_blob(first: &wire::WriteContentRequest) -> Result<NewBlob, Status> {
    if first.r#ref.is_empty() {
        return Err(Status::invalid_argument("a write without a key"));
    }
    Ok(NewBlob {
        key: first.r#ref.clone(),
        digest: digest(&first.expected)?,
        size: u64::try_from(first.total).ok().filter(|size| *size > 0),
    })
}

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse()
        .map_err(|error: crate::digest::DigestError| Status::invalid_argument(error.to_string()))
}

fn info(digest: &Digest, size: u64) -> Result<wire::Info, Status> {
    let size = i64::try_from(size).map_err(|_| Status::out_of_range("the blob is too large"))?;
    Ok(wire::Info {
        digest: digest.to_string(),
        size,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests;
