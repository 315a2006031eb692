//! Against a token server of our own over loopback HTTP.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use futures_util::future::BoxFuture;
use parking_lot::Mutex as StdMutex;
use ring::signature::{ED25519, UnparsedPublicKey};
use tokio::net::TcpListener;
use tonic::transport::Channel;

use super::super::Session;
use super::super::testing::{Served, serve, within};
use super::*;
use crate::docker::Secret;
use crate::docker::credentials::CredentialSource;
use crate::docker::credentials::source::Found;

/// What the server saw of a request: method, query, Authorization, body.
type Seen = (String, String, String, String);

struct Server {
    seen: StdMutex<Vec<Seen>>,
    /// Status, Location and body of the next answers; the last one stays.
    answers: StdMutex<VecDeque<(u16, &'static str, &'static str)>>,
}

impl Server {
    /// Starts a server and returns it with the address of its realm.
    async fn start(answers: &[(u16, &'static str)]) -> (Arc<Self>, String) {
        let answers = answers.iter().map(|&(status, body)| (status, "", body));
        Self::start_with(answers.collect()).await
    }

    async fn start_with(
        answers: VecDeque<(u16, &'static str, &'static str)>,
    ) -> (Arc<Self>, String) {
        let server = Arc::new(Self {
            seen: StdMutex::default(),
            answers: StdMutex::new(answers),
        });
        let app = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, realm)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    fn methods(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.0).collect()
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, HeaderMap, &'static str) {
    let authorization = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let query = uri.query().unwrap_or_default().to_owned();
    server
        .seen
        .lock()
        .push((method.to_string(), query, authorization, body));
    let mut answers = server.answers.lock();
    let (status, location, body) = if answers.len() > 1 {
        answers.pop_front().unwrap()
    } else {
        answers[0]
    };
    let mut headers = HeaderMap::new();
    if !location.is_empty() {
        headers.insert("location", location.parse().unwrap());
    }
    (StatusCode::from_u16(status).unwrap(), headers, body)
}

/// Returns the credentials one after the other, the last one again and again.
struct Source {
    credentials: StdMutex<VecDeque<Credential>>,
    refusals: AtomicUsize,
}

impl CredentialSource for Source {
    fn credential<'a>(&'a self, host: &'a str, _: &'a [String]) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            if host == "broken" {
                return Err("the helper is broken".into());
            }
            Ok(self.credentials.lock()[0].clone())
        })
    }

    fn refused<'a>(&'a self, credential: &'a Credential) -> BoxFuture<'a, ()> {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let mut credentials = self.credentials.lock();
        assert_eq!(*credential, credentials[0]);
        if credentials.len() > 1 {
            credentials.pop_front();
        }
        Box::pin(async {})
    }
}

fn basic(password: &str) -> Credential {
    Credential::Basic {
        username: "me".to_owned(),
        password: Secret::new(password),
    }
}

async fn start(credentials: &[Credential]) -> (Served, AuthClient<Channel>) {
    start_with(credentials, true).await
}

async fn start_with(
    credentials: &[Credential],
    client_tokens: bool,
) -> (Served, AuthClient<Channel>) {
    // Fails if another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let source = Arc::new(Source {
        credentials: StdMutex::new(credentials.iter().cloned().collect()),
        refusals: AtomicUsize::new(0),
    });
    let auth = Auth::new(Arc::new(Tokens::new(source))).client_tokens(client_tokens);
    serve_auth(auth).await
}

async fn serve_auth(auth: Auth) -> (Served, AuthClient<Channel>) {
    let served = serve(Session::builder().auth(auth).build()).await;
    let client = AuthClient::new(served.channel.clone());
    (served, client)
}

fn request(realm: &str) -> FetchTokenRequest {
    FetchTokenRequest {
        client_id: "buildkit-client".to_owned(),
        host: "registry.test".to_owned(),
        realm: realm.to_owned(),
        service: "registry.test".to_owned(),
        scopes: vec![
            "repository:a:pull".to_owned(),
            "repository:b:pull".to_owned(),
        ],
    }
}

