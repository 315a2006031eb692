//! Kinds of cache that not every builder has. Like buildx, a build does without those that its builder
//! does not have.

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
    pub async fn ask(
        client: &Client,
        to: &[CacheTo],
        from: &[CacheFrom],
    ) -> Result<Self, RpcError> {
        let mut unsupported = Vec::new();
        for (kind, capability) in used(to, from) {
            if !client.supports(capability).await? {
                unsupported.push(kind);
            }
        }
        Ok(Self(unsupported))
    }

    /// Creates the list of these kinds.
    #[cfg(test)]
    pub(in crate::build) fn of(kinds: &[&'static str]) -> Self {
        Self(kinds.to_vec())
    }

    /// Returns whether a cache must be left out.
    pub(in crate::build) fn has(&self, entry: &Entry) -> bool {
        self.0.contains(&entry.kind.as_str())
    }

    /// Returns a warning for each kind.
    pub(in crate::build) fn warnings(&self) -> Vec<String> {
        let text = |kind: &&str| {
            format!("the builder does not have caches of type={kind}, built without them")
        };
        self.0.iter().map(text).collect()
    }
}

fn used(
    written: &[CacheTo],
    read: &[CacheFrom],
) -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().filter(|(kind, _)| {
        let to = |cache: &CacheTo| matches!(cache, CacheTo::Other { kind: own, .. } if own == kind);
        let from =
            |cache: &CacheFrom| matches!(cache, CacheFrom::Other { kind: own, .. } if own == kind);
        written.iter().any(to) || read.iter().any(from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_kinds_that_are_used_and_may_be_lacking_are_asked_for() {
        let kinds = |to: &str, from: &str| {
            let (to, from) = (CacheTo::parse(to), CacheFrom::parse(from));
            let used: Vec<_> = used(&to.unwrap(), &from.unwrap()).collect();
            used.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        assert!(kinds("type=inline", "r.io/a:c").is_empty());
        assert_eq!(kinds("type=gha", "r.io/a:c"), ["gha"]);
        assert_eq!(
            kinds("type=gha", "type=s3,region=r,bucket=b"),
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
