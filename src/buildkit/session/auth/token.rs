//! Asking a token server: the OAuth2 form of the distribution registry by POST, or the older GET.

use std::time::{Duration, Instant};

use bollard_buildkit_proto::moby::filesync::v1::{FetchTokenRequest, FetchTokenResponse};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::docker::Secret;
use crate::docker::credentials::Credential;

/// Life of a token whose server tells none, by the registry's specification.
const DEFAULT_LIFE: u64 = 60;
/// Longest time that a token is handed out again. The daemon keeps tokens itself, so it asks again
/// within a token's life only for another connection, or because the registry refused the token.
const REUSE: Duration = Duration::from_secs(30);
/// Name of the client in OAuth2, the one that BuildKit uses.
const CLIENT_ID: &str = "buildkit-client";
/// Longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// Longest part of an error's body that is shown.
const MAX_SHOWN: usize = 512;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The address of the token server is none.
    #[error("the registry names an invalid token server {realm:?}")]
    Realm {
        /// What the registry named.
        realm: String,
        /// What is wrong with it.
        #[source]
        source: url::ParseError,
    },
    /// The token server does not answer.
    #[error("cannot ask the token server at {url}")]
    Request {
        /// Address without query.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The token server says no.
    #[error("the token server at {url} refused the {method} request: {status}{body}")]
    Status {
        /// Address without query.
        url: String,
        /// `GET` or `POST`.
        method: &'static str,
        /// The status.
        status: StatusCode,
        /// Start of the answer, after `: `, or nothing.
        body: String,
    },
    /// The answer is no token.
    #[error("the token server at {url} gave an answer without a token")]
    NoToken {
        /// Address without query.
        url: String,
    },
}

impl TokenError {
    /// Tells whether the credential itself was refused.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Status { status, .. }
            if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }
}

/// Returns the user and the secret that prove a credential to a token server; the user of an identity
/// token is empty.
pub(super) fn secret_of(credential: &Credential) -> Option<(&str, &Secret)> {
    match credential {
        Credential::Basic { username, password } => Some((username.as_str(), password)),
        Credential::IdentityToken(token) => Some(("", token)),
        Credential::Anonymous | Credential::RegistryToken(_) => None,
    }
    .filter(|(_, secret)| !secret.is_empty())
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenRequest {
    pub(super) host: String,
    pub(super) scopes: Vec<String>,
    realm: String,
    service: String,
}

impl From<FetchTokenRequest> for TokenRequest {
    fn from(request: FetchTokenRequest) -> Self {
        Self {
            host: request.host,
            realm: request.realm,
            service: request.service,
            scopes: request.scopes,
        }
    }
}

/// A token and how long it is good.
#[derive(Clone)]
pub(super) struct Token {
    text: Secret,
    /// Seconds from `issued`.
    life: u64,
    /// By the server's clock, if it told.
    issued_at: Option<i64>,
    received: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
    #[serde(default)]
    issued_at: Option<String>,
}

impl Token {
    /// Makes a token of a text that is not known to expire.
    pub(super) fn unlimited(text: &str) -> Self {
        Self {
            text: Secret::new(text),
            life: DEFAULT_LIFE,
            issued_at: None,
            received: Instant::now(),
        }
    }

    /// Tells whether another call may have this token: it is young, and far from its end.
    pub(super) fn can_be_reused(&self) -> bool {
        let age = self.received.elapsed();
        age < REUSE && age < Duration::from_secs(self.life) / 2
    }

    /// Makes the answer to the daemon. Where the server's clock is unknown, the daemon counts from
    /// now, so the token's age is taken off.
    pub(super) fn response(&self) -> FetchTokenResponse {
        let left = match self.issued_at {
            Some(_) => self.life,
            None => self
                .life
                .saturating_sub(self.received.elapsed().as_secs())
                .max(1),
        };
        FetchTokenResponse {
            token: self.text.expose().to_owned(),
            expires_in: i64::try_from(left).unwrap_or(i64::MAX),
            issued_at: self.issued_at.unwrap_or_default(),
        }
    }

    fn from_answer(body: &[u8]) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let text = [answer.access_token, answer.token]
            .into_iter()
            .flatten()
            .find(|text| !text.is_empty())?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, which is right for a life"
        )]
        let life = answer.expires_in.map_or(0, |seconds| seconds as u64);
        let issued_at = answer
            .issued_at
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(jiff::Timestamp::as_second)
            .filter(|&seconds| seconds > 0);
        Some(Self {
            text: Secret::new(text),
            life: if life == 0 { DEFAULT_LIFE } else { life },
            issued_at,
            received: Instant::now(),
        })
    }
}