const GOOD: &str = r#"{"access_token":"t1","expires_in":300,"issued_at":"2026-01-02T03:04:05Z"}"#;
const FORM: &str = "scope=repository%3Aa%3Apull+repository%3Ab%3Apull&service=registry.test\
                    &client_id=docker-cachex&grant_type=";
const QUERY: &str = "service=registry.test&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull\
                     &client_id=docker-cachex";

#[tokio::test]
async fn user_and_password_go_by_get() {
    let (server, realm) = Server::start(&[(200, GOOD)]).await;
    let (_served, mut client) = start(&[basic("pw")]).await;
    let token = within(client.fetch_token(request(&realm))).await.unwrap();
    let token = token.into_inner();
    assert_eq!(token.token, "t1");
    assert_eq!(token.expires_in, 300);
    assert_eq!(token.issued_at, 1_767_323_045);
    let query = format!("{QUERY}&account=me");
    let login = "Basic bWU6cHc=".to_owned();
    assert_eq!(
        server.seen(),
        [("GET".to_owned(), query, login, String::new())]
    );
}

#[tokio::test]
async fn identity_token_goes_by_post_as_refresh_token() {
    let (server, realm) = Server::start(&[(200, GOOD)]).await;
    let (_served, mut client) = start(&[Credential::IdentityToken(Secret::new("id"))]).await;
    within(client.fetch_token(request(&realm))).await.unwrap();
    assert_eq!(
        server.seen()[0].3,
        format!("{FORM}refresh_token&refresh_token=id")
    );
}

