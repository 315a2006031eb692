//! Steps of the client itself, shown like those of BuildKit.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};
use parking_lot::Mutex;

use super::sender::StatusSender;
use super::time::Time;

/// Progress of a step is reported at most this often.
const INTERVAL: i64 = 100_000_000;

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

impl StatusSender {
    /// Begins a step of the client itself, such as `[internal] booting buildkit`.
    pub fn step(&self, name: &str) -> Step {
        let step = Step {
            sender: self.unshifted(),
            vertex: Vertex {
                digest: format!("sha256:{}", hex::encode(rand::random::<[u8; 32]>())),
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

impl Step {
    /// Prints a line of text under the step.
    #[cfg(test)]
    pub fn log(&self, text: &str) {
        let mut message = text.as_bytes().to_vec();
        message.push(b'\n');
        self.sender.send(StatusResponse {
            logs: vec![bollard_buildkit_proto::moby::buildkit::v1::VertexLog {
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
        let mut parts = self.parts.lock();
        let known = parts.get(id).copied();
        if known.is_some_and(|part| part.completed) {
            return;
        }
        let completed = total > 0 && current >= total;
        let due = known.is_none_or(|part| now.since(part.sent) >= INTERVAL);
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
        let mut parts = self.parts.lock();
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
        self.end(String::new());
    }

    /// Ends the step with an error.
    pub fn fail(mut self, error: &impl ToString) {
        self.end(error.to_string());
    }

    fn end(&mut self, error: String) {
        let open: Vec<String> = {
            let parts = self.parts.lock();
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
            self.end("context canceled".to_owned());
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
