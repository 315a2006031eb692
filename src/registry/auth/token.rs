//! Getting a token from a token server.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::basic;
use super::challenge::Bearer;
use super::scope::Scopes;
use crate::docker::Credential;
use crate::registry::error::{RegistryError, RequestLabel};
use crate::registry::reply;
use crate::registry::retry::{self, Clock};

/// The name that token servers log for this client (OAuth2 `client_id`).
const CLIENT_ID: &str = "docker-cachex";
/// What a token is good for when the server does not say (Docker token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Answers of token servers are some kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

/// A token as the server gave it.
pub(super) struct Fetched {
    /// `Bearer …`, marked as sensitive.
    pub(super) header: HeaderValue,
    /// How long it is good, counted from now.
    pub(super) life: Duration,
}

/// What a token request needs of its client.
pub(super) struct TokenClient<'a> {
    pub(super) http: &'a reqwest::Client,
    pub(super) clock: &'a dyn Clock,
    pub(super) timeout: Duration,
    pub(super) max_retry_after: Duration,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl TokenClient<'_> {
    /// Gets a token: by GET, and by the OAuth2 form where the credential is an identity token or
    /// the server does not know the GET form.
    pub(super) async fn fetch(
        &self,
        bearer: &Bearer,
        scopes: &Scopes,
        credential: &Credential,
    ) -> Result<Fetched, RegistryError> {
        let get = get_url(bearer, scopes, credential);
        match credential {
            Credential::IdentityToken(token) => {
                let login = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.expose()),
                ];
                self.post(bearer, scopes, &login).await
            }
            Credential::Basic { username, password } => {
                let header = basic(username, password);
                match self.get(get, Some(header)).await {
                    Err(error) if wants_post(&error) => {
                        let login = [
                            ("grant_type", "password"),
                            ("username", username.as_str()),
                            ("password", password.expose()),
                        ];
                        self.post(bearer, scopes, &login).await
                    }
                    other => other,
                }
            }
            Credential::Anonymous | Credential::RegistryToken(_) => self.get(get, None).await,
        }
    }

    async fn get(&self, url: Url, login: Option<HeaderValue>) -> Result<Fetched, RegistryError> {
        let mut headers = HeaderMap::new();
        if let Some(login) = login {
            headers.insert(http::header::AUTHORIZATION, login);
        }
        self.send(Method::GET, url, headers, String::new()).await
    }

    async fn post(
        &self,
        bearer: &Bearer,
        scopes: &Scopes,
        login: &[(&str, &str)],
    ) -> Result<Fetched, RegistryError> {
        let form = form(bearer, scopes, login);
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        self.send(Method::POST, bearer.realm.clone(), headers, form)
            .await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: String,
    ) -> Result<Fetched, RegistryError> {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let label = RequestLabel::new(&method, &url);
        let exchange = async {
            let mut request = self.http.request(method, url).headers(headers);
            if !body.is_empty() {
                request = request.body(body);
            }
            let answer = request
                .send()
                .await
                .map_err(|e| reply::transport_error(&label, e))?;
            let status = answer.status();
            let after = retry::retry_after(answer.headers(), self.clock, self.max_retry_after);
            let body = reply::read_limited(answer, &label, MAX_ANSWER).await?;
            if status != StatusCode::OK {
                return Err(reply::status_error(label.clone(), status, &body, after));
            }
            parse(&body).map_err(|what| RegistryError::Protocol {
                request: label.clone(),
                what,
            })
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(RegistryError::Idle {
                request: label.clone(),
                after: self.timeout,
            }),
        }
    }
}

fn form(bearer: &Bearer, scopes: &Scopes, login: &[(&str, &str)]) -> String {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(login);
    form.append_pair("client_id", CLIENT_ID);
    if let Some(service) = &bearer.service {
        form.append_pair("service", service);
    }
    let scopes: Vec<_> = scopes.texts().collect();
    form.append_pair("scope", &scopes.join(" "));
    form.finish()
}

fn get_url(bearer: &Bearer, scopes: &Scopes, credential: &Credential) -> Url {
    let mut url = bearer.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &bearer.service {
            query.append_pair("service", service);
        }
        for scope in scopes.texts() {
            query.append_pair("scope", &scope);
        }
        query.append_pair("client_id", CLIENT_ID);
        if let Credential::Basic { username, .. } = credential {
            query.append_pair("account", username);
        }
    }
    url
}

/// Some token servers know only the OAuth2 form.
fn wants_post(error: &RegistryError) -> bool {
    matches!(
        error.status(),
        Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
    )
}

fn parse(body: &[u8]) -> Result<Fetched, String> {
    // The body is a secret: an error must not quote it, as serde's message may do.
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| "the token server's answer is not the JSON of a token".to_owned())?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|t| !t.is_empty())
        .ok_or_else(|| "the token server's answer has no token".to_owned())?;
    let header = super::bearer_header(&token).ok_or_else(|| {
        "the token server's token has characters that no header can hold".to_owned()
    })?;
    let life = match answer.expires_in {
        Some(seconds) if seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds.min(86_400.0 * 365.0)).unwrap_or(DEFAULT_LIFE)
        }
        _ => DEFAULT_LIFE,
    };
    Ok(Fetched { header, life })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_token_servers() {
        let header = |json: &str| {
            parse(json.as_bytes())
                .map(|f| (f.header.to_str().unwrap().to_owned(), f.life.as_secs()))
        };
        assert_eq!(header(r#"{"token":"t"}"#), Ok(("Bearer t".into(), 60)));
        assert_eq!(
            header(r#"{"access_token":"a","expires_in":300,"scope":"x","token":""}"#),
            Ok(("Bearer a".into(), 300))
        );
        assert_eq!(
            header(r#"{"token":"t","expires_in":0}"#),
            Ok(("Bearer t".into(), 60))
        );
        for bad in ["", "[]", "{}", r#"{"token":"a\nb"}"#] {
            assert!(header(bad).is_err(), "{bad}");
        }
        assert!(
            !header(r#"{"token":5,"x":"hunter2"}"#)
                .unwrap_err()
                .contains("hunter2")
        );
    }
}
