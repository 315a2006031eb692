//! Mounts taken out of the builder: a tar stream, packed and stored beside the cache that will name them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::sync::mpsc;
use tonic::Status;

use super::held::{Held, HeldMounts};
use super::script;
use super::watch::Used;
use super::{DEST, lacks_shell};
use crate::build::cache::export::RegistryExport;
use crate::build::cache::import::found::FoundMounts;
use crate::buildkit::container::{Container, Process, Said};
use crate::buildkit::{Client, RpcError};
use crate::cache::export::ExportProgress;
use crate::cache::export::push_merged::stale;
use crate::cache::extras::mounts::{Mount, MountError, MountName, Mounts};
use crate::digest::Digest;
use crate::error::chain;
use crate::mounts::Index;
use crate::mounts::index::IndexError;
use crate::mounts::pack::{Pack, PackError, pack};
use crate::mounts::pipe::{END_OF_STREAM, PipeReader};
use crate::options::size::human_size;
use crate::registry::{Arrival, BlobSource, RegistryError, Repository, UploadOptions};
use crate::text::foreign;

/// Pieces of the stream, and packs, that wait for who takes them.
const PIECES: usize = 16;
const PACKS: usize = 1;

/// What is shown while it goes on.
const FILES: &str = "its files";

/// What became of a mount.
#[derive(Debug, Default)]
pub(super) struct SavedMount {
    /// Where it has changed: which of the caches, its name and itself.
    pub(super) changed: Vec<(usize, MountName, Mount)>,
    /// What there is to tell the user.
    pub(super) remarks: Vec<String>,
    /// Somebody uses it.
    pub(super) is_busy: bool,
}

/// Why a mount is not saved.
#[derive(Debug, Error)]
enum SaveError {
    #[error("another build uses it now")]
    InUse,
    #[error("it begins with the result of a step, which a fresh builder does not have")]
    NeedsSteps,
    #[error(
        "no step that uses it has a base image, whose tar would carry it; mounts-helper= names an image that has one"
    )]
    NoImage,
    #[error("its base image has no shell or no tar; mounts-helper= names an image that has both")]
    NoTar,
    #[error("it was half restored when that was broken off; it has been emptied")]
    Half,
    #[error("tar ended with code {0}: {1}")]
    Tar(u32, String),
    #[error(transparent)]
    Builder(#[from] RpcError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the thread that packs it ended")]
    Thread,
}

/// Counts and shows what is sent of a mount.
struct Sent<'a> {
    bytes: AtomicU64,
    progress: &'a dyn ExportProgress,
}

impl<'a> Sent<'a> {
    fn new(progress: &'a dyn ExportProgress) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            progress,
        }
    }

    fn add(&self, more: u64) {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.progress.part(FILES, bytes, 0);
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// How a mount is packed, and where to.
struct Packing<'a> {
    most: u64,
    repository: &'a Repository,
    sent: &'a Sent<'a>,
}

/// What the mounts are taken with.
#[derive(Debug)]
pub struct Saver {
    /// The builder.
    pub client: Client,
    /// Identifier of the build's session.
    pub session: String,
    /// The caches that may keep them.
    pub caches: Vec<Arc<RegistryExport>>,
    /// What the caches have that were read: what is packed there need not be packed again in the same repository.
    pub found: Vec<FoundMounts>,
}

impl Saver {
    /// Returns whether a cache keeps the mount with this id.
    pub(super) fn wants(&self, id: &str) -> bool {
        let kept = self.caches.iter();
        let mut kept = kept.filter_map(|cache| cache.target().cache.kept_mounts());
        kept.any(|(mounts, _)| mounts.wants(id))
    }

