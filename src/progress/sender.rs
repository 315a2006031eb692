//! The producers' side: how reports of BuildKit reach the display.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use parking_lot::Mutex;

use super::model::Traffic;
use super::time::Time;
use super::trace::Trace;

/// Log text that waits for a slow output is bounded to this many bytes; more is dropped and counted.
const MAX_QUEUED: usize = 32 * 1024 * 1024;

/// What the renderer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A report from the source of that number.
    Status(u64, StatusResponse),
    /// A remark about the step with that digest.
    Note(String, String),
    /// Bytes of caches went over the network.
    Traffic(Traffic),
    /// The source of that number sends no more.
    Closed(u64),
    /// The build is over.
    Finish,
}

/// How much waits for the renderer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    /// Notes that a report left the queue.
    pub(super) fn taken(&self, status: &StatusResponse) {
        self.bytes.fetch_sub(log_bytes(status), Ordering::Relaxed);
    }

    /// Returns how many bytes of logs were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts a report in, without its logs where too much waits already.
    fn admit(&self, status: &mut StatusResponse) {
        let bytes = log_bytes(status);
        if bytes == 0 {
            return;
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > MAX_QUEUED {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            status.logs.clear();
            // A usize fits into 64 bits on every platform there is.
            self.dropped
                .fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

fn log_bytes(status: &StatusResponse) -> usize {
    status.logs.iter().map(|log| log.msg.len()).sum()
}

/// A stream of reports; when its last sender is gone, its logs may come from another one.
#[derive(Debug)]
struct Source {
    number: u64,
    tx: Sender<Message>,
}

impl Drop for Source {
    fn drop(&mut self) {
        // The renderer may be gone already, and then nobody waits for this.
        drop(self.tx.send(Message::Closed(self.number)));
    }
}

/// Sends reports to the display. Clones are the same source.
///
/// Where two sources report logs of one step (two solves that share it), the logs of the first
/// one count, so that no line shows twice.
#[derive(Debug, Clone)]
pub struct StatusSender {
    source: Arc<Source>,
    queue: Arc<Queue>,
    prefix: Option<Arc<str>>,
    shift: Option<Arc<Mutex<Shift>>>,
    trace: Option<Arc<Trace>>,
}

/// The difference between the builder's clock and this machine's.
#[derive(Debug)]
struct Shift {
    began: Time,
    difference: Option<i64>,
}

impl StatusSender {
    pub(super) fn new(number: u64, tx: Sender<Message>, queue: Arc<Queue>) -> Self {
        Self {
            source: Arc::new(Source { number, tx }),
            queue,
            prefix: None,
            shift: None,
            trace: None,
        }
    }

    /// Puts a prefix before the names of steps, as a build on several nodes does: `[prefix 1/3]
    /// RUN …`, `[prefix] exporting …`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Keeps what is reported in a trace, too, without the prefix.
    #[must_use]
    pub fn with_trace(mut self, trace: Arc<Trace>) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Moves all times so that the first step begins now (buildx `ResetTime`): a builder's clock
    /// may differ from this machine's.
    #[must_use]
    pub fn with_reset_time(mut self) -> Self {
        self.shift = Some(Arc::new(Mutex::new(Shift {
            began: Time::now(),
            difference: None,
        })));
        self
    }

    /// Sends a report. It returns at once; after the end of the display reports are ignored.
    pub fn send(&self, mut status: StatusResponse) {
        if let Some(shift) = &self.shift {
            shift.lock().apply(&mut status);
        }
        if let Some(trace) = &self.trace {
            trace.take(&status);
        }
        if let Some(prefix) = &self.prefix {
            add_prefix(&mut status, prefix);
        }
        self.queue.admit(&mut status);
        // After the end of the display nobody looks.
        drop(
            self.source
                .tx
                .send(Message::Status(self.source.number, status)),
        );
    }

    /// Adds a remark to the step with that digest, such as the cache that its result came from.
    /// The terminal display shows it behind the name; the forms of output that tools read do not
    /// have it. A step that is not known yet has no remark.
    pub fn note(&self, digest: &str, text: &str) {
        if let Some(trace) = &self.trace {
            trace.note(digest, text);
        }
        // After the end of the display nobody looks.
        drop(
            self.source
                .tx
                .send(Message::Note(digest.to_owned(), text.to_owned())),
        );
    }

    /// Adds to the bytes of caches in the summary at the end of a build.
    pub fn traffic(&self, more: Traffic) {
        if let Some(trace) = &self.trace {
            trace.traffic(more);
        }
        // After the end of the display nobody looks.
        drop(self.source.tx.send(Message::Traffic(more)));
    }

    /// Returns a sender of what has this machine's clock already.
    pub(super) fn unshifted(&self) -> Self {
        Self {
            shift: None,
            ..self.clone()
        }
    }
}

fn add_prefix(status: &mut StatusResponse, prefix: &str) {
    let prefixed = |name: &str| match name.strip_prefix('[') {
        Some(rest) => format!("[{prefix} {rest}"),
        None => format!("[{prefix}] {name}"),
    };
    for vertex in &mut status.vertexes {
        vertex.name = prefixed(&vertex.name);
        if let Some(group) = &mut vertex.progress_group {
            group.name = prefixed(&group.name);
        }
    }
}

impl Shift {
    fn apply(&mut self, status: &mut StatusResponse) {
        if self.difference.is_none() {
            self.difference = status
                .vertexes
                .iter()
                .rev()
                .find_map(|vertex| vertex.started)
                .map(|started| Time::from(started).since(self.began));
        }
        let Some(difference) = self.difference else {
            return;
        };
        let vertices = status
            .vertexes
            .iter_mut()
            .flat_map(|v| [&mut v.started, &mut v.completed]);
        let statuses = status
            .statuses
            .iter_mut()
            .flat_map(|s| [&mut s.started, &mut s.completed, &mut s.timestamp]);
        let logs = status.logs.iter_mut().map(|l| &mut l.timestamp);
        for stamp in vertices.chain(statuses).chain(logs).flatten() {
            *stamp = Time::from(*stamp)
                .plus(0i64.saturating_sub(difference))
                .into();
        }
    }
}
