//! Names of scopes as tags of a repository.

use sha2::{Digest as _, Sha256};

/// How much of a name is in its tag, in bytes. With prefix and hash a tag is within the 128 that registries take.
const READABLE: usize = 100;
/// How much of the hash is in a tag, in hexadecimal digits.
const HASH: usize = 8;

const BRANCH: &str = "b-";
const PULL: &str = "pr-";
const NAMED: &str = "s-";

/// Returns the scope of a branch.
pub(super) fn branch(name: &str) -> String {
    format!("{BRANCH}{}", slug(name))
}

/// Returns the scope of a pull request.
pub(super) fn pull(number: u64) -> String {
    format!("{PULL}{number}")
}

/// Returns the scope that the user named.
pub(super) fn named(name: &str) -> String {
    format!("{NAMED}{}", slug(name))
}

/// Returns the scope that the user wants to read: one that is written as a scope is meant as it is.
pub(super) fn read(name: &str) -> String {
    let prefixes = [BRANCH, PULL, NAMED];
    let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    let is_scope = |rest: &str| {
        let is_short = rest.len() <= READABLE + 1 + HASH;
        is_short && !rest.is_empty() && rest.chars().all(is_plain)
    };
    if rest.is_some_and(is_scope) {
        return name.to_owned();
    }
    named(name)
}

/// Returns whether a tag has the form of a scope.
pub fn is_scope(tag: &str) -> bool {
    kind(tag).is_some()
}

/// What a scope is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Pull,
    Named,
}

/// Returns what a scope is of, if a tag has the form of one.
pub(super) fn kind(tag: &str) -> Option<Kind> {
    let kinds = [
        (BRANCH, Kind::Branch),
        (PULL, Kind::Pull),
        (NAMED, Kind::Named),
    ];
    let found = kinds
        .into_iter()
        .find(|(prefix, _)| tag.starts_with(prefix));
    found.map(|(_, kind)| kind)
}

/// Makes a legal part of a tag of a name. Two names never have the same: where something is lost, a hash of the name
/// follows, and what looks as if it had one gets one.
fn slug(name: &str) -> String {
    let readable: String = name
        .chars()
        .map(|c| {
            if is_plain(c) {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(READABLE)
        .collect();
    if readable == name && !name.is_empty() && !ends_in_hash(name) {
        return readable;
    }
    let hash = hex::encode(Sha256::digest(name));
    format!("{readable}-{}", &hash[..HASH])
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn ends_in_hash(name: &str) -> bool {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    name.rsplit_once('-')
        .is_some_and(|(_, end)| end.len() == HASH && end.chars().all(is_hex))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn is_legal(tag: &str) -> bool {
        let first = tag.chars().next();
        tag.len() <= 128
            && first.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
            && tag
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    }

    #[test]
    fn golden_names() {
        for (name, tag) in [
            ("main", "b-main"),
            ("release-1.2", "b-release-1.2"),
            ("under_score", "b-under_score"),
            ("feature/login", "b-feature-login-df7c7aeb"),
            ("feature-login", "b-feature-login"),
            ("Main", "b-main-eb814be3"),
            (
                "feature-login-1f0c2a9b",
                "b-feature-login-1f0c2a9b-b5ca0e50",
            ),
            ("-", "b--"),
            ("grün", "b-gr-n-fe263064"),
        ] {
            assert_eq!(branch(name), tag, "{name}");
        }
        assert_eq!(pull(12), "pr-12");
        assert_eq!(named("front end"), "s-front-end-eeb1622b");
    }

    #[test]
    fn what_is_written_as_a_scope_is_read_as_it_is() {
        for (name, tag) in [
            ("b-main", "b-main"),
            ("pr-7", "pr-7"),
            ("s-front", "s-front"),
            ("b-feature-login-1f0c2a9b", "b-feature-login-1f0c2a9b"),
            ("front", "s-front"),
        ] {
            assert_eq!(read(name), tag, "{name}");
        }
        assert!(read("b-a/b").starts_with("s-b-a-b-"));
    }

    #[test]
    fn scopes_are_told_from_other_tags() {
        for name in ["main", "feature/login"] {
            assert!(is_scope(&branch(name)) && is_scope(&named(name)));
        }
        assert!(is_scope(&pull(1)));
        for tag in ["latest", "v1", "cache", "b", "pr1"] {
            assert!(!is_scope(tag), "{tag}");
        }
    }

    #[test]
    fn a_hundred_thousand_names_have_as_many_tags() {
        let parts = [
            "a", "A", "/", "-", ".", "_", "ü", "feature", "1f0c2a9b", " ",
        ];
        let mut seen = HashMap::new();
        for n in 0..100_000_usize {
            let mut name = String::new();
            let mut rest = n;
            while rest > 0 {
                name.push_str(parts[rest % parts.len()]);
                rest /= parts.len();
            }
            let tag = branch(&name);
            assert!(is_legal(&tag), "{name:?} {tag:?}");
            if let Some(other) = seen.insert(tag.clone(), name.clone()) {
                assert_eq!(other, name, "{tag}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_tag_is_legal(name in ".{0,300}") {
            prop_assert!(is_legal(&branch(&name)));
            prop_assert!(is_legal(&named(&name)));
            prop_assert!(is_legal(&read(&name)));
        }

        #[test]
        fn two_names_have_two_tags(a in "[a-bA-B/._-]{1,12}", b in "[a-bA-B/._-]{1,12}") {
            prop_assume!(a != b);
            prop_assert_ne!(branch(&a), branch(&b));
        }
    }
}
