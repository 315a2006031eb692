//! The signature of a cache that is written.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;

use super::CacheName;
use super::bundle::{self, Claims};
use super::embedded::{self, EmbeddedError};
use super::key::{KeyError, SigningKey};
use super::trust::NamedKey;
use super::verdict::{self, Expected};
use crate::digest::Digest;

/// What signs, as a signature names it.
const TOOL: &str = concat!("docker-cachex ", env!("CARGO_PKG_VERSION"));

/// Why a manifest is not signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// It is of a kind that is not signed.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The key does not work.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A private key with its name.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    public: NamedKey,
}

impl Signer {
    /// Names a key.
    pub fn new(key: SigningKey, name: &str) -> Self {
        let public = NamedKey {
            name: name.to_owned(),
            key: key.public(),
        };
        Self { key, public }
    }

    /// Returns the public key.
    pub fn named(&self) -> NamedKey {
        self.public.clone()
    }
}

/// Signs a manifest, in place of a signature that it has.
///
/// # Errors
///
/// Fails if it is not that of a cache, or the key does not work.
pub fn sign(
    signer: &Signer,
    manifest: &[u8],
    name: &CacheName,
    now: Timestamp,
) -> Result<Vec<u8>, SignError> {
    let bare = embedded::bare(manifest)?;
    let claims = Claims {
        repository: name.repository.clone(),
        tag: name.tag.clone().unwrap_or_default(),
        signed_at: now,
        tool: TOOL.to_owned(),
    };
    let bundle = bundle::sign(&signer.key, &Digest::of(&bare), &claims)?;
    Ok(embedded::embed(&bare, &bundle)?)
}

/// How one cache is signed that a build writes.
#[derive(Debug)]
pub struct Signing {
    signer: Arc<Signer>,
    name: CacheName,
    /// The keys whose caches it may be merged with.
    trusted: Vec<NamedKey>,
    /// It is signed though the build read caches that are not verified.
    in_spite: bool,
    /// Those caches, once they are known.
    unverified: OnceLock<Vec<String>>,
    /// Why it could not be signed.
    failed: OnceLock<String>,
}

impl Signing {
    /// Prepares to sign. `trusted` are the keys besides its own whose caches it may be merged with; `in_spite` is whether
    /// it is signed though the build reads caches that are not verified.
    pub fn new(
        signer: Arc<Signer>,
        name: CacheName,
        mut trusted: Vec<NamedKey>,
        in_spite: bool,
    ) -> Self {
        trusted.push(signer.named());
        Self {
            signer,
            name,
            trusted,
            in_spite,
            unverified: OnceLock::new(),
            failed: OnceLock::new(),
        }
    }

    /// Takes the names of caches that the build reads and that are not verified: their results are among its own, and
    /// a signature would vouch for them.
    pub fn reads_unverified(&self, caches: &[String]) {
        if !caches.is_empty() && !self.in_spite {
            // The first ones stay: a build opens its caches once.
            let _set = self.unverified.set(caches.to_vec());
        }
    }

    /// Returns whether the cache is signed.
    pub fn is_on(&self) -> bool {
        self.unverified.get().is_none()
    }

    /// Returns why what the reference holds must not become part of a signed cache; `None` if it may.
    pub fn distrusts(&self, manifest: &[u8]) -> Option<String> {
        let expected = Expected {
            keys: &self.trusted,
            name: Some(&self.name),
            max_age: None,
            now: Timestamp::now(),
        };
        let judged = verdict::judge(manifest, &expected);
        judged.err().map(|refusal| crate::error::chain(&refusal))
    }

    /// Signs a manifest; one that cannot be signed stays as it is.
    pub fn sign(&self, manifest: &Bytes) -> Bytes {
        if !self.is_on() {
            return manifest.clone();
        }
        match sign(&self.signer, manifest, &self.name, Timestamp::now()) {
            Ok(signed) => signed.into(),
            Err(error) => {
                self.give_up(&crate::error::chain(&error));
                manifest.clone()
            }
        }
    }

    /// Notes why the cache is not signed.
    pub fn give_up(&self, why: &str) {
        let _set = self.failed.set(why.to_owned());
    }

    /// Returns what became of the signature, for people.
    pub fn remark(&self) -> String {
        if let Some(caches) = self.unverified.get() {
            return format!(
                "not signed: the build reads what is not verified ({}); sign-unverified=true signs it all the same",
                caches.join(", ")
            );
        }
        match self.failed.get() {
            Some(why) => format!("not signed: {why}"),
            None => format!("signed with the key {}", self.signer.public.key.short()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::embedded::tests::manifests;
    use super::super::key::Algorithm;
    use super::*;

    fn signing(in_spite: bool) -> Signing {
        let pem = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let signer = Signer::new(SigningKey::parse(&pem).unwrap(), "k");
        let name = CacheName {
            repository: "r.io/a".into(),
            tag: Some("c".into()),
        };
        Signing::new(Arc::new(signer), name, Vec::new(), in_spite)
    }

    #[test]
    fn what_it_signs_it_trusts() {
        let manifest = Bytes::from(manifests().remove(0));
        let (ours, theirs) = (signing(false), signing(false));
        let signed = ours.sign(&manifest);
        assert_eq!(ours.distrusts(&signed), None);
        assert!(theirs.distrusts(&signed).is_some());
        assert!(ours.distrusts(&manifest).is_some());
        assert!(ours.remark().starts_with("signed with the key "));
    }

    #[test]
    fn what_is_not_verified_is_not_vouched_for() {
        let manifest = Bytes::from(manifests().remove(0));
        let unverified = ["r.io/b:c".to_owned()];
        let careful = signing(false);
        careful.reads_unverified(&[]);
        assert!(careful.is_on());
        careful.reads_unverified(&unverified);
        assert_eq!(careful.sign(&manifest), manifest);
        assert!(careful.remark().contains("r.io/b:c"));
        let bold = signing(true);
        bold.reads_unverified(&unverified);
        assert!(bold.is_on());
        assert_eq!(bold.distrusts(&bold.sign(&manifest)), None);
    }

    #[test]
    fn what_cannot_be_signed_stays_as_it_is() {
        let signing = signing(false);
        let image = Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
        assert_eq!(signing.sign(&image), image);
        assert!(signing.remark().starts_with("not signed: "));
    }
}
