//! Logins, tokens, and where they must not go.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

fn tokens(server: TokenServer) -> Login {
    Login::Token(server)
}

fn with_user() -> TokenServer {
    TokenServer {
        user: Some(("joe", "pass-secret")),
        ..TokenServer::default()
    }
}

/// Every kind of login with a secret, and who may log in.
fn logins() -> [(Login, Credential); 4] {
    let joe = || user("joe", "pass-secret");
    let only_post = TokenServer {
        only_post: true,
        ..with_user()
    };
    let refresh = TokenServer {
        refresh: Some("refresh-secret"),
        ..TokenServer::default()
    };
    let token = Credential::IdentityToken(Secret::new("refresh-secret"));
    [
        (Login::Basic("joe", "pass-secret"), joe()),
        (tokens(with_user()), joe()),
        (tokens(only_post), joe()),
        (tokens(refresh), token),
    ]
}

async fn push_one(repository: &Repository, size: usize) -> Result<Uploaded, RegistryError> {
    let bytes = data(size);
    let source = BlobSource::Bytes(bytes.clone());
    within(repository.upload(
        &digest(&bytes),
        size as u64,
        &source,
        &UploadOptions::default(),
    ))
    .await
}

#[tokio::test]
async fn every_kind_of_login_works() {
    let anonymous = [Login::Open, tokens(TokenServer::default())];
    let anonymous = anonymous.map(|login| (login, Credential::Anonymous));
    for (login, credential) in anonymous.into_iter().chain(logins()) {
        let registry = ScriptedRegistry::start().await;
        registry.login(login.clone());
        let (client, _) = client_with(&registry, credential);
        let repository = client.repository(REPO, Access::Push).unwrap();
        push_one(&repository, 5000)
            .await
            .unwrap_or_else(|e| panic!("{login:?}: {e}"));
        let requests = client.requests();
        push_one(&repository, 5001).await.unwrap();
        assert_eq!(
            client.requests() - requests,
            2,
            "the login is remembered: {login:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_login_is_a_clear_error_after_few_requests() {
    for login in [
        Login::Basic("joe", "right"),
        tokens(TokenServer {
            user: Some(("joe", "right")),
            ..TokenServer::default()
        }),
    ] {
        let registry = ScriptedRegistry::start().await;
        registry.login(login);
        let (client, clock) = client_with(&registry, user("joe", "wrong-secret"));
        let repository = client.repository(REPO, Access::Push).unwrap();
        let error = push_one(&repository, 10).await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), 401);
        assert!(error.has_code("UNAUTHORIZED") && error.hint().unwrap().contains("docker login"));
        assert!(client.requests() <= 3 && clock.sleeps().is_empty());
        assert!(!crate::error::chain(&error).contains("secret"));
    }
}

#[tokio::test]
async fn sixteen_requests_at_once_make_one_token_request() {
    let registry = ScriptedRegistry::start().await;
    registry.login(tokens(TokenServer {
        delay: Duration::from_millis(50),
        ..with_user()
    }));
    let (client, _) = client_with(&registry, user("joe", "pass-secret"));
    let repository = client.repository(REPO, Access::Push).unwrap();
    let absent = digest(b"absent");
    let results = within(join_all((0..16).map(|_| repository.blob_size(&absent)))).await;
    assert!(results.into_iter().all(|r| r.unwrap().is_none()));
    assert_eq!(registry.count("GET", "/token"), 1);
}

/// Credentials that may be refused; the last one counts.
struct Source(Mutex<Vec<Credential>>);

impl CredentialSource for Source {
    fn credential<'a>(&'a self, _: &'a str, _: &'a [String]) -> BoxFuture<'a, Found> {
        let credential = self.0.lock().last().cloned();
        Box::pin(async { Ok(credential.unwrap_or_default()) })
    }

    fn refused<'a>(&'a self, credential: &'a Credential) -> BoxFuture<'a, ()> {
        let mut credentials = self.0.lock();
        credentials.retain(|kept| kept != credential);
        Box::pin(async {})
    }
}

fn sharing(registry: &ScriptedRegistry, tokens: &Arc<Tokens>) -> Repository {
    let mut host = HostConfig::new(registry.host());
    host.transport = Transport::Http;
    let clock: Arc<dyn Clock> = TestClock::new();
    let client = RegistryClient::new(host, Arc::clone(tokens), RetryPolicy::default(), clock);
    client.unwrap().repository(REPO, Access::Push).unwrap()
}

