//! The record and the signature added to a cache that BuildKit has written. Between the two writes readers see the cache
//! without them.

use super::store::{self, NewRecord, OldRecord, Written, is_refusal};
use crate::cache::manifest::{CacheManifest, ManifestError};
use crate::cache::sign::writer::Signing;
use crate::digest::Digest;
use crate::registry::manifest::ManifestDescriptor;
use crate::registry::{RegistryError, Repository};

/// Why a record is not added.
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

/// What became of a record.
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
    let with = Written::of(&manifest)?;
    // Where there is no room for a record it is as if there were none.
    if with.without.is_none() && new.signing.is_none() {
        return Ok(None);
    }
    let with = with.signed(new.signing);
    let now = repository.manifest_descriptor(tag).await?;
    if now.is_none_or(|now| now.digest != *written) {
        return Ok(None);
    }
    if new.signing.is_some() {
        // Without the record it is better than without the signature.
        let (digest, refused) = store::put(repository, Some(tag), &with).await?;
        let bytes = with.without.filter(|_| refused).unwrap_or(with.with);
        return Ok(Some(Attached::With(ManifestDescriptor {
            media_type: with.media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
        })));
    }
    let size = with.with.len() as u64;
    match repository
        .put_manifest(tag, with.media_type, &with.with)
        .await
    {
        Ok(digest) => Ok(Some(Attached::With(ManifestDescriptor {
            media_type: with.media_type.to_owned(),
            digest,
            size,
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
    use crate::cache::media::OCI_MANIFEST;
    use crate::cache::record::Record;
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
