//! The tags of a repository.

use http::header::LINK;
use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::client::{Call, Target};
use super::error::RegistryError;
use super::redirect::same_origin;
use super::repository::{Repository, check_reference};

/// Tags that are asked for at once.
const PAGE: usize = 1000;
/// The largest page that is read, in bytes: a tag has 128 at most.
const MAX_PAGE: usize = 4 << 20;

#[derive(Deserialize)]
struct Page {
    /// `null` where there is none.
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Lists the tags, at most `limit`, in the order of the registry. A repository that is not there has none.
    ///
    /// # Errors
    ///
    /// Fails if the registry does not answer, or refuses.
    pub async fn tags(&self, limit: usize) -> Result<Vec<String>, RegistryError> {
        let mut tags = Vec::new();
        let mut next = Some(self.path(&format!("tags/list?n={PAGE}")));
        while let Some(target) = next.take() {
            let (page, more) = self.page(target).await?;
            let is_last = page.is_empty();
            // What is no tag cannot be asked for.
            tags.extend(page.into_iter().filter(|tag| check_reference(tag).is_ok()));
            if tags.len() >= limit || is_last {
                break;
            }
            next = more;
        }
        tags.truncate(limit);
        Ok(tags)
    }

    async fn page(&self, target: Target) -> Result<(Vec<String>, Option<Target>), RegistryError> {
        let mut budget = self.client.budget();
        loop {
            let call = Call::new(Method::GET, target.clone(), self.scopes());
            let reply = match self.client.send(&call).await {
                Ok(reply) if reply.status == StatusCode::NOT_FOUND => {
                    reply.drain().await;
                    return Ok((Vec::new(), None));
                }
                Ok(reply) => reply.expect(&[StatusCode::OK]).await,
                Err(error) => Err(error),
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    drop(budget.pause(error).await?);
                    continue;
                }
            };
            let more = reply
                .header(LINK.as_str())
                .and_then(|link| next_page(link, &reply.url))
                .filter(|url| same_origin(url, &reply.url));
            let broken = reply.protocol("the list of tags is no JSON of its format");
            let bytes = reply.bytes(MAX_PAGE).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|_| broken)?;
            return Ok((page.tags.unwrap_or_default(), more.map(Target::Url)));
        }
    }
}

/// Reads the header `Link: </v2/…?last=x>; rel="next"` (RFC 8288, as the OCI distribution spec has it).
fn next_page(link: &str, at: &Url) -> Option<Url> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.replace('"', "").contains("rel=next");
    is_next.then(|| at.join(target).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_named_by_a_link() {
        let at = Url::parse("https://r.io/v2/a/tags/list?n=2").unwrap();
        let next = |link: &str| next_page(link, &at).map(String::from);
        let expected = "https://r.io/v2/a/tags/list?last=x&n=2";
        assert_eq!(
            next("</v2/a/tags/list?last=x&n=2>; rel=\"next\"").as_deref(),
            Some(expected)
        );
        let whole = format!("<{expected}>; rel=next");
        assert_eq!(next(&whole).as_deref(), Some(expected));
        for other in ["", "</x>; rel=\"prev\"", "/x; rel=next", "<"] {
            assert_eq!(next(other), None, "{other}");
        }
    }
}
