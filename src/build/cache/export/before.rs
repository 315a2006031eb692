//! The record of a cache that BuildKit is about to write anew, read before it does: the one of the cache that it has
//! just written says nothing of the builds before.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cache::extras::store::OldRecord;
use crate::cache::remote_cache::KnownLater;
use crate::later::{Later, later};
use crate::registry::Repository;

/// How long a build whose result is ready waits for the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The record that a cache had before the build.
pub(super) struct Before {
    /// Nothing if the registry does not answer, or refuses.
    asked: Later<Option<Arc<OldRecord>>>,
    /// The answer, once BuildKit may write.
    held: OnceLock<Option<Arc<OldRecord>>>,
}

impl Before {
    /// Reads the record beside the build, once it is known what the registry holds.
    pub(super) fn ask(known: KnownLater, repository: Repository) -> Self {
        let asked = async move {
            let known = known.await;
            if known.is_unasked() {
                return None;
            }
            let record = known.extras().record();
            Some(Arc::new(OldRecord::read(&repository, record).await))
        };
        Self {
            asked: later(asked, |_died| None),
            held: OnceLock::new(),
        }
    }

    /// Waits for the answer, but not long. BuildKit may write afterwards: an answer that comes later never counts.
    pub(super) async fn hold(&self) {
        if self.held.get().is_some() {
            return;
        }
        let answer = tokio::time::timeout(PATIENCE, self.asked.clone()).await;
        if answer.is_err() {
            tracing::debug!("the record that the cache has did not come in time");
        }
        // What was known before an earlier write is true, and stays.
        let _set = self.held.set(answer.ok().flatten());
    }

    /// Returns what the cache had; `None` where that is not known.
    pub(super) fn record(&self) -> Option<&OldRecord> {
        self.held.get()?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::cache::remote_cache::RemoteCache;
    use crate::registry::tests::{ScriptedRegistry, pushable};

    async fn held(answer: impl Future<Output = RemoteCache> + Send + 'static) -> Before {
        let registry = ScriptedRegistry::start().await;
        let known = answer.map(Arc::new).boxed().shared();
        let before = Before::ask(known, pushable(&registry));
        assert!(before.record().is_none());
        before.hold().await;
        before
    }

    #[tokio::test]
    async fn a_cache_that_is_known_in_time_has_a_record_or_none() {
        let before = held(std::future::ready(RemoteCache::default())).await;
        assert!(before.record().is_some());
    }

    #[tokio::test]
    async fn an_answer_that_comes_later_never_counts() {
        let (answer, answered) = tokio::sync::oneshot::channel();
        tokio::time::pause();
        let before = held(async { answered.await.unwrap_or_default() }).await;
        tokio::time::resume();
        answer.send(RemoteCache::default()).unwrap();
        before.asked.clone().await;
        before.hold().await;
        assert!(before.record().is_none());
    }
}
