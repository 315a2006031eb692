//! Steps that are shown as one (BuildKit's progress groups).

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1 as api;

use super::vertex::Vertex;
use crate::progress::time::Time;

/// What a group knows of one of its steps.
#[derive(Debug, Clone)]
struct Member {
    started: Option<Time>,
    completed: Option<Time>,
    cached: bool,
    error: String,
    /// A weak member alone does not make the group visible.
    weak: bool,
}

/// What a report did to a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refreshed {
    pub(super) changed: bool,
    pub(super) newly_started: bool,
    pub(super) newly_revealed: bool,
}

/// A group: the index of the vertex that stands for it, and its members by digest.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) vertex: usize,
    members: BTreeMap<String, Member>,
}

impl Group {
    pub(super) fn new(vertex: usize) -> Self {
        Self {
            vertex,
            members: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, report: &api::Vertex, weak: bool) {
        self.members.insert(
            report.digest.clone(),
            Member {
                started: report.started.map(Time::from),
                completed: report.completed.map(Time::from),
                cached: report.cached,
                error: report.error.clone(),
                weak,
            },
        );
    }

    /// Brings the vertex of the group up to date: it runs while a member runs, is cached where
    /// all are, and has the first error of a member.
    pub(super) fn refresh(&self, vertex: &mut Vertex) -> Refreshed {
        let was_started = vertex.is_started();
        let was_hidden = vertex.hidden;
        let mut result = Refreshed::default();
        let mut cached = true;
        let mut error = vertex.error.clone();
        for member in self.members.values() {
            if let Some(started) = member.started {
                result.changed |= vertex.intervals.set(started, member.completed);
                result.newly_started |= !was_started;
                if !member.weak {
                    vertex.hidden = false;
                }
            }
            cached &= member.cached;
            if error.is_empty() {
                error.clone_from(&member.error);
            } else {
                vertex.hidden = false;
            }
        }
        result.changed |= vertex.cached != cached || vertex.error != error;
        vertex.cached = cached;
        vertex.was_cached |= cached && vertex.is_completed();
        vertex.error = error;
        if was_hidden && !vertex.hidden {
            result.changed = true;
            result.newly_revealed = true;
        }
        result
    }
}
