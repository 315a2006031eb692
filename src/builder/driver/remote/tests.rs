use crate::builder::boot::BootEvent;
use crate::testing::map;
use tokio::net::TcpListener;

use super::*;

fn remote(endpoint: &str, options: &[(&str, &str)]) -> Result<Remote, BuilderError> {
    let node = StoredNode {
        name: "r0".to_owned(),
        endpoint: endpoint.to_owned(),
        driver_opts: map(options),
        ..StoredNode::default()
    };
    Remote::new(&Arc::new(DockerEnv::of_nobody()), &node)
}

#[tokio::test]
async fn sockets_and_tcp_are_connected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _unix = tokio::net::UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [
        format!("unix://{}", path.display()),
        format!("tcp://{}", tcp.local_addr().unwrap()),
    ] {
        let remote = remote(&address, &[("default-load", "true")]).unwrap();
        assert!(remote.dial().await.is_ok(), "{address}");
        assert_eq!(remote.authority(), address.strip_prefix("tcp://"));
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    for (address, options, text) in [
        (
            "unix:///nonexistent.sock",
            &[][..],
            "cannot connect to BuildKit at unix:///nonexistent.sock",
        ),
        (
            "docker-container://b",
            &[],
            "cannot connect to the Docker daemon",
        ),
        ("docker-container://b?context=none", &[], "none"),
    ] {
        let remote = remote(address, options).unwrap();
        let error = remote.dial().await.err().unwrap();
        let error = crate::error::chain(&error);
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn missing_certificates_are_named() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", tcp.local_addr().unwrap());
    let remote = remote(&address, &[("cacert", "/nonexistent/ca.pem")]).unwrap();
    let error = crate::error::chain(&remote.dial().await.err().unwrap());
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
}

#[test]
fn settings_of_containers_are_refused() {
    assert!(remote("tcp://h:1", &[("cacert", "ca.pem")]).is_err());
    assert!(remote("tcp://h:1", &[("image", "x")]).is_err());
    assert!(remote("tcp://h", &[]).is_err());
    let mut node = StoredNode {
        endpoint: "tcp://h:1".to_owned(),
        ..StoredNode::default()
    };
    node.flags.push("--debug".to_owned());
    assert!(Remote::new(&Arc::new(DockerEnv::of_nobody()), &node).is_err());
}

/// Accepts connections and answers each with the same bytes.
async fn server(answer: &'static [u8]) -> (tokio::task::JoinSet<()>, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut greeting = [0; 64];
            let read = stream.read(&mut greeting).await;
            if read.is_ok() {
                stream.write_all(answer).await.unwrap_or_default();
            }
        }
    });
    (tasks, address)
}

#[tokio::test]
async fn strangers_are_told_with_what_helps() {
    let (_tasks, address) = server(b"\x15\x03\x01\x00\x02\x02\x16rest").await;
    let error = remote(&address, &[]).unwrap().diagnose().await.unwrap();
    assert!(error.to_string().contains("it speaks TLS"), "{error}");
    assert!(
        error.hints()[0].contains("--driver-opt cacert="),
        "{:?}",
        error.hints()
    );
    let (_tasks, address) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let remote = remote(&address, &[]).unwrap();
    let error = remote.diagnose().await.unwrap();
    assert!(error.to_string().contains("HTTP/1"), "{error}");
    // Waiting would not help.
    let error = remote.ready().await.unwrap_err();
    assert!(error.to_string().contains("HTTP/1"), "{error}");
}

#[tokio::test]
async fn bootstrap_waits_for_a_daemon_that_comes_up() {
    let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = free.local_addr().unwrap();
    drop(free);
    let remote = remote(&format!("tcp://{place}"), &[]).unwrap();
    let mut events = Vec::new();
    let mut emit = |event| events.push(event);
    let daemon = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        sleep(Duration::from_millis(700)).await;
        let listener = TcpListener::bind(place).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        stream.write_all(settings).await.unwrap();
    };
    {
        let sink = BootSink::new(&mut emit);
        let (booted, ()) = tokio::join!(remote.boot(&sink), daemon);
        booted.unwrap();
    }
    assert!(matches!(events.first(), Some(BootEvent::Begin { .. })));
    assert!(matches!(
        events.last(),
        Some(BootEvent::End { ok: true, .. })
    ));
}
