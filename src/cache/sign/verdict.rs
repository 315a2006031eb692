//! Whether a manifest is signed as it must be.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::CacheName;
use super::bundle::{BundleError, Opened};
use super::cosign::CosignError;
use super::embedded::{self, EmbeddedError, Parts};
use super::trust::{NamedKey, Rule, Trust, Verifier};
use crate::digest::Digest;
use crate::text::{foreign, human};

/// Digits of a commit that are shown.
const SHORT_COMMIT: usize = 7;
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
    /// Of which commit, where that is told.
    pub commit: Option<String>,
}

impl Signed {
    /// Returns who signed it and when, for people.
    pub fn text(&self, now: Timestamp) -> String {
        let age = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        let age = human::duration(age).to_lowercase();
        let (key, fingerprint) = (foreign::line(&self.key), foreign::line(&self.fingerprint));
        let mut text = format!("signed by {key} ({fingerprint}), {age} ago");
        let commit = self.commit.as_deref().filter(|text| is_commit(text));
        if let Some(commit) = commit.and_then(|commit| commit.get(..SHORT_COMMIT)) {
            text.push_str(", of commit ");
            text.push_str(commit);
        }
        text
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
    /// cosign does not find whom it must.
    #[error("cosign does not verify it")]
    Cosign(#[source] CosignError),
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
    /// No rule counts for a cache that only a digest names.
    #[error(
        "it is named by a digest without a tag, and only a rule of the trust file with scopes = [\"*\"] is about that"
    )]
    NoRuleForDigest,
}

/// Judges a manifest by keys.
///
/// # Errors
///
/// Fails with the reason why it is not believed.
pub async fn judge(manifest: &[u8], expected: &Expected<'_>) -> Result<Signed, Refusal> {
    let parts = embedded::take_apart(manifest)?.ok_or(Refusal::Unsigned)?;
    let opened = Opened::parse(&parts.bundle)?;
    let named = signed_by(&parts, &opened, expected.keys).await?;
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
        fingerprint: named.short(),
        at: claims.signed_at,
        commit: claims.commit,
    })
}

/// Returns whether a bundle is a signature of a manifest as it is, by one of the keys.
pub async fn is_signed(manifest: &[u8], bundle: String, keys: &[NamedKey]) -> bool {
    let Ok(opened) = Opened::parse(&bundle) else {
        return false;
    };
    let bare = manifest.to_vec();
    let parts = Parts { bare, bundle };
    let is_about_it = matches!(opened.claims(&Digest::of(manifest)), Ok(Some(_)));
    is_about_it && signed_by(&parts, &opened, keys).await.is_ok()
}

/// Returns the first of the keys that has signed.
async fn signed_by<'a>(
    parts: &Parts,
    opened: &Opened,
    keys: &'a [NamedKey],
) -> Result<&'a NamedKey, Refusal> {
    let mut refusal = Refusal::Key;
    for named in keys {
        match &named.key {
            Verifier::Key(key) if opened.is_signed_with(key) => return Ok(named),
            Verifier::Key(_) => {}
            Verifier::Cosign(cosign, identity) => {
                match cosign.verify(identity, &parts.bare, &parts.bundle).await {
                    Ok(()) => return Ok(named),
                    Err(error) => refusal = Refusal::Cosign(error),
                }
            }
        }
    }
    Err(refusal)
}

/// Returns whether a text looks like the name of a commit; whoever has the key may claim anything.
fn is_commit(text: &str) -> bool {
    let digits = text.strip_suffix("-dirty").unwrap_or(text);
    (SHORT_COMMIT..=64).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit())
}