#[tokio::test]
async fn clients_share_tokens() {
    let registry = ScriptedRegistry::start().await;
    registry.login(tokens(TokenServer::default()));
    let shared = Tokens::anonymous();
    let absent = digest(b"absent");
    for _ in 0..3 {
        let repository = sharing(&registry, &shared);
        assert!(repository.blob_size(&absent).await.unwrap().is_none());
    }
    assert_eq!(registry.count("GET", "/token"), 1);
    // One that the registry does not take any more is not handed on.
    registry.expire_tokens();
    for _ in 0..3 {
        let repository = sharing(&registry, &shared);
        assert!(repository.blob_size(&absent).await.unwrap().is_none());
    }
    assert_eq!(registry.count("GET", "/token"), 2);
}

#[tokio::test]
async fn a_refused_credential_is_looked_up_anew() {
    for login in [Login::Basic("joe", "pass-secret"), tokens(with_user())] {
        let registry = ScriptedRegistry::start().await;
        registry.login(login);
        let credentials = vec![user("joe", "pass-secret"), user("joe", "expired")];
        let tokens = Arc::new(Tokens::new(Arc::new(Source(Mutex::new(credentials)))));
        push_one(&sharing(&registry, &tokens), 10).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let registry = ScriptedRegistry::start().await;
    registry.login(tokens(TokenServer {
        expires_in: Some(100),
        ..TokenServer::default()
    }));
    let (client, clock) = client_with(&registry, Credential::Anonymous);
    let repository = client.repository(REPO, Access::Pull).unwrap();
    let absent = digest(b"absent");
    repository.blob_size(&absent).await.unwrap();
    clock.advance(Duration::from_secs(85));
    repository.blob_size(&absent).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 1);
    clock.advance(Duration::from_secs(10));
    registry.expire_tokens();
    repository.blob_size(&absent).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 2);
    assert_eq!(
        registry.count("HEAD", "/blobs/"),
        4,
        "only the first request was refused"
    );
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_an_upload_is_renewed() {
    // One use: every request needs a new token, the PUT with the body too.
    let registry = ScriptedRegistry::start().await;
    registry.login(tokens(TokenServer {
        uses: Some(1),
        ..with_user()
    }));
    let (client, _) = client_with(&registry, user("joe", "pass-secret"));
    let repository = client.repository(REPO, Access::Push).unwrap();
    push_one(&repository, 300_000).await.unwrap();
    let bytes = data(300_001);
    let dir = tempfile::tempdir().unwrap();
    let stream = futures_util::stream::iter([Ok(bytes.clone())]);
    let source = BlobSource::spooled(stream, &dir.path().into(), 1 << 20);
    let uploaded = within(repository.upload_stream(&source, &UploadOptions::default()))
        .await
        .unwrap();
    assert!(registry.blob(REPO, uploaded.digest.as_str()).unwrap() == bytes);
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories_and_falls_back() {
    let registry = ScriptedRegistry::start().await;
    registry.login(tokens(TokenServer::default()));
    let bytes = data(100);
    registry.put_blob("team/base", &bytes);
    let repository = pushable(&registry);
    let options = mounting();
    let source = BlobSource::Bytes(bytes.clone());
    let uploaded = repository
        .upload(&digest(&bytes), 100, &source, &options)
        .await
        .unwrap();
    assert_eq!(uploaded.arrival, Arrival::Mounted);
    let token = registry
        .seen()
        .into_iter()
        .find(|s| s.path == "/token")
        .unwrap();
    assert!(
        token
            .query
            .contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"),
        "{}",
        token.query
    );
    assert!(
        token
            .query
            .contains("scope=repository%3Ateam%2Fbase%3Apull"),
        "{}",
        token.query
    );
}

#[tokio::test]
async fn a_token_server_that_fails_for_a_while_is_asked_again() {
    let registry = ScriptedRegistry::start().await;
    registry.login(tokens(TokenServer::default()));
    registry.fault("GET", "/token", (0, 2), Fault::Status(503, vec![], "busy"));
    registry.fault("GET", "/token", (0, 1), Fault::ResetAfterBody);
    let repository = pushable(&registry);
    push_one(&repository, 10).await.unwrap();
}

#[tokio::test]
async fn an_unknown_kind_of_login_is_named() {
    let registry = ScriptedRegistry::start().await;
    let challenge = vec![("www-authenticate", "Negotiate".to_owned())];
    registry.fault(
        "POST",
        "/uploads/",
        (0, 9),
        Fault::Status(401, challenge, ""),
    );
    let error = push_one(&pushable(&registry), 10).await.unwrap_err();
    assert!(error.to_string().contains("negotiate"), "{error}");
}

#[tokio::test]
async fn no_login_goes_to_another_host() {
    let registry = ScriptedRegistry::start().await;
    let storage = ScriptedRegistry::start().await;
    let bytes = data(40_000);
    let name = storage.put_blob(REPO, &bytes);
    for login in [Login::Basic("joe", "pass-secret"), tokens(with_user())] {
        registry.login(login);
        let (client, _) = client_with(&registry, user("joe", "pass-secret"));
        let repository = client.repository(REPO, Access::Push).unwrap();

        // A download that is redirected to a storage server, which breaks in the middle.
        let to = format!(
            "http://{}/elsewhere/{REPO}/-/{name}?sig=secret-signature",
            storage.host()
        );
        let redirect = Fault::Status(307, vec![("location", to)], "");
        registry.fault("GET", "/blobs/sha256", (usize::from(true), 2), redirect);
        storage.fault("GET", "/elsewhere/", (0, 1), Fault::CutAnswer(10_000));
        // Not yet logged in: the first request is the one that is refused.
        let download = within(repository.download(&digest(&bytes), None))
            .await
            .unwrap();
        assert!(within(read(download)).await.unwrap() == bytes);
        assert_eq!(
            storage.seen().last().unwrap().header("range"),
            Some("bytes=10000-39999")
        );

        // An upload whose location is on another host.
        let to = format!("http://{}/elsewhere/{REPO}/-/session1", storage.host());
        registry.fault(
            "POST",
            "/uploads/",
            (0, 1),
            Fault::SetHeader("location", to),
        );
        let new = data(777);
        let source = BlobSource::Bytes(new.clone());
        let options = UploadOptions::default();
        let result = within(repository.upload(&digest(&new), 777, &source, &options)).await;
        // The storage server knows no such session; the upload starts again at the registry.
        assert_eq!(result.unwrap().arrival, Arrival::Sent);

        // A login that the other host asks for is not given.
        let to = format!("http://{}/v2/{REPO}/manifests/x", storage.host());
        registry.fault(
            "GET",
            "/manifests/",
            (0, 1),
            Fault::Status(302, vec![("location", to)], ""),
        );
        storage.login(Login::Basic("joe", "pass-secret"));
        let error = within(repository.manifest("x")).await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), 401);
        storage.login(Login::Open);
    }
    assert!(storage.seen().len() >= 8);
    assert!(
        storage
            .seen()
            .iter()
            .all(|s| s.header("authorization").is_none())
    );
}

