//! TLS to a daemon: the files of a context are used, and both sides check each other.
//!
//! The certificates in `tls/` are made for these tests only; they are valid for 127.0.0.1.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker_cachex::for_tests::docker::{Endpoint, Engine, EngineError, TlsFiles};
use docker_cachex::for_tests::error::chain;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const PING: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Length: 2\r\n\r\nOK";

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/tls")
        .join(name)
}

fn client_files() -> TlsFiles {
    TlsFiles {
        ca: Some(pem("ca.pem")),
        cert: Some(pem("client.pem")),
        key: Some(pem("client-key.pem")),
    }
}

fn acceptor() -> Result<TlsAcceptor, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("ca.pem"))?)?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(pem("server.pem"))?],
            PrivateKeyDer::from_pem_file(pem("server-key.pem"))?,
        )?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A daemon that answers everything as `/_ping` and asks for a client certificate.
async fn daemon() -> Result<(JoinSet<()>, u16), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let acceptor = acceptor()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that is refused, or refuses, is what some tests want.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                    stream.write_all(PING).await.unwrap_or_default();
                    stream.shutdown().await.unwrap_or_default();
                }
            }
        }
    });
    Ok((tasks, port))
}

async fn connect(tls: Option<TlsFiles>, skip_verify: bool) -> Result<Engine, EngineError> {
    let (_tasks, port) = daemon()
        .await
        .unwrap_or_else(|error| unreachable!("{error}"));
    let endpoint = Endpoint {
        host: format!("tcp://127.0.0.1:{port}"),
        tls,
        skip_verify,
        context_name: "test".to_owned(),
    };
    Engine::connect(&endpoint, &BTreeMap::new()).await
}

async fn failure(tls: Option<TlsFiles>, skip_verify: bool) -> String {
    match connect(tls, skip_verify).await {
        Ok(_) => "it connects".to_owned(),
        Err(error) => chain(&error),
    }
}

#[tokio::test]
async fn both_sides_know_each_other() {
    connect(Some(client_files()), false).await.unwrap();
}

#[tokio::test]
async fn unverified_daemon_is_accepted_when_asked_for() {
    let files = TlsFiles {
        ca: None,
        ..client_files()
    };
    assert!(connect(Some(files), true).await.is_ok());
}

#[tokio::test]
async fn strangers_are_refused() {
    let unknown_ca = TlsFiles {
        ca: Some(pem("server.pem")),
        ..client_files()
    };
    let text = failure(Some(unknown_ca), false).await;
    assert!(text.contains("certificate"), "{text}");
    let no_client = TlsFiles {
        cert: None,
        key: None,
        ..client_files()
    };
    let text = failure(Some(no_client), false).await;
    assert!(
        text.starts_with("cannot connect to the Docker daemon at tcp://127.0.0.1:"),
        "{text}"
    );
    let text = failure(None, false).await;
    assert!(
        text.starts_with("cannot connect to the Docker daemon at tcp://127.0.0.1:"),
        "{text}"
    );
}

#[tokio::test]
async fn unusable_files_are_named() {
    for (files, want) in [
        (
            TlsFiles {
                ca: Some(pem("none.pem")),
                ..client_files()
            },
            "none.pem",
        ),
        (
            TlsFiles {
                key: Some(pem("client.pem")),
                ..client_files()
            },
            "client.pem",
        ),
        (
            TlsFiles {
                key: None,
                ..client_files()
            },
            "needs both the certificate and its key",
        ),
    ] {
        let text = failure(Some(files), false).await;
        assert!(text.contains(want), "{text}");
    }
}
