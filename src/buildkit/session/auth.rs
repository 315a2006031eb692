//! `moby.filesync.v1.Auth`: credentials and tokens of registries for the daemon.
//!
//! A registry that wants tokens is asked for them here, so that passwords stay on this machine: the
//! daemon first gets a public key that stands for the user (token authority), and then only tokens.
//! Registries with basic authentication need the credential itself
//! (BuildKit `session/auth`, `util/resolver/authorizer.go`).

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth as AuthApi, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::{Mutex, OnceCell};
use tonic::{Request, Response, Status};
use url::{Host, Url};

use super::MAX_MESSAGE;
use crate::docker::Credential;
use crate::docker::token::{Asking, Token, TokenRequest, Tokens};

mod seed;

use self::seed::Seed;

pub(super) const METHODS: &[&str] = &[
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.filesync.v1.Auth/GetTokenAuthority",
    "/moby.filesync.v1.Auth/VerifyTokenAuthority",
];

/// How long a token server may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(50);

/// Answers for registries.
pub struct Auth {
    tokens: Arc<Tokens>,
    /// Made when the first token is fetched: it reads all certificates of the system.
    http: OnceCell<reqwest::Client>,
    /// The same for token servers on this machine.
    direct: OnceCell<reqwest::Client>,
    seed_folder: Option<PathBuf>,
    seeds: Mutex<HashMap<String, Seed>>,
    client_tokens: bool,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Creates the answers from the tokens and the credentials behind them.
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self {
            tokens,
            http: OnceCell::new(),
            direct: OnceCell::new(),
            seed_folder: None,
            seeds: Mutex::default(),
            client_tokens: true,
        }
    }

    /// Keeps what proves a user's builds to be of the same user in this folder, the one of the docker
    /// config file. Then the daemon uses its tokens for the next build too, which saves two round
    /// trips for each registry; otherwise it forgets them with the session.
    #[must_use]
    pub fn seed_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.seed_folder = Some(folder.into());
        self
    }

    async fn seed(&self, host: &str) -> Result<Seed, Status> {
        let mut seeds = self.seeds.lock().await;
        if let Some(seed) = seeds.get(host) {
            return Ok(seed.clone());
        }
        let seed = match self.seed_folder.clone() {
            None => seed::random(),
            Some(folder) => {
                let host = host.to_owned();
                // Another process may hold the lock of the file.
                tokio::task::spawn_blocking(move || seed::load(&folder, &host))
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?
            }
        };
        seeds.insert(host.to_owned(), seed.clone());
        Ok(seed)
    }

    /// Sets whether tokens are fetched here. If not, the daemon gets the credentials and fetches them
    /// itself, which is the way where only the daemon reaches the token server; BuildKit's client has
    /// the variable `BUILDKIT_NO_CLIENT_TOKEN` for it.
    #[must_use]
    pub fn client_tokens(mut self, fetched_here: bool) -> Self {
        self.client_tokens = fetched_here;
        self
    }

    /// Returns the client for a token server. One on this machine is asked past the proxies of the
    /// environment, as programs in Go do.
    async fn http(&self, realm: &Url) -> Result<&reqwest::Client, Status> {
        let made = if is_loopback(realm) {
            let make = async || http_client().no_proxy().build();
            self.direct.get_or_try_init(make).await
        } else {
            let make = async || http_client().build();
            self.http.get_or_try_init(make).await
        };
        made.map_err(|error| {
            let error = crate::error::chain(&error);
            Status::internal(format!(
                "cannot set up the HTTP client for registry tokens: {error}"
            ))
        })
    }

    async fn credential(&self, host: &str, scopes: &[String]) -> Result<Credential, Status> {
        let found = self.tokens.credential(host, scopes).await;
        found.map_err(|error| Status::unknown(crate::error::chain(&error)))
    }

    async fn token(&self, request: FetchTokenRequest) -> Result<FetchTokenResponse, Status> {
        let realm = Url::parse(&request.realm).map_err(|error| {
            let realm = request.realm;
            Status::unknown(format!(
                "the registry names an invalid token server {realm:?}: {error}"
            ))
        })?;
        let http = self.http(&realm).await?;
        let wanted = TokenRequest {
            realm,
            service: request.service,
            scopes: request.scopes,
        };
        let asking = Asking {
            host: &request.host,
            http,
            timeout: TOKEN_TIMEOUT,
            on_request: &|| (),
        };
        let token = self.tokens.get(&wanted, &asking, None, Instant::now());
        let token = token
            .await
            .map_err(|error| Status::unknown(crate::error::chain(&error)))?;
        Ok(response(&token))
    }

    /// Creates the key that stands for the user of this host. It depends on a salt of the daemon and,
    /// for a user with a credential, on a seed that only this user knows; so all anonymous users
    /// share their tokens in the daemon, and nobody else.
    async fn authority(&self, host: &str, salt: &[u8]) -> Result<Ed25519KeyPair, Status> {
        if !self.client_tokens {
            // With this code the daemon asks for the credential.
            return Err(Status::unavailable("client side tokens disabled"));
        }
        let credential = self.credential(host, &[]).await?;
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
        if credential.secret().is_some() {
            mac.update(&self.seed(host).await?);
        }
        Ed25519KeyPair::from_seed_unchecked(mac.sign().as_ref())
            .map_err(|_| Status::internal("cannot make the key of the token authority"))
    }
}

