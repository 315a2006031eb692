//! One step of a report, or one export, made of what was reported of it.

use crate::cache::keys::{Kind, Plan, Vertex as Planned};
use crate::cache::record::name::{self, Label};
use crate::progress::model::{Outcome, Vertex};
use crate::progress::time::Time;
use crate::text::foreign;

use super::model::{Export, ExportKind, Span, Status, Step};

/// Characters of a name that are kept, and of an error.
const NAME: usize = 200;
const ERROR: usize = 2000;
/// From how long on a cached step counts as loaded although no bytes are told, in milliseconds.
const LOADING: u64 = 50;

/// What all steps of a build have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// When it began.
    pub(super) began: Time,
    /// When it ended.
    pub(super) ended: Time,
    /// It succeeded: what has not ended is only not reported.
    pub(super) succeeded: bool,
}

impl Clock {
    /// Returns milliseconds since the beginning.
    fn at(&self, time: Time) -> u64 {
        let end = self.ended.since(self.began).max(0);
        let nanos = time.since(self.began).clamp(0, end);
        u64::try_from(nanos / 1_000_000).unwrap_or(0)
    }

    /// Returns when a vertex ran.
    fn spans(&self, vertex: &Vertex) -> Vec<Span> {
        let spans = vertex.intervals.merged().iter();
        let spans = spans.map(|span| {
            let from = self.at(span.start);
            (from, self.at(span.stop.unwrap_or(self.ended)).max(from))
        });
        let spans: Vec<Span> = spans.collect();
        let lasting = spans.iter().copied().filter(|(from, to)| to > from);
        let lasting: Vec<Span> = lasting.collect();
        // A step out of a cache has a moment of its own before its layers are fetched.
        if lasting.is_empty() { spans } else { lasting }
    }

    fn status(&self, vertex: &Vertex) -> Status {
        match vertex.outcome() {
            Outcome::Failed => Status::Failed,
            Outcome::Canceled => Status::Canceled,
            Outcome::Running if !self.succeeded => Status::Canceled,
            // Of a step out of a cache whose layers are fetched the end is not always reported.
            _ if vertex.was_once_cached() => Status::Cached,
            Outcome::Running | Outcome::Done | Outcome::Cached => Status::Ran,
        }
    }

    /// Returns a step as far as its vertex tells.
    pub(super) fn step(&self, vertex: &Vertex, name: String) -> Step {
        let spans = self.spans(vertex);
        let duration_ms = spans.iter().map(|(from, to)| to - from).sum();
        let status = self.status(vertex);
        let bytes = bytes(vertex);
        let label = name::label(&name).map(Label::of).unwrap_or_default();
        let (platform, stage) = (label.platform, Some(label.stage));
        let platform = platform.map(str::to_owned);
        let stage = stage.filter(|stage| !stage.is_empty()).map(str::to_owned);
        Step {
            id: 0,
            kind: "internal",
            counted: false,
            node: None,
            stage,
            platform,
            dockerfile: None,
            line: None,
            status,
            loading: status == Status::Cached && (bytes.is_some() || duration_ms >= LOADING),
            critical: false,
            start_ms: spans.first().map(|span| span.0),
            duration_ms,
            bytes,
            cache: vertex.note.strip_prefix("from ").map(str::to_owned),
            error: error(vertex, status),
            cause: None,
            follows: None,
            followers: Vec::new(),
            inputs: Vec::new(),
            spans,
            name,
        }
    }

    /// Returns an export, if a vertex is one that has begun.
    pub(super) fn export(&self, vertex: &Vertex) -> Option<Export> {
        let kind = export_kind(&vertex.name).filter(|_| vertex.is_started())?;
        let spans = self.spans(vertex);
        let status = self.status(vertex);
        Some(Export {
            kind,
            name: shown(&vertex.name),
            node: None,
            status,
            start_ms: spans.first().map(|span| span.0),
            duration_ms: spans.iter().map(|(from, to)| to - from).sum(),
            bytes: bytes(vertex),
            error: error(vertex, status),
            spans,
        })
    }
}

impl Step {
    /// Adds what the definition tells of the vertices that the step is made of.
    pub(super) fn describe(&mut self, plan: &Plan, members: &[usize]) {
        let members = || members.iter().filter_map(|at| plan.vertices().get(*at));
        let main = members().find(|vertex| vertex.makes_layers());
        let Some(main) = main.or(members().next()) else {
            return;
        };
        let is_internal = self.name.starts_with("[internal]");
        self.kind = kind(main.kind());
        self.counted = members().any(counts) && !is_internal;
        if let Some(place) = members().filter_map(|vertex| vertex.place.as_ref()).min() {
            self.dockerfile = Some(shown(&place.file));
            self.line = Some(place.first);
        }
        if self.platform.is_none() && !is_internal {
            self.platform = main.platform.as_ref().map(|platform| {
                let parts = [&platform.os, &platform.architecture, &platform.variant];
                let parts = parts.into_iter().filter(|part| !part.is_empty());
                shown(&parts.map(String::as_str).collect::<Vec<_>>().join("/"))
            });
        }
    }
}

/// Returns whether a vertex makes a layer out of something: what it makes out of nothing no cache keeps.
fn counts(vertex: &Planned) -> bool {
    vertex.makes_layers() && !vertex.inputs.is_empty() && !vertex.name.is_empty()
}

/// Returns a name that others wrote, as it may stand in a report.
pub(super) fn shown(name: &str) -> String {
    foreign::excerpt(name, NAME)
}

/// Returns an error that others wrote, as it may stand in a report.
pub(super) fn told(error: &str) -> String {
    foreign::excerpt(error.trim(), ERROR)
}

/// Returns the name of a step that the definition does not tell: the frontend has put the values of variables into it.
pub(super) fn without_values(name: &str) -> String {
    match name::label(name) {
        Some(label) if !label.starts_with("[internal]") && label.contains('/') => {
            shown(format!("{label} {}", name::word(name)).trim())
        }
        _ => shown(name),
    }
}

/// Returns the word for a kind. A report also has the steps of builder and client themselves.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Other => "internal",
        kind => kind.as_str(),
    }
}

/// Returns what goes on beside the steps under this name, as BuildKit and this program call it.
fn export_kind(name: &str) -> Option<ExportKind> {
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if begins(&["importing cache"]) {
        Some(ExportKind::Import)
    } else if begins(&["exporting cache", "exporting content cache"]) {
        Some(ExportKind::Cache)
    } else if begins(&["saving cache mount ", "restoring cache mount "]) {
        Some(ExportKind::Mount)
    } else if begins(&["exporting to ", "merging manifest list", "importing to "]) {
        Some(ExportKind::Image)
    } else {
        None
    }
}

/// Returns the bytes that the parts of a vertex moved. A part that was there before ends when it begins.
fn bytes(vertex: &Vertex) -> Option<u64> {
    let moved = vertex.statuses();
    let moved = moved.filter(|part| part.completed.is_none() || part.completed != part.started);
    let moved = moved.filter_map(|part| u64::try_from(part.current).ok());
    Some(moved.fold(0, u64::saturating_add)).filter(|bytes| *bytes > 0)
}

fn error(vertex: &Vertex, status: Status) -> Option<String> {
    (status == Status::Failed).then(|| told(&vertex.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_not_in_names() {
        assert_eq!(without_values("[2/3] RUN echo hunter2"), "[2/3] RUN");
        assert_eq!(
            without_values("[linux/amd64 a 2/3] COPY hunter2 ."),
            "[linux/amd64 a 2/3] COPY"
        );
        let load = "[internal] load build context";
        assert_eq!(without_values(load), load);
    }
}
