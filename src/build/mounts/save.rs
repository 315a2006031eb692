//! Mounts taken out of the builder: a tar stream, packed and stored beside the cache that will name them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tonic::Status;

use super::errors::SaveError;
use super::held::{Held, HeldMounts};
use super::script;
use super::take::{Packing, Sent, take, upload};
use super::watch::Used;
use super::{DEST, FILES};
use crate::build::cache::export::RegistryExport;
use crate::build::cache::import::found::FoundMounts;
use crate::buildkit::Client;
use crate::buildkit::container::Container;
use crate::cache::export::push_merged::stale;
use crate::cache::extras::mounts::{Mount, MountError, MountName, Mounts};
use crate::digest::Digest;
use crate::error::chain;
use crate::mounts::Index;
use crate::mounts::pack::{Old, Pack};
use crate::options::size::human_size;
use crate::registry::Repository;
use crate::text::foreign;

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
            Some(old) => packed_before(repository, old).await.map(Arc::new),
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
        let blob = Pack {
            digest,
            bytes: blob.into(),
        };
        let is_new = |name: &&MountName| {
            let before = before.get(name);
            before.is_none_or(|before| before.index.digest != blob.digest)
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
            sent.add(upload(repository, blob.clone()).await?);
        }
        let changed = new.into_iter();
        let changed =
            changed.map(|name| (name.clone(), Mount::new(name, &blob.bytes, &index, now)));
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
        old: Option<Arc<Old>>,
        packing: &Packing<'_>,
    ) -> Result<Index, SaveError> {
        let script = script::save(DEST);
        let mut last = SaveError::NoImage;
        for container in containers {
            let (mut index, old) = (None, old.clone());
            let packed = container.run(&self.client, &script, async |process| {
                index = Some(take(process, old, packing).await);
                Ok::<(), Status>(())
            });
            let packed = Box::pin(packed).await.map_err(SaveError::from);
            match packed.and_then(|()| index.ok_or(SaveError::Thread)?) {
                Err(SaveError::NoTar) => last = SaveError::NoTar,
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
async fn packed_before(repository: &Repository, old: &Mount) -> Option<Old> {
    let packs = old.packs.iter().map(|pack| pack.digest.clone());
    let missing =
        async { Ok::<HashSet<Digest>, MountError>(repository.missing_blobs(packs).await?) };
    match tokio::try_join!(old.read(repository), missing) {
        Ok((index, missing)) if missing.is_empty() => Some(Old::of(index)),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "the old mount is not read");
            None
        }
    }
}
