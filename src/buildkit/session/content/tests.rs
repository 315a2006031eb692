use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::super::Session;
use super::super::testing::{Served, serve};
use super::*;
use crate::buildkit::proto::content::content_client::ContentClient;

/// Keeps blobs in memory and counts the writers that were open at once.
#[derive(Default)]
struct Memory {
    blobs: Mutex<HashMap<Digest, Bytes>>,
    open: AtomicUsize,
    most: AtomicUsize,
}

struct MemoryWriter {
    store: Arc<Memory>,
    digest: Digest,
    data: Vec<u8>,
}

struct Shared(Arc<Memory>);

#[tonic::async_trait]
impl ContentStore for Shared {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let blobs = self.0.blobs.lock();
        let blob = blobs.get(digest);
        Ok(blob
            .ok_or_else(|| StoreError::NotFound(digest.clone()))?
            .len() as u64)
    }

    async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        let blobs = self.0.blobs.lock();
        let blob = blobs.get(digest).cloned();
        let blob = blob.ok_or_else(|| StoreError::NotFound(digest.clone()))?;
        let start = usize::try_from(offset).unwrap().min(blob.len());
        let end = size.map_or(blob.len(), |s| {
            (start + usize::try_from(s).unwrap()).min(blob.len())
        });
        let pieces: Vec<_> = blob
            .slice(start..end)
            .chunks(3)
            .map(Bytes::copy_from_slice)
            .map(Ok)
            .collect();
        Ok(stream::iter(pieces).boxed())
    }

    async fn write(&self, blob: NewBlob) -> Result<Write, StoreError> {
        if self.0.blobs.lock().contains_key(&blob.digest) {
            return Ok(Write::Exists);
        }
        let open = self.0.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(open, Ordering::SeqCst);
        Ok(Write::Open(Box::new(MemoryWriter {
            store: Arc::clone(&self.0),
            digest: blob.digest,
            data: Vec::new(),
        })))
    }
}

#[tonic::async_trait]
impl BlobWriter for MemoryWriter {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.data.extend_from_slice(&data);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let data = Bytes::from(std::mem::take(&mut self.data));
        if Digest::of(&data) != self.digest {
            return Err(StoreError::Failed("wrong digest".into()));
        }
        self.store.blobs.lock().insert(self.digest.clone(), data);
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.store.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Daemon {
    served: Served,
    memory: Arc<Memory>,
}

impl Daemon {
    async fn new() -> Self {
        let memory = Arc::new(Memory::default());
        let stores = ContentStores::default();
        stores.add("local:x", Arc::new(Shared(Arc::clone(&memory))));
        let served = serve(Session::builder().content(stores).build()).await;
        Self { served, memory }
    }

    fn client(&self) -> ContentClient<tonic::transport::Channel> {
        ContentClient::new(self.served.channel.clone())
    }

    /// Writes as BuildKit does: a status question, pieces, the commit.
    async fn write(&self, data: &[u8], expected: &Digest) -> Result<i64, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let stat = wire::WriteContentRequest {
            action: wire::WriteAction::Stat.into(),
            r#ref: format!("layer-{expected}"),
            total: i64::try_from(data.len()).unwrap(),
            expected: expected.to_string(),
            ..Default::default()
        };
        sender.send(stat).await.unwrap();
        let request = named(ReceiverStream::new(receiver), "local:x");
        let mut replies = self.client().write(request).await?.into_inner();
        replies.message().await?;
        let mut offset = 0;
        for piece in data.chunks(5) {
            let write = wire::WriteContentRequest {
                action: wire::WriteAction::Write.into(),
                offset,
                data: Bytes::copy_from_slice(piece),
                ..Default::default()
            };
            sender.send(write).await.unwrap();
            offset = replies.message().await?.unwrap().offset;
        }
        let commit = wire::WriteContentRequest {
            action: wire::WriteAction::Commit.into(),
            offset,
            expected: expected.to_string(),
            total: offset,
            ..Default::default()
        };
        sender.send(commit).await.unwrap();
        let reply = replies.message().await?.unwrap();
        assert_eq!(reply.digest, expected.as_str());
        Ok(reply.offset)
    }
}

fn named<T>(message: T, store: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(KEY_STORE, store.parse().unwrap());
    request
}

