//! Record and signature added to a cache that BuildKit has written, and mounts added to any. Between the two writes readers
//! see the cache without them.

use jiff::Timestamp;

use super::mounts::Mounts;
use super::store::{self, NewRecord, OldRecord, Written, is_refusal};
use crate::cache::manifest::{CacheManifest, ManifestError};
use crate::cache::sign::embedded::take_apart;
use crate::cache::sign::writer::Signing;
use crate::digest::Digest;
use crate::registry::manifest::ManifestDescriptor;
use crate::registry::{RegistryError, Repository};

/// How often a tag is read that others write at the same time.
const TRIES: usize = 5;

/// Why a record or mounts are not added.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest cannot be written.
    #[error("cannot write the manifest")]
    Json(#[from] serde_json::Error),
}

/// What became of a record, or of mounts.
#[derive(Debug)]
pub enum Attached {
    /// The reference holds this manifest, which has it.
    With(ManifestDescriptor),
    /// The registry refuses it; the cache stays as it is.
    Refused,
}

/// What is added to a cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct New<'a> {
    /// The record of the build.
    pub record: Option<&'a NewRecord>,
    /// How it is signed.
    pub signing: Option<&'a Signing>,
}

/// Adds record and signature to the cache under a tag, if that still is what was written. `before` is the record that
/// the cache had before that. `None` where nothing is added.
///
/// # Errors
///
/// Fails if the registry cannot be asked, or what it holds is no cache.
pub async fn attach(
    repository: &Repository,
    tag: &str,
    written: &Digest,
    before: &OldRecord,
    new: New<'_>,
) -> Result<Option<Attached>, AttachError> {
    let Some(raw) = repository
        .manifest(tag)
        .await?
        .filter(|raw| raw.digest == *written)
    else {
        tracing::debug!(
            tag,
            "another build has written the cache meanwhile: nothing is added"
        );
        return Ok(None);
    };
    let mut manifest = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
    if !manifest.is_cache() {
        return Ok(None);
    }
    let record = match new.record {
        Some(new) => store::store(repository, before, new, false, manifest.form).await,
        None => None,
    };
    manifest.extras.set_record(record);
    let with = Written::of(&manifest)?.signed(new.signing).await;
    let with = match new.signing {
        // Without the record it is better than without the signature.
        Some(_) => with,
        // Where there is no room for a record it is as if there were none.
        None if with.without.is_none() => return Ok(None),
        // Without the record it is there already.
        None => with.or_nothing(),
    };
    replace(repository, tag, written, &with, new.signing).await
}

/// Adds mounts to the cache under a tag, in place of those that it has of the same names; what it had `before` and has not
/// now comes back. The manifest is signed anew if the cache is. `None` where there is nothing to add, no cache, no room, or
/// a signature that is not this build's.
///
/// # Errors
///
/// Fails if the registry cannot be asked.
pub async fn attach_mounts(
    repository: &Repository,
    tag: &str,
    before: &Mounts,
    new: &Mounts,
    signing: Option<&Signing>,
) -> Result<Option<Attached>, AttachError> {
    for _ in 0..TRIES {
        let Some(raw) = repository.manifest(tag).await? else {
            return Ok(None);
        };
        let mut manifest = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
        let mut mounts = manifest.extras.mounts().clone();
        mounts.merge(before);
        mounts.merge(new);
        if !manifest.is_cache() || mounts == *manifest.extras.mounts() {
            return Ok(None);
        }
        if let Some(why) = keeps_signature(&raw.bytes, signing).await {
            tracing::debug!(tag, why, "no mounts are added");
            return Ok(None);
        }
        manifest.extras.set_mounts(mounts);
        let mut notes = manifest.extras.notes().clone();
        if notes.tag.as_deref() == Some(tag) {
            notes.note(&raw.digest, Timestamp::now());
            manifest.extras.set_notes(notes);
        }
        manifest.extras = manifest.extras.in_form(manifest.form);
        let with = Written::of(&manifest)?.signed(signing).await;
        let is_signed = match signing {
            Some(signing) => signing.distrusts(&with.with).await.is_none(),
            None => true,
        };
        if with.without.is_none() || !is_signed {
            tracing::debug!(
                tag,
                is_signed,
                "the mounts have no room, or cannot be signed"
            );
            return Ok(None);
        }
        let with = with.or_nothing();
        if let Some(attached) = replace(repository, tag, &raw.digest, &with, signing).await? {
            return Ok(Some(attached));
        }
    }
    Ok(None)
}

