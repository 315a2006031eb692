//! Which keys count for which cache: rules, of which the first that fits a tag counts.

use std::sync::Arc;

use thiserror::Error;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::cosign::Cosign;
use super::key::PublicKey;
use crate::options::cosign::Identity;

/// A public key with a name for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The name of its file, or of its variable.
    pub name: String,
    /// The key.
    pub key: Verifier,
}

/// What tells whether something was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verifier {
    /// A public key.
    Key(PublicKey),
    /// The user's cosign, and whom it must find.
    Cosign(Arc<Cosign>, Identity),
}

impl NamedKey {
    /// Names a public key.
    pub fn new(name: &str, key: PublicKey) -> Self {
        Self {
            name: name.to_owned(),
            key: Verifier::Key(key),
        }
    }

    /// Names one whom the user's cosign must find.
    pub fn cosign(cosign: Arc<Cosign>, identity: Identity) -> Self {
        Self {
            name: identity.name().to_owned(),
            key: Verifier::Cosign(cosign, identity),
        }
    }

    /// Returns the beginning of the key's fingerprint, for people; for cosign who says who it is.
    pub fn short(&self) -> String {
        match &self.key {
            Verifier::Key(key) => key.short(),
            Verifier::Cosign(_, identity) => identity.issuer().to_owned(),
        }
    }
}

/// Which keys count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    rules: Vec<Rule>,
}

/// What counts for some tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Patterns of the tags, where `*` stands for any text.
    scopes: Vec<String>,
    /// The keys, one of which must have signed.
    pub keys: Vec<NamedKey>,
    /// Caches without a signature are read, too.
    pub allows_unsigned: bool,
}

/// Why a trust file is not taken.
#[derive(Debug, Error)]
pub enum TrustError {
    /// It is no TOML.
    #[error(transparent)]
    Toml(#[from] toml_edit::TomlError),
    /// It says something that is not known.
    #[error("unknown key {0:?}; a [[rule]] has scopes, keys and unsigned")]
    UnknownKey(String),
    /// A key has a wrong value.
    #[error("{key} of a [[rule]] must be {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A rule says nothing.
    #[error("a [[rule]] has neither keys nor unsigned = \"allow\": no cache could be read by it")]
    Empty,
    /// A rule is about no tag.
    #[error("scopes of a [[rule]] must name a tag or a pattern: no cache could be read by it")]
    NoScope,
    /// There is no rule.
    #[error("it has no [[rule]]")]
    NoRule,
}

impl Trust {
    /// Creates trust in every key for every cache.
    pub fn of(keys: Vec<NamedKey>) -> Self {
        let rule = Rule {
            scopes: vec!["*".to_owned()],
            keys,
            allows_unsigned: false,
        };
        Self { rules: vec![rule] }
    }

    /// Reads a trust file. `read` reads the keys of a file that it names.
    ///
    /// # Errors
    ///
    /// Fails if the file says what is not known, or with the error of `read`.
    pub fn parse<E: From<TrustError>>(
        text: &str,
        mut read: impl FnMut(&str) -> Result<Vec<NamedKey>, E>,
    ) -> Result<Self, E> {
        let document: DocumentMut = text.parse().map_err(TrustError::from)?;
        let mut rules = Vec::new();
        for (name, item) in document.iter() {
            let (true, Item::ArrayOfTables(tables)) = (name == "rule", item) else {
                return Err(TrustError::UnknownKey(name.to_owned()).into());
            };
            for table in tables {
                let (scopes, files, allows_unsigned) = rule(table)?;
                let mut keys = Vec::new();
                for file in files {
                    keys.extend(read(&file)?);
                }
                rules.push(Rule {
                    scopes,
                    keys,
                    allows_unsigned,
                });
            }
        }
        if rules.is_empty() {
            return Err(TrustError::NoRule.into());
        }
        Ok(Self { rules })
    }

