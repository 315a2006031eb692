//! The way of a status report from the builder to the display.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use crate::build::cache::CacheObserver;
use crate::build::cache::early::EarlyExports;
use crate::build::cache::import::{Origins, Watch, missing};

/// Hands reports on, through one stage after the other:
///
/// 1. the early exports learn which steps have finished,
/// 2. failures that may be recovered from are held back,
/// 3. steps whose results come from a cache are found,
/// 4. a cache that is not there becomes one quiet line,
/// 5. the display shows the report,
/// 6. and is told the caches of those steps, which it must know before.
pub(super) struct StatusPipeline<F> {
    early: Option<Arc<EarlyExports>>,
    watch: Watch,
    origins: Origins,
    /// Reports are shown as they are, for tools that parse them.
    is_raw: bool,
    display: F,
    observer: Arc<dyn CacheObserver>,
}

impl<F: FnMut(StatusResponse)> StatusPipeline<F> {
    pub(super) fn new(is_raw: bool, display: F, observer: Arc<dyn CacheObserver>) -> Self {
        Self {
            early: None,
            watch: Watch::default(),
            origins: Origins::default(),
            is_raw,
            display,
            observer,
        }
    }

    /// Begins with the reports of a solve, whose cached steps come from one of `origins`.
    pub(super) fn begin(&mut self, origins: Origins, early: Option<Arc<EarlyExports>>) {
        self.origins = origins;
        self.early = early;
    }

    /// Takes a report.
    pub(super) fn push(&mut self, mut status: StatusResponse) {
        if let Some(early) = &self.early {
            early.observe(&status);
        }
        self.watch.look(&mut status);
        let found = self.origins.look(&status);
        self.show(status);
        for (vertex, caches) in found {
            self.observer.origin(&vertex, &caches);
        }
    }

    /// Shows a report that says nothing about caches, exports and failures of the build.
    pub(super) fn show(&mut self, mut status: StatusResponse) {
        if !self.is_raw {
            missing::soften(&mut status);
        }
        (self.display)(status);
    }

    /// Tells how much a solve that has ended received from caches.
    pub(super) fn end(&self) {
        if let Some(bytes) = self.origins.received() {
            self.observer.received(bytes);
        }
    }

    /// Shows what was held back as it is: the build ends with it.
    pub(super) fn show_failures(&mut self) {
        if let Some(status) = self.watch.failures() {
            self.show(status);
        }
    }

    /// Shows what was held back as cancelled: the build is run again.
    pub(super) fn show_cancelled(&mut self) {
        if let Some(status) = self.watch.anew() {
            self.show(status);
        }
    }

