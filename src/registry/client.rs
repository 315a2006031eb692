//! The client of one registry host: sends requests with login, redirects and limits.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::header::{AGE, AUTHORIZATION, CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use url::Url;

use super::auth::scope::Scopes;
use super::auth::{AuthSettings, Authenticator, Authorization};
use super::error::{RegistryError, RequestLabel};
use super::host::{HostConfig, Transport};
use super::http::HttpClients;
use super::idle::{self, Activity};
use super::limit::{Class, Limits};
use super::redirect;
use super::reply::{Reply, transport_error};
use super::retry::{self, Budget, Clock, Reach, RetryPolicy};
use crate::docker::token::Tokens;

mod scheme;

/// A client of one registry host. Clones share connections, tokens and limits; a program has one
/// per host.
#[derive(Clone)]
pub struct RegistryClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) host: HostConfig,
    https: Url,
    plain: Url,
    scheme: AtomicU8,
    http: Arc<HttpClients>,
    auth: Authenticator,
    retry: RetryPolicy,
    clock: Arc<dyn Clock>,
    limits: Limits,
    reach: Arc<Reach>,
    requests: AtomicU64,
    /// See [`RegistryClient::clock_lead`].
    clock_lead: OnceLock<i64>,
    pub(super) quirks: Quirks,
    /// Clean-up of uploads whose future was dropped.
    pub(super) cleanup: TaskTracker,
}

/// What the registry turned out not to do.
#[derive(Debug, Default)]
pub(super) struct Quirks(Mutex<QuirkList>);

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct QuirkList {
    /// HEAD is refused.
    pub(super) no_head: bool,
    /// Uploads by PATCH are refused or lose data.
    pub(super) no_patch: bool,
}

impl Quirks {
    pub(super) fn get(&self) -> QuirkList {
        *self.0.lock()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut QuirkList)) {
        change(&mut self.0.lock());
    }
}

/// Logins of one request: a token or a credential that was kept may have ended, and then another follows.
const MAX_LOGINS: usize = 2;

// Values of `Inner::scheme`.
const UNDECIDED: u8 = 0;
const HTTPS: u8 = 1;
const PLAIN: u8 = 2;

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Path and query below the root of the host.
    Path(String),
    /// A location that the registry gave.
    Url(Url),
}

/// A body that can be sent more than once if its source allows.
pub(super) trait OpenBody: Send + Sync {
    /// Opens the body at its first byte.
    fn open(&self) -> BoxFuture<'_, Result<OutBody, RegistryError>>;
}

/// One sending of a body.
pub(super) struct OutBody {
    pub(super) body: reqwest::Body,
    /// `None`: chunked transfer.
    pub(super) length: Option<u64>,
    pub(super) activity: Arc<Activity>,
}

/// One request of an operation.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) scopes: &'a Scopes,
    pub(super) body: Option<&'a dyn OpenBody>,
    pub(super) class: Class,
    /// The answer may take long: the registry finishes an upload.
    pub(super) commit: bool,
}