impl TokenRequest {
    /// Gets a token: with a credential by POST, and by GET where the server does not know POST;
    /// without one by GET.
    pub(super) async fn fetch(
        &self,
        http: &reqwest::Client,
        credential: &Credential,
    ) -> Result<Token, TokenError> {
        let Some((user, secret)) = secret_of(credential) else {
            return self.get(http, None).await;
        };
        match self.post(http, user, secret).await {
            // Servers that know only GET answer 404 or 405, and Artifactory 401.
            Err(TokenError::Status { status, .. })
                if status == StatusCode::NOT_FOUND
                    || status == StatusCode::UNAUTHORIZED
                    || (status == StatusCode::METHOD_NOT_ALLOWED && !user.is_empty()) =>
            {
                self.get(http, Some((user, secret))).await
            }
            outcome => outcome,
        }
    }

    async fn post(
        &self,
        http: &reqwest::Client,
        user: &str,
        secret: &Secret,
    ) -> Result<Token, TokenError> {
        let request = http
            .post(self.url()?)
            .header(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(self.form(user, secret));
        self.send("POST", request).await
    }

    fn form(&self, user: &str, secret: &Secret) -> String {
        let mut form = Serializer::new(String::new());
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes.join(" "));
        }
        form.append_pair("service", &self.service);
        form.append_pair("client_id", CLIENT_ID);
        if user.is_empty() {
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("refresh_token", secret.expose());
        } else {
            form.append_pair("grant_type", "password");
            form.append_pair("username", user);
            form.append_pair("password", secret.expose());
        }
        form.finish()
    }

    async fn get(
        &self,
        http: &reqwest::Client,
        credential: Option<(&str, &Secret)>,
    ) -> Result<Token, TokenError> {
        let mut url = self.url()?;
        {
            let mut query = url.query_pairs_mut();
            if !self.service.is_empty() {
                query.append_pair("service", &self.service);
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let mut request = http.get(url);
        if let Some((user, secret)) = credential {
            request = request.basic_auth(user, Some(secret.expose()));
        }
        self.send("GET", request).await
    }

    async fn send(
        &self,
        method: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<Token, TokenError> {
        let failed = |source: reqwest::Error| TokenError::Request {
            url: self.shown_url(),
            source: source.without_url(),
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = read_limited(response).await.map_err(failed)?;
        if !status.is_success() {
            return Err(TokenError::Status {
                url: self.shown_url(),
                method,
                status,
                body: shown_body(&body),
            });
        }
        Token::from_answer(&body).ok_or_else(|| TokenError::NoToken {
            url: self.shown_url(),
        })
    }

    fn url(&self) -> Result<Url, TokenError> {
        Url::parse(&self.realm).map_err(|source| TokenError::Realm {
            realm: self.realm.clone(),
            source,
        })
    }

    /// The realm without what may be secret in it.
    fn shown_url(&self) -> String {
        Url::parse(&self.realm).map_or_else(
            |_| String::from("?"),
            |mut url| {
                url.set_query(None);
                url.set_fragment(None);
                // Fails only for addresses that cannot have a user.
                let _ = url.set_username("").and_then(|()| url.set_password(None));
                url.to_string()
            },
        )
    }
}

async fn read_limited(mut response: reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
        if body.len() >= MAX_ANSWER {
            break;
        }
    }
    Ok(body)
}

/// Returns the start of an error's body in one line, after a colon.
fn shown_body(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN)]);
    let text: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}
