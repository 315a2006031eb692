//! Whether a manifest is signed as it must be.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::CacheName;
use super::bundle::{BundleError, Opened};
use super::embedded::{self, EmbeddedError};
use super::trust::{NamedKey, Trust};
use crate::digest::Digest;
use crate::text::human;

/// How far the clocks of two machines may differ.
const SKEW: Duration = Duration::from_secs(3600);

/// What must be true of a signature.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The keys, one of which must have signed.
    pub keys: &'a [NamedKey],
    /// The cache that it must belong to; `None`: any.
    pub name: Option<&'a CacheName>,
    /// How old it may be.
    pub max_age: Option<Duration>,
    /// The present time.
    pub now: Timestamp,
}

/// Who signed a cache, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Name of the key.
    pub key: String,
    /// The beginning of its fingerprint.
    pub fingerprint: String,
    /// When.
    pub at: Timestamp,
}

impl Signed {
    /// Returns who signed it and when, for people.
    pub fn text(&self, now: Timestamp) -> String {
        let age = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        let age = human::duration(age).to_lowercase();
        format!("signed by {} ({}), {age} ago", self.key, self.fingerprint)
    }
}

/// Why a cache is not believed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It has no signature.
    #[error("it is not signed")]
    Unsigned,
    /// It was changed.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// Its signature cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// None of the keys has signed it.
    #[error("none of the keys that count for it has signed it")]
    Key,
    /// The signature is that of another manifest.
    #[error("its signature does not fit the manifest")]
    Manifest,
    /// It was signed for another place.
    #[error("it was signed as {0} and copied here")]
    Place(String),
    /// It is too old.
    #[error("its signature is {0} old, older than max-signature-age allows")]
    Old(String),
    /// It was signed in the future.
    #[error("its signature is of a time to come ({0}): a clock is wrong")]
    Future(Timestamp),
    /// No rule counts.
    #[error("no rule of the trust file is about this tag")]
    NoRule,
}

/// Judges a manifest by keys.
///
/// # Errors
///
/// Fails with the reason why it is not believed.
pub fn judge(manifest: &[u8], expected: &Expected<'_>) -> Result<Signed, Refusal> {
    let parts = embedded::take_apart(manifest)?.ok_or(Refusal::Unsigned)?;
    let opened = Opened::parse(&parts.bundle)?;
    let mut keys = expected.keys.iter();
    let named = keys.find(|named| opened.is_signed_with(&named.key));
    let named = named.ok_or(Refusal::Key)?;
    let claims = opened.claims(&Digest::of(&parts.bare))?;
    let claims = claims.ok_or(Refusal::Manifest)?;
    if let Some(name) = expected.name {
        let is_tag = name.tag.as_ref().is_none_or(|tag| *tag == claims.tag);
        if claims.repository != name.repository || !is_tag {
            let place = format!("{}:{}", claims.repository, claims.tag);
            return Err(Refusal::Place(place));
        }
    }
    let age = expected.now.duration_since(claims.signed_at);
    match Duration::try_from(age) {
        Ok(age) if expected.max_age.is_some_and(|max| age > max) => {
            return Err(Refusal::Old(human::duration(age).to_lowercase()));
        }
        Err(_) if age.unsigned_abs() > SKEW => return Err(Refusal::Future(claims.signed_at)),
        _ => {}
    }
    Ok(Signed {
        key: named.name.clone(),
        fingerprint: named.key.short(),
        at: claims.signed_at,
    })
}

/// Which signature a cache must have to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The keys.
    pub trust: std::sync::Arc<Trust>,
    /// How old it may be.
    pub max_age: Option<Duration>,
}

