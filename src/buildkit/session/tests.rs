//! The session as the daemon sees it: real HTTP/2 and gRPC over a pipe, generated clients.

use std::time::Duration;

use bollard_buildkit_proto::health::HealthCheckRequest;
use bollard_buildkit_proto::health::health_client::HealthClient;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage as SshBytes, CheckAgentRequest};
use bollard_buildkit_proto::moby::upload::v1::BytesMessage as UploadBytes;
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tonic::{Code, Request};
use zeroize::Zeroizing;

use super::secrets::{MAX_SECRET, SecretSource, Secrets};
use super::ssh::{SshAgents, SshError};
use super::testing::{serve, within};
use super::upload::Uploads;
use super::*;

#[test]
fn metadata_announces_every_service() {
    let session = Session::builder()
        .shared_key("app:0123456789abcdef")
        .secrets(Secrets::default())
        .build();
    let metadata = session.metadata();
    assert_eq!(metadata.get(KEY_ID).unwrap(), session.id());
    assert_eq!(
        metadata.get(KEY_SHARED_KEY).unwrap(),
        "app:0123456789abcdef"
    );
    let methods: Vec<_> = metadata
        .get_all(KEY_METHOD)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(
        methods,
        [
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/List",
            "/grpc.health.v1.Health/Watch",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        ]
    );
}

#[test]
fn shared_key_of_a_directory_with_any_name_is_a_header() {
    let session = Session::builder().shared_key("büro\n:1").build();
    assert_eq!(
        session.metadata().get(KEY_SHARED_KEY).unwrap(),
        "b%C3%BCro%0A:1"
    );
}

#[tokio::test]
async fn health_is_good_for_the_session_and_unknown_for_others() {
    let served = serve(Session::builder().build()).await;
    let mut health = HealthClient::new(served.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.get_ref().status, 1);
    let other = HealthCheckRequest {
        service: "other".to_owned(),
    };
    assert_eq!(
        health.check(other).await.unwrap_err().code(),
        Code::NotFound
    );
    served.end().await;
}

#[tokio::test]
async fn service_that_is_not_offered_is_unimplemented() {
    let served = serve(Session::builder().build()).await;
    let mut secrets = SecretsClient::new(served.channel.clone());
    let error = secrets.get_secret(GetSecretRequest::default()).await;
    assert_eq!(error.unwrap_err().code(), Code::Unimplemented);
    served.end().await;
}

#[tokio::test]
async fn secrets_come_from_values_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs_err::write(&file, "from file").unwrap();
    let mut secrets = Secrets::default();
    let value = Zeroizing::new(b"from env".to_vec());
    secrets.add("env", SecretSource::Value(value)).unwrap();
    secrets
        .add("file", SecretSource::File(file.clone()))
        .unwrap();
    let served = serve(Session::builder().secrets(secrets).build()).await;
    let client = SecretsClient::new(served.channel.clone());
    let get = |id: &str| {
        let mut client = client.clone();
        let id = id.to_owned();
        async move {
            let request = GetSecretRequest {
                id,
                ..GetSecretRequest::default()
            };
            client
                .get_secret(request)
                .await
                .map(|r| r.into_inner().data)
        }
    };
    assert_eq!(get("env").await.unwrap(), b"from env");
    assert_eq!(get("file").await.unwrap(), b"from file");
    assert_eq!(get("other").await.unwrap_err().code(), Code::NotFound);

    fs_err::write(&file, vec![0; MAX_SECRET]).unwrap();
    assert_eq!(get("file").await.unwrap().len(), MAX_SECRET);
    fs_err::write(&file, vec![0; MAX_SECRET + 1]).unwrap();
    let error = get("file").await.unwrap_err();
    assert!(error.message().contains("too big"), "{error}");
    fs_err::remove_file(&file).unwrap();
    let error = get("file").await.unwrap_err();
    // Not "not found": a secret that was promised must fail the build, also an optional mount.
    assert_eq!(error.code(), Code::Unknown);
    served.end().await;
}

#[tokio::test]
async fn upload_is_handed_out_once() {
    let uploads = Uploads::default();
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let url = uploads.add(io::Cursor::new(data.clone()));
    assert!(url.starts_with("http://buildkit-session/"), "{url}");
    let path = url.strip_prefix("http://buildkit-session").unwrap();
    let served = serve(Session::builder().upload(uploads).build()).await;
    let mut client = UploadClient::new(served.channel.clone());
    let mut pull = async || {
        let mut request = Request::new(stream::pending::<UploadBytes>());
        let metadata = request.metadata_mut();
        metadata.insert("urlpath", path.parse().unwrap());
        let mut messages = client.pull(request).await?.into_inner();
        let mut received = Vec::new();
        while let Some(message) = messages.message().await? {
            received.extend(message.data);
        }
        Ok::<_, tonic::Status>(received)
    };
    assert!(within(pull()).await.unwrap() == data);
    assert_eq!(within(pull()).await.unwrap_err().code(), Code::Unknown);
    served.end().await;
}

/// Listens like an agent that answers every frame with type 6 and no body.
fn agent(path: &std::path::Path) -> tokio::task::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while let Ok(length) = socket.read_u32().await {
            let mut body = vec![0; length as usize];
            socket.read_exact(&mut body).await.unwrap();
            seen.push(body[0]);
            socket.write_all(&[0, 0, 0, 1, 6]).await.unwrap();
        }
        seen
    })
}

