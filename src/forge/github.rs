//! GHCR's manifests are versions of packages, which GitHub's REST API deletes (docs.github.com `rest/packages`): those of
//! organizations and of users are in different places, and each version has the digest for its name.

use std::collections::HashMap;

use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::api::{Api, PAGE, PAGES, answer, refusal};
use super::{ForgeError, Packages};
use crate::digest::Digest;

/// The registry.
pub const REGISTRY: &str = "ghcr.io";

/// The package that a repository of GHCR is.
#[derive(Debug)]
pub struct GitHubPackages {
    api: Api,
    owner: String,
    name: String,
    versions: Mutex<Option<Versions>>,
}

/// The versions of a package.
#[derive(Debug)]
struct Versions {
    /// Where they are.
    path: String,
    by_digest: HashMap<String, u64>,
}

#[derive(Deserialize)]
struct Version {
    id: u64,
    name: String,
}

impl GitHubPackages {
    /// Creates the package of a repository, `owner/name`; `None` if it is no such name. Nothing is sent.
    pub fn new(api: Api, repository: &str) -> Option<Self> {
        let (owner, name) = repository.split_once('/')?;
        Some(Self {
            api,
            owner: owner.to_owned(),
            name: name.to_owned(),
            versions: Mutex::default(),
        })
    }

    /// Returns where the versions are, of an organization or of a user.
    fn path(&self, kind: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (owner, name) = (encode(&self.owner), encode(&self.name));
        format!("{kind}/{owner}/packages/container/{name}/versions")
    }

    /// Lists the versions. GitHub says that there is nothing where there is none, and where the token may not look.
    async fn list(&self) -> Result<Versions, ForgeError> {
        let mut refused = None;
        for kind in ["orgs", "users"] {
            let path = self.path(kind);
            match self.list_at(&path).await {
                Ok(by_digest) => return Ok(Versions { path, by_digest }),
                Err(
                    error @ ForgeError::Refused {
                        status: StatusCode::NOT_FOUND,
                        ..
                    },
                ) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| answer("there is no package".to_owned())))
    }

    async fn list_at(&self, path: &str) -> Result<HashMap<String, u64>, ForgeError> {
        let mut all = HashMap::new();
        for page in 1..=PAGES {
            let query = format!("{path}?per_page={PAGE}&page={page}");
            let (status, body) = self.api.ask(Method::GET, &query).await?;
            if status != StatusCode::OK {
                return Err(refusal(status, &body));
            }
            let versions: Vec<Version> =
                serde_json::from_slice(&body).map_err(|error| answer(error.to_string()))?;
            let count = versions.len();
            all.extend(versions.into_iter().map(|v| (v.name, v.id)));
            if count < PAGE {
                break;
            }
        }
        Ok(all)
    }
}

#[tonic::async_trait]
impl Packages for GitHubPackages {
    async fn delete(&self, digest: &Digest) -> Result<bool, ForgeError> {
        let mut versions = self.versions.lock().await;
        // What has been pushed since the list was read is not in it.
        for _ in 0..2 {
            let known = match &mut *versions {
                Some(known) => known,
                none => none.insert(self.list().await?),
            };
            if let Some(id) = known.by_digest.remove(digest.as_str()) {
                let path = format!("{}/{id}", known.path);
                let (status, body) = self.api.ask(Method::DELETE, &path).await?;
                return match status {
                    StatusCode::NO_CONTENT | StatusCode::OK => Ok(true),
                    StatusCode::NOT_FOUND => Ok(false),
                    _ => Err(refusal(status, &body)),
                };
            }
            *versions = None;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::forge::api::API;
    use crate::forge::testing::{api, serve};

    fn packages(url: Url) -> GitHubPackages {
        GitHubPackages::new(api(url), "acme/app/cache").unwrap()
    }

    fn digest(n: usize) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    fn versions(ids: std::ops::Range<usize>) -> String {
        let versions = ids.map(|id| serde_json::json!({"id": id, "name": digest(id).as_str()}));
        versions.collect::<serde_json::Value>().to_string()
    }

    const OF_USER: &str = "GET /users/acme/packages/container/app%2Fcache/versions?per_page=100";

    fn a_user(line: &str) -> (u16, String) {
        let page = |n: usize| line.strip_prefix(OF_USER) == Some(&format!("&page={n}"));
        match line {
            _ if page(1) => (200, versions(0..100)),
            _ if page(2) => (200, versions(100..103)),
            "DELETE /users/acme/packages/container/app%2Fcache/versions/7" => (204, String::new()),
            "DELETE /users/acme/packages/container/app%2Fcache/versions/101" => (
                400,
                r#"{"message":"You cannot delete the last tagged version \u001b[31m"}"#.into(),
            ),
            _ => (404, r#"{"message":"Not Found"}"#.into()),
        }
    }

    #[tokio::test]
    async fn a_version_is_deleted_by_its_digest() {
        let (api, seen) = serve(a_user).await;
        let packages = packages(api);
        assert!(packages.delete(&digest(7)).await.unwrap());
        let lines = seen.lock().clone();
        assert!(lines[0].starts_with("GET /orgs/acme/packages/container/app%2Fcache/versions?"));
        assert_eq!(lines.len(), 4, "{lines:?}");
        // The list is read once, and once more for what is not in it.
        assert!(
            !packages.delete(&digest(5)).await.unwrap(),
            "it is gone by now"
        );
        assert_eq!(seen.lock().len(), 5);
        assert!(!packages.delete(&digest(999)).await.unwrap());
        let error = packages.delete(&digest(101)).await.unwrap_err().to_string();
        assert!(error.contains("last tagged version"), "{error}");
        assert!(
            !error.contains('\u{1b}') && !error.contains("t0ken"),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_token_that_may_not_look_is_told() {
        let (api, _) = serve(|_| (404, r#"{"message":"Not Found"}"#.into())).await;
        let error = packages(api).delete(&digest(1)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "GitHub refuses: 404 Not Found (Not Found)"
        );
        let (api, _) = serve(|_| (200, "<html>".into())).await;
        let error = packages(api).delete(&digest(1)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the answer of GitHub cannot be read")
        );
    }

    #[test]
    fn a_repository_of_nobody_is_none() {
        let api = api(API.parse().unwrap());
        assert!(GitHubPackages::new(api, "cache").is_none());
    }
}
