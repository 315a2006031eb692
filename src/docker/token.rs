//! Tokens of registries (Docker registry token authentication, and its OAuth2 form).
//!
//! Who needs a token for the same has the same one: the requests of this program, and those of a builder
//! that has its tokens from here.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::credentials::{Credential, CredentialSource};
use super::secret::Secret;

/// The name that token servers log for this client (OAuth2 `client_id`).
const CLIENT_ID: &str = "docker-cachex";
/// What a token is good for when the server does not say (Docker token specification).
const DEFAULT_LIFE: u64 = 60;
/// A longer life is not believed.
const MAX_LIFE: u64 = 365 * 24 * 3600;
/// Longest time that a token is handed out again. Who has it keeps it, and asks again within its life only
/// for another connection, or because the registry refused it.
const REUSE: Duration = Duration::from_secs(30);
/// Answers of token servers are some kilobytes.
const MAX_ANSWER: usize = 256 * 1024;
/// Longest part of an error's body that is shown.
const MAX_SHOWN: usize = 512;

/// What a token is for, and who gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    /// The token server.
    pub realm: Url,
    /// Name of the registry at the token server, or nothing.
    pub service: String,
    /// Such as `repository:a/b:pull`.
    pub scopes: Vec<String>,
}

/// A token and how long it is good.
#[derive(Clone)]
pub struct Token {
    /// What the registry wants to see.
    pub text: Secret,
    /// How many seconds it is good.
    pub life: u64,
    /// Since when, by the server's clock, if it told.
    pub issued_at: Option<i64>,
    /// Since when, by this machine's clock.
    pub received: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// Why a token server gave no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It does not answer.
    #[error("cannot ask the token server at {}", shown(.url))]
    Request {
        /// The request's method.
        method: Method,
        /// Its address.
        url: Box<Url>,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// It takes too long.
    #[error("the token server at {} did not answer within {} s", shown(.url), .after.as_secs())]
    Silent {
        /// The request's method.
        method: Method,
        /// Its address.
        url: Box<Url>,
        /// The limit.
        after: Duration,
    },
    /// It says no.
    #[error("the token server at {} refused the {method} request: {status}{}", shown(.url), shown_body(.body))]
    Status {
        /// The request's method.
        method: Method,
        /// Its address.
        url: Box<Url>,
        /// The status.
        status: StatusCode,
        /// The answer's headers.
        headers: Box<HeaderMap>,
        /// The answer's body.
        body: Vec<u8>,
    },
    /// The answer is no token.
    #[error("the token server at {} gave an answer without a token", shown(.url))]
    NoToken {
        /// The request's method.
        method: Method,
        /// Its address.
        url: Box<Url>,
    },
}

impl TokenError {
    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Tells whether the credential itself was refused.
    fn is_refused(&self) -> bool {
        matches!(
            self.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
    }

    /// Tells whether the server may know the other form only. Some answer so to every login in a form
    /// that they do not know.
    fn wants_other_form(&self) -> bool {
        matches!(
            self.status(),
            Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNAUTHORIZED)
        )
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The credential could not be looked up.
    #[error("cannot get credentials for {host}")]
    Credentials {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The token server gave none.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Who asks for a token, and how.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The registry.
    pub host: &'a str,
    /// Whose credential it is asked with.
    pub source: &'a dyn CredentialSource,
    /// The client for token servers.
    pub http: &'a reqwest::Client,
    /// How long a request may take.
    pub timeout: Duration,
    /// Hears of every request.
    pub on_request: &'a (dyn Fn() + Sync),
}

impl Asking<'_> {
    async fn credential(&self, scopes: &[String]) -> Result<Credential, LoginError> {
        let found = self.source.credential(self.host, scopes).await;
        found.map_err(|source| LoginError::Credentials {
            host: self.host.to_owned(),
            source,
        })
    }
}

/// The token of one request, and the credential that it was got with; the lock is held meanwhile.
type Slot = tokio::sync::Mutex<Option<(Credential, Token)>>;

/// Tokens that are kept for a while.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<TokenRequest, Arc<Slot>>>);

impl Tokens {
    /// Returns a token: one that is there and was not `refused`, else a new one. A credential that the
    /// token server refuses is looked up anew once.
    ///
    /// # Errors
    ///
    /// Fails where the credential cannot be looked up, or the token server gives no token.
    pub async fn get(
        &self,
        request: &TokenRequest,
        asking: &Asking<'_>,
        refused: Option<&Secret>,
        now: Instant,
    ) -> Result<Token, LoginError> {
        let mut credential = asking.credential(&request.scopes).await?;
        if let Credential::RegistryToken(text) = credential {
            return Ok(Token::unlimited(text, now));
        }
        let slot = self.slot(request);
        let mut kept = slot.lock().await;
        if let Some((owner, token)) = &*kept
            && *owner == credential
            && refused != Some(&token.text)
            && token.can_be_reused(now)
        {
            return Ok(token.clone());
        }
        let mut fetched = request.fetch(asking, &credential, now).await;
        if fetched.as_ref().is_err_and(TokenError::is_refused) && credential.secret().is_some() {
            // The credential may have expired since it was found.
            asking.source.refused(&credential).await;
            let fresh = asking.credential(&request.scopes).await?;
            if fresh != credential {
                fetched = request.fetch(asking, &fresh, now).await;
                credential = fresh;
            }
        }
        let token = fetched?;
        *kept = Some((credential, token.clone()));
        Ok(token)
    }

