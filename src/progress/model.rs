//! The state of a running build, fed by BuildKit's status stream.
//!
//! The rules are those of BuildKit's `progressui` trace: which reports are worth printing, how
//! groups show as one step, how a step that ran twice is timed.

mod counts;
mod failed;
mod group;
mod interval;
mod log;
mod traffic;
mod vertex;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1 as api;
use bollard_buildkit_proto::pb::ProgressGroup;

pub use counts::Counts;
pub use failed::FailedStep;
pub use log::LogPolicy;
pub use traffic::Traffic;
pub use vertex::{Outcome, Status, Vertex};

use super::time::{self, Time};
use super::warnings::Warnings;
use group::Group;

/// A build: its steps, their parts, logs and warnings.
#[derive(Debug)]
pub struct Model {
    vertices: Vec<Vertex>,
    by_digest: HashMap<String, usize>,
    groups: HashMap<String, Group>,
    shown: Vec<usize>,
    updates: BTreeSet<usize>,
    start: Option<Time>,
    clock_offset: Option<i64>,
    warnings: Warnings,
    traffic: Traffic,
    policy: LogPolicy,
}

impl Model {
    /// Creates an empty model that keeps logs as `policy` says.
    pub fn new(policy: LogPolicy) -> Self {
        Self {
            vertices: Vec::new(),
            by_digest: HashMap::new(),
            groups: HashMap::new(),
            shown: Vec::new(),
            updates: BTreeSet::new(),
            start: None,
            clock_offset: None,
            warnings: Warnings::default(),
            traffic: Traffic::default(),
            policy,
        }
    }

    /// Takes a report that arrived at `now` by the clock of this machine.
    pub fn apply(&mut self, status: &api::StatusResponse, now: Time) {
        self.apply_vertices(&status.vertexes, now);
        for report in &status.statuses {
            if let Some(index) = self.touch(&report.vertex, now) {
                self.vertices[index].take_status(report);
                self.updates.insert(index);
            }
        }
        for warning in &status.warnings {
            self.warnings.add(warning);
            if let Some(index) = self.touch(&warning.vertex, now) {
                self.vertices[index].warnings.push(warning.short.clone());
            }
        }
        for entry in &status.logs {
            if let Some(index) = self.touch(&entry.vertex, now) {
                let vertex = &mut self.vertices[index];
                let at = time::or_epoch(entry.timestamp);
                let offset = vertex
                    .intervals
                    .latest()
                    .map_or(0, |span| at.since(span.start));
                vertex.log.add(&entry.msg, offset, self.policy);
                if vertex.hidden {
                    vertex.log.bound_hidden();
                }
                vertex.last_log = Some(at);
                self.updates.insert(index);
            }
        }
    }

    /// Sets the remark of the vertex with that digest, if it is known.
    pub fn note(&mut self, digest: &str, text: String) {
        if let Some(index) = self.by_digest.get(digest) {
            self.vertices[*index].note = text;
        }
    }

    /// Adds to the bytes of caches.
    pub fn add_traffic(&mut self, more: Traffic) {
        self.traffic.add(more);
    }

    /// Returns the bytes of caches.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Notes a change of the vertex with that digest, if it is known.
    fn touch(&mut self, digest: &str, now: Time) -> Option<usize> {
        let index = *self.by_digest.get(digest)?;
        self.vertices[index].change(now);
        Some(index)
    }

    fn apply_vertices(&mut self, reports: &[api::Vertex], now: Time) {
        // The groups named, in the order in which they became known.
        let mut groups: BTreeMap<usize, String> = BTreeMap::new();
        for report in reports {
            if self.start.is_none() {
                self.start = report.started.map(Time::from);
            }
            match &report.progress_group {
                Some(group) => {
                    let index = self.take_member(report, group);
                    groups.insert(index, group.id.clone());
                }
                None => self.take_vertex(report, now),
            }
        }
        for id in groups.values() {
            self.refresh_group(id, now);
        }
    }

    fn take_member(&mut self, report: &api::Vertex, group: &ProgressGroup) -> usize {
        let vertices = &mut self.vertices;
        let entry = self.groups.entry(group.id.clone()).or_insert_with(|| {
            vertices.push(Vertex {
                digest: group.id.clone(),
                name: group.name.clone(),
                hidden: true,
                ..Vertex::default()
            });
            Group::new(vertices.len() - 1)
        });
        entry.take(report, group.weak);
        let index = entry.vertex;
        self.by_digest.insert(group.id.clone(), index);
        self.by_digest.insert(report.digest.clone(), index);
        index
    }

