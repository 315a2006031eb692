use std::collections::BTreeMap;
use std::path::Path;

use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::super::context::Endpoint;
use super::super::engine::{Engine, EngineError};
use super::*;

const PING: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nOstype: linux\r\nBuilder-Version: 2\r\nContent-Length: 2\r\n\r\nOK";

/// Reads the head of a request, and the body that its length announces.
async fn read_request(stream: &mut UnixStream) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Some(head + std::str::from_utf8(&body).unwrap())
}

/// A daemon that answers `/_ping`, hands every other request to `answer`, and then echoes.
fn daemon(
    path: &Path,
    answer: &'static [u8],
) -> (JoinSet<()>, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = UnixListener::bind(path).unwrap();
    let (requests, seen) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let requests = requests.clone();
            connections.spawn(async move {
                while let Some(request) = read_request(&mut stream).await {
                    let is_ping = request.starts_with("GET /_ping ");
                    requests.send(request).unwrap();
                    stream
                        .write_all(if is_ping { PING } else { answer })
                        .await
                        .unwrap();
                    if !is_ping && answer.starts_with(b"HTTP/1.1 101") {
                        let (mut read, mut write) = stream.split();
                        tokio::io::copy(&mut read, &mut write).await.unwrap();
                        write.write_all(b"end").await.unwrap();
                        return;
                    }
                }
            });
        }
    });
    (tasks, seen)
}

async fn connect(path: &Path) -> Engine {
    let endpoint = Endpoint {
        host: format!("unix://{}", path.display()),
        tls: None,
        skip_verify: false,
        context_name: "default".to_owned(),
    };
    let headers = BTreeMap::from([("X-Meta".to_owned(), "yes".to_owned().into())]);
    Engine::connect(&endpoint, &headers).await.unwrap()
}

#[tokio::test]
async fn upgraded_connection_carries_bytes_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    // "early" comes in the same segment as the head, so hyper has read it already.
    let (_tasks, mut seen) = daemon(
        &path,
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nearly ",
    );
    let engine = connect(&path).await;
    let mut headers = HeaderMap::new();
    for method in ["/a", "/b"] {
        headers.append(
            "X-Docker-Expose-Session-Grpc-Method",
            HeaderValue::from_static(method),
        );
    }
    let body = Bytes::from_static(b"{}");
    let mut stream = engine
        .hijack("/session", "h2c", &headers, body)
        .await
        .unwrap();
    stream.write_all(b"hello ").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(
        text, "early hello end",
        "half-close ends the daemon's reading only"
    );

    assert!(
        seen.recv()
            .await
            .unwrap()
            .starts_with("GET /_ping HTTP/1.1\r\n")
    );
    let request = seen.recv().await.unwrap().to_lowercase();
    assert!(
        request.starts_with("post /v1.44/session http/1.1\r\n"),
        "{request}"
    );
    for line in [
        "connection: upgrade\r\n",
        "upgrade: h2c\r\n",
        "host: docker\r\n",
        "x-meta: yes\r\n",
        "user-agent: docker-cachex/",
        "x-docker-expose-session-grpc-method: /a\r\n",
        "x-docker-expose-session-grpc-method: /b\r\n",
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
    assert!(request.ends_with("\r\n\r\n{}"));
}

#[tokio::test]
async fn refused_upgrade_tells_the_daemons_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    let (_tasks, _seen) = daemon(
        &path,
        b"HTTP/1.1 409 Conflict\r\nContent-Length: 40\r\n\r\n{\"message\":\"container x is not running\"}",
    );
    let engine = connect(&path).await;
    let Err(error) = engine
        .hijack("/exec/1/start", "tcp", &HeaderMap::new(), Bytes::new())
        .await
    else {
        panic!("the upgrade was refused")
    };
    assert!(error.is_conflict());
    assert_eq!(
        error.to_string(),
        "cannot open a stream at /exec/1/start: container x is not running"
    );
}

#[tokio::test]
async fn bollard_goes_over_the_same_transport() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    let (_tasks, mut seen) = daemon(
        &path,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 28\r\n\r\n{\"message\":\"no such thing\"} \n",
    );
    let engine = connect(&path).await;
    for _ in 0..2 {
        let error = engine.api().inspect_container("x", None).await.unwrap_err();
        let error = engine.error("inspect container x", error);
        assert!(error.is_not_found(), "{error:?}");
        assert_eq!(
            error.to_string(),
            "cannot inspect container x: no such thing"
        );
    }
    let paths: Vec<_> = [seen.recv().await, seen.recv().await, seen.recv().await]
        .map(|r| r.unwrap().lines().next().unwrap().to_owned())
        .into();
    assert_eq!(
        paths[1],
        "GET /v1.44/containers/x/json? HTTP/1.1".replace('?', "")
    );
    assert_eq!(paths[1], paths[2]);
}

#[tokio::test]
async fn daemon_that_is_gone_later_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    let (mut tasks, _seen) = daemon(&path, b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    let engine = connect(&path).await;
    tasks.shutdown().await;
    fs_err::remove_file(&path).unwrap();
    let error = engine.api().info().await.unwrap_err();
    let error = engine.error("ask", error);
    assert!(matches!(error, EngineError::Connect { .. }), "{error:?}");
    let Err(error) = engine
        .hijack("/grpc", "h2c", &HeaderMap::new(), Bytes::new())
        .await
    else {
        panic!("there is no daemon")
    };
    assert!(matches!(error, EngineError::Connect { .. }), "{error:?}");
}
