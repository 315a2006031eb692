//! The cache mounts of a build that has ended, taken out of the builder and added to its caches.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Ending;
use super::attempts::LastAttempt;
use super::ready::ReadyBuild;
use crate::build::cache::before_publishing;
use crate::build::mounts::beside::Saved;

impl Ending<'_> {
    /// Saves the mounts of steps that ran, where the build succeeded. A cancellation ends it.
    pub(super) async fn save_mounts(self, last: &LastAttempt) -> Saved {
        let (Some(mounts), Some(beside), true) = (self.mounts, self.saves, last.result.is_ok())
        else {
            return Saved::default();
        };
        let used = mounts.used();
        tokio::select! {
            saved = beside.finish(&used) => saved,
            () = self.cancellation.graceful.cancelled() => Saved::default(),
        }
    }

    /// Saves the mounts of a build that has failed, where a cache outlives that: those that no step has left unfinished, and
    /// as long as the cache itself may take.
    pub(super) async fn keep_mounts(self, build: &ReadyBuild, last: &LastAttempt) -> Saved {
        let Some(deadline) = deadline(build, last) else {
            return Saved::default();
        };
        let (Some(mounts), Some(beside)) = (self.mounts, self.saves) else {
            return Saved::default();
        };
        let used = mounts.used_before_failure();
        tokio::select! {
            saved = beside.finish(&used) => saved,
            () = tokio::time::sleep_until(before_publishing(deadline)) => Saved::default(),
            () = self.cancellation.force.cancelled() => Saved::default(),
        }
    }

    /// Adds the mounts of a build that has failed to the caches that outlive that, which are published by now.
    pub(super) async fn add_kept_mounts(
        self,
        build: &ReadyBuild,
        last: &LastAttempt,
        kept: &Saved,
    ) {
        let is_changed = kept.changed.iter().any(|mounts| !mounts.is_empty());
        let Some(deadline) = deadline(build, last).filter(|_| is_changed) else {
            return;
        };
        // Nobody reads the answer of a solve that has failed.
        let mut nowhere = BTreeMap::new();
        tokio::select! {
            () = build.caches.add_mounts(&kept.changed, true, &mut nowhere) => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = self.cancellation.force.cancelled() => {}
        }
    }
}

/// Returns until when the caches of a build that failed may be stored; `None` where it succeeded, no cache outlives it, or
/// the builder cannot be asked any more.
fn deadline(build: &ReadyBuild, last: &LastAttempt) -> Option<Instant> {
    let error = last.result.as_ref().err()?;
    let mut caches = build.caches.registries().iter();
    let is_kept = caches.any(|cache| cache.target().survives_failure());
    last.deadline()
        .filter(|_| is_kept && !error.is_connection_broken())
}