    /// Takes a mount out of the builder for each of the caches that is to keep it, and stores its blobs.
    pub(super) async fn save(&self, used: &Used) -> SavedMount {
        let mut saved = SavedMount::default();
        let id = used.mount.id();
        for (number, cache) in self.caches.iter().enumerate() {
            let kept = cache.target().cache.kept_mounts();
            let Some((_, most)) = kept.filter(|(mounts, _)| mounts.wants(id)) else {
                continue;
            };
            let progress = cache.shows_mount(&format!("saving cache mount {}", foreign::line(id)));
            progress.part(FILES, 0, 0);
            let sent = Sent::new(progress.as_ref());
            let tried = Box::pin(self.save_one(cache, used, most, &sent)).await;
            cache.sent_of_mounts(sent.bytes());
            progress.part_done(FILES);
            match tried {
                Ok((changed, summary)) => {
                    progress.done(&summary);
                    let changed = changed.into_iter();
                    saved
                        .changed
                        .extend(changed.map(|(name, mount)| (number, name, mount)));
                }
                Err(error) => {
                    let why = foreign::excerpt(&chain(&error), 300);
                    progress.done(&format!("left out: {why}"));
                    saved.is_busy |= matches!(error, SaveError::InUse);
                    let id = foreign::line(id);
                    saved
                        .remarks
                        .push(format!("cache mount {id} is not saved: {why}"));
                }
            }
        }
        saved
    }

    /// Saves one mount, and returns it for each name under which it has changed, with one line about it.
    async fn save_one(
        &self,
        cache: &RegistryExport,
        used: &Used,
        most: u64,
        sent: &Sent<'_>,
    ) -> Result<(Vec<(MountName, Mount)>, String), SaveError> {
        let Used { mount, names, .. } = used;
        if mount.needs_steps {
            return Err(SaveError::NeedsSteps);
        }
        let held = HeldMounts::ask(&self.client).await?.of(mount);
        if matches!(held, Held::InUse | Held::Restoring) {
            return Err(SaveError::InUse);
        }
        let helper = cache.target().cache.mounts_helper.as_ref();
        let containers = mount.containers(&self.session, helper);
        let repository = cache.repository();
        let before = cache.mounts_before().await;
        let old = match self.packed_before(repository, names, &before) {
            Some(old) => packed_before(repository, old).await,
            None => None,
        };
        let packing = Packing {
            most,
            repository,
            sent,
        };
        let index = Box::pin(self.pack(&containers, old, &packing)).await?;
        let blob = index.to_blob()?;
        let (digest, size) = (Digest::of(&blob), human_size(index.size()));
        let is_new = |name: &&MountName| {
            let before = before.get(name);
            before.is_none_or(|before| before.index.digest != digest)
        };
        let has_changed = names.iter().any(|name| is_new(&name));
        // That it is used keeps it in a cache with max-age.
        let now = Timestamp::now();
        let oldest = cache
            .target()
            .cache
            .max_age
            .map(|age| oldest_note(age, now));
        let is_stale = |name: &&MountName| {
            let noted = before.get(name).and_then(Mount::created);
            oldest.is_some_and(|oldest| noted < Some(oldest))
        };
        let new = names.iter().filter(|name| is_new(name) || is_stale(name));
        let new: Vec<&MountName> = new.collect();
        if !new.is_empty() {
            sent.add(upload(repository, blob.clone().into()).await?);
        }
        let changed = new.into_iter();
        let changed = changed.map(|name| (name.clone(), Mount::new(name, &blob, &index, now)));
        let summary = if has_changed {
            format!("sent {} of {size}", human_size(sent.bytes()))
        } else {
            format!("nothing new in {size}")
        };
        Ok((changed.collect(), summary))
    }

    /// Packs the mount in the first of the containers that can do it.
    async fn pack(
        &self,
        containers: &[Container],
        old: Option<Index>,
        packing: &Packing<'_>,
    ) -> Result<Index, SaveError> {
        let script = script::save(DEST);
        let mut last = SaveError::NoImage;
        for container in containers {
            let (mut index, old) = (None, old.clone());
            let packed = container.run(&self.client, &script, async |process| {
                index = Some(stream(process, old, packing).await);
                Ok::<(), Status>(())
            });
            let packed = Box::pin(packed).await.map_err(SaveError::from);
            match packed.and_then(|()| index.ok_or(SaveError::Thread)?) {
                Err(SaveError::NoTar) => last = SaveError::NoTar,
                Err(SaveError::Builder(error)) if lacks_shell(&error) => last = SaveError::NoTar,
                packed => return packed,
            }
        }
        Err(last)
    }

