//! Kinds of cache that not every builder has. Like buildx, a build does without those that its builder
//! does not have.

use super::spec::BuildSpec;
use crate::buildkit::solve::Entry;
use crate::buildkit::{Client, RpcError};
use crate::options::cache::{CacheFrom, CacheTo};

/// The kinds, each with the capability of a builder that has it.
const KINDS: [(&str, &str); 2] = [("gha", "cache.gha"), ("s3", "cache.s3")];

/// The kinds of cache that the builder does not have.
#[derive(Debug, Default)]
pub(super) struct Lacking(Vec<&'static str>);

impl Lacking {
    /// Asks the builder, if the build has such caches.
    pub(super) async fn ask(client: &Client, spec: &BuildSpec) -> Result<Self, RpcError> {
        let mut lacking = Vec::new();
        for (kind, capability) in used(spec) {
            if !client.supports(capability).await? {
                lacking.push(kind);
            }
        }
        Ok(Self(lacking))
    }

    /// Tells whether a cache must be left out.
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

fn used(spec: &BuildSpec) -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().filter(|(kind, _)| {
        let to = |cache: &CacheTo| matches!(cache, CacheTo::Other { kind: own, .. } if own == kind);
        let from =
            |cache: &CacheFrom| matches!(cache, CacheFrom::Other { kind: own, .. } if own == kind);
        spec.cache_to.iter().any(to) || spec.cache_from.iter().any(from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_kinds_that_are_used_and_may_be_lacking_are_asked_for() {
        let spec = |to: &str, from: &str| BuildSpec {
            cache_to: CacheTo::parse(to).unwrap(),
            cache_from: CacheFrom::parse(from).unwrap(),
            ..BuildSpec::default()
        };
        let kinds = |spec: &BuildSpec| used(spec).map(|(kind, _)| kind).collect::<Vec<_>>();
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
        let lacking = Lacking(vec!["s3"]);
        assert!(lacking.has(&entry("s3")) && !lacking.has(&entry("gha")));
        assert!(lacking.warnings()[0].contains("type=s3"));
        assert!(Lacking::default().warnings().is_empty());
    }
}
