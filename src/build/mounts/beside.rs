//! Mounts saved beside the rest of the build, as soon as the steps that use them have run.
//!
//! Like the export of a step, a save begins when the builder has a core to spare; at the end of the build it begins in any
//! case. It outlives the solve that it was begun in: what a step that ran has left in a mount stays there when the build is
//! solved again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::save::{SavedMount, Saver};
use super::watch::{MountWatch, Used};
use crate::build::cache::early::{Gate, Meter};
use crate::cache::extras::mounts::Mounts;

/// Mounts that are packed at a time: each takes some memory and a core.
const TURNS: usize = 1;

/// What became of the mounts of a build.
#[derive(Debug, Default)]
pub struct Saved {
    /// For each cache, in their order, the mounts that have changed.
    pub changed: Vec<Mounts>,
    /// What there is to tell the user.
    pub remarks: Vec<String>,
}

/// Saves the mounts of one build.
#[derive(Debug)]
pub struct Saves {
    saver: Arc<Saver>,
    gate: Gate,
    turns: Arc<Semaphore>,
    /// The saves that have begun, by what tells the mounts of the builder apart.
    begun: Mutex<BTreeMap<(String, String), Begun>>,
}

/// A save that has begun. Dropping it ends it.
#[derive(Debug)]
struct Begun {
    /// How often steps had run that use the mount.
    runs: usize,
    /// It waits for nothing any more.
    hurry: CancellationToken,
    saved: JoinHandle<Option<SavedMount>>,
    _end: DropGuard,
}

impl Saves {
    /// Makes ready; `None` where no cache keeps mounts.
    pub fn new(saver: Saver, meter: Option<Arc<dyn Meter>>) -> Option<Self> {
        let mut caches = saver.caches.iter();
        caches
            .any(|cache| cache.target().cache.kept_mounts().is_some())
            .then(|| Self {
                saver: Arc::new(saver),
                gate: Gate::new(meter),
                turns: Arc::new(Semaphore::new(TURNS)),
                begun: Mutex::default(),
            })
    }

    /// Begins to save the mounts that no step will use any more.
    pub fn begin(&self, watch: &MountWatch) {
        for used in watch.ready() {
            if !self.saver.wants(used.mount.id()) {
                continue;
            }
            let mut begun = self.begun.lock();
            if begun
                .get(&key(&used))
                .is_none_or(|begun| begun.runs != used.runs)
            {
                begun.insert(key(&used), self.start(used));
            }
        }
    }

    fn start(&self, used: Used) -> Begun {
        let (by, gate, turns) = (
            Arc::clone(&self.saver),
            self.gate.clone(),
            Arc::clone(&self.turns),
        );
        let (hurry, end) = (CancellationToken::new(), CancellationToken::new());
        let (runs, hurried, ended) = (used.runs, hurry.clone(), end.clone());
        let handle = Handle::current();
        // On a thread of its own: the compiler cannot tell that the work in a container may move between threads.
        let saved = tokio::task::spawn_blocking(move || {
            let save = async {
                tokio::select! {
                    () = gate.opened() => {}
                    () = hurried.cancelled() => {}
                }
                let _turn = turns.acquire().await;
                by.save(&used).await
            };
            handle.block_on(async {
                // After the end the runtime may be gone, which its timers do not survive.
                tokio::select! {
                    biased;
                    () = ended.cancelled() => None,
                    saved = Box::pin(save) => Some(saved),
                }
            })
        });
        Begun {
            runs,
            hurry,
            saved,
            _end: end.drop_guard(),
        }
    }

    /// Saves what is not saved yet, and returns what became of these mounts. Dropping the future ends all saves.
    pub async fn finish(&self, used: &[Used]) -> Saved {
        let mut saved = Saved {
            changed: vec![Mounts::default(); self.saver.caches.len()],
            remarks: Vec::new(),
        };
        let mut begun = std::mem::take(&mut *self.begun.lock());
        let wanted = used.iter().filter(|used| self.saver.wants(used.mount.id()));
        let all = wanted.map(|used| self.finish_one(used, begun.remove(&key(used))));
        // What is left is not wanted any more.
        let all: Vec<_> = all.collect();
        drop(begun);
        for one in join_all(all).await {
            saved.remarks.extend(one.remarks);
            for (number, name, mount) in one.changed {
                if let Some(mounts) = saved.changed.get_mut(number) {
                    mounts.set(&name, mount);
                }
            }
        }
        saved
    }

    async fn finish_one(&self, used: &Used, begun: Option<Begun>) -> SavedMount {
        if let Some(begun) = begun.filter(|begun| begun.runs == used.runs) {
            begun.hurry.cancel();
            match begun.saved.await {
                // Whoever used it then may have ended.
                Ok(Some(saved)) if !saved.is_busy => return saved,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a mount was not saved beside the build"),
            }
        }
        let _turn = self.turns.acquire().await;
        self.saver.save(used).await
    }
}

fn key(used: &Used) -> (String, String) {
    let (id, base) = used.mount.key();
    (id.to_owned(), base.to_owned())
}
