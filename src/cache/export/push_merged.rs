//! A cache kept under a reference together with what is there.
//!
//! Registries have no compare-and-swap. So: read the tag, merge, write the manifest under its digest,
//! look whether the tag is still what was read, write it, wait, and read it again until it was seen to
//! hold the cache. The wait is longer than others take from their look to their write, as measured by
//! the writer's own; where others were seen to write, the tag is looked at twice. One who is held up
//! between look and write for longer than that may still overwrite what was finished meanwhile.

mod merged;
mod writer;

use std::collections::HashSet;
use std::hash::BuildHasher;

use bytes::Bytes;
use jiff::Timestamp;

pub use self::merged::Merged;
use self::writer::Writer;
pub use self::writer::stale;
use super::PublishError;
use super::beside::Beside;
use crate::cache::config::CacheConfig;
use crate::cache::extras::clean;
use crate::cache::extras::notes::Notes;
use crate::cache::extras::store::{self, OldRecord};
use crate::cache::manifest::CacheManifest;
use crate::cache::merge::{Bounds, Contents};
use crate::digest::Digest;
use crate::registry::{BlobSource, RawManifest, RegistryError, Repository, UploadOptions};

/// The remark about a registry that does not take the record.
pub const REFUSED: &str = "the registry refuses the record of the build: left out";

/// Where a cache is kept, and how.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The tag.
    pub reference: &'a str,
    /// How much the merged cache may hold.
    pub bounds: &'a Bounds,
    /// The present time.
    pub now: Timestamp,
    /// What goes with it.
    pub beside: Beside<'a>,
}

impl Place<'_> {
    /// Returns the notes of a manifest that is written in place of one. A tag that is not cleaned by this build goes on noting
    /// what it has begun to note.
    fn notes(&self, held: &Notes, replaces: Option<&Digest>) -> Notes {
        match self.beside.cleaning {
            Some(cleaning) => cleaning.notes(self.reference, held, replaces, self.now),
            None if held.tag.is_some() => clean::next(self.reference, held, replaces, self.now),
            None => Notes::default(),
        }
    }

    /// Returns the notes of a manifest that is written in place of the one that the tag holds now.
    pub(super) async fn notes_over_what_is_there(&self) -> Result<Notes, RegistryError> {
        let Some(raw) = self.repository.manifest(self.reference).await? else {
            return Ok(self.notes(&Notes::default(), None));
        };
        let held = CacheManifest::parse(&raw.bytes, &raw.media_type).ok();
        let held = held.map_or_else(Notes::default, |held| held.extras.notes().clone());
        Ok(self.notes(&held, Some(&raw.digest)))
    }
}

/// Keeps a new cache of a build under a reference: as [`merge`], and all that is new counts as used at
/// the present time, so that it is dropped last.
///
/// # Errors
///
/// As [`merge`].
pub async fn publish<S: BuildHasher>(
    place: Place<'_>,
    ours: &Contents,
    stored: &HashSet<Digest, S>,
) -> Result<Merged, PublishError> {
    let mut ours = ours.clone();
    ours.touch(place.now);
    merge(place, &ours, stored).await
}

/// Merges a cache with what a reference holds, and returns once the reference was seen to hold both.
/// Costs two requests where nothing is new.
///
/// `stored` are blobs known to be in the repository. Of all others the registry is asked before they
/// are referred to.
///
/// What the reference holds and is not a cache, or cannot be read as one, is replaced; the answer says so.
///
/// # Errors
///
/// [`Lost`](PublishError::Lost) where blobs of the new cache are not in the repository: nothing is
/// written then. [`Overwritten`](PublishError::Overwritten) where others write without pause. Else
/// where the registry refuses; what the reference held is intact.
pub async fn merge<S: BuildHasher>(
    place: Place<'_>,
    ours: &Contents,
    stored: &HashSet<Digest, S>,
) -> Result<Merged, PublishError> {
    let mut writer = Writer::new(place, ours, stored.iter().cloned());
    Box::pin(writer.run()).await
}

/// Writes a cache in place of what a reference holds. All its blobs must be in the repository.
///
/// # Errors
///
/// Fails if the registry refuses; what the reference held is intact.
pub async fn replace(place: Place<'_>, contents: &Contents) -> Result<Merged, PublishError> {
    let mut contents = contents.clone();
    let dropped = contents.bound(place.bounds, place.now)?;
    let none = OldRecord::default();
    let record = match place.beside.record {
        Some(new) => store::store(place.repository, &none, new, false, contents.form()).await,
        None => None,
    };
    let mut extras = contents.extras().clone();
    extras.set_record(record);
    extras.set_notes(place.notes_over_what_is_there().await?);
    contents.set_extras(extras);
    let parts = contents.to_parts()?;
    put_config(place.repository, &parts.config_digest, &parts.config, true).await?;
    let tag = Some(place.reference);
    let written = parts.written().signed(place.beside.signing).await;
    let put = store::put(place.repository, tag, &written, place.beside.signing).await?;
    Ok(Merged {
        manifest: put.digest,
        unchanged: false,
        layers: contents.blobs().count(),
        results: contents.results(),
        others: 0,
        dropped,
        lost: 0,
        replaced: None,
        refused: put.refused,
    })
}

/// Stores a config, which is written before the manifest that names it.
pub(super) async fn put_config(
    repository: &Repository,
    digest: &Digest,
    config: &Bytes,
    check_exists: bool,
) -> Result<(), RegistryError> {
    let options = UploadOptions {
        check_exists,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(config.clone());
    let uploaded = repository.upload(digest, config.len() as u64, &source, &options);
    uploaded.await.map(drop)
}

/// Reads a cache; the inner error says why what is there is none.
async fn read_contents(
    repository: &Repository,
    raw: &RawManifest,
) -> Result<Result<Contents, String>, RegistryError> {
    let manifest = match CacheManifest::parse(&raw.bytes, &raw.media_type) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(crate::error::chain(&error))),
    };
    let Some(config) = manifest.config.as_ref().filter(|_| manifest.is_cache()) else {
        return Ok(Err("it is an image or an index of images".to_owned()));
    };
    if config.size > CacheConfig::MAX_BYTES as u64 {
        let limit = CacheConfig::MAX_BYTES;
        let size = config.size;
        return Ok(Err(format!(
            "its config has {size} bytes, more than the {limit} that are read"
        )));
    }
    let bytes = match repository.read_blob(&config.digest, config.size).await {
        Ok(bytes) => bytes,
        Err(error)
            if error.is_not_found() || matches!(error, RegistryError::DigestMismatch { .. }) =>
        {
            return Ok(Err(crate::error::chain(&error)));
        }
        Err(error) => return Err(error),
    };
    let config = CacheConfig::parse(&bytes);
    let contents = config.and_then(|config| Contents::new(&manifest, &config));
    Ok(contents.map_err(|error| crate::error::chain(&error)))
}

#[cfg(test)]
mod tests;