impl<'a> Call<'a> {
    /// A request without a body.
    pub(super) fn new(method: Method, target: Target, scopes: &'a Scopes) -> Self {
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            scopes,
            body: None,
            class: Class::Control,
            commit: false,
        }
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient")
            .field("host", &self.inner.host.name())
            .finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// Creates the client of a host. Nothing is sent.
    ///
    /// # Errors
    /// The host's name, certificates or proxies cannot be used.
    pub fn new(
        host: HostConfig,
        tokens: Arc<Tokens>,
        retry: RetryPolicy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RegistryError> {
        let http = Arc::new(HttpClients::new(&host)?);
        let settings = AuthSettings {
            timeout: host.timeouts.token,
            max_retry_after: retry.max_retry_after,
        };
        let auth = Authenticator::new(
            host.name(),
            tokens,
            Arc::clone(&http),
            Arc::clone(&clock),
            settings,
        );
        let scheme = match host.transport {
            Transport::Https => HTTPS,
            Transport::Insecure | Transport::Loopback => UNDECIDED,
            Transport::Http => PLAIN,
        };
        let inner = Inner {
            https: host.root("https")?,
            plain: host.root("http")?,
            scheme: AtomicU8::new(scheme),
            http,
            auth,
            limits: Limits::new(host.concurrency, &clock),
            host,
            retry,
            clock,
            reach: Arc::default(),
            requests: AtomicU64::new(0),
            clock_lead: OnceLock::new(),
            quirks: Quirks::default(),
            cleanup: TaskTracker::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns the name of the host in references.
    pub fn host(&self) -> &str {
        self.inner.host.name()
    }

    /// Returns the number of requests that found a connection so far, those to token servers
    /// included.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed) + self.inner.auth.token_requests()
    }

    /// Returns by how many seconds the clock of the host is ahead of this machine's, less than zero if it is behind;
    /// `None` before its first answer, or if that did not tell. It is as exact as the header `Date`, to a second or two.
    pub fn clock_lead(&self) -> Option<i64> {
        self.inner.clock_lead.get().copied()
    }

    /// Returns whether the host takes connections. No proxy is asked, and nothing is sent.
    pub async fn takes_connections(&self) -> bool {
        let url = self.home();
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return false;
        };
        let host = host.trim_matches(['[', ']']);
        tokio::net::TcpStream::connect((host, port)).await.is_ok()
    }

    /// Waits until abandoned uploads are cancelled, at most as long as one cancel request may take.
    pub async fn close(&self) {
        let cleanup = &self.inner.cleanup;
        cleanup.close();
        // What is left after the limit is left to the registry, which ends uploads on its own.
        drop(tokio::time::timeout(self.inner.host.timeouts.cancel, cleanup.wait()).await);
        cleanup.reopen();
    }

    /// Starts the budget of an operation.
    pub(super) fn budget(&self) -> Budget {
        Budget::new(&self.inner.retry, &self.inner.clock, &self.inner.reach)
    }

    /// Starts the budget of an operation that is tried once.
    pub(super) fn budget_of_one(&self) -> Budget {
        let Inner { clock, reach, .. } = &*self.inner;
        Budget::new(&RetryPolicy::never(), clock, reach)
    }

    /// Returns the root URL of the host under the scheme known so far.
    pub(super) fn home(&self) -> &Url {
        match self.inner.scheme.load(Ordering::Relaxed) {
            PLAIN => &self.inner.plain,
            _ => &self.inner.https,
        }
    }

    /// Sends a request and returns the answer, whatever its status: logs in on a 401, follows
    /// redirects, holds the limits. Tries nothing again.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Reply, RegistryError> {
        let permit = self.inner.limits.acquire(call.class).await;
        let result = Box::pin(self.exchange(call)).await;
        match &result {
            Ok(reply) => self.note_status(call.class, reply),
            Err(error) if error.is_retryable() => self.inner.limits.overloaded(call.class, None),
            Err(_) => {}
        }
        result.map(|mut reply| {
            reply.permit = Some(permit);
            reply
        })
    }

