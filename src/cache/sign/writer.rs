//! The signature of a cache that is written.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;

use super::CacheName;
use super::bundle::{self, Claims};
use super::cosign::{Cosign, CosignError};
use super::embedded::{self, EmbeddedError};
use super::key::{KeyError, SigningKey};
use super::trust::NamedKey;
use super::verdict::{self, Expected};
use crate::digest::Digest;
use crate::options::cosign::Identity;

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
    /// cosign does not sign.
    #[error("cosign does not sign it")]
    Cosign(#[from] CosignError),
}

/// What signs.
#[derive(Debug)]
pub struct Signer {
    means: Means,
    public: Option<NamedKey>,
}

#[derive(Debug)]
enum Means {
    Key(Box<SigningKey>),
    Cosign(Arc<Cosign>),
}

impl Signer {
    /// Names a private key.
    pub fn new(key: SigningKey, name: &str) -> Self {
        let public = Some(NamedKey::new(name, key.public()));
        let means = Means::Key(Box::new(key));
        Self { means, public }
    }

    /// Takes the user's cosign, which signs as this one; where that names nobody, as the one that [it is known
    /// to](Cosign::own).
    pub fn cosign(cosign: Arc<Cosign>, identity: Identity) -> Self {
        let identity = if identity.is_empty() {
            cosign.own.clone()
        } else {
            Some(identity)
        };
        let public = identity.map(|identity| NamedKey::cosign(Arc::clone(&cosign), identity));
        let means = Means::Cosign(cosign);
        Self { means, public }
    }

    /// Returns what tells its signatures, where that is known.
    pub fn named(&self) -> Option<NamedKey> {
        self.public.clone()
    }

    /// Returns what signs, for people.
    pub fn text(&self) -> String {
        match (&self.means, &self.public) {
            (Means::Key(_), Some(public)) => format!("the key {}", public.short()),
            (_, Some(public)) => format!("cosign as {}", public.name),
            (_, None) => "cosign".to_owned(),
        }
    }

    async fn bundle(&self, bare: &[u8], claims: &Claims) -> Result<String, SignError> {
        match &self.means {
            Means::Key(key) => Ok(bundle::sign(key, &Digest::of(bare), claims)?),
            Means::Cosign(cosign) => Ok(cosign.sign(bare, claims).await?),
        }
    }
}

/// Signs a manifest, in place of a signature that it has.
///
/// # Errors
///
/// Fails if it is not that of a cache, or the key or cosign does not work.
pub async fn sign(
    signer: &Signer,
    manifest: &[u8],
    name: &CacheName,
    now: Timestamp,
) -> Result<Vec<u8>, SignError> {
    sign_claims(signer, manifest, &claims(name, None, now)).await
}

/// Returns what is claimed of a cache, with the commit that it was made from where that is told.
fn claims(name: &CacheName, commit: Option<&str>, now: Timestamp) -> Claims {
    Claims {
        repository: name.repository.clone(),
        tag: name.tag.clone().unwrap_or_default(),
        commit: commit.map(str::to_owned),
        signed_at: now,
        tool: TOOL.to_owned(),
    }
}

async fn sign_claims(
    signer: &Signer,
    manifest: &[u8],
    claims: &Claims,
) -> Result<Vec<u8>, SignError> {
    let bare = embedded::bare(manifest)?;
    let bundle = signer.bundle(&bare, claims).await?;
    Ok(embedded::embed(&bare, &bundle)?)
}

/// Makes a signature of a manifest as it is, for a referrer.
///
/// # Errors
///
/// Fails if the key or cosign does not work.
pub async fn refer(
    signer: &Signer,
    manifest: &[u8],
    name: &CacheName,
    now: Timestamp,
) -> Result<String, SignError> {
    signer.bundle(manifest, &claims(name, None, now)).await
}

/// Returns whether one of these bundles is a signature of a manifest as it is, by this signer.
pub async fn has_signed(signer: &Signer, manifest: &[u8], bundles: Vec<String>) -> bool {
    let keys: Vec<NamedKey> = signer.named().into_iter().collect();
    for bundle in bundles {
        if verdict::is_signed(manifest, bundle, &keys).await {
            return true;
        }
    }
    false
}

