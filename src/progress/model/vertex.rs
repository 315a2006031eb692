//! One step of a build as the displays see it.

use bollard_buildkit_proto::moby::buildkit::v1 as api;

use super::interval::Intervals;
use super::log::Log;
use crate::progress::time::{self, Time};

/// How BuildKit ends the error of a step that was cancelled.
const CANCELED: &str = "context canceled";

/// A part of a step with a progress of its own: a download, an upload, a transfer.
#[derive(Debug, Clone)]
pub struct Status {
    /// Name of the part, unique in its step.
    pub id: String,
    /// Bytes done.
    pub current: i64,
    /// Bytes in all; 0 where it is not known.
    pub total: i64,
    /// Time of the last report.
    pub timestamp: Time,
    /// When it began.
    pub started: Option<Time>,
    /// When it ended.
    pub completed: Option<Time>,
    /// It was reported on since it was printed last.
    pub(in crate::progress) updated: bool,
}

impl Status {
    pub(super) fn new(report: &api::VertexStatus) -> Self {
        Self {
            id: report.id.clone(),
            current: report.current,
            total: report.total,
            timestamp: time::or_epoch(report.timestamp),
            started: report.started.map(Time::from),
            completed: report.completed.map(Time::from),
            updated: true,
        }
    }
}

/// The state of a vertex that decides whether it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) digest: String,
    pub(super) name: String,
    pub(super) started: Time,
    pub(super) cached: bool,
    pub(super) error: String,
}

/// How a step ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It runs, or waits.
    Running,
    /// It ran to its end.
    Done,
    /// Its result was in the cache.
    Cached,
    /// It was stopped, because the build was cancelled or another step failed.
    Canceled,
    /// It failed.
    Failed,
}

/// A step (a vertex of BuildKit's graph), or a group of steps shown as one.
#[derive(Debug, Default)]
pub struct Vertex {
    /// Digest of the vertex, or ID of the group.
    pub digest: String,
    /// Name as BuildKit gives it.
    pub name: String,
    /// Its result came from the cache.
    pub cached: bool,
    /// It was reported as cached once. BuildKit leaves that out when it reports on the step again because
    /// a layer of its result is fetched.
    pub(super) was_cached: bool,
    /// Error text, empty where there is none.
    pub error: String,
    /// A remark of the client, empty where there is none.
    pub note: String,
    /// Texts of its warnings.
    pub warnings: Vec<Vec<u8>>,
    /// When it ran.
    pub intervals: Intervals,
    /// Its log.
    pub log: Log,
    /// Time of the last log text.
    pub last_log: Option<Time>,
    /// A group of which only weak members began: not shown.
    pub hidden: bool,
    pub(super) statuses: Vec<Status>,
    /// Indexes of the statuses that have begun, in that order.
    pub(super) listed: Vec<usize>,
    pub(super) seen: Option<Seen>,
    /// Number given by the plain printer; 0 before it was printed.
    pub(in crate::progress) number: usize,
    /// Warnings printed.
    pub(in crate::progress) warnings_printed: usize,
    /// Changes since the plain printer turned away from it.
    pub(in crate::progress) changes: u64,
    /// When the first of `changes` came.
    pub(in crate::progress) changes_since: Option<Time>,
}

impl Vertex {
    /// Returns whether it has begun.
    pub fn is_started(&self) -> bool {
        self.intervals.latest().is_some()
    }

    /// Returns whether it has begun and ended.
    pub fn is_completed(&self) -> bool {
        self.intervals.is_completed()
    }

    /// Returns whether its error says that it was cancelled.
    pub fn is_canceled(&self) -> bool {
        self.error.ends_with(CANCELED)
    }

    /// Returns how it ended.
    pub fn outcome(&self) -> Outcome {
        if !self.error.is_empty() {
            if self.is_canceled() {
                Outcome::Canceled
            } else {
                Outcome::Failed
            }
        } else if !self.is_completed() {
            Outcome::Running
        } else if self.cached {
            Outcome::Cached
        } else {
            Outcome::Done
        }
    }

    /// Returns whether it has ended well and its result came from a cache, whatever is reported about it
    /// since.
    pub fn came_from_cache(&self) -> bool {
        self.was_cached && matches!(self.outcome(), Outcome::Cached | Outcome::Done)
    }

    /// Returns whether it was reported as cached, whatever is reported about it since.
    pub fn was_once_cached(&self) -> bool {
        self.was_cached
    }

    /// Returns whether its name is numbered, as the steps of a Dockerfile are: `[stage 2/7] RUN make`.
    pub fn is_numbered(&self) -> bool {
        let number = || {
            let (place, _) = self.name.strip_prefix('[')?.split_once(']')?;
            place.rsplit(' ').next()?.split_once('/')
        };
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        number().is_some_and(|(step, steps)| is_number(step) && is_number(steps))
    }

    /// Returns whether it is the image that a stage begins with: `[stage 1/7] FROM debian`.
    pub fn is_base_image(&self) -> bool {
        let text = self.name.split_once("] ").map(|(_, text)| text);
        self.is_numbered() && text.is_some_and(|text| text.starts_with("FROM "))
    }

    /// Returns its parts that have begun, in the order they did.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.listed.iter().filter_map(|i| self.statuses.get(*i))
    }

    /// Takes the parts reported on since the last call, in the order of their beginning.
    pub(in crate::progress) fn take_updated(&mut self) -> Vec<Status> {
        let updated = self
            .statuses()
            .filter(|status| status.updated)
            .cloned()
            .collect();
        for status in &mut self.statuses {
            status.updated = false;
        }
        updated
    }

    pub(super) fn change(&mut self, now: Time) {
        if self.changes == 0 {
            self.changes_since = Some(now);
        }
        self.changes += 1;
    }

    /// Notes a report about the vertex itself; returns whether it is worth printing.
    pub(super) fn see(&mut self, report: &api::Vertex, now: Time) -> bool {
        let Some(started) = report.started.map(Time::from) else {
            return false;
        };
        let seen = Seen {
            digest: report.digest.clone(),
            name: report.name.clone(),
            started,
            cached: report.cached,
            error: report.error.clone(),
        };
        let changed = report.completed.is_some() || self.seen.as_ref() != Some(&seen);
        if changed {
            self.change(now);
        }
        self.seen = Some(seen);
        changed
    }

    /// Takes the report's own values. A report without a start about a step that has begun is a
    /// repetition of the first one and resets nothing.
    pub(super) fn take(&mut self, report: &api::Vertex) {
        if self.is_started() && report.started.is_none() {
            return;
        }
        self.digest.clone_from(&report.digest);
        self.name.clone_from(&report.name);
        self.cached = report.cached;
        self.was_cached |= report.cached;
        self.error.clone_from(&report.error);
        if let Some(started) = report.started {
            self.intervals
                .set(started.into(), report.completed.map(Time::from));
        }
        if self.is_completed() && self.error.is_empty() {
            self.log.forget();
        }
    }

    pub(super) fn take_status(&mut self, report: &api::VertexStatus) {
        let known = self.statuses.iter().position(|s| s.id == report.id);
        let index = known.unwrap_or(self.statuses.len());
        match self.statuses.get_mut(index) {
            Some(status) => *status = Status::new(report),
            None => self.statuses.push(Status::new(report)),
        }
        if report.started.is_some() && !self.listed.contains(&index) {
            self.listed.push(index);
        }
    }
}