#[tokio::test]
async fn ssh_agents_are_found_by_id_and_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent");
    let agent = agent(&socket);
    let mut agents = SshAgents::default();
    agents.add("", &socket, false).unwrap();
    assert!(matches!(
        agents.add("default", &socket, false),
        Err(SshError::Duplicate { .. })
    ));
    let text = dir.path().join("text");
    fs_err::write(&text, "no key").unwrap();
    let refused = agents.add("key", &text, false).unwrap_err();
    assert!(matches!(refused, SshError::KeyFile { .. }), "{refused}");
    for mixed in [[socket.clone(), text], [socket.clone(), socket]] {
        let refused = agents.add_keys("key", &mixed).unwrap_err();
        assert!(matches!(refused, SshError::Mixed { .. }), "{refused}");
    }
    let absent = dir.path().join("absent");
    let refused = agents.add("key", &absent, false).unwrap_err();
    assert!(matches!(refused, SshError::Path { .. }), "{refused}");

    let served = serve(Session::builder().ssh(agents).build()).await;
    let mut client = SshClient::new(served.channel.clone());
    client
        .check_agent(CheckAgentRequest::default())
        .await
        .unwrap();
    let other = CheckAgentRequest {
        id: "other".to_owned(),
    };
    let error = client.check_agent(other).await.unwrap_err();
    assert!(error.message().contains("other"), "{error}");

    let frames = [11, 19, 13].map(|kind| SshBytes {
        data: vec![0, 0, 0, 1, kind],
    });
    let mut replies = client
        .forward_agent(stream::iter(frames))
        .await
        .unwrap()
        .into_inner();
    let mut kinds = Vec::new();
    while let Some(message) = within(replies.message()).await.unwrap() {
        kinds.push(message.data[4]);
    }
    assert_eq!(kinds, [6, 5, 6]);
    assert_eq!(within(agent).await.unwrap(), [11, 13]);
    served.end().await;
}

#[tokio::test]
async fn ssh_key_files_sign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("id_ed25519");
    fs_err::write(&path, include_str!("ssh/key/testdata/ed25519")).unwrap();
    let mut agents = SshAgents::default();
    agents.add("deploy", &path, false).unwrap();
    let refused = agents.add("raw", &path, true).unwrap_err();
    assert!(matches!(refused, SshError::Raw { .. }), "{refused}");
    let served = serve(Session::builder().ssh(agents).build()).await;
    let mut client = SshClient::new(served.channel.clone());

    let list = vec![0, 0, 0, 1, 11];
    let mut request = Request::new(stream::iter([SshBytes { data: list }]));
    let metadata = request.metadata_mut();
    metadata.insert("buildkit.ssh.id", "deploy".parse().unwrap());
    let mut replies = client.forward_agent(request).await.unwrap().into_inner();
    let listed = within(replies.message()).await.unwrap().unwrap().data;
    let length = u32::try_from(listed.len() - 4).unwrap().to_be_bytes();
    assert_eq!(listed[..4], length);
    assert_eq!(listed[4..9], [12, 0, 0, 0, 1]);
    let blob = &listed[13..listed.len() - 4];

    let mut sign = vec![13];
    for text in [blob, b"data"] {
        sign.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        sign.extend(text);
    }
    sign.extend([0; 4]);
    let mut unknown = sign.clone();
    *unknown.last_chunk_mut::<13>().unwrap().first_mut().unwrap() ^= 1;
    let frames = [sign, unknown].map(|body| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        SshBytes {
            data: [&length[..], &body].concat(),
        }
    });
    let mut request = Request::new(stream::iter(frames));
    let metadata = request.metadata_mut();
    metadata.insert("buildkit.ssh.id", "deploy".parse().unwrap());
    let mut replies = client.forward_agent(request).await.unwrap().into_inner();
    let signed = within(replies.message()).await.unwrap().unwrap().data;
    assert_eq!(signed[4], 14);
    let public = ring::signature::UnparsedPublicKey::new(
        &ring::signature::ED25519,
        &blob[blob.len() - 32..],
    );
    public
        .verify(b"data", &signed[signed.len() - 64..])
        .unwrap();
    let refused = within(replies.message()).await.unwrap().unwrap().data;
    assert_eq!(refused, [0, 0, 0, 1, 5], "a key that is not there");
    served.end().await;
}

#[tokio::test]
async fn cancel_ends_calls_in_progress_and_their_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut agents = SshAgents::default();
    agents.add("default", &socket, true).unwrap();
    let served = serve(Session::builder().ssh(agents).build()).await;
    let mut client = SshClient::new(served.channel.clone());
    let mut replies = client
        .forward_agent(stream::pending())
        .await
        .unwrap()
        .into_inner();
    let (mut agent, _) = within(listener.accept()).await.unwrap();
    agent.write_all(b"hello").await.unwrap();
    let hello = within(replies.message()).await.unwrap().unwrap();
    assert_eq!(hello.data, b"hello");

    let start = std::time::Instant::now();
    served.end().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    // The task held the other end of this socket; the session waited for the task.
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_millis(10), agent.read_to_end(&mut rest));
    end.await.unwrap().unwrap();
    assert!(within(replies.message()).await.is_err());
}

#[tokio::test]
async fn session_ends_well_when_the_daemon_closes_it() {
    let served = serve(Session::builder().build()).await;
    let mut health = HealthClient::new(served.channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    drop((health, served.channel));
    within(served.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn broken_stream_is_an_error() {
    let broken = tokio_test_io::Broken;
    let cancel = CancellationToken::new();
    let session = Session::builder().build();
    let error = within(session.serve(broken, cancel)).await.unwrap_err();
    assert!(matches!(error, SessionError::Connection(_)), "{error:?}");
}

/// A stream whose every read fails.
mod tokio_test_io {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    pub(super) struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
