//! What the reports of a solve tell about its caches.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};

use super::{missing, unreadable};

/// What BuildKit says of a step that ended because another failed.
const CANCELED: &str = "context canceled";

/// What the builder has said about a cache that it was to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It has read it.
    Read,
    /// It does not exist.
    Missing,
    /// It could not read it.
    Failed,
}

/// Looks at the reports on their way to the display.
#[derive(Debug, Default)]
pub struct Watch {
    /// Steps whose failure is not shown yet, because the build may be run again.
    held: Vec<Vertex>,
    /// Caches that BuildKit did not read, with its errors.
    unread: BTreeMap<String, String>,
    /// What it has said about each cache.
    heard: BTreeMap<String, Heard>,
}

impl Watch {
    /// Takes note of a report and takes out the failures that may be healed.
    pub fn look(&mut self, status: &mut StatusResponse) {
        for vertex in &status.vertexes {
            if let Some((cache, error)) = missing::unread(vertex) {
                self.unread.insert(cache.to_owned(), error.to_owned());
            }
            if let Some((cache, heard)) = heard(vertex) {
                self.heard.insert(cache.to_owned(), heard);
            }
        }
        let mut shown = Vec::with_capacity(status.vertexes.len());
        for vertex in status.vertexes.drain(..) {
            if self.may_be_healed(&vertex) {
                self.held.push(vertex);
            } else {
                shown.push(vertex);
            }
        }
        status.vertexes = shown;
    }

    /// A failed read of a blob, and whatever ends because of it.
    fn may_be_healed(&self, vertex: &Vertex) -> bool {
        if vertex.error.is_empty() || missing::imported(vertex).is_some() {
            return false;
        }
        !self.held.is_empty() || !unreadable::blobs(&vertex.error).is_empty()
    }

    /// Returns the failures that were held back, as they are.
    pub fn failures(&mut self) -> Option<StatusResponse> {
        self.release(|_| ())
    }

    /// Begins to look at another run, and returns the steps that were held back as ones that were
    /// cancelled.
    pub fn anew(&mut self) -> Option<StatusResponse> {
        self.unread.clear();
        self.heard.clear();
        self.release(|vertex| CANCELED.clone_into(&mut vertex.error))
    }

    fn release(&mut self, change: impl Fn(&mut Vertex)) -> Option<StatusResponse> {
        let mut vertexes = std::mem::take(&mut self.held);
        vertexes.iter_mut().for_each(change);
        (!vertexes.is_empty()).then(|| StatusResponse {
            vertexes,
            ..StatusResponse::default()
        })
    }

    /// Returns what BuildKit has said about a cache, as it names it.
    pub fn heard(&self, cache: &str) -> Option<Heard> {
        self.heard.get(cache).copied()
    }

    /// Returns the caches that BuildKit did not read, with its errors.
    pub fn unread(&self) -> &BTreeMap<String, String> {
        &self.unread
    }
}

/// Returns what a report says about a cache, once its import has ended.
fn heard(vertex: &Vertex) -> Option<(&str, Heard)> {
    let cache = missing::imported(vertex)?;
    let heard = if missing::unread(vertex).is_some() {
        Heard::Failed
    } else if !vertex.error.is_empty() {
        Heard::Missing
    } else if vertex.completed.is_some() {
        Heard::Read
    } else {
        return None;
    };
    Some((cache, heard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn report(vertices: &[(&str, &str)]) -> StatusResponse {
        let vertexes = vertices.iter().map(|(name, error)| Vertex {
            digest: format!("digest of {name}"),
            name: (*name).to_owned(),
            error: (*error).to_owned(),
            ..Vertex::default()
        });
        StatusResponse {
            vertexes: vertexes.collect(),
            ..StatusResponse::default()
        }
    }

    #[test]
    fn a_failed_read_waits_and_the_rest_is_shown() {
        let mut watch = Watch::default();
        let gone = format!("failed to copy: {}: not found", Digest::of(b"x"));
        let mut first = report(&[("a", ""), ("b", &gone), ("c", "context canceled")]);
        watch.look(&mut first);
        assert_eq!(first, report(&[("a", "")]));
        let held = watch.failures().unwrap();
        assert_eq!(held, report(&[("b", &gone), ("c", "context canceled")]));
        assert!(watch.failures().is_none());

        let mut again = held;
        watch.look(&mut again);
        assert!(again.vertexes.is_empty());
        let cancelled = watch.anew().unwrap();
        assert!(cancelled.vertexes.iter().all(|v| v.error == CANCELED));
    }

    #[test]
    fn a_failed_step_is_shown_at_once() {
        let mut watch = Watch::default();
        let own = "process \"/bin/sh -c false\" did not complete successfully: exit code: 1";
        let mut status = report(&[("a", own), ("b", "context canceled")]);
        watch.look(&mut status);
        assert_eq!(status.vertexes.len(), 2);
    }

    #[test]
    fn unread_caches_are_noted() {
        let mut watch = Watch::default();
        let config = format!("blob {} is too large", Digest::of(b"x"));
        let missing = "failed to configure registry cache importer: r.io/a:2: not found";
        let mut status = report(&[
            ("importing cache manifest from r.io/a:1", "unauthorized"),
            ("importing cache manifest from r.io/a:2", missing),
            ("importing cache manifest from r.io/a:3", &config),
            ("importing cache manifest from r.io/a:4", ""),
        ]);
        watch.look(&mut status);
        assert_eq!(status.vertexes.len(), 4);
        let unread: Vec<_> = watch.unread().keys().collect();
        assert_eq!(unread, ["r.io/a:1", "r.io/a:3"]);
    }
}
