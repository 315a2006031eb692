//! TLS with certificates of its own, and proxies.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

// An authority that exists for these tests only; its key was thrown away.
const CA: &str = include_str!("../../../tests/it/support/tls/ca.crt");
const SERVER_CERT: &str = include_str!("../../../tests/it/support/tls/server.cert");
const SERVER_KEY: &str = include_str!("../../../tests/it/support/tls/server.key");
const CLIENT_CERT: &str = include_str!("../../../tests/it/support/tls/client.cert");
const CLIENT_KEY: &str = include_str!("../../../tests/it/support/tls/client.key");

/// Starts a TLS server that gives every request an answer, and then ends TLS and the connection.
fn tls_server(wants_client: bool, answer: &'static str) -> SocketAddr {
    serve_tls(wants_client, move |tls| {
        drop(tls.write_all(answer.as_bytes()));
        tls.conn.send_close_notify();
        drop(tls.flush());
    })
}

/// Starts one that ends the connection without a word of TLS, as some proxies do.
fn abrupt_tls_server(answer: &'static str) -> SocketAddr {
    serve_tls(false, move |tls| drop(tls.write_all(answer.as_bytes())))
}

type ServerStream = StreamOwned<ServerConnection, TcpStream>;

fn serve_tls(
    wants_client: bool,
    answer: impl Fn(&mut ServerStream) + Send + 'static,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap())
        .unwrap();
    let builder = if wants_client {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let cert = CertificateDer::from_pem_slice(SERVER_CERT.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
    let config = Arc::new(builder.with_single_cert(vec![cert], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(connection, stream.unwrap());
            let mut buffer = [0; 4096];
            // A client that does not like the certificate ends the handshake.
            if tls.read(&mut buffer).is_ok_and(|n| n > 0) {
                answer(&mut tls);
            }
        }
    });
    address
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

struct Certs(tempfile::TempDir);

impl Certs {
    fn new(host: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join(host)).unwrap();
        for (name, text) in files {
            fs_err::write(dir.path().join(host).join(name), text).unwrap();
        }
        Self(dir)
    }
}

async fn ask(
    address: SocketAddr,
    transport: Transport,
    files: &[(&str, &str)],
) -> Result<Option<RawManifest>, RegistryError> {
    let name = format!("localhost:{}", address.port());
    let certs = Certs::new(&name, files);
    let mut host = HostConfig::new(name);
    host.transport = transport;
    host.cert_dirs = vec![certs.0.path().to_owned()];
    let clock: Arc<dyn Clock> = TestClock::new();
    let client = RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::default(), clock)?;
    within(client.repository(REPO, Access::Pull)?.manifest("t")).await
}

#[tokio::test]
async fn a_certificate_is_verified_with_the_authorities_of_certs_d() {
    let address = tls_server(false, NOT_FOUND);
    let error = ask(address, Transport::Https, &[]).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Connect { .. }),
        "tried once only: {error:?}"
    );
    assert!(error.hint().unwrap().contains("certs.d"), "{error:?}");
    let trusted = ask(address, Transport::Https, &[("ca.crt", CA)]).await;
    assert_eq!(trusted.unwrap(), None);
    for any_certificate in [Transport::Insecure, Transport::Loopback] {
        assert_eq!(ask(address, any_certificate, &[]).await.unwrap(), None);
    }
}

/// Answers that are whole count, whatever comes behind them; all others do not.
#[tokio::test]
async fn a_connection_may_end_without_a_word_of_tls_behind_a_whole_answer() {
    const WHOLE: [&str; 4] = [
        NOT_FOUND,
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nempty",
        "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n5\r\nempty\r\n0\r\n\r\n",
    ];
    const CUT: [&str; 4] = [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{}",
    ];
    for answer in WHOLE {
        let address = abrupt_tls_server(answer);
        let client = once_client(address);
        let repository = client.repository(REPO, Access::Pull).unwrap();
        for turn in 0..5 {
            let found = within(repository.manifest("t")).await;
            assert_eq!(found.unwrap(), None, "{turn}: {answer}");
        }
    }
    for answer in CUT {
        let client = once_client(abrupt_tls_server(answer));
        let repository = client.repository(REPO, Access::Pull).unwrap();
        let error = within(repository.manifest("t")).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Broken { .. }),
            "{answer}: {error:?}"
        );
    }
}

