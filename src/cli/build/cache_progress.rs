//! Shows the export of each cache as a step of its own, and what is known of the caches besides.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::build::cache::CacheObserver;
use crate::cache::export::ExportProgress;
use crate::progress::{StatusSender, Step, Traffic};

/// Begins a step for each cache.
#[derive(Debug)]
pub(super) struct CacheSteps(StatusSender);

impl CacheSteps {
    /// Creates the observer of a build.
    pub(super) fn new(sender: StatusSender) -> Self {
        Self(sender)
    }
}

impl CacheSteps {
    fn begin(&self, name: String) -> Arc<dyn ExportProgress> {
        Arc::new(CacheStep {
            sender: self.0.clone(),
            name,
            step: Mutex::new(None),
        })
    }
}

impl CacheObserver for CacheSteps {
    fn export(&self, reference: &str) -> Arc<dyn ExportProgress> {
        self.begin(format!("exporting cache to {reference}"))
    }

    fn import(&self, reference: &str) -> Arc<dyn ExportProgress> {
        self.begin(format!("importing cache from {reference}"))
    }

    fn mount(&self, what: &str) -> Arc<dyn ExportProgress> {
        self.begin(what.to_owned())
    }

    fn sent(&self, bytes: u64) {
        self.0.traffic(Traffic {
            sent: Some(bytes),
            ..Traffic::default()
        });
    }

    fn received(&self, bytes: u64) {
        self.0.traffic(Traffic {
            received: Some(bytes),
            ..Traffic::default()
        });
    }

    fn mounts(&self, sent: Option<u64>, received: Option<u64>) {
        self.0.traffic(Traffic {
            mounts_sent: sent,
            mounts_received: received,
            ..Traffic::default()
        });
    }

    fn origin(&self, vertex: &str, caches: &str) {
        self.0.note(vertex, &format!("from {caches}"));
    }
}

/// The step of one cache. It begins with the first thing that there is to show.
#[derive(Debug)]
struct CacheStep {
    sender: StatusSender,
    name: String,
    step: Mutex<Option<Step>>,
}

impl CacheStep {
    fn with(&self, show: impl FnOnce(&Step)) {
        let mut step = self.step.lock();
        show(step.get_or_insert_with(|| self.sender.step(&self.name)));
    }

    fn take(&self) -> Step {
        let mut step = self.step.lock();
        step.take().unwrap_or_else(|| self.sender.step(&self.name))
    }
}

impl ExportProgress for CacheStep {
    fn part(&self, name: &str, current: u64, total: u64) {
        self.with(|step| step.progress(name, current, total));
    }

    fn part_done(&self, name: &str) {
        self.with(|step| step.part_done(name));
    }

    fn done(&self, summary: &str) {
        let step = self.take();
        step.progress(summary, 0, 0);
        step.part_done(summary);
        step.done();
    }

    fn failed(&self, error: &str) {
        self.take().fail(&error);
    }
}