impl Policy {
    /// Judges the manifest of a cache; `None` where it is not signed and need not be.
    ///
    /// # Errors
    ///
    /// Fails with the reason why it must not be read.
    pub fn judge(
        &self,
        manifest: &[u8],
        name: &CacheName,
        now: Timestamp,
    ) -> Result<Option<Signed>, Refusal> {
        let rule = self.trust.rule(name.tag.as_deref().unwrap_or_default());
        let rule = rule.ok_or(Refusal::NoRule)?;
        let expected = Expected {
            keys: &rule.keys,
            name: Some(name),
            max_age: self.max_age,
            now,
        };
        match judge(manifest, &expected) {
            Err(Refusal::Unsigned) if rule.allows_unsigned => Ok(None),
            judged => judged.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::embedded::tests::manifests;
    use super::super::key::{Algorithm, SigningKey};
    use super::super::writer::{Signer, sign};
    use super::*;

    fn signer(name: &str) -> Signer {
        let pem = SigningKey::generate(Algorithm::P256).unwrap();
        Signer::new(SigningKey::parse(&pem).unwrap(), name)
    }

    fn name(tag: &str) -> CacheName {
        CacheName {
            repository: "r.io/a".into(),
            tag: Some(tag.into()),
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn expected<'a>(keys: &'a [NamedKey], name: &'a CacheName) -> Expected<'a> {
        Expected {
            keys,
            name: Some(name),
            max_age: None,
            now: NOW,
        }
    }

    #[test]
    fn a_signature_counts_for_its_key_and_its_place() {
        let (ours, theirs) = (signer("ours"), signer("theirs"));
        let keys = [theirs.named(), ours.named()];
        for manifest in manifests() {
            let signed = sign(&ours, manifest.as_bytes(), &name("c"), NOW).unwrap();
            let judged = judge(&signed, &expected(&keys, &name("c"))).unwrap();
            assert_eq!(judged.key, "ours");
            let alone = [theirs.named()];
            let judge = |keys, name| judge(&signed, &expected(keys, &name)).unwrap_err();
            assert!(matches!(judge(&alone, name("c")), Refusal::Key));
            assert!(
                matches!(judge(&keys, name("d")), Refusal::Place(place) if place == "r.io/a:c")
            );
            let elsewhere = CacheName {
                repository: "r.io/b".into(),
                ..name("c")
            };
            assert!(matches!(judge(&keys, elsewhere), Refusal::Place(_)));
            let unsigned = super::judge(manifest.as_bytes(), &expected(&keys, &name("c")));
            assert!(matches!(unsigned, Err(Refusal::Unsigned)));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let ours = signer("ours");
        let keys = [ours.named()];
        let signed = sign(&ours, manifests()[2].as_bytes(), &name("c"), NOW).unwrap();
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            // The key's hint in the bundle is not signed, and not believed.
            if let Ok(judged) = judge(&changed, &expected(&keys, &name("c"))) {
                let parts = embedded::take_apart(&changed).unwrap().unwrap();
                assert_eq!(parts.bare, manifests()[2].as_bytes());
                assert_eq!(judged.at, NOW);
            }
        }
    }

    #[test]
    fn signatures_grow_old() {
        let ours = signer("ours");
        let keys = [ours.named()];
        let c = name("c");
        let signed = sign(&ours, manifests()[0].as_bytes(), &c, NOW).unwrap();
        let at = |seconds: i64, max_age| {
            let expected = Expected {
                now: NOW + jiff::SignedDuration::from_secs(seconds),
                max_age,
                ..expected(&keys, &c)
            };
            judge(&signed, &expected)
        };
        let hour = Some(Duration::from_secs(3600));
        assert!(at(3600, hour).is_ok() && at(7200, None).is_ok() && at(-60, hour).is_ok());
        assert!(matches!(at(3601, hour), Err(Refusal::Old(_))));
        assert!(matches!(at(-7200, None), Err(Refusal::Future(_))));
    }

    #[test]
    fn a_rule_decides_about_what_is_not_signed() {
        let ours = signer("ours");
        let manifest = &manifests()[0];
        let trust = |text: &str| {
            let read = |_: &str| Ok::<_, super::super::trust::TrustError>(vec![ours.named()]);
            let trust = Arc::new(Trust::parse(text, read).unwrap());
            Policy {
                trust,
                max_age: None,
            }
        };
        let judge = |policy: &Policy, tag| policy.judge(manifest.as_bytes(), &name(tag), NOW);
        let allows = trust("[[rule]]\nscopes=[\"pr-*\"]\nkeys=[\"k\"]\nunsigned=\"allow\"");
        assert!(matches!(judge(&allows, "pr-1"), Ok(None)));
        assert!(matches!(judge(&allows, "b-main"), Err(Refusal::NoRule)));
        let refuses = trust("[[rule]]\nkeys=[\"k\"]");
        assert!(matches!(judge(&refuses, "pr-1"), Err(Refusal::Unsigned)));
        let forged = sign(&signer("other"), manifest.as_bytes(), &name("pr-1"), NOW).unwrap();
        let judged = allows.judge(&forged, &name("pr-1"), NOW);
        assert!(matches!(judged, Err(Refusal::Key)));
    }
}
