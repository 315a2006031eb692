//! The record added to a cache that BuildKit has written. Between the two writes readers see the cache without it.

use super::Extras;
use super::store::{self, NewRecord, Written, is_refusal};
use crate::cache::manifest::{CacheManifest, ManifestError};
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

/// Adds the record to the cache under a tag, if that still is what was written. `before` are the entries that the cache
/// had before that. `None` where it is not added.
///
/// # Errors
///
/// Fails if the registry cannot be asked, or what it holds is no cache.
pub async fn attach(
    repository: &Repository,
    tag: &str,
    written: &Digest,
    before: &Extras,
    new: &NewRecord,
) -> Result<Option<Attached>, AttachError> {
    let Some(raw) = repository
        .manifest(tag)
        .await?
        .filter(|raw| raw.digest == *written)
    else {
        tracing::debug!(
            tag,
            "another build has written the cache meanwhile: no record is added"
        );
        return Ok(None);
    };
    let mut manifest = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
    if !manifest.is_cache() {
        return Ok(None);
    }
    let record = store::store(repository, before.record(), new, false, manifest.form).await;
    if record.is_none() {
        return Ok(None);
    }
    manifest.extras.set_record(record);
    let with = Written::of(&manifest)?;
    if with.without.is_none() {
        // There is no room for it.
        return Ok(None);
    }
    let now = repository.manifest_descriptor(tag).await?;
    if now.is_none_or(|now| now.digest != *written) {
        return Ok(None);
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