    /// Returns the rule for a tag. A cache that only a digest names has none, and fits the pattern `*` alone.
    pub fn rule(&self, tag: Option<&str>) -> Option<&Rule> {
        let is_about = |scope: &String| match tag {
            Some(tag) => matches(scope, tag),
            None => scope == "*",
        };
        let fits = |rule: &&Rule| rule.scopes.iter().any(is_about);
        self.rules.iter().find(fits)
    }
}

/// Reads a rule: its patterns, the files of its keys, and whether it allows what is not signed.
fn rule(table: &Table) -> Result<(Vec<String>, Vec<String>, bool), TrustError> {
    let known = ["scopes", "keys", "unsigned"];
    if let Some((name, _)) = table.iter().find(|(name, _)| !known.contains(name)) {
        return Err(TrustError::UnknownKey(name.to_owned()));
    }
    let scopes = texts(table, "scopes")?.unwrap_or_else(|| vec!["*".to_owned()]);
    if scopes.is_empty() || scopes.iter().any(String::is_empty) {
        return Err(TrustError::NoScope);
    }
    let files = texts(table, "keys")?.unwrap_or_default();
    let expected = "\"allow\" or \"refuse\"";
    let wrong = TrustError::Value {
        key: "unsigned",
        expected,
    };
    let allows_unsigned = match table.get("unsigned").map(Item::as_str) {
        None | Some(Some("refuse")) => false,
        Some(Some("allow")) => true,
        Some(_) => return Err(wrong),
    };
    if files.is_empty() && !allows_unsigned {
        return Err(TrustError::Empty);
    }
    Ok((scopes, files, allows_unsigned))
}

fn texts(table: &Table, key: &'static str) -> Result<Option<Vec<String>>, TrustError> {
    let Some(item) = table.get(key) else {
        return Ok(None);
    };
    let wrong = || TrustError::Value {
        key,
        expected: "a list of texts",
    };
    let list = item.as_array().ok_or_else(wrong)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
    list.iter().map(text).collect::<Result<_, _>>().map(Some)
}

/// Returns whether a text fits a pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::{Algorithm, SigningKey};
    use super::*;

    fn parse(text: &str) -> Result<Trust, TrustError> {
        let key = SigningKey::parse(&SigningKey::generate(Algorithm::Ed25519).unwrap()).unwrap();
        Trust::parse(text, |name| Ok(vec![NamedKey::new(name, key.public())]))
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let text = "[[rule]]\nscopes = [\"b-main\", \"b-release-*\"]\nkeys = [\"main.pub\"]\n\
                    [[rule]]\nscopes = [\"pr-*\", \"b-*\"]\nkeys = [\"main.pub\", \"ci.pub\"]\nunsigned = \"allow\"\n";
        let trust = parse(text).unwrap();
        let names = |tag: &str| {
            let rule = trust.rule(Some(tag))?;
            let names: Vec<_> = rule.keys.iter().map(|key| key.name.clone()).collect();
            Some((names.join(" "), rule.allows_unsigned))
        };
        assert_eq!(names("b-main"), Some(("main.pub".into(), false)));
        assert_eq!(names("b-release-1"), Some(("main.pub".into(), false)));
        assert_eq!(names("b-other"), Some(("main.pub ci.pub".into(), true)));
        assert_eq!(names("x"), None);
        assert!(trust.rule(None).is_none());
        let all = parse("[[rule]]\nscopes = [\"*\"]\nkeys = [\"k\"]\n").unwrap();
        assert!(all.rule(None).is_some());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "no [[rule]]"),
            ("rule = 1", "rule"),
            ("[[rule]]\nscope = []", "scope"),
            (
                "[[rule]]\nkeys = \"a\"",
                "keys of a [[rule]] must be a list",
            ),
            (
                "[[rule]]\nkeys = [\"a\"]\nunsigned = true",
                "\"allow\" or \"refuse\"",
            ),
            ("[[rule]]\nscopes = [\"a\"]", "neither keys"),
            ("[[rule]]\nscopes = []\nkeys = [\"a\"]", "must name a tag"),
            ("[[rule]]\nkeys = [\"a\"]\nkeys = [\"b\"]", "duplicate key"),
            ("[rule]\nkeys = [\"a\"]", "unknown key"),
            ("[[", ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("a*c*", "abcd", true),
            ("*b", "ab", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}", pattern in "[ab*é]{0,8}", tag in "[abé]{0,8}") {
            let _result = parse(&text);
            let _fits = matches(&pattern, &tag);
        }
    }
}