    /// Returns the mount as this repository has it: in the cache that is written, else in one that was read.
    fn packed_before<'a>(
        &'a self,
        repository: &Repository,
        names: &[MountName],
        before: &'a Mounts,
    ) -> Option<&'a Mount> {
        let same_repository = |found: &&FoundMounts| {
            found.repository.name() == repository.name()
                && found.repository.client().host() == repository.client().host()
        };
        let found = self.found.iter().filter(same_repository);
        let mut all = std::iter::once(before).chain(found.map(|found| &found.mounts));
        all.find_map(|mounts| names.iter().find_map(|name| mounts.get(name)))
    }
}

/// Returns when the use of a mount must have been noted not to be noted again.
fn oldest_note(max_age: Duration, now: Timestamp) -> Timestamp {
    let stale = SignedDuration::try_from(stale(Some(max_age))).unwrap_or(SignedDuration::MAX);
    now.checked_sub(stale).unwrap_or(Timestamp::MIN)
}

/// Reads what was packed before, if all of it is still there.
async fn packed_before(repository: &Repository, old: &Mount) -> Option<Index> {
    let packs = old.packs.iter().map(|pack| pack.digest.clone());
    let missing =
        async { Ok::<HashSet<Digest>, MountError>(repository.missing_blobs(packs).await?) };
    match tokio::try_join!(old.read(repository), missing) {
        Ok((index, missing)) if missing.is_empty() => Some(index),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "the old mount is not read");
            None
        }
    }
}

/// Packs what the process writes, while its packs are stored.
async fn stream(
    mut process: Process,
    old: Option<Index>,
    packing: &Packing<'_>,
) -> Result<Index, SaveError> {
    let Packing {
        most,
        repository,
        sent,
    } = *packing;
    let (pieces, input) = mpsc::channel::<Bytes>(PIECES);
    let (output, mut packs) = mpsc::channel::<Pack>(PACKS);
    let packing = tokio::task::spawn_blocking(move || {
        let store = &mut |pack: Pack| output.blocking_send(pack).is_ok();
        pack(PipeReader::new(input), old, most, store)
    });
    let read = async {
        if let Err(status) = process.stdin().close().await {
            return Some(RpcError::from(status).into());
        }
        let mut said = process.first().await;
        loop {
            match said {
                Ok(Said::Output(bytes)) => {
                    if pieces.send(bytes.into()).await.is_err() {
                        // Whoever packs has given up, and says why.
                        return None;
                    }
                }
                Ok(Said::Ended(0)) => {
                    let _told = pieces.send(END_OF_STREAM).await;
                    drop(pieces);
                    return None;
                }
                Ok(Said::Ended(code)) => return Some(failed(code, &process)),
                Err(status) => return Some(RpcError::from(status).into()),
            }
            said = process.next().await;
        }
    };
    // A pack that cannot be stored ends the packing, and that the reading.
    let store = async move {
        while let Some(pack) = packs.recv().await {
            sent.add(upload(repository, pack.bytes).await?);
        }
        Ok::<_, RegistryError>(())
    };
    let (ended, stored, packed) = tokio::join!(read, store, packing);
    if let Some(error) = ended {
        return Err(error);
    }
    stored?;
    Ok(packed.map_err(|_| SaveError::Thread)??)
}

fn failed(code: u32, process: &Process) -> SaveError {
    match code {
        script::NO_TAR => SaveError::NoTar,
        script::HALF => SaveError::Half,
        code => SaveError::Tar(code, process.errors()),
    }
}

/// Stores a blob, and returns how many bytes were sent.
async fn upload(repository: &Repository, bytes: Bytes) -> Result<u64, RegistryError> {
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    let options = UploadOptions {
        check_exists: true,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(bytes);
    let uploaded = repository.upload(&digest, size, &source, &options).await?;
    Ok(if uploaded.arrival == Arrival::Sent {
        size
    } else {
        0
    })
}
