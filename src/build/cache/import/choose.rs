//! Large caches cut down to what the build can use, and of many caches those left out that have nothing of it.
//!
//! Which records that are follows from the steps, and these from the frontend. So it is asked before the build is
//! solved, where that is worth it.

use std::sync::Arc;

use super::set::{Imports, Remote};
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::Entry;
use crate::cache::import::{RegistryImport, Wanted};
use crate::error::chain;

/// So many caches are many. BuildKit reads all of them at the same time.
const MANY: usize = 8;

/// What a build can use of one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable {
    /// The cache's name, as the user wrote it.
    pub cache: String,
    /// Its records that the build can use.
    pub wanted: Wanted,
    /// It has nothing of any step of the build, and that is certain.
    pub is_useless: bool,
}

impl Imports {
    /// Returns whether it is worth knowing what the build can use of the caches.
    pub fn is_choice(&self) -> bool {
        let read = self.slots.iter().filter(|slot| slot.entry.is_some());
        let mut remotes = read.clone().filter_map(|slot| slot.registry.as_ref());
        remotes.any(|remote| remote.whole.is_some()) || read.count() > MANY
    }

    /// Does with each cache what is best by what the build can use of it. Of those that are not among these nothing is
    /// known.
    pub async fn settle(&mut self, usable: &[Usable]) {
        for slot in &mut self.slots {
            let Some(remote) = slot.registry.as_mut().filter(|_| slot.entry.is_some()) else {
                continue;
            };
            let name = &remote.source.raw_ref;
            match usable.iter().find(|usable| usable.cache == *name) {
                Some(usable) if usable.is_useless => {
                    slot.entry = None;
                    remote.remark = Some("nothing of this build is in it".to_owned());
                }
                Some(usable) if remote.whole.is_some() => {
                    if let Some(entry) = remote.cut(&usable.wanted, &self.stores).await {
                        slot.entry = Some(entry);
                    }
                }
                _ => remote.whole = None,
            }
            if let Some(remark) = remote.remark.take() {
                let step = self.tools.observer.import(&remote.source.raw_ref);
                step.done(&remark);
            }
        }
    }
}

impl Remote {
    /// Serves a large cache cut down to what the build can use; `None` if that cannot be done.
    async fn cut(&mut self, wanted: &Wanted, stores: &ContentStores) -> Option<Entry> {
        let (repository, raw) = self.found()?;
        let (repository, raw) = (repository.clone(), raw.clone());
        let before = self.wanted.replace(Arc::new(wanted.clone()));
        match RegistryImport::of(repository, raw, self.large()).await {
            Ok(import) => {
                self.remark = Some(import.summary());
                Some(self.served(&import, stores))
            }
            Err(error) => {
                tracing::debug!(error = %chain(&error), "a large cache is not cut down");
                self.wanted = before;
                self.whole = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::recover::tests::cache;
    use super::super::set::Slot;
    use super::*;
    use crate::build::cache::tools::{CacheObserver, CacheTools};
    use crate::cache::export::ExportProgress;
    use crate::cache::extras::refusals::Refusals;
    use crate::cache::registries::{NetworkSettings, Registries};
    use crate::compress::Workers;
    use crate::digest::Digest;
    use crate::docker::token::Tokens;
    use crate::registry::SpoolDir;

    /// Shows nothing.
    struct Silent;

    impl CacheObserver for Silent {
        fn export(&self, _: &str) -> Arc<dyn ExportProgress> {
            Arc::new(Self)
        }
        fn import(&self, _: &str) -> Arc<dyn ExportProgress> {
            Arc::new(Self)
        }
        fn mount(&self, _: &str) -> Arc<dyn ExportProgress> {
            Arc::new(Self)
        }
        fn sent(&self, _: u64) {}
        fn received(&self, _: u64) {}
        fn origin(&self, _: &str, _: &str) {}
    }

    impl ExportProgress for Silent {
        fn part(&self, _: &str, _: u64, _: u64) {}
        fn part_done(&self, _: &str) {}
        fn done(&self, _: &str) {}
        fn failed(&self, _: &str) {}
    }

    fn imports(slots: Vec<Slot>) -> Imports {
        let registries = Registries::new(Tokens::anonymous(), NetworkSettings::default());
        Imports {
            slots,
            tools: CacheTools {
                keyring: Arc::default(),
                refusals: Refusals::default(),
                registries: Arc::new(registries),
                workers: Workers::new(std::num::NonZeroUsize::MIN),
                spool_dir: SpoolDir::new([std::env::temp_dir()]),
                observer: Arc::new(Silent),
            },
            stores: ContentStores::default(),
            warnings: Vec::new(),
        }
    }

    fn slot(name: &str) -> Slot {
        let mut slot = cache(&Digest::of(b"layer"));
        slot.registry.as_mut().unwrap().source.raw_ref = name.to_owned();
        slot
    }

    #[tokio::test]
    async fn caches_of_no_use_are_left_out() {
        let mut imports = imports(vec![slot("a"), slot("b"), slot("c")]);
        let usable = |name: &str, is_useless| Usable {
            cache: name.to_owned(),
            wanted: Wanted::default(),
            is_useless,
        };
        imports
            .settle(&[usable("a", true), usable("b", false)])
            .await;
        let read: Vec<bool> = imports.slots.iter().map(|s| s.entry.is_some()).collect();
        assert_eq!(read, [false, true, true]);
        // Nothing is said of what is in it.
        assert_eq!(imports.found(&BTreeMap::new()).len(), 2);
    }

    #[test]
    fn large_caches_and_many_are_worth_a_question() {
        let many = |count| imports((0..count).map(|_| slot("a")).collect());
        assert!(!many(MANY).is_choice() && many(MANY + 1).is_choice());
        let mut one = many(1);
        one.slots[0].registry.as_mut().unwrap().whole = Some(bytes::Bytes::new());
        assert!(one.is_choice());
        one.slots[0].entry = None;
        assert!(!one.is_choice());
    }
}
