//! Which caches go, and why.

use std::time::Duration;

use jiff::Timestamp;

use crate::cache::survey::{Survey, TaggedCache};
use crate::scope::{Remote, Standing, is_scope};

/// A cache that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) cache: TaggedCache,
    pub(super) why: &'static str,
}

/// Chooses the scopes that were used longest ago, the oldest first. One whose last use is not known stays.
pub(super) fn old(
    survey: &Survey,
    older_than: Duration,
    keep: usize,
    now: Timestamp,
) -> Vec<Chosen> {
    let mut scopes: Vec<(Timestamp, &TaggedCache)> = survey
        .caches
        .iter()
        .filter(|cache| is_scope(&cache.tag))
        .filter_map(|cache| Some((cache.last_used?, cache)))
        .collect();
    scopes.sort_by(|(a, one), (b, other)| b.cmp(a).then(one.tag.cmp(&other.tag)));
    let is_old = |used: Timestamp| {
        Duration::try_from(now.duration_since(used)).is_ok_and(|age| age > older_than)
    };
    let old = scopes
        .into_iter()
        .skip(keep)
        .filter(|(used, _)| is_old(*used));
    let mut old: Vec<Chosen> = old
        .map(|(_, cache)| Chosen {
            cache: cache.clone(),
            why: "not used for long",
        })
        .collect();
    old.reverse();
    old
}

/// Chooses the scopes of branches and pull requests that a remote does not have any more, and returns of how many the
/// remote does not tell.
pub(super) fn closed(survey: &Survey, remote: &Remote) -> (Vec<Chosen>, usize) {
    let mut chosen = Vec::new();
    let mut unknown = 0;
    for cache in &survey.caches {
        match remote.standing(&cache.tag) {
            Standing::Closed(why) => chosen.push(Chosen {
                cache: cache.clone(),
                why,
            }),
            Standing::Unknown => unknown += 1,
            Standing::Open => {}
        }
    }
    (chosen, unknown)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::digest::Digest;

    /// Some caches and images of a repository.
    pub(in super::super) fn survey() -> (Survey, Timestamp) {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let cache = |tag: &str, hours: Option<i64>| TaggedCache {
            tag: tag.to_owned(),
            digest: Digest::of(tag.as_bytes()),
            layers: [
                (Digest::of(b"base"), 1000),
                (Digest::of(tag.as_bytes()), 10),
            ]
            .into(),
            results: 1,
            last_used: hours.map(|h| now - jiff::SignedDuration::from_hours(h)),
            replaced: Vec::new(),
        };
        let caches = vec![
            cache("b-main", Some(400)),
            cache("pr-1", Some(500)),
            cache("pr-2", Some(2)),
            cache("s-x", None),
            cache("own", Some(9000)),
        ];
        let survey = Survey {
            caches,
            others: Vec::new(),
        };
        (survey, now)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::survey;
    use super::*;

    fn tags(chosen: Vec<Chosen>) -> Vec<String> {
        chosen.into_iter().map(|chosen| chosen.cache.tag).collect()
    }

    #[test]
    fn only_old_scopes_are_chosen() {
        let (survey, now) = survey();
        let chosen = |older_than: u64, keep: usize| {
            let age = Duration::from_secs(older_than * 3600);
            tags(old(&survey, age, keep, now))
        };
        assert_eq!(chosen(336, 0), ["pr-1", "b-main"]);
        assert_eq!(chosen(450, 0), ["pr-1"]);
        assert_eq!(chosen(1, 0), ["pr-1", "b-main", "pr-2"]);
        assert_eq!(chosen(336, 2), ["pr-1"]);
        assert!(chosen(336, 3).is_empty());
    }

    #[test]
    fn scopes_of_what_is_no_more_are_chosen_however_young() {
        let (survey, _) = survey();
        let of = |names: &[&str]| {
            let lines: Vec<String> = names
                .iter()
                .map(|name| format!("of {name}\t{name}"))
                .collect();
            let remote = Remote::parse(&lines.join("\n")).unwrap();
            let (chosen, unknown) = closed(&survey, &remote);
            (tags(chosen), unknown)
        };
        let names = [
            "refs/heads/main",
            "refs/pull/1/merge",
            "refs/pull/1/head",
            "refs/pull/2/head",
        ];
        assert_eq!(of(&names), (vec!["pr-2".to_owned()], 0));
        assert_eq!(of(&["refs/heads/x"]), (vec!["b-main".to_owned()], 2));
    }
}
