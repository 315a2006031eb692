//! Logging in: what the registry wants, the token for it, renewed before it ends.
//!
//! Nothing is asked of a registry beforehand. A request goes out with what is known (nothing, in
//! the beginning); a 401 says which login is wanted, and every later request has it at once.
//! Requests that need the same token wait for one token request.

pub(super) mod challenge;
mod header;
pub(super) mod scope;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

use self::challenge::{Bearer, Wanted};
use self::header::{bearer_header, password_login};
use self::scope::Scopes;
use super::error::{RegistryError, RequestLabel};
use super::http::HttpClients;
use super::redact::clean;
use super::reply;
use super::retry::{self, Clock};
use crate::docker::token::{Asking, LoginError, TokenError, TokenRequest, Tokens};
use crate::docker::{Credential, Secret};

/// The `Authorization` header of one request, and which login it came from.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorization {
    pub(super) header: Option<HeaderValue>,
    generation: u64,
}

/// The login of one host.
pub(super) struct Authenticator {
    host: String,
    tokens: Arc<Tokens>,
    http: Arc<HttpClients>,
    clock: Arc<dyn Clock>,
    settings: AuthSettings,
    known: Mutex<Known>,
    generations: AtomicU64,
    token_requests: AtomicU64,
}

/// Limits of token requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct AuthSettings {
    pub(super) timeout: Duration,
    pub(super) max_retry_after: Duration,
}

#[derive(Default)]
struct Known {
    wanted: Option<Wanted>,
    slots: HashMap<Scopes, Arc<Slot>>,
}

/// The token of a set of scopes; its lock makes one request of many.
type Slot = tokio::sync::Mutex<Option<Token>>;

struct Token {
    text: Secret,
    header: HeaderValue,
    /// When the next one is fetched, before the server's own end.
    renew: Instant,
    generation: u64,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    pub(super) fn new(
        host: &str,
        tokens: Arc<Tokens>,
        http: Arc<HttpClients>,
        clock: Arc<dyn Clock>,
        settings: AuthSettings,
    ) -> Self {
        Self {
            host: host.to_owned(),
            tokens,
            http,
            clock,
            settings,
            known: Mutex::default(),
            generations: AtomicU64::new(0),
            token_requests: AtomicU64::new(0),
        }
    }

    /// Returns the number of token requests sent.
    pub(super) fn token_requests(&self) -> u64 {
        self.token_requests.load(Ordering::Relaxed)
    }

    /// Returns the header that a request with these scopes starts with.
    pub(super) async fn authorize(&self, scopes: &Scopes) -> Result<Authorization, RegistryError> {
        let wanted = self.known.lock().wanted.clone();
        match wanted {
            None => Ok(Authorization::default()),
            Some(Wanted::Basic) => self.basic(scopes).await,
            Some(Wanted::Bearer(bearer)) => self.bearer(&bearer, scopes, None).await,
        }
    }

    /// Takes the 401 that a request got and returns another header for it; `None` if there is
    /// nothing better to send. `secure` is false where the registry itself is not on TLS.
    pub(super) async fn challenged(
        &self,
        scopes: &Scopes,
        refused: &Authorization,
        headers: &HeaderMap,
        secure: bool,
    ) -> Result<Option<Authorization>, RegistryError> {
        let wanted = challenge::wanted(headers).map_err(|what| RegistryError::Challenge {
            host: self.host.clone(),
            what,
        })?;
        self.check_realm(&wanted, secure)?;
        self.known.lock().wanted = Some(wanted.clone());
        let better = match &wanted {
            Wanted::Basic => self.basic_after(scopes, refused).await?,
            Wanted::Bearer(bearer) => self.bearer(bearer, scopes, Some(refused)).await?,
        };
        let same = better.header == refused.header;
        Ok(Some(better).filter(|_| !same))
    }

    /// A password must not go over plain HTTP because a registry on TLS says so.
    fn check_realm(&self, wanted: &Wanted, secure: bool) -> Result<(), RegistryError> {
        match wanted {
            Wanted::Bearer(bearer) if secure && bearer.realm.scheme() != "https" => {
                let what = format!(
                    "the registry names a token server without TLS: {}",
                    clean(bearer.realm.host_str().unwrap_or_default(), 100)
                );
                Err(RegistryError::Challenge {
                    host: self.host.clone(),
                    what,
                })
            }
            _ => Ok(()),
        }
    }

