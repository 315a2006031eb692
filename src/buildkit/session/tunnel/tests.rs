//! The whole chain: session, tunnel, the daemon's Control service, the daemon's call into the session.

use std::sync::Arc;

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::super::bidi::{BidiMethod, BidiServer, Replies};
use super::super::tasks::Tasks;
use super::super::testing::{connect, within};
use super::super::upload::Uploads;
use super::super::{KEY_ID, Session, server};
use super::*;

/// A daemon that hands the bytes of its sessions out.
struct Daemon {
    sessions: mpsc::UnboundedSender<(MetadataMap, DuplexStream)>,
    refuse: bool,
}

#[tonic::async_trait]
impl BidiMethod for Daemon {
    const SERVICE: &'static str = "moby.buildkit.v1.Control";
    const PATH: &'static str = PATH;
    type Message = Bytes;
    type Codec = BytesCodec;

    async fn call(&self, request: Request<Streaming<Bytes>>) -> Result<Replies<Bytes>, Status> {
        if self.refuse {
            return Err(Status::unavailable("no more sessions"));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let metadata = request.metadata().clone();
        self.sessions.send((metadata, theirs)).unwrap();
        let (reader, mut writer) = tokio::io::split(ours);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(data)) = incoming.next().await {
                if writer.write_all(&data).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
        let replies = tokio_util::io::ReaderStream::with_capacity(reader, 32 << 10);
        Ok(replies
            .map(|data| data.map_err(|e| Status::unknown(e.to_string())))
            .boxed())
    }
}

struct Rig {
    channel: Channel,
    sessions: mpsc::UnboundedReceiver<(MetadataMap, DuplexStream)>,
    cancel: CancellationToken,
}

async fn daemon(refuse: bool) -> Rig {
    let (sender, sessions) = mpsc::unbounded_channel();
    let daemon = Daemon {
        sessions: sender,
        refuse,
    };
    let (client, io) = tokio::io::duplex(256 << 10);
    let cancel = CancellationToken::new();
    let routes = Routes::new(BidiServer::new(daemon));
    tokio::spawn(server::serve(routes, Tasks::default(), io, cancel.clone()));
    Rig {
        channel: connect(client).await,
        sessions,
        cancel,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_works_through_the_control_service() {
    const SIZE: usize = 24 << 20;
    let mut rig = daemon(false).await;
    let uploads = Uploads::default();
    let url = uploads.add(tokio::io::AsyncReadExt::take(
        tokio::io::repeat(7),
        SIZE as u64,
    ));
    let session = Session::builder().upload(uploads).build();
    let id = session.id().to_owned();
    let metadata = session.metadata();
    let cancel = CancellationToken::new();
    // BuildKit answers the call with its first bytes, so both ends must be there at once.
    let tunnel = within(open(rig.channel.clone(), metadata)).await.unwrap();
    let server = tokio::spawn(session.serve(tunnel, cancel.clone()));
    let (seen, io) = within(rig.sessions.recv()).await.unwrap();
    assert_eq!(seen.get(KEY_ID).unwrap(), id.as_str());

    let mut upload = UploadClient::new(connect(io).await);
    let mut request = Request::new(stream::pending::<BytesMessage>());
    let path = url.strip_prefix("http://buildkit-session").unwrap();
    request
        .metadata_mut()
        .insert("urlpath", path.parse().unwrap());
    let mut messages = within(upload.pull(request)).await.unwrap().into_inner();
    let mut received = 0;
    while let Some(message) = within(messages.message()).await.unwrap() {
        assert!(message.data.iter().all(|&byte| byte == 7));
        received += message.data.len();
    }
    assert_eq!(received, SIZE);
    cancel.cancel();
    within(server).await.unwrap().unwrap();
    rig.cancel.cancel();
}

#[tokio::test]
async fn bytes_pass_unchanged_and_both_ends_can_close() {
    let mut rig = daemon(false).await;
    let mut tunnel = within(open(rig.channel.clone(), MetadataMap::new()))
        .await
        .unwrap();
    let (_, mut io) = within(rig.sessions.recv()).await.unwrap();
    let data: Vec<u8> = (0..500_000_u32).map(|i| (i % 253) as u8).collect();
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        for piece in sent.chunks(777) {
            tunnel.write_all(piece).await.unwrap();
        }
        tunnel.shutdown().await.unwrap();
        tunnel
    });
    let mut received = Vec::new();
    within(io.read_to_end(&mut received)).await.unwrap();
    assert!(received == data);
    let mut tunnel = writer.await.unwrap();
    assert!(tunnel.write_all(b"x").await.is_err(), "closed by shutdown");
    io.write_all(b"last words").await.unwrap();
    drop(io);
    let mut received = Vec::new();
    within(tunnel.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, b"last words");
}

#[tokio::test]
async fn daemon_that_does_not_read_holds_the_writer_back() {
    let rig = daemon(false).await;
    let mut tunnel = within(open(rig.channel.clone(), MetadataMap::new()))
        .await
        .unwrap();
    let written = Arc::new(Mutex::new(0_usize));
    let counter = Arc::clone(&written);
    let writer = tokio::spawn(async move {
        let piece = vec![0; 64 << 10];
        loop {
            tunnel.write_all(&piece).await.unwrap();
            *counter.lock() += piece.len();
        }
    });
    let mut before = usize::MAX;
    while *written.lock() != before {
        before = *written.lock();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(before < 24 << 20, "{before} bytes on the way");
    writer.abort();
}

#[tokio::test]
async fn refused_session_and_lost_connection_are_errors() {
    let rig = daemon(true).await;
    let refused = within(open(rig.channel.clone(), MetadataMap::new())).await;
    assert_eq!(refused.unwrap_err().message(), "no more sessions");

    let rig = daemon(false).await;
    let mut tunnel = within(open(rig.channel.clone(), MetadataMap::new()))
        .await
        .unwrap();
    rig.cancel.cancel();
    let mut buffer = [0; 8];
    let read = within(tunnel.read(&mut buffer)).await;
    assert!(matches!(read, Err(_) | Ok(0)), "{read:?}");
    let write = async {
        loop {
            if let Err(error) = tunnel.write_all(&[0; 1024]).await {
                break error;
            }
            if let Err(error) = tunnel.flush().await {
                break error;
            }
        }
    };
    let error = within(write).await;
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
