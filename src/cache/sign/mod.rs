//! Signed caches: whoever may push to a registry can poison a cache, and only a signature tells.
//!
//! The signature is an annotation of the manifest itself, so that tag and signature change at once, and nothing else is
//! left behind in the registry. It is a [sigstore bundle](bundle) about the same manifest without that annotation; all
//! else follows by digest. BuildKit ignores it.
//!
//! | file | holds |
//! |---|---|
//! | [`key`] | private and public keys: P-256 and Ed25519 as PEM |
//! | [`bundle`] | what is signed, and the form that it has |
//! | [`embedded`] | the bundle in the manifest, and the manifest without it |
//! | [`cosign`] | the user's cosign, which signs and verifies in place of a key |
//! | [`verdict`] | whether a manifest is signed as it must be |
//! | [`trust`] | which keys count for which cache |
//! | [`keyring`] | the keys of one command |
//! | [`writer`] | the signature of a cache that is written |
//!
//! A manifest that is made again has no signature: [`CacheManifest`](super::manifest::CacheManifest) leaves the
//! annotation out when it is read, so merging, cutting and healing cannot pass one on.

pub mod bundle;
pub mod cosign;
pub mod embedded;
pub mod key;
pub mod keyring;
pub mod trust;
pub mod verdict;
pub mod writer;

/// Annotation of a manifest that holds its signature.
pub const ANNOTATION: &str = "dev.docker-cachex.signature";

/// The name of a cache: what a signature says that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheName {
    /// The repository with its registry.
    pub repository: String,
    /// The tag; `None` where a digest names the cache.
    pub tag: Option<String>,
}

impl CacheName {
    /// Returns the name of the cache that a reference names.
    pub fn of(reference: &crate::reference::Reference) -> Self {
        let tag = reference.tag.clone();
        let is_pinned = reference.digest.is_some();
        let default = || (!is_pinned).then(|| crate::reference::DEFAULT_TAG.to_owned());
        Self {
            repository: reference.name(),
            tag: tag.or_else(default),
        }
    }
}
