//! Tokens of registries (Docker registry token authentication, and its OAuth2 form).
//!
//! Requests that need a token for the same purpose share it: those of this program, and those of a builder
//! that gets its tokens from here.

mod fetch;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use url::Url;

use super::credentials::source::Anonymous;
use super::credentials::{Credential, CredentialSource};
use super::secret::Secret;
use crate::text::foreign;

/// What a token is good for when the server does not say (Docker token specification).
const DEFAULT_LIFE: u64 = 60;
/// Longest time that a token is handed out again. Who has it keeps it, and asks again within its life only
/// for another connection, or because the registry refused it.
const REUSE: Duration = Duration::from_secs(30);
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
    /// The answer is not a token.
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

    /// Returns whether the credential itself was refused.
    fn is_refused(&self) -> bool {
        matches!(
            self.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
    }

    /// Returns whether the server may know the other form only. Some answer so to every login in a form
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
    /// The client for token servers.
    pub http: &'a reqwest::Client,
    /// How long a request may take.
    pub timeout: Duration,
    /// Called for every request.
    pub on_request: &'a (dyn Fn() + Sync),
}

/// The token of one request, and the credential that it was got with; the lock is held meanwhile.
type Slot = tokio::sync::Mutex<Option<(Credential, Token)>>;

/// The tokens that a source of credentials gets. They are kept for a while.
pub struct Tokens {
    source: Arc<dyn CredentialSource>,
    slots: Mutex<HashMap<TokenRequest, Arc<Slot>>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Creates an empty store of tokens, which are got with the credentials of a source.
    pub fn new(source: Arc<dyn CredentialSource>) -> Self {
        Self {
            source,
            slots: Mutex::default(),
        }
    }

    /// Creates one for which nobody has a credential.
    pub fn anonymous() -> Arc<Self> {
        Arc::new(Self::new(Arc::new(Anonymous)))
    }

    /// Looks up the credential of a registry, as [`CredentialSource::credential`] does.
    ///
    /// # Errors
    ///
    /// Fails if the source cannot look it up.
    pub async fn credential(
        &self,
        host: &str,
        scopes: &[String],
    ) -> Result<Credential, LoginError> {
        let found = self.source.credential(host, scopes).await;
        found.map_err(|source| LoginError::Credentials {
            host: host.to_owned(),
            source,
        })
    }

    /// Tells the source that a credential was refused, so that it is looked up again.
    pub async fn refused(&self, credential: &Credential) {
        self.source.refused(credential).await;
    }

    /// Returns a token: one that is there and was not `refused`, else a new one. A credential that the
    /// token server refuses is looked up again once.
    ///
    /// # Errors
    ///
    /// Fails if the credential cannot be looked up, or the token server gives no token.
    pub async fn get(
        &self,
        request: &TokenRequest,
        asking: &Asking<'_>,
        refused: Option<&Secret>,
        now: Instant,
    ) -> Result<Token, LoginError> {
        let mut credential = self.credential(asking.host, &request.scopes).await?;
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
            self.refused(&credential).await;
            let fresh = self.credential(asking.host, &request.scopes).await?;
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
        let mut slots = self.slots.lock();
        Arc::clone(slots.entry(request.clone()).or_default())
    }
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

    /// Returns whether another may have this token: it is young, and far from its end.
    fn can_be_reused(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.received);
        age < REUSE && age < Duration::from_secs(self.life) / 2
    }
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
    let text = foreign::line(text.trim());
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}
