//! Asking a token server.

use std::time::Instant;

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::{Asking, DEFAULT_LIFE, Token, TokenError, TokenRequest};
use crate::docker::{Credential, Secret};

/// The name that token servers log for this client (OAuth2 `client_id`).
const CLIENT_ID: &str = "docker-cachex";
/// A longer life is not believed.
const MAX_LIFE: u64 = 365 * 24 * 3600;
/// Answers of token servers are some kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

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
    fn from_answer(body: &[u8], now: Instant) -> Option<Self> {
        // The body is a secret: no error quotes it.
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let text = [answer.access_token, answer.token];
        let text = text.into_iter().flatten().find(|text| !text.is_empty())?;
        // What is not written in a header is not a token.
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
    pub(super) async fn fetch(
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
