//! What the caches turned out to be, for who explains the build.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::set::{Folder, Imports, Remote, Slot};
use crate::build::cache::import::probe::ProbeResult;
use crate::cache::descriptor::Descriptor;
use crate::cache::extras::mounts::Mounts;
use crate::cache::manifest::CacheManifest;
use crate::cache::source::CacheSource;
use crate::digest::Digest;
use crate::options::cache;
use crate::reference::Reference;
use crate::registry::Repository;

/// A cache that the build was to read.
#[derive(Debug)]
pub struct FoundCache {
    /// Its name for the user.
    pub name: String,
    /// What it is.
    pub contents: Contents,
    /// Where the record of its builds is, if it has one that is not in `contents`.
    pub record: Option<(Repository, Descriptor)>,
}

/// The cache mounts that a cache has.
#[derive(Debug)]
pub struct FoundMounts {
    /// Where their blobs are.
    pub repository: Repository,
    /// The mounts.
    pub mounts: Mounts,
    /// Which of them the user wants.
    pub wanted: cache::Mounts,
    /// The image that carries them where no image of a step can.
    pub helper: Option<Reference>,
}

/// What a cache turned out to be.
#[derive(Debug)]
pub enum Contents {
    /// A cache with this config, as it is stored, of which these layers are lost.
    Config(Bytes, Vec<Digest>),
    /// It is here, and its config was not read.
    In(CacheSource),
    /// It does not exist.
    Missing,
    /// It could not be read, for this reason.
    Unreadable(String),
}

impl Contents {
    /// Returns whether these are the same, but for what is lost.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Config(one, _), Self::Config(other, _)) => one == other,
            (Self::In(one), Self::In(other)) => one.named() == other.named(),
            (Self::Missing, Self::Missing) => true,
            (Self::Unreadable(one), Self::Unreadable(other)) => one == other,
            _ => false,
        }
    }
}

impl Imports {
    /// Returns what the caches turned out to be, in the order of the flags. Of those that only the builder can read
    /// nothing is known. `unread` are those that the builder did not read, by name, with its errors.
    pub fn found(&self, unread: &BTreeMap<String, String>) -> Vec<FoundCache> {
        let slots = self.slots.iter();
        slots.filter_map(|slot| slot.found(unread)).collect()
    }

    /// Returns those of which nothing is known from here, each with the reason: a build may read them all the same.
    pub fn out_of_reach(&self) -> Vec<FoundCache> {
        self.slots.iter().filter_map(Slot::out_of_reach).collect()
    }

    /// Returns the cache mounts that caches of registries have which the build reads, in the order of the flags.
    pub fn mounts(&self) -> Vec<FoundMounts> {
        self.slots.iter().filter_map(Slot::mounts).collect()
    }
}

impl Slot {
    fn found(&self, unread: &BTreeMap<String, String>) -> Option<FoundCache> {
        if let Some(folder) = &self.folder {
            return Some(folder.contents());
        }
        let remote = self.registry.as_ref()?;
        let name = remote.source.raw_ref.clone();
        let names = self.names_for_the_builder();
        let by_builder = names.iter().find_map(|name| unread.get(name));
        let contents = match by_builder {
            Some(error) => Contents::Unreadable(error.clone()),
            None => remote.contents(self.entry.is_some())?,
        };
        let record = match &contents {
            Contents::Config(..) => remote.record(),
            _ => None,
        };
        Some(FoundCache {
            name,
            contents,
            record,
        })
    }
}

impl Slot {
    /// Returns the names that the builder may call a registry cache by.
    pub(super) fn names_for_the_builder(&self) -> Vec<String> {
        let source = self.registry.as_ref().map(|remote| &remote.source);
        let given = source.map(|source| [source.raw_ref.clone(), source.reference.to_string()]);
        // One that was verified is pinned to its digest.
        let told = self.entry.as_ref().and_then(|entry| entry.attrs.get("ref"));
        given.into_iter().flatten().chain(told.cloned()).collect()
    }

    fn out_of_reach(&self) -> Option<FoundCache> {
        let (name, why) = match (&self.registry, &self.entry) {
            (Some(remote), Some(_)) => {
                let why = match remote.answer.as_deref()? {
                    ProbeResult::Unknown(why) => why.clone(),
                    ProbeResult::Silent => "its registry does not answer".to_owned(),
                    ProbeResult::Missing | ProbeResult::Refused(_) | ProbeResult::Found(..) => {
                        return None;
                    }
                };
                (remote.source.raw_ref.clone(), why)
            }
            (None, Some(entry)) if self.folder.is_none() => {
                let why = "only the builder can read it".to_owned();
                (format!("type={}", entry.kind), why)
            }
            _ => return None,
        };
        Some(FoundCache {
            name,
            contents: Contents::Unreadable(why),
            record: None,
        })
    }

