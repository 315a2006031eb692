//! Caches of one repository that another one of it has taken in: who reads that one need not read them.
//!
//! BuildKit loses hits where it reads two caches that overlap (moby/buildkit#4674), and the scope of a branch or a pull request
//! always overlaps with the one that it was built on. So what a build writes to its scope has all that it has read beside
//! it, and as long as the other has not changed since, the next build reads one cache.

use super::set::{Imports, Remote, Slot, must_be_smaller};
use crate::cache::descriptor::Descriptor;
use crate::cache::export::Others;
use crate::cache::manifest::CacheManifest;
use crate::cache::merge::Contents;
use crate::digest::Digest;
use crate::reference::Reference;

impl Imports {
    /// Leaves out a reference whose cache is in that of another one in the same repository.
    pub(super) fn drop_taken_in(&mut self) {
        for at in taken_in(&self.slots) {
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            slot.entry = None;
            if let Some(remote) = &slot.registry {
                let step = self.tools.observer.import(&remote.source.raw_ref);
                step.done("another cache that is read has all of it");
            }
        }
    }

    /// Returns the layers that caches list which were found in a repository.
    pub fn layers_in(&self, repository: &Reference) -> Vec<Descriptor> {
        let remotes = self.slots.iter().filter_map(|slot| slot.registry.as_ref());
        let there = remotes.filter(|remote| remote.source.reference.same_repository(repository));
        let manifests = there.filter_map(Remote::manifest);
        let caches = manifests.filter(CacheManifest::is_cache);
        caches.flat_map(|manifest| manifest.layers).collect()
    }

    /// Returns the caches that were found under other references of a repository, for one that is written there to take in.
    pub fn beside(&self, own: &Reference) -> Option<Others> {
        let remotes = self.slots.iter().filter_map(|slot| slot.registry.as_ref());
        let others = remotes.filter(|remote| {
            let reference = &remote.source.reference;
            reference.same_repository(own) && !reference.same_target(own)
        });
        let mut all: Option<Others> = None;
        for other in others.filter_map(Remote::contents_as_they_are) {
            match &mut all {
                Some(all) => all.add(other),
                None => all = Some(other),
            }
        }
        all
    }
}

/// Returns which caches are in another one that is read.
fn taken_in(slots: &[Slot]) -> Vec<usize> {
    let read = slots.iter().enumerate();
    let read = read.filter(|(_, slot)| slot.entry.is_some());
    let read = read.filter_map(|(at, slot)| Some((at, slot.registry.as_ref()?)));
    let read: Vec<(usize, &Remote)> = read.collect();
    let held: Vec<(Place, Vec<Digest>)> = read
        .iter()
        .map(|(_, remote)| (place(remote), remote.holds()))
        .collect();
    let is_held = |remote: &Remote| {
        let place = place(remote);
        let digest = remote.found().map(|(_, raw)| &raw.digest);
        let holds_it = |(of, held): &(Place, Vec<Digest>)| {
            *of == place && digest.is_some_and(|digest| held.contains(digest))
        };
        held.iter().any(holds_it)
    };
    let taken = read.into_iter().filter(|(_, remote)| is_held(remote));
    taken.map(|(at, _)| at).collect()
}

/// A repository, as it is reached.
type Place = (String, bool);

fn place(remote: &Remote) -> Place {
    (remote.source.reference.name(), remote.source.insecure)
}

impl Remote {
    /// Returns the manifests that this cache has taken in.
    fn holds(&self) -> Vec<Digest> {
        let manifest = self.found().map(|(_, raw)| raw);
        let manifest =
            manifest.and_then(|raw| CacheManifest::parse(&raw.bytes, &raw.media_type).ok());
        manifest.map_or_else(Vec::new, |manifest| manifest.extras.notes().holds.clone())
    }

    /// Returns what the reference holds, where BuildKit would read all of it and it was read here.
    fn contents_as_they_are(&self) -> Option<Others> {
        let (_, raw) = self.found()?;
        let config = self.config.as_ref()?;
        if must_be_smaller(raw) {
            return None;
        }
        let contents = Contents::parse(&raw.bytes, &raw.media_type, config);
        let contents = contents.inspect_err(|error| {
            let error = crate::error::chain(error);
            tracing::debug!(cache = self.source.raw_ref, error, "is not taken in");
        });
        Some(Others::of(contents.ok()?, raw.digest.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::probe::ProbeResult;
    use super::super::recover::tests::cache;
    use super::*;
    use crate::cache::extras::notes::Notes;
    use crate::registry::RawManifest;

    fn raw(slot: &Slot) -> RawManifest {
        let remote = slot.registry.as_ref().unwrap();
        remote.found().unwrap().1.clone()
    }

    /// A cache that has taken in others.
    fn holding(layer: &str, others: &[Digest]) -> Slot {
        let mut slot = cache(&Digest::of(layer.as_bytes()));
        let remote = slot.registry.as_mut().unwrap();
        let (repository, raw) = remote.found().unwrap();
        let mut manifest = CacheManifest::parse(&raw.bytes, &raw.media_type).unwrap();
        let mut notes = Notes::default();
        notes.holds.extend_from_slice(others);
        manifest.extras.set_notes(notes);
        let bytes = manifest.to_bytes().unwrap();
        let raw = RawManifest {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
            media_type: raw.media_type.clone(),
        };
        let answer = ProbeResult::Found(repository.clone(), raw, None);
        remote.answer = Some(Arc::new(answer));
        slot
    }

    #[test]
    fn a_cache_is_left_out_where_another_one_that_is_read_holds_it() {
        let main = cache(&Digest::of(b"main"));
        let (other, held) = (cache(&Digest::of(b"other")), raw(&main).digest);
        let own = holding("own", std::slice::from_ref(&held));
        let of = |slots: &[&Slot]| {
            let slots: Vec<Slot> = slots.iter().map(|slot| (*slot).clone()).collect();
            taken_in(&slots)
        };
        assert_eq!(of(&[&main, &other, &own]), [0]);
        assert_eq!(of(&[&own, &main]), [1]);
        assert!(of(&[&main, &other]).is_empty() && of(&[&own, &other]).is_empty());
        // One that is left out itself, or in another repository, has nothing for anybody.
        let mut unread = own.clone();
        unread.entry = None;
        assert!(of(&[&main, &unread]).is_empty());
        let mut elsewhere = own;
        let source = &mut elsewhere.registry.as_mut().unwrap().source;
        source.reference = Reference::parse_normalized("127.0.0.1:1/b:c").unwrap();
        assert!(of(&[&main, &elsewhere]).is_empty());
    }
}