    fn take_vertex(&mut self, report: &api::Vertex, now: Time) {
        let index = *self
            .by_digest
            .entry(report.digest.clone())
            .or_insert_with(|| {
                self.vertices.push(Vertex::default());
                self.vertices.len() - 1
            });
        let vertex = &mut self.vertices[index];
        if vertex.see(report, now) {
            self.updates.insert(index);
        }
        if let Some(started) = report.started
            && !vertex.is_started()
        {
            self.clock_offset
                .get_or_insert_with(|| now.since(started.into()));
            self.shown.push(index);
        }
        vertex.take(report);
    }

    fn refresh_group(&mut self, id: &str, now: Time) {
        let Some(group) = self.groups.get(id) else {
            return;
        };
        let index = group.vertex;
        let vertex = &mut self.vertices[index];
        let refreshed = group.refresh(vertex);
        if refreshed.newly_started
            && let Some(first) = vertex.intervals.merged().first()
        {
            self.clock_offset
                .get_or_insert_with(|| now.since(first.start));
        }
        if vertex.hidden {
            return;
        }
        if refreshed.newly_revealed {
            self.shown.push(index);
        }
        if refreshed.changed {
            vertex.change(now);
            self.updates.insert(index);
        }
    }

    /// Returns the steps that have begun, in that order.
    pub fn shown(&self) -> impl Iterator<Item = &Vertex> {
        self.shown.iter().map(|index| &self.vertices[*index])
    }

    /// Returns all steps in the order in which they became known: also those that have not begun, and groups of
    /// which nothing is shown.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// Returns the place among [`vertices`](Self::vertices) of the step with that digest, or of its group.
    pub fn index_of(&self, digest: &str) -> Option<usize> {
        self.by_digest.get(digest).copied()
    }

    /// Returns when the build began, by the clock of this machine.
    pub fn start(&self) -> Option<Time> {
        Some(self.to_local(self.start?))
    }

    /// Converts a time of the builder's clock to the clock of this machine.
    pub fn to_local(&self, time: Time) -> Time {
        time.plus(self.clock_offset.unwrap_or(0))
    }

    /// Converts a time of this machine's clock to the clock of the builder.
    pub fn to_remote(&self, time: Time) -> Time {
        time.plus(0i64.saturating_sub(self.clock_offset.unwrap_or(0)))
    }

    /// Counts the steps.
    pub fn counts(&self) -> Counts {
        Counts::of(self.vertices.iter().filter(|v| !v.hidden))
    }

    /// Counts the steps of the Dockerfile, which its frontend numbers, but for base images; all steps where none is
    /// numbered.
    pub fn numbered(&self) -> Counts {
        let visible = self.vertices.iter().filter(|v| !v.hidden);
        let numbered = Counts::of(visible.filter(|v| v.is_numbered() && !v.is_base_image()));
        if numbered.total == 0 {
            self.counts()
        } else {
            numbered
        }
    }

    /// Returns the steps that failed, with the last lines of their logs.
    pub fn failed(&self) -> Vec<FailedStep> {
        self.shown()
            .filter(|vertex| vertex.outcome() == Outcome::Failed)
            .map(FailedStep::of)
            .collect()
    }

    /// Returns the warnings, each once.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Gives the warnings away.
    pub fn into_warnings(self) -> Warnings {
        self.warnings
    }

    /// Returns the indexes of the vertices that changed since they were printed.
    pub(super) fn updates(&self) -> &BTreeSet<usize> {
        &self.updates
    }

    /// Notes that a vertex was printed.
    pub(super) fn printed(&mut self, index: usize) {
        self.updates.remove(&index);
    }

    pub(super) fn vertex(&self, index: usize) -> &Vertex {
        &self.vertices[index]
    }

    pub(super) fn vertex_mut(&mut self, index: usize) -> &mut Vertex {
        &mut self.vertices[index]
    }

    /// Returns the first vertex that runs and is shown.
    pub(super) fn first_open(&self) -> Option<usize> {
        self.vertices
            .iter()
            .position(|v| v.is_started() && !v.is_completed() && !v.hidden)
    }
}

#[cfg(test)]
mod tests;
