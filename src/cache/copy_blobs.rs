//! Blobs of caches copied into one repository, those of cache mounts among them: mounted from there where the host is the
//! same, else streamed.

use std::collections::HashSet;
use std::io;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use thiserror::Error;

use super::descriptor::Descriptor;
use super::merge::Contents;
use super::source::{CacheSource, SourceError};
use crate::digest::Digest;
use crate::registry::{Arrival, BlobSource, RegistryError, Repository, SpoolDir, UploadOptions};

/// Blobs under way at the same time.
const BLOBS: usize = 4;

/// A cache whose blobs are wanted.
#[derive(Debug)]
pub struct CopySource {
    /// Where it is.
    pub source: CacheSource,
    /// What is in it.
    pub contents: Contents,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Blobs that are in the repository now.
    pub there: HashSet<Digest>,
    /// Blobs that no source has.
    pub lost: HashSet<Digest>,
    /// Blobs that were mounted from another repository.
    pub mounted: usize,
    /// Blobs whose bytes were sent.
    pub sent: usize,
    /// Bytes that were sent.
    pub bytes: u64,
}

/// Why blobs cannot be report.
#[derive(Debug, Error)]
pub enum CopyError {
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry of the destination does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Brings the blobs of `wanted` into a repository. What is there already is not sent. Blobs on their
/// way from another host are kept in unnamed files in `spool_dir`, so that a broken upload can start
/// again.
///
/// # Errors
///
/// Fails if a source cannot be read or the registry refuses.
pub async fn copy_blobs(
    wanted: &Contents,
    given: &[CopySource],
    to: &Repository,
    spool_dir: &SpoolDir,
) -> Result<CopyReport, CopyError> {
    let mut has: Vec<HashSet<Digest>> = Vec::new();
    for given in given {
        let blobs = moved(&given.contents).map(|blob| blob.digest.clone());
        let blobs: Vec<Digest> = blobs.collect();
        let missing = given.source.missing(&blobs).await?;
        let there = blobs.into_iter().filter(|blob| !missing.contains(blob));
        has.push(there.collect());
    }
    let mut moves = stream::iter(moved(wanted))
        .map(|blob| {
            let having = given.iter().zip(&has);
            let having = having.filter(|(_, has)| has.contains(&blob.digest));
            let sources: Vec<&CacheSource> = having.map(|(given, _)| &given.source).collect();
            async move { (blob, copy_one(blob, &sources, to, spool_dir).await) }
        })
        .buffer_unordered(BLOBS);
    let mut report = CopyReport::default();
    while let Some((blob, arrival)) = moves.next().await {
        let set = match arrival? {
            None => &mut report.lost,
            Some(arrival) => {
                match arrival {
                    Arrival::Existed => {}
                    Arrival::Mounted => report.mounted += 1,
                    Arrival::Sent => {
                        report.sent += 1;
                        report.bytes += blob.size;
                    }
                }
                &mut report.there
            }
        };
        set.insert(blob.digest.clone());
    }
    Ok(report)
}

/// Returns the blobs of a cache that are copied as they are.
fn moved(contents: &Contents) -> impl Iterator<Item = &Descriptor> {
    contents.blobs().chain(contents.extras().mounts().entries())
}

/// Brings one blob from the best of the sources that have it; `None` if there is no such source.
async fn copy_one(
    blob: &Descriptor,
    sources: &[&CacheSource],
    to: &Repository,
    spool_dir: &SpoolDir,
) -> Result<Option<Arrival>, CopyError> {
    let on_host = sources.iter().find_map(|source| match source {
        CacheSource::Registry { repository, .. }
            if repository.client().host() == to.client().host() =>
        {
            Some(repository.name())
        }
        _ => None,
    });
    if on_host == Some(to.name()) {
        return Ok(Some(Arrival::Existed));
    }
    let Some(source) = sources.first() else {
        return Ok(None);
    };
    let bytes = match source {
        CacheSource::Layout { layout, .. } => BlobSource::File(layout.path_of(&blob.digest)),
        CacheSource::Registry { repository, .. } => {
            let (repository, digest, size) = (repository.clone(), blob.digest.clone(), blob.size);
            // Opened with the first read: a blob that is mounted is not downloaded.
            let download = async move { repository.download(&digest, Some(size)).await };
            let pieces = stream::once(download)
                .map_ok(crate::registry::Download::into_stream)
                .try_flatten()
                .map_err(io::Error::other);
            BlobSource::spooled(pieces, spool_dir, blob.size)
        }
    };
    let options = UploadOptions {
        check_exists: true,
        mount_from: on_host.map(str::to_owned),
        progress: None,
    };
    let uploaded = to.upload(&blob.digest, blob.size, &bytes, &options).await?;
    Ok(Some(uploaded.arrival))
}