    /// Returns what the reports have said about the caches.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Returns the caches that the builder did not read, with its errors.
    pub(super) fn unread(&self) -> &BTreeMap<String, String> {
        self.watch.unread()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bollard_buildkit_proto::moby::buildkit::v1::{Vertex, VertexStatus};
    use parking_lot::Mutex;

    use super::*;
    use crate::build::cache::import::origin::OriginCache;
    use crate::cache::export::ExportProgress;
    use crate::digest::Digest;

    /// Takes note of what is told about caches.
    #[derive(Debug, Default)]
    struct Notes {
        origins: Mutex<Vec<(String, String)>>,
        received: Mutex<u64>,
    }

    impl CacheObserver for Notes {
        fn export(&self, _: &str) -> Arc<dyn ExportProgress> {
            unreachable!("nothing is exported")
        }

        fn import(&self, _: &str) -> Arc<dyn ExportProgress> {
            unreachable!("nothing is opened")
        }

        fn mount(&self, _: &str) -> Arc<dyn ExportProgress> {
            unreachable!("there are no cache mounts")
        }

        fn sent(&self, _: u64) {}

        fn received(&self, bytes: u64) {
            *self.received.lock() += bytes;
        }

        fn origin(&self, vertex: &str, caches: &str) {
            let told = (vertex.to_owned(), caches.to_owned());
            self.origins.lock().push(told);
        }
    }

    fn vertex(name: &str, error: &str) -> StatusResponse {
        StatusResponse {
            vertexes: vec![Vertex {
                digest: format!("digest of {name}"),
                name: name.to_owned(),
                error: error.to_owned(),
                ..Vertex::default()
            }],
            ..StatusResponse::default()
        }
    }

    fn is_empty(status: &StatusResponse) -> bool {
        status.vertexes.is_empty() && status.statuses.is_empty()
    }

    /// Pushes reports and returns what is shown.
    fn shown(is_raw: bool, reports: &[StatusResponse], recovers: bool) -> Vec<StatusResponse> {
        let shown: RefCell<Vec<StatusResponse>> = RefCell::default();
        let display = |status| shown.borrow_mut().push(status);
        let mut pipeline = StatusPipeline::new(is_raw, display, Arc::<Notes>::default());
        for report in reports {
            pipeline.push(report.clone());
        }
        if recovers {
            pipeline.show_cancelled();
        } else {
            pipeline.show_failures();
        }
        let mut shown = shown.into_inner();
        shown.retain(|status| !is_empty(status));
        shown
    }

    const MISSING: &str = "failed to configure registry cache importer: r.io/a:c: not found";

    #[test]
    fn a_missing_cache_is_quiet_unless_reports_are_raw() {
        let report = vertex("importing cache manifest from r.io/a:c", MISSING);
        let report = std::slice::from_ref(&report);
        let quiet = shown(false, report, false);
        assert_eq!(quiet[0].vertexes[0].error, "");
        assert_eq!(quiet[0].statuses[0].id, missing::MISSING);
        assert_eq!(shown(true, report, false), report);
    }

    #[test]
    fn a_lost_blob_is_shown_when_it_is_known_what_becomes_of_the_build() {
        let lost = format!("failed to copy: {}: not found", Digest::of(b"x"));
        let reports = [vertex("a", ""), vertex("b", &lost)];
        assert_eq!(shown(false, &reports, false), reports);
        let again = [vertex("a", ""), vertex("b", "context canceled")];
        assert_eq!(shown(false, &reports, true), again);
    }

    #[test]
    fn the_display_knows_a_step_before_it_is_told_its_cache() {
        let (notes, layer) = (Arc::<Notes>::default(), Digest::of(b"layer"));
        let seen = RefCell::new(Vec::new());
        let display = |status: StatusResponse| {
            let told = notes.origins.lock().len();
            seen.borrow_mut().push((status, told));
        };
        let mut pipeline = StatusPipeline::new(false, display, Arc::<Notes>::clone(&notes));
        let layers = Some([layer.clone()].into());
        let cache = OriginCache::new("r.io/a:c".to_owned(), layers);
        pipeline.begin(Origins::new(vec![cache]), None);
        let mut report = vertex("step", "");
        report.vertexes[0].cached = true;
        report.vertexes[0].inputs = vec!["below".to_owned()];
        report.statuses.push(VertexStatus {
            id: layer.to_string(),
            vertex: report.vertexes[0].digest.clone(),
            current: 7,
            ..VertexStatus::default()
        });
        pipeline.push(report.clone());
        pipeline.end();
        assert_eq!(seen.into_inner(), [(report, 0)]);
        let told = notes.origins.lock().clone();
        assert_eq!(told, [("digest of step".to_owned(), "r.io/a:c".to_owned())]);
        assert_eq!(*notes.received.lock(), 7);
    }

    #[test]
    fn caches_that_were_not_read_are_named() {
        let mut pipeline = StatusPipeline::new(false, drop, Arc::<Notes>::default());
        pipeline.push(vertex(
            "importing cache manifest from r.io/a:c",
            "unauthorized",
        ));
        assert_eq!(pipeline.unread()["r.io/a:c"], "unauthorized");
    }
}
