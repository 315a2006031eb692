//! What registries and the builder are asked while the steps run, so that explaining them adds nothing to the end of the
//! build.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::bases::{self, Bases};
use super::caches::{self, Opened};
use super::watch::Watch;
use super::{Builder, PAUSE};
use crate::build::cache::import::found::FoundCache;
use crate::cache::keys::compare::Comparison;
use crate::cache::keys::{Facts, Keys, Plan};

/// The questions of one build.
#[derive(Debug, Default)]
pub(super) struct Early(Mutex<Option<AbortOnDropHandle<Answers>>>);

/// What they brought.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The caches that were looked into.
    pub(super) caches: Vec<Opened>,
    /// The layers of base images.
    pub(super) bases: Bases,
}

impl Early {
    /// Asks once a step runs.
    pub(super) fn start(watch: Arc<Watch>, found: Vec<FoundCache>, builder: Builder) -> Self {
        let asked = tokio::spawn(async move {
            if !watch.step_runs(PAUSE).await {
                return Answers::default();
            }
            let caches = caches::open(found).await;
            let bases = bases(&watch.plan(), &caches, &builder).await;
            Answers { caches, bases }
        });
        Self(Mutex::new(Some(AbortOnDropHandle::new(asked))))
    }

    /// Waits for the answers; there are none where nothing was asked. They are given once.
    pub(super) async fn answers(&self) -> Answers {
        let asked = self.0.lock().take();
        match asked {
            Some(asked) => asked.await.unwrap_or_default(),
            None => Answers::default(),
        }
    }
}

/// Asks for the layers of base images. No files are needed to tell which ones the caches do not have.
async fn bases(plan: &Plan, caches: &[Opened], builder: &Builder) -> Bases {
    let keys = Keys::of(plan, &Facts::default());
    let configs = caches.iter().flat_map(Opened::configs);
    let compared = configs.map(|config| Comparison::new(plan, &keys, config, &HashSet::new()));
    let compared: Vec<_> = compared.collect();
    if compared.is_empty() {
        return Bases::new();
    }
    bases::ask(plan, &compared, builder, &Bases::new()).await
}