#[tokio::test]
async fn post_follows_where_get_is_unknown() {
    for status in [401, 404, 405] {
        let (server, realm) = Server::start(&[(status, "no"), (200, r#"{"token":"t2"}"#)]).await;
        let (_served, mut client) = start(&[basic("p&w")]).await;
        let token = within(client.fetch_token(request(&realm))).await.unwrap();
        assert_eq!(token.get_ref().token, "t2");
        assert_eq!(
            token.get_ref().expires_in,
            60,
            "the default of the specification"
        );
        assert_eq!(token.get_ref().issued_at, 0);
        assert_eq!(server.methods(), ["GET", "POST"]);
        let form = format!("{FORM}password&username=me&password=p%26w");
        assert_eq!(server.seen()[1].3, form);
    }
}

#[tokio::test]
async fn other_errors_do_not_fall_back() {
    let (server, realm) = Server::start(&[(500, "out\nof order")]).await;
    let (_served, mut client) = start(&[basic("hunter2")]).await;
    let error = within(client.fetch_token(request(&realm)))
        .await
        .unwrap_err();
    assert_eq!(server.methods(), ["GET"]);
    let text = error.message();
    assert!(
        text.contains("500 Internal Server Error: out of order"),
        "{text}"
    );
    assert!(text.contains(&realm) && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn without_credentials_the_token_is_anonymous() {
    for nobody in [Credential::Anonymous, basic("")] {
        let (server, realm) = Server::start(&[(200, GOOD)]).await;
        let (_served, mut client) = start(&[nobody]).await;
        within(client.fetch_token(request(&realm))).await.unwrap();
        let seen = server.seen();
        assert_eq!(server.methods(), ["GET"]);
        assert_eq!((seen[0].1.as_str(), seen[0].2.as_str()), (QUERY, ""));
    }
}

#[tokio::test]
async fn registry_token_is_taken_as_it_is() {
    let token = Credential::RegistryToken(Secret::new("static"));
    let (_served, mut client) = start(&[token]).await;
    let token = within(client.fetch_token(request("http://127.0.0.1:1/"))).await;
    assert_eq!(token.unwrap().get_ref().token, "static");
}

#[tokio::test]
async fn answer_without_token_is_an_error() {
    for answer in ["{}", "not json", r#"{"token":""}"#] {
        let (_server, realm) = Server::start(&[(200, answer)]).await;
        let (_served, mut client) = start(&[Credential::Anonymous]).await;
        let error = within(client.fetch_token(request(&realm)))
            .await
            .unwrap_err();
        assert!(error.message().contains("without a token"), "{error}");
    }
}

#[tokio::test]
async fn refused_credential_is_found_anew_once() {
    let answers = [(401, ""), (401, ""), (200, GOOD)];
    let (server, realm) = Server::start(&answers).await;
    let (_served, mut client) = start(&[basic("old"), basic("new")]).await;
    within(client.fetch_token(request(&realm))).await.unwrap();
    assert_eq!(server.methods(), ["GET", "POST", "GET"]);
    assert_eq!(server.seen()[2].2, "Basic bWU6bmV3");

    let (server, realm) = Server::start(&[(401, "")]).await;
    let (_served, mut client) = start(&[basic("same")]).await;
    within(client.fetch_token(request(&realm)))
        .await
        .unwrap_err();
    assert_eq!(
        server.methods(),
        ["GET", "POST"],
        "no second try with the same"
    );
}

#[tokio::test]
async fn calls_at_once_share_a_token() {
    let (server, realm) = Server::start(&[(200, GOOD)]).await;
    let (_served, client) = start(&[Credential::Anonymous]).await;
    let calls = (0..16).map(|_| {
        let mut client = client.clone();
        let request = request(&realm);
        async move { client.fetch_token(request).await.unwrap() }
    });
    within(futures_util::future::join_all(calls)).await;
    assert_eq!(server.methods(), ["GET"]);
    let mut other = request(&realm);
    other.scopes.pop();
    within(client.clone().fetch_token(other)).await.unwrap();
    assert_eq!(
        server.methods().len(),
        2,
        "another scope needs its own token"
    );
}

#[tokio::test]
async fn token_near_its_end_is_fetched_again() {
    let short = r#"{"token":"t","expires_in":1}"#;
    let (server, realm) = Server::start(&[(200, short)]).await;
    let (_served, mut client) = start(&[Credential::Anonymous]).await;
    within(client.fetch_token(request(&realm))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    within(client.fetch_token(request(&realm))).await.unwrap();
    assert_eq!(server.methods().len(), 2);
}

#[tokio::test]
async fn redirect_to_another_server_gets_nothing() {
    let (other, _) = Server::start(&[(200, GOOD)]).await;
    let (elsewhere, other_realm) = Server::start(&[(200, GOOD)]).await;
    let location: &'static str = Box::leak(other_realm.into_boxed_str());
    let (_server, realm) = Server::start_with([(307, location, "")].into()).await;
    let (_served, mut client) = start(&[basic("pw")]).await;
    let error = within(client.fetch_token(request(&realm)))
        .await
        .unwrap_err();
    assert!(error.message().contains("307"), "{error}");
    assert!(elsewhere.seen().is_empty() && other.seen().is_empty());

    let (server, realm) = Server::start_with([(307, "/here", ""), (200, "", GOOD)].into()).await;
    within(client.fetch_token(request(&realm))).await.unwrap();
    assert_eq!(server.methods(), ["GET", "GET"]);
}

#[tokio::test]
async fn bad_realms_and_dead_servers_are_errors() {
    let (_served, mut client) = start(&[Credential::Anonymous]).await;
    let error = client.fetch_token(request("no url")).await.unwrap_err();
    assert!(error.message().contains("\"no url\""), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("http://u:p@{}/t?secret", closed.local_addr().unwrap());
    drop(closed);
    let error = within(client.fetch_token(request(&realm)))
        .await
        .unwrap_err();
    let text = error.message();
    assert!(text.contains("cannot ask the token server"), "{text}");
    assert!(!text.contains("secret") && !text.contains("u:p"), "{text}");
}

#[tokio::test]
async fn credentials_are_handed_out_for_basic_authentication() {
    let host = |host: &str| CredentialsRequest {
        host: host.to_owned(),
    };
    let (_served, mut client) = start(&[basic("pw")]).await;
    let answer = client.credentials(host("a")).await.unwrap().into_inner();
    assert_eq!(
        (answer.username.as_str(), answer.secret.as_str()),
        ("me", "pw")
    );
    let error = client.credentials(host("broken")).await.unwrap_err();
    let text = "cannot get credentials for broken: the helper is broken";
    assert_eq!(error.message(), text);
    let (_served, mut client) = start(&[Credential::Anonymous]).await;
    let answer = client.credentials(host("a")).await.unwrap().into_inner();
    assert_eq!(answer, CredentialsResponse::default());
}

async fn public_key(client: &mut AuthClient<Channel>, host: &str, salt: &[u8]) -> Vec<u8> {
    let request = GetTokenAuthorityRequest {
        host: host.to_owned(),
        salt: salt.to_vec(),
    };
    let answer = client.get_token_authority(request).await.unwrap();
    answer.into_inner().public_key
}

#[tokio::test]
async fn token_authority_signs_for_its_user_only() {
    let (_served, mut client) = start(&[basic("pw")]).await;
    let key = public_key(&mut client, "a", b"salt").await;
    let request = VerifyTokenAuthorityRequest {
        host: "a".to_owned(),
        salt: b"salt".to_vec(),
        payload: b"payload".to_vec(),
    };
    let answer = client.verify_token_authority(request).await.unwrap();
    let signed = &answer.get_ref().signed;
    let (signature, message) = signed.split_at(64);
    assert_eq!(message, b"payload");
    UnparsedPublicKey::new(&ED25519, &key)
        .verify(message, signature)
        .unwrap();

    assert_eq!(key, public_key(&mut client, "a", b"salt").await);
    assert_ne!(key, public_key(&mut client, "b", b"salt").await);
    assert_ne!(key, public_key(&mut client, "a", b"other").await);
    let (_served, mut another) = start(&[basic("pw")]).await;
    assert_ne!(key, public_key(&mut another, "a", b"salt").await);

    let (_served, mut one) = start(&[Credential::Anonymous]).await;
    let (_served, mut two) = start(&[Credential::Anonymous]).await;
    assert_eq!(
        public_key(&mut one, "a", b"salt").await,
        public_key(&mut two, "a", b"salt").await,
        "all anonymous users are one"
    );
}

#[tokio::test]
async fn daemon_is_sent_to_the_credentials_where_tokens_are_off() {
    let (_served, mut client) = start_with(&[basic("pw")], false).await;
    let request = GetTokenAuthorityRequest {
        host: "a".to_owned(),
        salt: b"salt".to_vec(),
    };
    let error = client.get_token_authority(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let request = CredentialsRequest {
        host: "a".to_owned(),
    };
    let answer = client.credentials(request).await.unwrap();
    assert_eq!(answer.get_ref().secret, "pw");
}

#[tokio::test]
async fn sessions_with_one_seed_folder_are_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let source = Arc::new(Source {
            credentials: StdMutex::new([basic("pw")].into()),
            refusals: AtomicUsize::new(0),
        });
        let auth = Auth::new(Arc::new(Tokens::new(source))).seed_folder(dir.path());
        let (_served, mut client) = serve_auth(auth).await;
        keys.push(public_key(&mut client, "a", b"salt").await);
    }
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn token_servers_on_this_machine_need_no_proxy() {
    for (realm, local) in [
        ("http://localhost:5001/token", true),
        ("http://127.0.0.2/token", true),
        ("https://[::1]/token", true),
        ("https://[::ffff:127.0.0.1]/token", true),
        ("https://localhost.example/token", false),
        ("https://10.0.0.1/token", false),
    ] {
        assert_eq!(is_loopback(&realm.parse().unwrap()), local, "{realm}");
    }
}