/// A client that tries nothing again.
fn once_client(address: SocketAddr) -> RegistryClient {
    let mut host = HostConfig::new(address.to_string());
    host.transport = Transport::Insecure;
    let clock: Arc<dyn Clock> = TestClock::new();
    RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::never(), clock).unwrap()
}

/// A client as the program makes it, and its clock.
fn client_as_made(
    host: &str,
    insecure: bool,
    credential: Credential,
) -> (RegistryClient, Arc<TestClock>) {
    let config = HostConfig::new(host).insecure(insecure);
    let logins = Logins(HashMap::from([(host.to_owned(), credential)]));
    let tokens = Arc::new(Tokens::new(Arc::new(logins)));
    let clock = TestClock::new();
    let dynamic: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
    let client = RegistryClient::new(config, tokens, RetryPolicy::default(), dynamic);
    (client.unwrap(), clock)
}

#[tokio::test]
async fn an_insecure_registry_does_not_make_other_hosts_insecure() {
    let other = format!("https://localhost:{}", tls_server(false, NOT_FOUND).port());
    let redirect = Fault::Status(307, vec![("location", format!("{other}/m"))], "");
    let upload = Fault::SetHeader("location", format!("{other}/u"));
    for place in ["token server", "redirect", "upload location"] {
        let registry = ScriptedRegistry::start().await;
        match place {
            "token server" => registry.login(Login::Token(TokenServer {
                realm: Some(format!("{other}/token")),
                ..TokenServer::default()
            })),
            "redirect" => registry.fault("GET", "/manifests/t", (0, 9), redirect.clone()),
            _ => registry.fault("POST", "/blobs/uploads/", (0, 9), upload.clone()),
        }
        let joe = user("joe", "pass-secret");
        let (client, _) = client_as_made(&registry.host(), true, joe);
        let repository = client.repository(REPO, Access::Push).unwrap();
        let error = if place == "upload location" {
            let bytes = data(10);
            let source = BlobSource::Bytes(bytes.clone());
            let (digest, options) = (digest(&bytes), UploadOptions::default());
            within(repository.upload(&digest, 10, &source, &options))
                .await
                .unwrap_err()
        } else {
            within(repository.manifest("t")).await.unwrap_err()
        };
        let shown = crate::error::chain(&error);
        assert!(shown.contains("UnknownIssuer"), "{place}: {shown}");
        assert!(error.hint().unwrap().contains("certs.d"), "{place}");
    }
}

/// Starts a server that answers whatever comes with these bytes and hangs up.
fn server_without_http(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            drop(stream.read(&mut buffer));
            drop(stream.write_all(answer));
        }
    });
    address
}

#[tokio::test]
async fn a_registry_on_loopback_that_breaks_http_is_told_as_that() {
    for (answer, final_at_once) in [
        (&b"220 mail.example ESMTP\r\n"[..], true),
        (b"HTTP/1.1 banana\r\n\r\n", true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", true),
        (b"", false),
    ] {
        let host = server_without_http(answer).to_string();
        let (client, clock) = client_as_made(&host, false, Credential::Anonymous);
        let repository = client.repository(REPO, Access::Pull).unwrap();
        let error = within(repository.manifest("t")).await.unwrap_err();
        let shown = crate::error::chain(&error);
        assert!(
            matches!(error.last(), RegistryError::Broken { .. }),
            "{shown}"
        );
        assert!(
            shown.contains("http://") && !shown.contains("https://"),
            "{shown}"
        );
        assert_eq!(clock.sleeps().is_empty(), final_at_once, "{shown}");
    }
}

#[tokio::test]
async fn a_registry_on_loopback_that_is_silent_is_not_asked_by_tls_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = HostConfig::new(listener.local_addr().unwrap().to_string());
    host.timeouts.small = Duration::from_millis(100);
    let connections = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let taken = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            taken.lock().push(stream);
        }
    });
    let clock: Arc<dyn Clock> = TestClock::new();
    let client =
        RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::default(), clock).unwrap();
    let repository = client.repository(REPO, Access::Pull).unwrap();
    let error = within(repository.manifest("t")).await.unwrap_err();
    let shown = crate::error::chain(&error);
    assert!(
        error.is_slow() && shown.contains("http://") && !shown.contains("https://"),
        "{shown}"
    );
    assert_eq!(connections.lock().len(), 2);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_wanted() {
    let address = tls_server(true, NOT_FOUND);
    let without = [("ca.crt", CA)];
    let error = ask(address, Transport::Https, &without).await.unwrap_err();
    assert!(!error.is_not_found(), "{error:?}");
    let with = [
        ("ca.crt", CA),
        ("client.cert", CLIENT_CERT),
        ("client.key", CLIENT_KEY),
    ];
    assert_eq!(ask(address, Transport::Https, &with).await.unwrap(), None);
}