#[tokio::test]
async fn a_blob_is_written_once_and_read_in_parts() {
    let daemon = Daemon::new().await;
    let data = b"hello, layers of the cache";
    let digest = Digest::of(data);
    assert_eq!(daemon.write(data, &digest).await.unwrap(), 26);
    assert_eq!(
        daemon.write(data, &digest).await.unwrap_err().code(),
        Code::AlreadyExists
    );

    let info = wire::InfoRequest {
        digest: digest.to_string(),
    };
    let info = daemon
        .client()
        .info(named(info, "local:x"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.info.unwrap().size, 26);
    let read = wire::ReadContentRequest {
        digest: digest.to_string(),
        offset: 7,
        size: 6,
    };
    let mut pieces = daemon
        .client()
        .read(named(read, "local:x"))
        .await
        .unwrap()
        .into_inner();
    let mut text = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        assert_eq!(usize::try_from(piece.offset).unwrap(), 7 + text.len());
        text.extend_from_slice(&piece.data);
    }
    assert_eq!(text, b"layers");
    daemon.served.end().await;
}

#[tokio::test]
async fn unknown_stores_blobs_and_writes_are_not_found() {
    let daemon = Daemon::new().await;
    let info = || wire::InfoRequest {
        digest: Digest::of(b"no").to_string(),
    };
    let code = |result: Result<Response<wire::InfoResponse>, Status>| result.unwrap_err().code();
    assert_eq!(
        code(daemon.client().info(named(info(), "local:x")).await),
        Code::NotFound
    );
    assert_eq!(
        code(daemon.client().info(named(info(), "local:y")).await),
        Code::NotFound
    );
    assert_eq!(
        code(daemon.client().info(Request::new(info())).await),
        Code::InvalidArgument
    );
    let bad = wire::InfoRequest {
        digest: "sha256:x".into(),
    };
    assert_eq!(
        code(daemon.client().info(named(bad, "local:x")).await),
        Code::InvalidArgument
    );
    let status = wire::StatusRequest {
        r#ref: "layer".into(),
    };
    let status = daemon.client().status(named(status, "local:x")).await;
    assert_eq!(status.unwrap_err().code(), Code::NotFound);
    daemon.served.end().await;
}

#[tokio::test]
async fn wrong_offsets_sizes_and_digests_are_refused_and_leave_nothing() {
    let daemon = Daemon::new().await;
    let data = b"0123456789";
    let other = Digest::of(b"other");
    assert!(daemon.write(data, &other).await.is_err());
    let digest = Digest::of(data);
    for (offset, total) in [(3, 10), (0, 7)] {
        let first = wire::WriteContentRequest {
            action: wire::WriteAction::Commit.into(),
            r#ref: "layer".into(),
            expected: digest.to_string(),
            offset,
            total,
            data: Bytes::from_static(data),
            ..Default::default()
        };
        let request = named(stream::iter([first]), "local:x");
        let mut replies = daemon.client().write(request).await.unwrap().into_inner();
        assert!(replies.message().await.is_err());
    }
    assert!(daemon.memory.blobs.lock().is_empty());
    assert_eq!(daemon.memory.open.load(Ordering::SeqCst), 0);
    daemon.served.end().await;
}

#[tokio::test]
async fn a_second_writer_of_one_digest_waits_and_hears_that_it_exists() {
    let daemon = Daemon::new().await;
    let data: Vec<u8> = (0..200u8).collect();
    let digest = Digest::of(&data);
    let (a, b) = tokio::join!(daemon.write(&data, &digest), daemon.write(&data, &digest));
    let codes = [a.err().map(|s| s.code()), b.err().map(|s| s.code())];
    assert!(
        codes.contains(&None) && codes.contains(&Some(Code::AlreadyExists)),
        "{codes:?}"
    );
    assert_eq!(daemon.memory.most.load(Ordering::SeqCst), 1);
    daemon.served.end().await;
}

#[tokio::test]
async fn a_write_that_breaks_off_frees_the_digest_for_the_next() {
    let daemon = Daemon::new().await;
    let data = b"again";
    let digest = Digest::of(data);
    let (sender, receiver) = mpsc::channel(1);
    let first = wire::WriteContentRequest {
        action: wire::WriteAction::Write.into(),
        r#ref: "layer".into(),
        expected: digest.to_string(),
        data: Bytes::from_static(b"ag"),
        ..Default::default()
    };
    sender.send(first).await.unwrap();
    let request = named(ReceiverStream::new(receiver), "local:x");
    let mut replies = daemon.client().write(request).await.unwrap().into_inner();
    replies.message().await.unwrap();
    drop((sender, replies));
    let written = tokio::time::timeout(Duration::from_secs(5), daemon.write(data, &digest));
    assert_eq!(written.await.unwrap().unwrap(), 5);
    daemon.served.end().await;
}