/// Returns why a manifest must stay as it is: a signature must not vouch for what others have written, and one that this
/// build cannot make again is worth more than mounts.
async fn keeps_signature(manifest: &[u8], signing: Option<&Signing>) -> Option<String> {
    match (signing, take_apart(manifest)) {
        (Some(signing), _) => signing.distrusts(manifest).await,
        (None, Ok(None)) => None,
        (None, _) => Some("it is signed, and this build does not sign".to_owned()),
    }
}

/// Writes a manifest under a tag in place of another one; `None` where that is there no more.
async fn replace(
    repository: &Repository,
    tag: &str,
    old: &Digest,
    new: &Written,
    signing: Option<&Signing>,
) -> Result<Option<Attached>, AttachError> {
    let now = repository.manifest_descriptor(tag).await?;
    if now.is_none_or(|now| now.digest != *old) {
        return Ok(None);
    }
    match store::put(repository, Some(tag), new, signing).await {
        Ok(put) => Ok(Some(Attached::With(ManifestDescriptor {
            media_type: new.media_type.to_owned(),
            digest: put.digest,
            size: put.bytes.len() as u64,
        }))),
        Err(error) if is_refusal(&error) => Ok(Some(Attached::Refused)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::cache::extras::mounts::{Mount, MountName};
    use crate::cache::media::OCI_MANIFEST;
    use crate::cache::record::Record;
    use crate::cache::sign::CacheName;
    use crate::cache::sign::key::{Algorithm, SigningKey};
    use crate::cache::sign::writer::Signer;
    use crate::registry::tests::{Fault, ScriptedRegistry, pushable};

    const TAG: &str = "cache";

    /// Writes a cache without layers, and returns its digest.
    async fn written(repository: &Repository, size: u64) -> Digest {
        let config = json!({
            "mediaType": "application/vnd.buildkit.cacheconfig.v0",
            "digest": Digest::of(b"{}").as_str(),
            "size": size,
        });
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []});
        let bytes = Bytes::from(manifest.to_string());
        let put = repository.put_manifest(TAG, OCI_MANIFEST, &bytes);
        put.await.unwrap()
    }

    async fn attached(repository: &Repository, to: &Digest) -> Option<Attached> {
        let new = NewRecord::Of(Arc::new(Record::default()));
        let before = OldRecord::default();
        let new = New {
            record: Some(&new),
            signing: None,
        };
        attach(repository, TAG, to, &before, new).await.unwrap()
    }

    fn mount(id: &str) -> Mounts {
        let name = MountName {
            id: id.to_owned(),
            platform: String::new(),
            base: String::new(),
        };
        let mut mounts = Mounts::default();
        let index = crate::mounts::Index::default();
        let now = Timestamp::UNIX_EPOCH;
        mounts.set(&name, Mount::new(&name, id.as_bytes(), &index, now));
        mounts
    }

    fn signing() -> Signing {
        let pem = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let signer = Signer::new(SigningKey::parse(&pem).unwrap(), "k");
        let name = CacheName {
            repository: "r.io/a".into(),
            tag: Some(TAG.into()),
        };
        Signing::new(Arc::new(signer), name, Vec::new(), false)
    }

    async fn holds(repository: &Repository) -> CacheManifest {
        let raw = repository.manifest(TAG).await.unwrap().unwrap();
        CacheManifest::parse(&raw.bytes, &raw.media_type).unwrap()
    }

    #[tokio::test]
    async fn a_cache_gets_a_record_and_no_more_layers() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let before = written(&repository, 2).await;
        let with = attached(&repository, &before).await;
        assert!(matches!(with, Some(Attached::With(now)) if now.digest != before));
        let manifest = holds(&repository).await;
        assert!(manifest.extras.record().is_some() && manifest.layers.is_empty());
    }

    #[tokio::test]
    async fn a_registry_that_refuses_it_keeps_the_cache_as_it_was() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let before = written(&repository, 2).await;
        let body = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown media type"}]}"#;
        let refusal = Fault::Status(400, Vec::new(), body);
        registry.fault("PUT", "/manifests/", (0, 1), refusal);
        let refused = attached(&repository, &before).await;
        assert!(matches!(refused, Some(Attached::Refused)));
        let stored = registry.manifest("team/app", TAG).unwrap();
        assert_eq!(Digest::of(&stored), before);
    }

    #[tokio::test]
    async fn mounts_are_added_and_come_back_once_lost() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let none = Mounts::default();
        assert!(
            attach_mounts(&repository, TAG, &none, &mount("go"), None)
                .await
                .unwrap()
                .is_none()
        );
        written(&repository, 2).await;
        let added = attach_mounts(&repository, TAG, &none, &mount("go"), None)
            .await
            .unwrap();
        assert!(matches!(added, Some(Attached::With(_))));
        let before = holds(&repository).await.extras.mounts().clone();
        let again = attach_mounts(&repository, TAG, &before, &none, None)
            .await
            .unwrap();
        assert!(again.is_none());
        written(&repository, 3).await;
        assert!(holds(&repository).await.extras.has_no_entry());
        attach_mounts(&repository, TAG, &before, &mount("npm"), None)
            .await
            .unwrap();
        assert_eq!(holds(&repository).await.extras.mounts().iter().count(), 2);
    }

    #[tokio::test]
    async fn mounts_are_signed_with_their_cache_or_not_added() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let (ours, theirs, none) = (signing(), signing(), Mounts::default());
        let held = || registry.manifest("team/app", TAG).unwrap();
        let add = async |id: &str, signing: Option<&Signing>| {
            let new = mount(id);
            let added = attach_mounts(&repository, TAG, &none, &new, signing).await;
            added.unwrap()
        };
        // A signature vouches for no manifest of others.
        let before = written(&repository, 2).await;
        assert!(add("go", Some(&ours)).await.is_none());
        assert_eq!(Digest::of(&held()), before);
        let new = New {
            record: None,
            signing: Some(&ours),
        };
        let old = OldRecord::default();
        attach(&repository, TAG, &before, &old, new).await.unwrap();
        assert_eq!(ours.distrusts(&held()).await, None);
        let added = add("go", Some(&ours)).await;
        let Some(Attached::With(with)) = &added else {
            panic!("{added:?}")
        };
        assert_eq!(
            (&with.digest, with.size),
            (&Digest::of(&held()), held().len() as u64)
        );
        assert_eq!(ours.distrusts(&held()).await, None);
        assert_eq!(holds(&repository).await.extras.mounts().iter().count(), 1);
        // Nor is one given up: by another key, without a key, by a build that reads what is not verified.
        ours.reads_unverified(&["r.io/b:c".to_owned()]);
        let signed = held();
        for signing in [Some(&theirs), None, Some(&ours)] {
            assert!(add("npm", signing).await.is_none());
            assert_eq!(held(), signed);
        }
    }

    #[tokio::test]
    async fn a_cache_that_another_build_has_written_is_left_alone() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let before = written(&repository, 2).await;
        written(&repository, 3).await;
        let puts = registry.count("PUT", "");
        assert!(attached(&repository, &before).await.is_none());
        assert_eq!(registry.count("PUT", ""), puts);
    }
}
