//! GitHub's REST API (docs.github.com `rest/using-the-rest-api`), which Gitea and Forgejo have in parts.

use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::ForgeError;
use crate::docker::secret::Secret;

/// Where the API is, unless the CI says otherwise.
pub const API: &str = "https://api.github.com";
/// Entries of a page, and pages that are read at most.
pub(super) const PAGE: usize = 100;
pub(super) const PAGES: usize = 100;

const FORGE: &str = "GitHub";
/// Version of the API.
const VERSION: &str = "2022-11-28";
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// An API with a token for it.
#[derive(Debug)]
pub struct Api {
    http: reqwest::Client,
    url: Url,
    token: Secret,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Api {
    /// Creates it. Nothing is sent.
    pub fn new(http: reqwest::Client, url: Url, token: Secret) -> Self {
        Self { http, url, token }
    }

    /// Sends a request to a path with its query, and returns status and body of the answer.
    ///
    /// # Errors
    ///
    /// Fails if the API cannot be reached, breaks off, or answers with more than is read.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Vec<u8>), ForgeError> {
        let failed = |source: reqwest::Error| ForgeError::Http {
            forge: FORGE,
            source: source.without_url(),
        };
        let url = format!("{}/{path}", self.url.as_str().trim_end_matches('/'));
        let mut reply = self
            .http
            .request(method, url)
            .bearer_auth(self.token.expose())
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", VERSION)
            .send()
            .await
            .map_err(failed)?;
        let status = reply.status();
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(answer("it is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

/// What an answer with another status than the expected one means.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> ForgeError {
    let said = serde_json::from_slice::<Refusal>(body);
    ForgeError::Refused {
        forge: FORGE,
        status,
        message: said.map_or_else(|_| String::new(), |said| said.message),
    }
}

/// An answer that is none.
pub(super) fn answer(why: String) -> ForgeError {
    ForgeError::Answer { forge: FORGE, why }
}