    fn note_status(&self, class: Class, reply: &Reply) {
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                self.inner.limits.overloaded(class, reply.retry_after);
            }
            status if status.is_server_error() => {}
            _ => self.inner.limits.succeeded(class),
        }
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Reply, RegistryError> {
        let (mut url, mut reply) = self.first(call).await?;
        let (mut logins, mut hops) = (0, 0);
        loop {
            let home = self.home();
            if reply.1.status == StatusCode::UNAUTHORIZED
                && logins < MAX_LOGINS
                && redirect::same_origin(&url, home)
            {
                let secure = home.scheme() == "https";
                let better = self
                    .inner
                    .auth
                    .challenged(call.scopes, &reply.0, &reply.1.headers, secure)
                    .await?;
                let Some(better) = better else {
                    return Ok(reply.1);
                };
                logins += 1;
                reply.1.drain().await;
                reply = self.once(call, &url, better).await?;
            } else if redirect::is_redirect(&call.method, reply.1.status) {
                let to = redirect::location(&reply.1.headers, &call.method, &url, home)?;
                let Some(to) = to else {
                    return Err(reply.1.protocol("the redirect has no location"));
                };
                hops += 1;
                if hops > redirect::MAX_HOPS {
                    return Err(reply.1.protocol("too many redirects"));
                }
                reply.1.drain().await;
                url = to;
                let login = self.login(call, &url).await?;
                reply = self.once(call, &url, login).await?;
            } else {
                return Ok(reply.1);
            }
        }
    }

    /// Returns the login for a URL: none for any host but the registry's own.
    async fn login(&self, call: &Call<'_>, url: &Url) -> Result<Authorization, RegistryError> {
        if redirect::same_origin(url, self.home()) {
            self.inner.auth.authorize(call.scopes).await
        } else {
            Ok(Authorization::default())
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        url: &Url,
        login: Authorization,
    ) -> Result<(Authorization, Reply), RegistryError> {
        let label = RequestLabel::new(&call.method, url);
        let mut request = self
            .inner
            .http
            .to(url)?
            .request(call.method.clone(), url.clone())
            .headers(call.headers.clone());
        if let Some(header) = &login.header {
            request = request.header(AUTHORIZATION, header.clone());
        }
        let mut activity = Arc::new(Activity::default());
        if let Some(body) = call.body {
            let out = body.open().await?;
            activity = out.activity;
            if let Some(length) = out.length {
                request = request.header(CONTENT_LENGTH, length);
            }
            request = request.body(out.body);
        } else {
            activity.finish();
            if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) {
                request = request.header(CONTENT_LENGTH, 0);
            }
        }
        let mut timeouts = self.inner.host.timeouts;
        let is_small = call.class == Class::Control && call.body.is_none() && !call.commit;
        if is_small {
            timeouts.idle = timeouts.idle.min(timeouts.small);
        }
        let answer = idle::answer(request.send(), &activity, &timeouts, call.commit).await;
        if !matches!(&answer, Ok(Err(error)) if error.is_connect()) {
            self.inner.requests.fetch_add(1, Ordering::Relaxed);
            self.inner.reach.reached();
        }
        // The body's own error says more than that of the connection.
        if let Some(error) = activity.take_failure() {
            return Err(error);
        }
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(transport_error(&label, error)),
            Err(after) if is_small => {
                return Err(RegistryError::Slow {
                    request: label,
                    after,
                });
            }
            Err(after) => {
                return Err(RegistryError::Idle {
                    request: label,
                    after,
                });
            }
        };
        tracing::trace!(request = %label, status = answer.status().as_u16(), "registry answered");
        self.note_clock(answer.headers());
        let cap = self.inner.retry.max_retry_after;
        let reply = Reply {
            status: answer.status(),
            headers: answer.headers().clone(),
            label,
            url: url.clone(),
            method: call.method.clone(),
            idle: timeouts.idle,
            small: timeouts.small,
            retry_after: retry::retry_after(answer.headers(), &*self.inner.clock, cap),
            body: answer,
            permit: None,
        };
        Ok((login, reply))
    }

    fn note_clock(&self, headers: &HeaderMap) {
        if let Some(lead) = lead(headers, self.inner.clock.wall()) {
            self.inner.clock_lead.get_or_init(|| lead);
        }
    }
}

/// Returns by how many seconds the clock that an answer's headers tell of is ahead of a time. An answer that a cache has
/// kept was dated earlier, by its age.
fn lead(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let text = |name| headers.get(name)?.to_str().ok();
    let date = httpdate::parse_http_date(text(DATE)?).ok()?;
    let age = text(AGE).map_or(Some(0), |age| age.trim().parse::<i64>().ok())?;
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    };
    seconds(date)?.checked_add(age)?.checked_sub(seconds(now)?)
}

fn resolve(target: &Target, home: &Url) -> Result<Url, RegistryError> {
    match target {
        Target::Url(url) => Ok(url.clone()),
        Target::Path(path) => home.join(path).map_err(|_| RegistryError::Name {
            kind: "path",
            value: super::redact::clean(path, 200),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_lead_of_a_clock_is_read_from_date_and_age() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (date, age, want) in [
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), None, Some(0)),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), None, Some(60)),
            (Some("Sun, 06 Nov 1994 08:39:37 GMT"), Some("600"), Some(0)),
            (
                Some("Sun, 06 Nov 1994 08:39:37 GMT"),
                Some("9999999999999999999"),
                None,
            ),
            (
                Some("Sun, 06 Nov 1994 08:39:37 GMT"),
                Some("9223372036854775807"),
                None,
            ),
            (Some("yesterday"), None, None),
            (None, Some("1"), None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(DATE, date), (AGE, age)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(lead(&headers, now), want, "{date:?} {age:?}");
        }
    }
}