#[tokio::test]
async fn nobody_is_sent_from_tls_to_plain_http() {
    let plain = ScriptedRegistry::start().await;
    let to = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{}/v2/{REPO}/manifests/t\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        plain.host()
    );
    let address = tls_server(false, to.leak());
    let error = ask(address, Transport::Https, &[("ca.crt", CA)])
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error:?}");

    let challenge = format!(
        "HTTP/1.1 401 No\r\nwww-authenticate: Bearer realm=\"http://{}/token\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        plain.host()
    );
    let address = tls_server(false, challenge.leak());
    let error = ask(address, Transport::Https, &[("ca.crt", CA)])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("without TLS"), "{error:?}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_is_used_unless_the_host_is_excepted() {
    let proxy = ScriptedRegistry::start().await;
    for (no_proxy, through) in [
        (None, true),
        (Some("elsewhere.invalid"), true),
        (Some(".invalid"), false),
    ] {
        let before = proxy.seen().len();
        let mut host = HostConfig::new("registry.invalid:8080");
        host.transport = Transport::Http;
        host.proxy.http = Some(format!("http://user:proxy-secret@{}", proxy.host()));
        host.proxy.no_proxy = no_proxy.map(str::to_owned);
        let clock: Arc<dyn Clock> = TestClock::new();
        let client =
            RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::never(), clock).unwrap();
        let result = within(client.repository(REPO, Access::Pull).unwrap().manifest("t")).await;
        assert_eq!(result.is_ok(), through, "{no_proxy:?}");
        assert_eq!(proxy.seen().len() > before, through, "{no_proxy:?}");
    }
    let login = proxy.seen()[0]
        .header("proxy-authorization")
        .map(str::to_owned);
    assert!(login.unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_token_server_on_this_machine_is_asked_without_a_proxy() {
    let (proxy, tokens) = (
        ScriptedRegistry::start().await,
        ScriptedRegistry::start().await,
    );
    tokens.login(Login::Token(TokenServer::default()));
    proxy.login(Login::Token(TokenServer {
        realm: Some(format!("http://{}/token", tokens.host())),
        ..TokenServer::default()
    }));
    for no_proxy in [None, Some("elsewhere.invalid".to_owned())] {
        let before = tokens.count("GET", "/token");
        let mut host = HostConfig::new("registry.invalid:8080");
        host.transport = Transport::Http;
        host.proxy.http = Some(format!("http://{}", proxy.host()));
        host.proxy.no_proxy = no_proxy;
        let clock: Arc<dyn Clock> = TestClock::new();
        let client =
            RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::never(), clock).unwrap();
        let repository = client.repository(REPO, Access::Pull).unwrap();
        // The registry does not know the tokens of that server.
        within(repository.manifest("t")).await.unwrap_err();
        assert!(tokens.count("GET", "/token") > before);
    }
    assert_eq!(proxy.count("GET", "/token"), 0);
}

#[tokio::test]
async fn the_first_answer_tells_the_clock_of_the_registry() {
    let registry = ScriptedRegistry::start().await;
    let (client, clock) = client_with(&registry, Credential::Anonymous);
    assert_eq!(client.clock_lead(), None);
    let repository = client.repository(REPO, Access::Pull).unwrap();
    for ahead in [3600, 7200] {
        let time = clock.wall() + Duration::from_secs(ahead);
        let date = httpdate::fmt_http_date(time);
        registry.fault("GET", "/manifests/", (0, 1), Fault::SetHeader("Date", date));
        repository.manifest_at_once("tag").await.unwrap();
        assert_eq!(client.clock_lead(), Some(3600));
    }
}