    fn slot(&self, request: &TokenRequest) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(request.clone()).or_default())
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
    /// A token that is not known to expire.
    fn unlimited(text: Secret, now: Instant) -> Self {
        Self {
            text,
            life: DEFAULT_LIFE,
            issued_at: None,
            received: now,
        }
    }

    /// Tells whether another may have this token: it is young, and far from its end.
    fn can_be_reused(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.received);
        age < REUSE && age < Duration::from_secs(self.life) / 2
    }

    fn from_answer(body: &[u8], now: Instant) -> Option<Self> {
        // The body is a secret: no error quotes it.
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let text = [answer.access_token, answer.token];
        let text = text.into_iter().flatten().find(|text| !text.is_empty())?;
        // What is not written in a header is no token.
        HeaderValue::from_str(&text).ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, which is right for a life"
        )]
        let life = answer.expires_in.map_or(0, |seconds| seconds as u64);
        let issued_at = answer.issued_at;
        let issued_at = issued_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Some(Self {
            text: Secret::new(text),
            life: if life == 0 {
                DEFAULT_LIFE
            } else {
                life.min(MAX_LIFE)
            },
            issued_at: issued_at
                .map(jiff::Timestamp::as_second)
                .filter(|&seconds| seconds > 0),
            received: now,
        })
    }
}

impl TokenRequest {
    /// Gets a token. An identity token goes by the OAuth2 form, all else by GET; where the server does not
    /// know that form the other one follows.
    async fn fetch(
        &self,
        asking: &Asking<'_>,
        credential: &Credential,
        now: Instant,
    ) -> Result<Token, TokenError> {
        let Some((user, secret)) = credential.secret() else {
            return self.get(asking, None, now).await;
        };
        if user.is_empty() {
            return self.post(asking, user, secret, now).await;
        }
        match self.get(asking, Some((user, secret)), now).await {
            Err(error) if error.wants_other_form() => {
                match self.post(asking, user, secret, now).await {
                    // It knows the first form, and refused the login.
                    Err(other) if error.is_refused() && other.wants_other_form() => Err(error),
                    outcome => outcome,
                }
            }
            outcome => outcome,
        }
    }

    async fn get(
        &self,
        asking: &Asking<'_>,
        login: Option<(&str, &Secret)>,
        now: Instant,
    ) -> Result<Token, TokenError> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if !self.service.is_empty() {
                query.append_pair("service", &self.service);
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
            query.append_pair("client_id", CLIENT_ID);
            if let Some((user, _)) = login {
                query.append_pair("account", user);
            }
        }
        let mut request = asking.http.get(url.clone());
        if let Some((user, secret)) = login {
            // The header is marked as sensitive.
            request = request.basic_auth(user, Some(secret.expose()));
        }
        self.send(asking, Method::GET, url, request, now).await
    }

    async fn post(
        &self,
        asking: &Asking<'_>,
        user: &str,
        secret: &Secret,
        now: Instant,
    ) -> Result<Token, TokenError> {
        let request = asking.http.post(self.realm.clone());
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = request
            .header(CONTENT_TYPE, form_type)
            .body(self.form(user, secret));
        let url = self.realm.clone();
        self.send(asking, Method::POST, url, request, now).await
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

    async fn send(
        &self,
        asking: &Asking<'_>,
        method: Method,
        url: Url,
        request: reqwest::RequestBuilder,
        now: Instant,
    ) -> Result<Token, TokenError> {
        let url = Box::new(url);
        (asking.on_request)();
        let exchange = async {
            let answer = request.header(ACCEPT, "application/json").send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok((status, headers, read_limited(answer).await?))
        };
        let (status, headers, body) = match tokio::time::timeout(asking.timeout, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(source)) => {
                let source: reqwest::Error = source;
                let source = source.without_url();
                return Err(TokenError::Request {
                    method,
                    url,
                    source,
                });
            }
            Err(_) => {
                let after = asking.timeout;
                return Err(TokenError::Silent { method, url, after });
            }
        };
        if !status.is_success() {
            return Err(TokenError::Status {
                method,
                url,
                status,
                headers: Box::new(headers),
                body,
            });
        }
        Token::from_answer(&body, now).ok_or(TokenError::NoToken { method, url })
    }
}

/// Reads the start of a body.
async fn read_limited(mut answer: reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
        if body.len() >= MAX_ANSWER {
            break;
        }
    }
    Ok(body)
}

/// An address without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for addresses that cannot have a user.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.to_string()
}

/// The start of an error's body in one line, after a colon.
fn shown_body(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN)]);
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.trim().chars().map(printable).collect();
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_token_servers() {
        let now = Instant::now();
        let token = |json: &str| {
            let token = Token::from_answer(json.as_bytes(), now)?;
            Some((token.text.expose().to_owned(), token.life))
        };
        assert_eq!(token(r#"{"token":"t"}"#), Some(("t".into(), 60)));
        let both = r#"{"access_token":"a","expires_in":300,"scope":"x","token":""}"#;
        assert_eq!(token(both), Some(("a".into(), 300)));
        assert_eq!(
            token(r#"{"token":"t","expires_in":0}"#),
            Some(("t".into(), 60))
        );
        assert_eq!(
            token(r#"{"token":"t","expires_in":1e300}"#),
            Some(("t".into(), MAX_LIFE))
        );
        for bad in ["", "[]", "{}", r#"{"token":"a\nb"}"#, r#"{"token":5}"#] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }
}
