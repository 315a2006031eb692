//! The record of a build stored in a registry, and a manifest written with it. Nothing here fails an export:
//! what cannot be stored is left out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::record_entry;
use crate::cache::MAX_METADATA;
use crate::cache::descriptor::Descriptor;
use crate::cache::manifest::CacheManifest;
use crate::cache::media::Form;
use crate::cache::record::blob::MAX_BYTES;
use crate::cache::record::observe::Observed;
use crate::cache::record::{Detail, Record, RecordError};
use crate::cache::sign::writer::Signing;
use crate::cache::source::{CacheSource, SourceError};
use crate::digest::Digest;
use crate::registry::{BlobSource, RegistryError, Repository, UploadOptions};

/// How long a record may hold up the end of a build.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is told of the builds that wrote a cache.
#[derive(Debug, Clone)]
pub enum NewRecord {
    /// A build that has just run.
    Build(Arc<Observed>, Detail),
    /// The records of other caches.
    Of(Arc<Record>),
}

impl NewRecord {
    /// Returns the record as it follows on the one that the cache had.
    fn after(&self, old: Option<&Record>, keep: bool) -> Record {
        match self {
            Self::Build(observed, detail) => observed.record(*detail, old, keep),
            Self::Of(record) => {
                let mut merged = Record::clone(record);
                if let Some(old) = old.filter(|_| keep) {
                    merged.add(old);
                }
                // The old one stays as it is where it says all.
                match old {
                    Some(old) if merged.builds.len() == old.builds.len() => old.clone(),
                    _ => merged,
                }
            }
        }
    }
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The cache's blobs cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Reads a record.
///
/// # Errors
///
/// Fails if it is not there, or is none.
pub async fn read(repository: &Repository, entry: &Descriptor) -> Result<Record, ReadError> {
    if entry.size > MAX_BYTES as u64 {
        return Err(RecordError::TooLarge.into());
    }
    let blob = repository.read_blob(&entry.digest, entry.size).await?;
    Ok(Record::from_blob(&blob)?)
}

/// Reads the record of a cache that is looked at.
///
/// # Errors
///
/// Fails if it is not there, or is none.
pub async fn read_from(source: &CacheSource, entry: &Descriptor) -> Result<Record, ReadError> {
    if entry.size > MAX_BYTES as u64 {
        return Err(RecordError::TooLarge.into());
    }
    let blob = source.blob(entry).await?;
    Ok(Record::from_blob(&blob)?)
}

/// The record that a cache had.
#[derive(Debug, Clone, Default)]
pub struct OldRecord {
    entry: Option<Descriptor>,
    /// The blob, where it was read.
    blob: Option<Bytes>,
}

impl OldRecord {
    /// Names a record, which is read when it is needed; without an entry there was none.
    pub fn at(entry: Option<&Descriptor>) -> Self {
        Self {
            entry: entry.cloned(),
            blob: None,
        }
    }

    /// Reads a record. What cannot be read now may be read later.
    pub async fn read(repository: &Repository, entry: Option<&Descriptor>) -> Self {
        let mut old = Self::at(entry);
        if let Some(entry) = entry.filter(|entry| entry.size <= MAX_BYTES as u64) {
            match repository.read_blob(&entry.digest, entry.size).await {
                Ok(blob) => old.blob = Some(blob.into()),
                Err(error) => log_unread(&error),
            }
        }
        old
    }