thread_local! {
    /// The log of the test that runs on this thread, if it wants one.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes into the log of the thread.
struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.as_mut().map(|log| log.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Logs everything of this thread from now on. The subscriber is for the whole process: with one
/// per thread, tests that run beside this one may switch call sites off.
fn start_log() {
    static ONCE: Once = Once::new();
    LOG.set(Some(Vec::new()));
    ONCE.call_once(|| {
        let wanted = dynamic_filter_fn(|_, _| LOG.with_borrow(Option::is_some));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(|| ThreadLog)
            .with_filter(wanted);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

#[tokio::test]
async fn no_secret_is_in_the_most_verbose_log() {
    start_log();
    for (login, credential) in logins() {
        let registry = ScriptedRegistry::start().await;
        registry.login(login);
        registry.fault("PUT", "/uploads/", (0, 1), Fault::Status(503, vec![], ""));
        registry.fault("PUT", "/uploads/", (0, 1), Fault::ResetInBody(100));
        let (client, _) = client_with(&registry, credential);
        let repository = client.repository(REPO, Access::Push).unwrap();
        push_one(&repository, 200_000).await.unwrap();
        let to = format!(
            "http://{}/elsewhere/x/-/y?sig=secret-signature",
            registry.host()
        );
        registry.fault(
            "GET",
            "/manifests/",
            (0, 1),
            Fault::Status(302, vec![("location", to)], ""),
        );
        drop(repository.manifest("latest").await);
        client.close().await;
    }
    let log = String::from_utf8(LOG.take().unwrap()).unwrap();
    assert!(
        log.contains("trying again") && log.contains("TRACE"),
        "the log is there"
    );
    let basic = "am9lOnBhc3Mtc2VjcmV0"; // joe:pass-secret
    for secret in ["secret", basic] {
        let line = log.lines().find(|l| l.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