/// Returns the rule for a cache.
///
/// # Errors
///
/// Fails if there is none.
pub fn rule<'a>(trust: &'a Trust, name: &CacheName) -> Result<&'a Rule, Refusal> {
    let rule = trust.rule(name.tag.as_deref());
    rule.ok_or(match name.tag {
        Some(_) => Refusal::NoRule,
        None => Refusal::NoRuleForDigest,
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
    pub async fn judge(
        &self,
        manifest: &[u8],
        name: &CacheName,
        now: Timestamp,
    ) -> Result<Option<Signed>, Refusal> {
        let rule = rule(&self.trust, name)?;
        let expected = Expected {
            keys: &rule.keys,
            name: Some(name),
            max_age: self.max_age,
            now,
        };
        match judge(manifest, &expected).await {
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

    fn named(signer: &Signer) -> NamedKey {
        signer.named().unwrap()
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

    #[tokio::test]
    async fn a_signature_counts_for_its_key_and_its_place() {
        let (ours, theirs) = (signer("ours"), signer("theirs"));
        let keys = [named(&theirs), named(&ours)];
        for manifest in manifests() {
            let signed = sign(&ours, manifest.as_bytes(), &name("c"), NOW)
                .await
                .unwrap();
            let judged = judge(&signed, &expected(&keys, &name("c"))).await.unwrap();
            assert_eq!(judged.key, "ours");
            let alone = [named(&theirs)];
            let judge = async |keys, name: CacheName| {
                judge(&signed, &expected(keys, &name)).await.unwrap_err()
            };
            assert!(matches!(judge(&alone, name("c")).await, Refusal::Key));
            assert!(
                matches!(judge(&keys, name("d")).await, Refusal::Place(place) if place == "r.io/a:c")
            );
            let elsewhere = CacheName {
                repository: "r.io/b".into(),
                ..name("c")
            };
            assert!(matches!(judge(&keys, elsewhere).await, Refusal::Place(_)));
            let unsigned = super::judge(manifest.as_bytes(), &expected(&keys, &name("c"))).await;
            assert!(matches!(unsigned, Err(Refusal::Unsigned)));
        }
    }

    #[tokio::test]
    async fn every_changed_byte_is_noticed() {
        let ours = signer("ours");
        let keys = [named(&ours)];
        let signed = sign(&ours, manifests()[2].as_bytes(), &name("c"), NOW)
            .await
            .unwrap();
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            // The key's hint in the bundle is not signed, and not believed.
            if let Ok(judged) = judge(&changed, &expected(&keys, &name("c"))).await {
                let parts = embedded::take_apart(&changed).unwrap().unwrap();
                assert_eq!(parts.bare, manifests()[2].as_bytes());
                assert_eq!(judged.at, NOW);
            }
        }
    }

    #[tokio::test]
    async fn signatures_grow_old() {
        let ours = signer("ours");
        let keys = [named(&ours)];
        let c = name("c");
        let signed = sign(&ours, manifests()[0].as_bytes(), &c, NOW)
            .await
            .unwrap();
        let at = async |seconds: i64, max_age| {
            let expected = Expected {
                now: NOW + jiff::SignedDuration::from_secs(seconds),
                max_age,
                ..expected(&keys, &c)
            };
            judge(&signed, &expected).await
        };
        let hour = Some(Duration::from_secs(3600));
        assert!(at(3600, hour).await.is_ok() && at(7200, None).await.is_ok());
        assert!(at(-60, hour).await.is_ok());
        assert!(matches!(at(3601, hour).await, Err(Refusal::Old(_))));
        assert!(matches!(at(-7200, None).await, Err(Refusal::Future(_))));
    }

    #[tokio::test]
    async fn a_rule_decides_about_what_is_not_signed() {
        let ours = signer("ours");
        let manifest = &manifests()[0];
        let trust = |text: &str| {
            let read = |_: &str| Ok::<_, super::super::trust::TrustError>(vec![named(&ours)]);
            let trust = Arc::new(Trust::parse(text, read).unwrap());
            Policy {
                trust,
                max_age: None,
            }
        };
        let judge = async |policy: &Policy, tag: &str| {
            policy.judge(manifest.as_bytes(), &name(tag), NOW).await
        };
        let allows = trust("[[rule]]\nscopes=[\"pr-*\"]\nkeys=[\"k\"]\nunsigned=\"allow\"");
        assert!(matches!(judge(&allows, "pr-1").await, Ok(None)));
        assert!(matches!(
            judge(&allows, "b-main").await,
            Err(Refusal::NoRule)
        ));
        let pinned = CacheName {
            tag: None,
            ..name("")
        };
        let judged = allows.judge(manifest.as_bytes(), &pinned, NOW).await;
        assert!(matches!(judged, Err(Refusal::NoRuleForDigest)));
        let refuses = trust("[[rule]]\nkeys=[\"k\"]");
        assert!(matches!(
            judge(&refuses, "pr-1").await,
            Err(Refusal::Unsigned)
        ));
        let forged = sign(&signer("other"), manifest.as_bytes(), &name("pr-1"), NOW)
            .await
            .unwrap();
        let judged = allows.judge(&forged, &name("pr-1"), NOW).await;
        assert!(matches!(judged, Err(Refusal::Key)));
    }
}