/// Creates the answer to the daemon. Where the server's clock is unknown, the daemon counts from now, so the
/// token's age is taken off.
fn response(token: &Token) -> FetchTokenResponse {
    let age = match token.issued_at {
        Some(_) => 0,
        None => token.received.elapsed().as_secs(),
    };
    let left = token.life.saturating_sub(age).max(1);
    FetchTokenResponse {
        token: token.text.expose().to_owned(),
        expires_in: i64::try_from(left).unwrap_or(i64::MAX),
        issued_at: token.issued_at.unwrap_or_default(),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// Starts a client for token servers: with time limits, and following redirects only to the same
/// server, since requests carry passwords. The registry room has clients of its own, which know the
/// certificates of one host and leave redirects to their caller.
fn http_client() -> reqwest::ClientBuilder {
    let same_server = reqwest::redirect::Policy::custom(|attempt| {
        let same = attempt.previous().first().is_some_and(|first| {
            let next = attempt.url();
            first.origin() == next.origin()
                || (first.host() == next.host() && next.scheme() == "https")
        });
        if same && attempt.previous().len() < 10 {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    reqwest::Client::builder()
        .redirect(same_server)
        .connect_timeout(Duration::from_secs(15))
        .timeout(TOKEN_TIMEOUT)
        .user_agent(concat!("docker-cachex/", env!("CARGO_PKG_VERSION")))
}

/// Creates the service.
pub(super) fn service(auth: Auth) -> AuthServer<Auth> {
    AuthServer::new(auth).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl AuthApi for Auth {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let credential = self.credential(&request.get_ref().host, &[]).await?;
        let (user, secret) = credential.secret().unzip();
        Ok(Response::new(CredentialsResponse {
            username: user.unwrap_or_default().to_owned(),
            secret: secret
                .map(|secret| secret.expose().to_owned())
                .unwrap_or_default(),
        }))
    }

    async fn fetch_token(
        &self,
        request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        self.token(request.into_inner()).await.map(Response::new)
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let request = request.get_ref();
        let key = self.authority(&request.host, &request.salt).await?;
        Ok(Response::new(GetTokenAuthorityResponse {
            public_key: key.public_key().as_ref().to_vec(),
        }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let request = request.get_ref();
        let key = self.authority(&request.host, &request.salt).await?;
        // The form of NaCl's sign: the signature, then the message.
        let mut signed = key.sign(&request.payload).as_ref().to_vec();
        signed.extend_from_slice(&request.payload);
        Ok(Response::new(VerifyTokenAuthorityResponse { signed }))
    }
}

#[cfg(test)]
mod tests;
