//! The producers' side: reports of BuildKit, and steps of the client itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};

use super::time::Time;

/// Log text that waits for a slow output is bounded to so many bytes; more is dropped and counted.
const MAX_QUEUED: usize = 32 * 1024 * 1024;
/// Progress of a step of the client is reported at most so often.
const STEP_INTERVAL: i64 = 100_000_000;

/// What the renderer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A report from the source of that number.
    Status(u64, StatusResponse),
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
        }
    }

    /// Puts a prefix before the names of steps, as a build on several nodes does: `[prefix 1/3]
    /// RUN …`, `[prefix] exporting …`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.into());
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
        if let Some(prefix) = &self.prefix {
            add_prefix(&mut status, prefix);
        }
        if let Some(shift) = &self.shift {
            shift
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .apply(&mut status);
        }
        self.queue.admit(&mut status);
        // After the end of the display nobody looks.
        drop(
            self.source
                .tx
                .send(Message::Status(self.source.number, status)),
        );
    }

    /// Begins a step of the client itself, such as `[internal] booting buildkit`.
    pub fn step(&self, name: &str) -> Step {
        let step = Step {
            sender: Self {
                shift: None,
                ..self.clone()
            },
            vertex: Vertex {
                digest: random_digest(),
                name: name.to_owned(),
                started: Some(Time::now().into()),
                ..Vertex::default()
            },
            parts: Mutex::default(),
            ended: false,
        };
        step.send_vertex(step.vertex.clone());
        step
    }
}

fn random_digest() -> String {
    format!("sha256:{}", hex::encode(rand::random::<[u8; 32]>()))
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

/// A step of the client, shown like one of BuildKit's. Dropped before its end, it shows as
/// cancelled.
#[derive(Debug)]
pub struct Step {
    sender: StatusSender,
    vertex: Vertex,
    parts: Mutex<HashMap<String, Part>>,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    started: Time,
    sent: Time,
    current: i64,
    total: i64,
    completed: bool,
}

impl Step {
    /// Prints a line of text under the step.
    pub fn log(&self, text: &str) {
        let mut message = text.as_bytes().to_vec();
        message.push(b'\n');
        self.sender.send(StatusResponse {
            logs: vec![VertexLog {
                vertex: self.vertex.digest.clone(),
                timestamp: Some(Time::now().into()),
                stream: 1,
                msg: message,
            }],
            ..StatusResponse::default()
        });
    }

    /// Reports the progress of a part, in bytes; a `total` of 0 is not known. The part is done
    /// when `current` reaches a known total, or with [`Self::part_done`], or with the step. It may
    /// be called for each piece of data: only some calls are passed on.
    pub fn progress(&self, id: &str, current: u64, total: u64) {
        let (current, total) = (signed(current), signed(total));
        let now = Time::now();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = parts.get(id).copied();
        if known.is_some_and(|part| part.completed) {
            return;
        }
        let completed = total > 0 && current >= total;
        let due = known.is_none_or(|part| now.since(part.sent) >= STEP_INTERVAL);
        let mut part = Part {
            started: known.map_or(now, |part| part.started),
            sent: known.map_or(now, |part| part.sent),
            current,
            total,
            completed,
        };
        if completed || due {
            part.sent = now;
            self.send_part(id, part, now);
        }
        parts.insert(id.to_owned(), part);
    }

    /// Ends a part.
    pub fn part_done(&self, id: &str) {
        let now = Time::now();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(id.to_owned()).or_insert(Part {
            started: now,
            sent: now,
            current: 0,
            total: 0,
            completed: false,
        });
        if !part.completed {
            part.completed = true;
            self.send_part(id, *part, now);
        }
    }

    /// Ends the step.
    pub fn done(mut self) {
        self.end(String::new(), false);
    }

    /// Ends the step as one whose result was there already.
    pub fn cached(mut self) {
        self.end(String::new(), true);
    }

    /// Ends the step with an error.
    pub fn fail(mut self, error: &impl ToString) {
        self.end(error.to_string(), false);
    }

    fn end(&mut self, error: String, cached: bool) {
        let open: Vec<String> = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let open = parts.iter().filter(|(_, part)| !part.completed);
            open.map(|(id, _)| id.clone()).collect()
        };
        for id in open {
            self.part_done(&id);
        }
        self.ended = true;
        self.send_vertex(Vertex {
            completed: Some(Time::now().into()),
            error,
            cached,
            ..self.vertex.clone()
        });
    }

    fn send_vertex(&self, vertex: Vertex) {
        self.sender.send(StatusResponse {
            vertexes: vec![vertex],
            ..StatusResponse::default()
        });
    }

    fn send_part(&self, id: &str, part: Part, now: Time) {
        self.sender.send(StatusResponse {
            statuses: vec![VertexStatus {
                id: id.to_owned(),
                vertex: self.vertex.digest.clone(),
                name: String::new(),
                current: part.current,
                total: part.total,
                timestamp: Some(now.into()),
                started: Some(part.started.into()),
                completed: part.completed.then(|| now.into()),
            }],
            ..StatusResponse::default()
        });
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end("context canceled".to_owned(), false);
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