/// How one cache is signed that a build writes.
#[derive(Debug)]
pub struct Signing {
    signer: Arc<Signer>,
    name: CacheName,
    /// The keys whose caches it may be merged with.
    trusted: Vec<NamedKey>,
    /// How old their signatures may be.
    max_age: Option<Duration>,
    /// It is signed though the build read caches that are not verified.
    in_spite: bool,
    /// The commit that the CI says it builds, and the one of the context, once it is known.
    ci_commit: Option<String>,
    commit: OnceLock<String>,
    /// The caches that are not verified, once they are known.
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
        trusted.extend(signer.named());
        Self {
            signer,
            name,
            trusted,
            max_age: None,
            in_spite,
            ci_commit: None,
            commit: OnceLock::new(),
            unverified: OnceLock::new(),
            failed: OnceLock::new(),
        }
    }

    /// Tells the commit that the CI says it builds, unless the context's is known.
    #[must_use]
    pub fn at_commit(self, ci_commit: Option<String>) -> Self {
        Self { ci_commit, ..self }
    }

    /// Tells how old the signature of a cache may be that it is merged with: a new one makes an old one young.
    #[must_use]
    pub fn not_older_than(self, max_age: Option<Duration>) -> Self {
        Self { max_age, ..self }
    }

    /// Tells the commit of the context.
    pub fn of_commit(&self, commit: &str) {
        // The first one stays: a build has one context.
        let _set = self.commit.set(commit.to_owned());
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
    pub async fn distrusts(&self, manifest: &[u8]) -> Option<String> {
        let expected = Expected {
            keys: &self.trusted,
            name: Some(&self.name),
            max_age: self.max_age,
            now: Timestamp::now(),
        };
        let judged = verdict::judge(manifest, &expected).await;
        judged.err().map(|refusal| crate::error::chain(&refusal))
    }

    /// Signs a manifest; one that cannot be signed stays as it is.
    pub async fn sign(&self, manifest: &Bytes) -> Bytes {
        if !self.is_on() {
            return manifest.clone();
        }
        let commit = self.commit.get().or(self.ci_commit.as_ref());
        let claims = claims(&self.name, commit.map(String::as_str), Timestamp::now());
        match sign_claims(&self.signer, manifest, &claims).await {
            Ok(signed) => signed.into(),
            Err(error) => {
                self.give_up(&crate::error::chain(&error));
                manifest.clone()
            }
        }
    }

    /// Makes a signature of a manifest as it is, with its embedded one: for a referrer.
    ///
    /// # Errors
    ///
    /// Fails if the key or cosign does not work.
    pub async fn refer(&self, manifest: &[u8]) -> Result<String, SignError> {
        let commit = self.commit.get().or(self.ci_commit.as_ref());
        let claims = claims(&self.name, commit.map(String::as_str), Timestamp::now());
        self.signer.bundle(manifest, &claims).await
    }

    /// Returns whether one of these bundles is such a signature by its own key.
    pub async fn has_referred(&self, manifest: &[u8], bundles: Vec<String>) -> bool {
        has_signed(&self.signer, manifest, bundles).await
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
            None => format!("signed with {}", self.signer.text()),
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

    #[tokio::test]
    async fn what_it_signs_it_trusts() {
        let manifest = Bytes::from(manifests().remove(0));
        let (ours, theirs) = (signing(false), signing(false));
        let signed = ours.sign(&manifest).await;
        assert_eq!(ours.distrusts(&signed).await, None);
        assert!(theirs.distrusts(&signed).await.is_some());
        assert!(ours.distrusts(&manifest).await.is_some());
        assert!(ours.remark().starts_with("signed with the key "));
    }

    #[tokio::test]
    async fn what_is_too_old_to_be_read_is_not_merged() {
        let manifest = Bytes::from(manifests().remove(0));
        let signing = signing(false);
        let hour = Duration::from_secs(3600);
        let old = Timestamp::now() - 2 * hour;
        let signed = sign(&signing.signer, &manifest, &signing.name, old).await;
        let signed = signed.unwrap();
        assert_eq!(signing.distrusts(&signed).await, None);
        let strict = signing.not_older_than(Some(hour));
        let why = strict.distrusts(&signed).await.unwrap();
        assert!(why.contains("2 hours old"), "{why}");
        let fresh = strict.sign(&manifest).await;
        assert_eq!(strict.distrusts(&fresh).await, None);
    }

    #[tokio::test]
    async fn what_is_not_verified_is_not_vouched_for() {
        let manifest = Bytes::from(manifests().remove(0));
        let unverified = ["r.io/b:c".to_owned()];
        let careful = signing(false);
        careful.reads_unverified(&[]);
        assert!(careful.is_on());
        careful.reads_unverified(&unverified);
        assert_eq!(careful.sign(&manifest).await, manifest);
        assert!(careful.remark().contains("r.io/b:c"));
        let bold = signing(true);
        bold.reads_unverified(&unverified);
        assert!(bold.is_on());
        assert_eq!(bold.distrusts(&bold.sign(&manifest).await).await, None);
    }

    #[tokio::test]
    async fn what_cannot_be_signed_stays_as_it_is() {
        let signing = signing(false);
        let image = Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
        assert_eq!(signing.sign(&image).await, image);
        assert!(signing.remark().starts_with("not signed: "));
    }
}
