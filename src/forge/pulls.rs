//! The pull requests of a repository that are open (docs.github.com `rest/pulls`; Gitea and Forgejo answer the same request,
//! docs.gitea.com `api`).

use std::collections::HashSet;

use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::ForgeError;
use super::api::{Api, PAGE, PAGES, answer, refusal};

/// What of a repository's name is written otherwise in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');

#[derive(Deserialize)]
struct Pull {
    number: u64,
}

/// Returns the numbers of the pull requests of a repository, `owner/name`, that are open.
///
/// # Errors
///
/// Fails if the forge does not answer, or refuses, or there are more than are read.
pub async fn open_pulls(api: &Api, repository: &str) -> Result<HashSet<u64>, ForgeError> {
    let repository = utf8_percent_encode(repository, ENCODED);
    let mut open = HashSet::new();
    for page in 1..=PAGES {
        // Gitea calls the size of a page otherwise, and may have smaller ones: the last page is the empty one.
        let path =
            format!("repos/{repository}/pulls?state=open&per_page={PAGE}&limit={PAGE}&page={page}");
        let (status, body) = api.ask(Method::GET, &path).await?;
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        let pulls: Vec<Pull> =
            serde_json::from_slice(&body).map_err(|error| answer(error.to_string()))?;
        if pulls.is_empty() {
            return Ok(open);
        }
        open.extend(pulls.iter().map(|pull| pull.number));
    }
    // An open one that is not known would count as closed.
    Err(answer("it does not end".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::testing::{api, serve};

    fn numbers(numbers: std::ops::Range<u64>) -> String {
        let pulls = numbers.map(|number| serde_json::json!({"number": number, "state": "open"}));
        pulls.collect::<serde_json::Value>().to_string()
    }

    fn pages(line: &str) -> (u16, String) {
        let (path, page) = line.split_once("&page=").unwrap();
        assert_eq!(
            path,
            "GET /repos/acme/my.app/pulls?state=open&per_page=100&limit=100"
        );
        let text = match page {
            "1" => numbers(1..51),
            "2" => numbers(60..62),
            _ => "[]".to_owned(),
        };
        (200, text)
    }

    #[tokio::test]
    async fn all_pages_are_read_however_small() {
        let (url, seen) = serve(pages).await;
        let open = open_pulls(&api(url), "acme/my.app").await.unwrap();
        assert_eq!(open.len(), 52);
        assert!(open.contains(&61) && !open.contains(&55));
        assert_eq!(seen.lock().len(), 3);
    }

    #[tokio::test]
    async fn what_is_no_list_is_an_error() {
        for (answer, expected) in [
            (
                (|_| (403, r#"{"message":"rate limit"}"#.into())) as fn(&str) -> (u16, String),
                "GitHub refuses: 403 Forbidden (rate limit)",
            ),
            (
                |_| (200, "{}".into()),
                "the answer of GitHub cannot be read",
            ),
            (
                |_| (200, numbers(1..2)),
                "the answer of GitHub cannot be read: it does not end",
            ),
        ] {
            let (url, _) = serve(answer).await;
            let error = open_pulls(&api(url), "acme/app").await.unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
