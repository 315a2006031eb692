//! A build that dies of a cache is run again without what BuildKit could not read.
//!
//! Steps that ran stay in the builder, and only what was cut off or hung on the lost blob runs again. A
//! cache is changed at most twice: first it is served through the session without the blob and without
//! all others that the registry says are gone, and if that is not enough it is left out. So the number
//! of runs is bounded by the number of caches.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::origin::{OriginCache, Origins};
use super::probe::DEADLINE;
use super::set::{Imports, Remote, Slot, serve, unread_warning};
use super::unreadable;
use crate::buildkit::RpcError;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::Entry;
use crate::cache::import::{Large, RegistryImport, lost_layers, without};
use crate::cache::manifest::CacheManifest;
use crate::digest::Digest;
use crate::error::chain;
use crate::registry::{RawManifest, Repository};

/// What became of a cache that could not be read.
#[derive(Debug, PartialEq, Eq)]
enum Healed {
    /// It is served without so many layers.
    Without(usize),
    /// It is left out.
    GivenUp,
}

impl Imports {
    /// Begins to look where the results of cached steps come from.
    pub fn origins(&self) -> Origins {
        let caches = self.slots.iter().filter_map(|slot| {
            let entry = slot.entry.as_ref()?;
            let remote = slot
                .registry
                .as_ref()
                .filter(|remote| remote.knows_layers());
            let manifest = remote.and_then(Remote::manifest);
            let layers = manifest.map(|m| m.layers.into_iter().map(|layer| layer.digest).collect());
            Some(OriginCache::new(slot.name(entry), layers))
        });
        Origins::new(caches.collect())
    }

    /// Changes what the build reads, so that it can do without what an error says about one of its caches. Returns whether
    /// it is to be solved again.
    pub async fn recover(&mut self, error: &RpcError, cancel: &CancellationToken) -> bool {
        if error.is_cancelled()
            || error.is_connection_broken()
            || !self.is_to_blame(error.message())
        {
            return false;
        }
        tokio::select! {
            () = self.heal(error.message()) => true,
            () = cancel.cancelled() => false,
        }
    }

    /// Takes what is to be said after the build.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Remembers the caches that the builder did not read, with its errors, for a warning.
    pub fn warn_of_unread(&mut self, unread: &BTreeMap<String, String>) {
        for (cache, error) in unread {
            self.warnings.push(unread_warning(cache, error));
        }
    }

    /// Returns whether an error says that one of the caches cannot be read.
    pub fn is_to_blame(&self, message: &str) -> bool {
        is_to_blame(&self.slots, message)
    }

    /// Does without what an error names, which is one of a cache.
    async fn heal(&mut self, message: &str) {
        let blobs = unreadable::blobs(message);
        let stores = &self.stores;
        let looked = self.slots.iter_mut().filter(|slot| slot.entry.is_some());
        let looked = looked.map(async |slot| {
            let remote = slot.registry.as_mut()?;
            let lost = remote.listed(&blobs);
            let blob = lost.first()?.clone();
            let (healed, entry) = remote.without(lost, stores).await;
            slot.entry = entry;
            Some((remote.source.raw_ref.clone(), blob, healed))
        });
        let healed = futures_util::future::join_all(looked).await;
        let healed: Vec<_> = healed.into_iter().flatten().collect();
        if healed.is_empty() {
            return self.give_up_unknown(message);
        }
        for (reference, blob, healed) in &healed {
            let step = self.tools.observer.import(reference);
            step.done(&format!("{blob} cannot be read: {}", remark(healed)));
        }
        self.warnings.push(warning(&healed));
    }

    /// Leaves out the caches whose blobs are not known here, where a blob could not be fetched that none
    /// of the others has.
    fn give_up_unknown(&mut self, message: &str) {
        let mut left_out = Vec::new();
        for slot in &mut self.slots {
            let unknown = slot.is_unknown();
            if let Some(entry) = slot.entry.take_if(|_| unknown) {
                left_out.push(slot.name(&entry));
            }
        }
        for cache in &left_out {
            let step = self.tools.observer.import(cache);
            step.done("a blob cannot be read: building again without this cache");
        }
        self.warnings.push(format!(
            "a blob cannot be read, the build was run again without the cache {}: {message}",
            left_out.join(", ")
        ));
    }
}