    /// Returns the record. One that cannot be read, or of another version, is as none: it is replaced.
    async fn load(&self, repository: &Repository) -> Option<Record> {
        let read = match (&self.blob, &self.entry) {
            (Some(blob), _) => Record::from_blob(blob).map_err(ReadError::from),
            (None, Some(entry)) => read(repository, entry).await,
            (None, None) => return None,
        };
        read.inspect_err(|error| log_unread(error)).ok()
    }
}

fn log_unread(error: &(dyn std::error::Error + 'static)) {
    tracing::debug!(error = %crate::error::chain(error), "the old record is not read");
}

/// Stores a record, and returns its entry; `None` where it cannot be stored. `keep` is whether the other builds of the
/// old record stay.
pub async fn store(
    repository: &Repository,
    old: &OldRecord,
    new: &NewRecord,
    keep: bool,
    form: Form,
) -> Option<Descriptor> {
    let stored = tokio::time::timeout(PATIENCE, try_store(repository, old, new, keep, form)).await;
    match stored {
        Ok(Ok(entry)) => Some(entry),
        Ok(Err(error)) => {
            tracing::debug!(error = %crate::error::chain(&error), "the record is not stored");
            None
        }
        Err(_) => {
            tracing::debug!("the record is not stored: the registry takes too long");
            None
        }
    }
}

async fn try_store(
    repository: &Repository,
    old: &OldRecord,
    new: &NewRecord,
    keep: bool,
    form: Form,
) -> Result<Descriptor, ReadError> {
    let before = old.load(repository).await;
    let (new, was) = (new.clone(), before.clone());
    // The lists of files of a large context take long enough to hold up what else this thread does.
    let made = tokio::task::spawn_blocking(move || {
        let record = new.after(was.as_ref(), keep);
        let is_new = was.as_ref() != Some(&record);
        is_new.then(|| record.to_blob()).transpose()
    });
    let made = made.await.map_err(std::io::Error::other);
    let made = made.map_err(RecordError::from)??;
    let Some(blob) = made else {
        return old.entry.clone().ok_or(RecordError::TooLarge.into());
    };
    let options = UploadOptions {
        check_exists: old.entry.is_some(),
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(blob.bytes.clone());
    let size = blob.bytes.len() as u64;
    repository
        .upload(&blob.digest, size, &source, &options)
        .await?;
    Ok(record_entry(&blob, form))
}

/// A manifest with entries of this program, as it is to be written.
#[derive(Debug, Clone)]
pub struct Written {
    /// With the entries.
    pub with: Bytes,
    /// With the notes alone, for registries that refuse it.
    pub without: Option<Bytes>,
    /// Its media type.
    pub media_type: &'static str,
}

impl Written {
    /// Prepares a manifest. One that would be too large for BuildKit with the entries is written without.
    ///
    /// # Errors
    ///
    /// Fails only where a kept unknown field cannot be written.
    pub fn of(manifest: &CacheManifest) -> Result<Self, serde_json::Error> {
        let media_type = manifest.form.media_type();
        let bytes = Bytes::from(manifest.to_bytes()?);
        if manifest.extras.has_no_entry() {
            return Ok(Self {
                with: bytes,
                without: None,
                media_type,
            });
        }
        let mut plain = manifest.clone();
        plain.extras = manifest.extras.without_entries();
        let plain = Bytes::from(plain.to_bytes()?);
        let written = Self {
            with: bytes,
            without: Some(plain),
            media_type,
        };
        Ok(written.fitting())
    }

    /// Leaves the entries out where they make it too large.
    fn fitting(self) -> Self {
        match self.without {
            Some(plain) if self.with.len() > MAX_METADATA && plain.len() <= MAX_METADATA => Self {
                with: plain,
                without: None,
                media_type: self.media_type,
            },
            without => Self { without, ..self },
        }
    }

    /// Returns the manifest to be written with its entries or not at all.
    #[must_use]
    pub(super) fn or_nothing(self) -> Self {
        let without = None;
        Self { without, ..self }
    }

    /// Signs the manifest, if it is to be signed. The one without the entries is signed once it is needed: a signature may
    /// take a while, and leave something behind elsewhere.
    #[must_use]
    pub async fn signed(self, signing: Option<&Signing>) -> Self {
        let Some(signing) = signing else { return self };
        let with = Box::pin(signing.sign(&self.with)).await;
        if let Some(plain) = self.without.as_ref().filter(|_| with.len() > MAX_METADATA) {
            let plain = Box::pin(signing.sign(plain)).await;
            if plain.len() <= MAX_METADATA {
                return Self {
                    with: plain,
                    without: None,
                    media_type: self.media_type,
                };
            }
        }
        Self { with, ..self }
    }
}

/// A manifest that a registry has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its digest.
    pub digest: Digest,
    /// What was taken.
    pub bytes: Bytes,
    /// The registry refuses the entries of this program, and they were left out.
    pub refused: bool,
}

/// Writes a manifest under a tag, or without one under its digest. A registry that refuses it gets it once more without the entries of this
/// program, signed anew if it is signed.
///
/// # Errors
///
/// Fails if the registry refuses it without them, too, or for another reason.
pub async fn put(
    repository: &Repository,
    tag: Option<&str>,
    manifest: &Written,
    signing: Option<&Signing>,
) -> Result<Put, RegistryError> {
    let put = async |bytes: &Bytes, refused| {
        let digest = Digest::of(bytes);
        let reference = tag.unwrap_or(digest.as_str());
        let put = repository.put_manifest(reference, manifest.media_type, bytes);
        let (digest, bytes) = (Box::pin(put).await?, bytes.clone());
        Ok(Put {
            digest,
            bytes,
            refused,
        })
    };
    match (put(&manifest.with, false).await, &manifest.without) {
        (Err(error), Some(without)) if is_refusal(&error) => {
            tracing::debug!(error = %crate::error::chain(&error), "the registry refuses the entries");
            let without = match signing {
                Some(signing) => Box::pin(signing.sign(without)).await,
                None => without.clone(),
            };
            put(&without, true).await
        }
        (written, _) => written,
    }
}

/// Returns whether a registry does not take a manifest as it is.
pub fn is_refusal(error: &RegistryError) -> bool {
    let refusals = [StatusCode::BAD_REQUEST, StatusCode::UNSUPPORTED_MEDIA_TYPE];
    error
        .status()
        .is_some_and(|status| refusals.contains(&status))
}