    async fn basic(&self, scopes: &Scopes) -> Result<Authorization, RegistryError> {
        Ok(password_login(&self.credential(scopes).await?))
    }

    /// Returns a login by password after one was refused, which may have expired since it was found.
    async fn basic_after(
        &self,
        scopes: &Scopes,
        refused: &Authorization,
    ) -> Result<Authorization, RegistryError> {
        let credential = self.credential(scopes).await?;
        let login = password_login(&credential);
        if login.header.is_none() || login.header != refused.header {
            return Ok(login);
        }
        self.tokens.refused(&credential).await;
        self.basic(scopes).await
    }

    async fn bearer(
        &self,
        bearer: &Bearer,
        scopes: &Scopes,
        refused: Option<&Authorization>,
    ) -> Result<Authorization, RegistryError> {
        let slot = Arc::clone(self.known.lock().slots.entry(scopes.clone()).or_default());
        let mut slot = slot.lock().await;
        if let Some(token) = &*slot {
            let refused = refused.is_some_and(|r| r.generation == token.generation);
            if !refused && self.clock.now() < token.renew {
                let header = Some(token.header.clone());
                return Ok(Authorization {
                    header,
                    generation: token.generation,
                });
            }
        }
        // What was refused may need more than was asked for.
        let asked = match refused {
            Some(_) => scopes
                .clone()
                .and(&Scopes::parse(bearer.scopes.iter().map(String::as_str))),
            None => scopes.clone(),
        };
        let request = TokenRequest {
            realm: bearer.realm.clone(),
            service: bearer.service.clone().unwrap_or_default(),
            scopes: asked.texts().collect(),
        };
        let refused = slot.as_ref().filter(|_| refused.is_some());
        let (text, renew) = self
            .token(&request, refused.map(|token| &token.text))
            .await?;
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(header) = bearer_header(text.expose()) else {
            return Ok(Authorization::default());
        };
        *slot = Some(Token {
            text,
            header: header.clone(),
            renew,
            generation,
        });
        Ok(Authorization {
            header: Some(header),
            generation,
        })
    }

    /// Gets a token, and the moment when the next one is fetched.
    async fn token(
        &self,
        request: &TokenRequest,
        refused: Option<&Secret>,
    ) -> Result<(Secret, Instant), RegistryError> {
        let asking = Asking {
            host: &self.host,
            http: self.http.to(&request.realm)?,
            timeout: self.settings.timeout,
            on_request: &|| {
                self.token_requests.fetch_add(1, Ordering::Relaxed);
            },
        };
        let token = self.tokens.get(request, &asking, refused, self.clock.now());
        let token = token.await.map_err(|error| self.no_token(error))?;
        // A tenth of its life, at most half a minute, is left for the request that carries it.
        let life = Duration::from_secs(token.life);
        let margin = (life / 10).min(Duration::from_secs(30));
        Ok((
            token.text.clone(),
            token.received + life.saturating_sub(margin),
        ))
    }

    fn no_token(&self, error: LoginError) -> RegistryError {
        let error = match error {
            LoginError::Credentials { host, source } => {
                return RegistryError::Credentials { host, source };
            }
            LoginError::Token(error) => error,
        };
        match error {
            TokenError::Request {
                method,
                url,
                source,
            } => reply::transport_error(&RequestLabel::new(&method, &url), source),
            TokenError::Silent { method, url, after } => RegistryError::Slow {
                request: RequestLabel::new(&method, &url),
                after,
            },
            TokenError::Status {
                method,
                url,
                status,
                headers,
                body,
            } => {
                let cap = self.settings.max_retry_after;
                let after = retry::retry_after(&headers, &*self.clock, cap);
                reply::status_error(RequestLabel::new(&method, &url), status, &body, after)
            }
            TokenError::NoToken { method, url } => RegistryError::Protocol {
                request: RequestLabel::new(&method, &url),
                what: "the token server's answer has no token".to_owned(),
            },
        }
    }

    async fn credential(&self, scopes: &Scopes) -> Result<Credential, RegistryError> {
        let scopes: Vec<_> = scopes.texts().collect();
        let found = self.tokens.credential(&self.host, &scopes).await;
        found.map_err(|error| self.no_token(error))
    }
}