fn is_to_blame(slots: &[Slot], message: &str) -> bool {
    let blobs = unreadable::blobs(message);
    let is_fetch_failure = unreadable::is_fetch_failure(message);
    let lists = |remote: &Remote| !remote.listed(&blobs).is_empty();
    let mut read = slots.iter().filter(|slot| slot.entry.is_some());
    !blobs.is_empty()
        && read.any(|slot| {
            slot.registry.as_ref().is_some_and(lists) || (is_fetch_failure && slot.is_unknown())
        })
}

impl Slot {
    /// Returns whether it is not known here which layers the cache has.
    fn is_unknown(&self) -> bool {
        self.registry.as_ref().is_none_or(|r| !r.knows_layers())
    }
}

impl Remote {
    /// Returns whether the layers are known; those of an index of images are not.
    fn knows_layers(&self) -> bool {
        self.manifest()
            .is_some_and(|manifest| manifest.config.is_some())
    }

    /// Returns which of the blobs are layers of this cache.
    fn listed(&self, blobs: &[Digest]) -> Vec<Digest> {
        let Some(manifest) = self.manifest() else {
            return Vec::new();
        };
        let is_layer = |blob: &&Digest| manifest.layers.iter().any(|layer| layer.digest == **blob);
        blobs.iter().filter(is_layer).cloned().collect()
    }

    /// Serves the cache without these blobs, or gives it up.
    async fn without(
        &mut self,
        lost: Vec<Digest>,
        stores: &ContentStores,
    ) -> (Healed, Option<Entry>) {
        self.lost.clone_from(&lost);
        let served = match self.found().filter(|_| !self.healed) {
            Some((repository, raw)) => {
                let smaller = smaller(repository.clone(), raw, lost, self.large());
                tokio::time::timeout(DEADLINE, smaller).await.ok().flatten()
            }
            None => None,
        };
        self.healed = true;
        match served {
            Some((lost, import)) => {
                let count = lost.len();
                self.lost = lost;
                (Healed::Without(count), Some(serve(&import, stores)))
            }
            None => (Healed::GivenUp, None),
        }
    }
}

/// Creates a cache without some layers and without those that are gone, too. `None` if the registry
/// cannot be read from here, or nothing is left.
async fn smaller(
    repository: Repository,
    raw: &RawManifest,
    mut lost: Vec<Digest>,
    large: Large,
) -> Option<(Vec<Digest>, RegistryImport)> {
    let made = async {
        let manifest =
            CacheManifest::parse(&raw.bytes, &raw.media_type).map_err(|e| e.to_string())?;
        let gone = lost_layers(&repository, &manifest).await;
        for blob in gone.map_err(|error| chain(&error))? {
            if !lost.contains(&blob) {
                lost.push(blob);
            }
        }
        let Some(smaller) = without(raw, &lost).map_err(|error| chain(&error))? else {
            return Ok(None);
        };
        let import = RegistryImport::of(repository, smaller, large)
            .await
            .map_err(|error| chain(&error))?;
        Ok::<_, String>(Some((lost, import)))
    };
    made.await.unwrap_or_else(|error| {
        tracing::debug!(error, "the cache cannot be healed");
        None
    })
}

fn remark(healed: &Healed) -> String {
    match healed {
        Healed::Without(1) => "building again without that layer".to_owned(),
        Healed::Without(count) => format!("building again without {count} layers"),
        Healed::GivenUp => "building again without this cache".to_owned(),
    }
}

/// One warning for all caches that one run of the build could not read.
fn warning(healed: &[(String, Digest, Healed)]) -> String {
    let caches = healed.iter().map(|(reference, blob, healed)| match healed {
        Healed::Without(_) => format!("{reference} (without {blob})"),
        Healed::GivenUp => format!("{reference} (left out, {blob} cannot be read)"),
    });
    let caches: Vec<_> = caches.collect();
    format!(
        "a cache could not be read and the build was run again: {}",
        caches.join(", ")
    )
}

#[cfg(test)]
pub(super) mod tests;