    /// Returns the cache mounts of a cache that is read, from the very manifest that was verified if it must be signed. One
    /// that is left out has none: it does not count among [those that are not verified](Imports::unverified).
    fn mounts(&self) -> Option<FoundMounts> {
        let _read = self.entry.as_ref()?;
        self.registry.as_ref()?.mounts()
    }
}

impl Folder {
    fn contents(&self) -> FoundCache {
        let contents = match &self.found {
            Ok((layout, digest)) => Contents::In(CacheSource::Layout {
                layout: layout.clone(),
                tag: None,
                digest: Some(digest.clone()),
            }),
            Err(None) => Contents::Missing,
            Err(Some(error)) => Contents::Unreadable(error.clone()),
        };
        FoundCache {
            name: self.src.clone(),
            contents,
            record: None,
        }
    }
}

impl Remote {
    /// Returns the config that a build is explained with: of a cache that was cut down to what the build can use the whole,
    /// which tells what was there instead of what is missing.
    fn told_config(&self) -> Option<&Bytes> {
        let is_sure = self.wanted.as_ref().is_none_or(|wanted| wanted.is_sure);
        self.whole
            .as_ref()
            .filter(|_| is_sure)
            .or(self.config.as_ref())
    }

    fn record(&self) -> Option<(Repository, Descriptor)> {
        let ((repository, _), manifest) = (self.found()?, self.manifest()?);
        Some((repository.clone(), manifest.extras.record()?.clone()))
    }

    fn mounts(&self) -> Option<FoundMounts> {
        let wanted = self.source.mounts.clone();
        if wanted.is_none() {
            return None;
        }
        let ((repository, _), manifest) = (self.found()?, self.manifest()?);
        let mounts = manifest.extras.mounts().clone();
        (!mounts.is_empty()).then(|| FoundMounts {
            repository: repository.clone(),
            mounts,
            wanted,
            helper: self.source.mounts_helper.clone(),
        })
    }

