//! Kinds of cache that not every builder has. Like buildx, a build does without those that its builder
//! does not have.

use super::request::BuildRequest;
use crate::buildkit::solve::Entry;
use crate::buildkit::{Client, RpcError};
use crate::options::cache::{CacheFrom, CacheTo};

/// The kinds, each with the capability of a builder that has it.
const KINDS: [(&str, &str); 2] = [("gha", "cache.gha"), ("s3", "cache.s3")];

/// The cache backends that the builder does not have.
#[derive(Debug, Clone, Default)]
pub struct UnsupportedBackends(Vec<&'static str>);

impl UnsupportedBackends {
    /// Asks the builder, if the build has caches of a kind that it may not have.
    pub(super) async fn ask(client: &Client, request: &BuildRequest) -> Result<Self, RpcError> {
        let mut unsupported = Vec::new();
        for (kind, capability) in used(request) {
            if !client.supports(capability).await? {
                unsupported.push(kind);
            }
        }
        Ok(Self(unsupported))
    }

    /// Makes them up.
    #[cfg(test)]
    pub(super) fn of(kinds: &[&'static str]) -> Self {
        Self(kinds.to_vec())
    }

    /// Returns whether a cache must be left out.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.0.contains(&entry.kind.as_str())
    }

    /// Returns a warning for each kind.
    pub(super) fn warnings(&self) -> Vec<String> {
        let text = |kind: &&str| {
            format!("the builder does not have caches of type={kind}, built without them")
        };
        self.0.iter().map(text).collect()
    }
}

fn used(request: &BuildRequest) -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().filter(|(kind, _)| {
        let to = |cache: &CacheTo| matches!(cache, CacheTo::Other { kind: own, .. } if own == kind);
        let from =
            |cache: &CacheFrom| matches!(cache, CacheFrom::Other { kind: own, .. } if own == kind);
        request.cache_to.iter().any(to) || request.cache_from.iter().any(from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_kinds_that_are_used_and_may_be_lacking_are_asked_for() {
        let spec = |to: &str, from: &str| BuildRequest {
            cache_to: CacheTo::parse(to).unwrap(),
            cache_from: CacheFrom::parse(from).unwrap(),
            ..BuildRequest::default()
        };
        let kinds = |spec: &BuildRequest| used(spec).map(|(kind, _)| kind).collect::<Vec<_>>();
        assert!(kinds(&spec("type=inline", "r.io/a:c")).is_empty());
        assert_eq!(kinds(&spec("type=gha", "r.io/a:c")), ["gha"]);
        assert_eq!(
            kinds(&spec("type=gha", "type=s3,region=r,bucket=b")),
            ["gha", "s3"]
        );
    }

    #[test]
    fn what_is_lacking_is_left_out_and_named() {
        let entry = |kind: &str| Entry {
            kind: kind.to_owned(),
            attrs: BTreeMap::new(),
        };
        let lacking = UnsupportedBackends(vec!["s3"]);
        assert!(lacking.has(&entry("s3")) && !lacking.has(&entry("gha")));
        assert!(lacking.warnings()[0].contains("type=s3"));
        assert!(UnsupportedBackends::default().warnings().is_empty());
    }
}