    fn contents(&self, is_read: bool) -> Option<Contents> {
        if let Some(why) = &self.unread {
            return Some(Contents::Unreadable(why.clone()));
        }
        match self.answer.as_deref()? {
            ProbeResult::Missing => Some(Contents::Missing),
            ProbeResult::Found(repository, raw, _) if is_read => {
                let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type).ok()?;
                Some(match self.told_config() {
                    Some(config) if manifest.is_cache() => {
                        Contents::Config(config.clone(), self.lost.clone())
                    }
                    _ => Contents::In(CacheSource::Registry {
                        repository: repository.clone(),
                        reference: raw.digest.to_string(),
                    }),
                })
            }
            // The same cache as one before it, or given up.
            ProbeResult::Found(..)
            | ProbeResult::Refused(_)
            | ProbeResult::Unknown(_)
            | ProbeResult::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::super::recover::tests::{cache, entry};
    use super::*;
    use crate::cache::extras::mounts::{Mount, MountName};
    use crate::cache::layout::Layout;
    use crate::cache::sign::CacheName;
    use crate::cache::sign::key::{Algorithm, SigningKey};
    use crate::cache::sign::trust::Trust;
    use crate::cache::sign::verdict::Policy;
    use crate::cache::sign::writer::{Signer, sign};
    use crate::mounts::Index;
    use crate::registry::RawManifest;

    #[test]
    fn caches_are_what_registry_and_builder_said() {
        let layer = Digest::of(b"layer");
        let mut with_config = cache(&layer);
        let remote = with_config.registry.as_mut().unwrap();
        remote.config = Some(Bytes::from_static(b"{}"));
        remote.lost = vec![layer.clone()];
        let mut twin = cache(&layer);
        twin.entry = None;
        let slots = [
            with_config,
            cache(&layer),
            twin,
            Slot::plain(Some(entry("gha"))),
        ];
        let found = |unread: &BTreeMap<String, String>| -> Vec<_> {
            slots.iter().filter_map(|slot| slot.found(unread)).collect()
        };
        let all = found(&BTreeMap::new());
        let [read, other] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(read.name, "127.0.0.1:1/a:c");
        let Contents::Config(config, lost) = &read.contents else {
            panic!("{read:?}")
        };
        assert_eq!((&config[..], &lost[..]), (&b"{}"[..], &[layer][..]));
        assert!(matches!(
            other.contents,
            Contents::In(CacheSource::Registry { .. })
        ));
        let unread = BTreeMap::from([("127.0.0.1:1/a:c".to_owned(), "no".to_owned())]);
        let all = found(&unread);
        assert!(
            all.iter()
                .all(|found| matches!(&found.contents, Contents::Unreadable(why) if why == "no"))
        );
    }

    #[test]
    fn what_cannot_be_looked_at_from_here_has_a_reason() {
        let layer = Digest::of(b"layer");
        let answered = |answer: ProbeResult| {
            let mut slot = cache(&layer);
            slot.registry.as_mut().unwrap().answer = Some(Arc::new(answer));
            slot
        };
        let why = |slot: &Slot| match slot.out_of_reach()?.contents {
            Contents::Unreadable(why) => Some(why),
            other => panic!("{other:?}"),
        };
        let refused = "connection refused".to_owned();
        let unknown = answered(ProbeResult::Unknown(refused.clone()));
        assert_eq!(why(&unknown), Some(refused));
        let silent = why(&answered(ProbeResult::Silent)).unwrap();
        assert!(silent.contains("does not answer"), "{silent}");
        let builders = Slot::plain(Some(entry("gha")));
        assert_eq!(builders.out_of_reach().unwrap().name, "type=gha");
        assert_eq!(
            why(&builders),
            Some("only the builder can read it".to_owned())
        );
        for known in [
            cache(&layer),
            answered(ProbeResult::Missing),
            Slot::plain(None),
        ] {
            assert_eq!(why(&known), None);
        }
    }

    #[tokio::test]
    async fn mounts_come_only_of_a_cache_that_is_verified_and_read() {
        let pem = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let key = Signer::new(SigningKey::parse(&pem).unwrap(), "k");
        let policy = Policy {
            trust: Arc::new(Trust::of(key.named().into_iter().collect())),
            max_age: None,
        };
        let slot = cache(&Digest::of(b"layer"));
        let remote = slot.registry.as_ref().unwrap();
        let (repository, raw) = remote.found().unwrap();
        let mut manifest = remote.manifest().unwrap();
        let mut mounts = Mounts::default();
        let name = MountName {
            id: "good".to_owned(),
            platform: String::new(),
            base: String::new(),
        };
        let now = Timestamp::now();
        mounts.set(&name, Mount::new(&name, b"x", &Index::default(), now));
        manifest.extras.set_mounts(mounts);
        let bare = manifest.to_bytes().unwrap();
        let place = CacheName::of(&remote.source.reference);
        let signed = sign(&key, &bare, &place, now).await.unwrap();
        let poisoned = String::from_utf8(signed.clone()).unwrap();
        let poisoned = poisoned.replace("\"good\"", "\"evil\"").into_bytes();
        let mounts = async |bytes: &[u8], policy: Option<&Policy>, is_read: bool| {
            let mut slot = slot.clone();
            let remote = slot.registry.as_mut().unwrap();
            let raw = RawManifest {
                digest: Digest::of(bytes),
                bytes: bytes.to_vec().into(),
                media_type: raw.media_type.clone(),
            };
            let found = ProbeResult::Found(repository.clone(), raw, None);
            remote.answer = Some(Arc::new(found.verified(&remote.source, policy).await));
            slot.entry = slot.entry.filter(|_| is_read);
            let found = slot.mounts()?;
            let ids = found.mounts.iter().map(|mount| mount.id().to_owned());
            Some(ids.collect::<Vec<_>>())
        };
        let ids = |id: &str| Some(vec![id.to_owned()]);
        assert_eq!(mounts(&signed, Some(&policy), true).await, ids("good"));
        assert_eq!(mounts(&poisoned, None, true).await, ids("evil"));
        for bytes in [&poisoned, &bare] {
            assert_eq!(mounts(bytes, Some(&policy), true).await, None);
        }
        assert_eq!(mounts(&signed, Some(&policy), false).await, None);
    }

    #[test]
    fn folders_are_there_or_not() {
        let folder = |found| {
            let src = "cache".to_owned();
            Folder { src, found }.contents().contents
        };
        let layout = Layout::new("/nowhere");
        let there = folder(Ok((layout, Digest::of(b"m"))));
        assert!(matches!(there, Contents::In(CacheSource::Layout { .. })));
        assert!(matches!(folder(Err(None)), Contents::Missing));
        assert!(matches!(
            folder(Err(Some("x".to_owned()))),
            Contents::Unreadable(_)
        ));
    }
}
