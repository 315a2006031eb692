//! The plain printer: the text of BuildKit's `--progress=plain`, which people and tools search.
//!
//! Steps that run at the same time share the output. The printer stays on one step while that is
//! fair, and says `#5 ...` when it turns away (BuildKit `progressui` textMux).

mod share;

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use super::limit::Limiter;
use super::model::{Model, Outcome, Status, Vertex};
use super::time::{self, Time};
use super::{Display, units};
use crate::text::foreign;

const SECOND: i64 = 1_000_000_000;
/// A part that makes little progress is printed again after this time.
const MIN_TIME_DELTA: i64 = 5 * SECOND;
/// A part is printed again after this share of its total.
const MIN_PROGRESS_DELTA: f64 = 0.05;
/// Names are cut to this many bytes where [`Options::truncate_names`] asks for it.
const SHORT_NAME: usize = 72;

/// How the plain printer prints.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Printed as `#0 …` before all else, unless it is empty.
    pub description: String,
    /// The output is a terminal: control characters other than colours are left out.
    pub terminal: bool,
    /// Long names are cut (`PROGRESS_NO_TRUNC=0`).
    pub truncate_names: bool,
}

/// The plain printer.
#[derive(Debug)]
pub struct Plain {
    options: Options,
    limiter: Limiter,
    /// The step that the output is on.
    current: Option<usize>,
    /// Last printed state of each part, by its name alone, as in the original.
    last: HashMap<String, (i64, Time)>,
    begun: bool,
    numbers: usize,
}

impl Plain {
    /// Creates a printer.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            limiter: Limiter::default(),
            current: None,
            last: HashMap::new(),
            begun: false,
            numbers: 0,
        }
    }

    fn print(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>) {
        let (mut completed, rest): (Vec<usize>, Vec<usize>) = model
            .updates()
            .iter()
            .copied()
            .filter(|index| !model.vertex(*index).hidden)
            .partition(|index| model.vertex(*index).is_completed());
        let current = self.current;
        // Steps that are done come first: the one that the output is on, then by their ends.
        completed.sort_by_key(|index| {
            (
                Some(*index) != current,
                model.vertex(*index).intervals.latest().and_then(|i| i.stop),
            )
        });
        for index in &completed {
            self.vertex(model, *index, out);
        }
        if rest.is_empty() {
            let on_open = current.is_some_and(|index| {
                let vertex = model.vertex(index);
                vertex.is_started() && !vertex.is_completed()
            });
            if !on_open && let Some(index) = model.first_open() {
                self.vertex(model, index, out);
            }
            return;
        }
        if let Some(index) = current.filter(|index| rest.contains(index)) {
            self.vertex(model, index, out);
        }
        let current_done = current.is_none_or(|index| completed.contains(&index));
        if let Some(next) = share::choose(model, now, current, current_done, &rest) {
            self.vertex(model, next, out);
        }
    }

    fn vertex(&mut self, model: &mut Model, index: usize, out: &mut Vec<u8>) {
        self.turn_to(model, index, out);
        let vertex = model.vertex_mut(index);
        let open_part = self.statuses(vertex, out);
        for short in vertex.warnings.iter().skip(vertex.warnings_printed) {
            let text = self.clean_bytes(short);
            line(out, vertex.number, &[b"WARN: ", &text]);
        }
        vertex.warnings_printed = vertex.warnings.len();
        self.logs(vertex, out);
        self.current = Some(index);
        if vertex.is_completed() && !open_part {
            self.current = None;
            vertex.changes = 0;
            if vertex.log.open {
                out.push(b'\n');
            }
            self.outcome(vertex, out);
        }
        model.printed(index);
    }

    /// Prints the head of a step, if the output was on another one.
    fn turn_to(&mut self, model: &mut Model, index: usize, out: &mut Vec<u8>) {
        let vertex = model.vertex_mut(index);
        if vertex.number == 0 {
            self.numbers += 1;
            vertex.number = self.numbers;
        }
        if self.current == Some(index) {
            return;
        }
        if let Some(old) = self.current {
            let old = model.vertex_mut(old);
            if old.log.open {
                out.push(b'\n');
            }
            old.log.printed = 0;
            old.changes = 0;
            line(out, old.number, &[b"..."]);
        }
        if self.begun {
            out.push(b'\n');
        } else if !self.options.description.is_empty() {
            line(out, 0, &[self.options.description.as_bytes()]);
            out.push(b'\n');
        }
        self.begun = true;
        let vertex = model.vertex(index);
        let name = self.clean(&vertex.name);
        if self.options.truncate_names && name.len() > SHORT_NAME {
            let cut = (0..=SHORT_NAME)
                .rev()
                .find(|at| name.is_char_boundary(*at))
                .unwrap_or(0);
            line(out, vertex.number, &[&name.as_bytes()[..cut], b"..."]);
        } else {
            line(out, vertex.number, &[name.as_bytes()]);
        }
    }

    /// Prints the parts that made progress; returns whether one printed is not done yet.
    fn statuses(&mut self, vertex: &mut Vertex, out: &mut Vec<u8>) -> bool {
        let mut open = false;
        for status in vertex.take_updated() {
            if !self.is_due(&status) {
                continue;
            }
            self.last
                .insert(status.id.clone(), (status.current, status.timestamp));
            open |= status.completed.is_none();
            let amount = units::amount(status.current, status.total);
            let end = status.completed.unwrap_or(status.timestamp);
            let took = status
                .started
                .map(|start| time::seconds(end.since(start)))
                .filter(|took| *took > 0.01)
                .map_or(String::new(), |took| format!(" {took:.1}s"));
            let done = if status.completed.is_some() {
                " done"
            } else {
                ""
            };
            let id = self.clean(&status.id);
            let parts = [
                id.as_bytes(),
                amount.as_bytes(),
                took.as_bytes(),
                done.as_bytes(),
            ];
            line(out, vertex.number, &parts);
        }
        open
    }

    fn is_due(&self, status: &Status) -> bool {
        let Some((current, timestamp)) = self.last.get(&status.id) else {
            return true;
        };
        if status.completed.is_some() {
            return true;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of the total needs no exact bytes"
        )]
        let share = if status.total > 0 {
            status.current.saturating_sub(*current) as f64 / status.total as f64
        } else {
            0.0
        };
        share >= MIN_PROGRESS_DELTA || status.timestamp.since(*timestamp) >= MIN_TIME_DELTA
    }

    /// Prints the pending log lines. A line without its end is printed as far as it goes; what
    /// comes later goes on behind it, as long as the output stays on the step.
    fn logs(&self, vertex: &mut Vertex, out: &mut Vec<u8>) {
        let count = vertex.log.pending.len();
        for (i, text) in vertex.log.pending.iter().enumerate() {
            if i == 0 && vertex.log.printed != 0 {
                let rest = text.get(vertex.log.printed..).unwrap_or_default();
                out.extend_from_slice(&self.clean_log(rest));
            } else {
                out.extend_from_slice(format!("#{} ", vertex.number).as_bytes());
                out.extend_from_slice(&self.clean_log(text));
            }
            if i + 1 != count || !vertex.log.open {
                out.push(b'\n');
            }
        }
        vertex.log.seen = true;
        vertex.log.printed = 0;
        if vertex.log.open && count > 0 {
            vertex.log.pending.drain(..count - 1);
            vertex.log.printed = vertex.log.pending.first().map_or(0, Vec::len);
        } else {
            vertex.log.pending.clear();
        }
    }

    fn outcome(&self, vertex: &Vertex, out: &mut Vec<u8>) {
        let number = vertex.number;
        match vertex.outcome() {
            Outcome::Canceled => line(out, number, &[b"CANCELED"]),
            Outcome::Failed => line(
                out,
                number,
                &[b"ERROR: ", self.clean(&vertex.error).as_bytes()],
            ),
            Outcome::Cached => line(out, number, &[b"CACHED"]),
            // Completed, so every span has its end and the time given is not used.
            Outcome::Done | Outcome::Running => {
                let took = time::seconds(vertex.intervals.total(Time::default()));
                line(out, number, &[format!("DONE {took:.1}s").as_bytes()]);
            }
        }
    }

    fn clean<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        if self.options.terminal {
            foreign::lines(text)
        } else {
            text.into()
        }
    }

    fn clean_bytes(&self, text: &[u8]) -> Vec<u8> {
        if self.options.terminal {
            foreign::lines(&String::from_utf8_lossy(text))
                .into_owned()
                .into_bytes()
        } else {
            text.to_vec()
        }
    }

    fn clean_log<'a>(&self, text: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if self.options.terminal {
            foreign::log(text).into_bytes().into()
        } else {
            text.into()
        }
    }
}

impl Display for Plain {
    fn status(&mut self, model: &mut Model, _: &StatusResponse, now: Time, out: &mut Vec<u8>) {
        if self.limiter.allow(now) {
            self.print(model, now, out);
        }
    }

    fn tick(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>) {
        self.print(model, now, out);
    }

    fn end(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>) {
        self.print(model, now, out);
        // The printer above turns to one running step at a time. BuildKit loses what the others
        // still have to say when a build is cut off; here it is printed.
        let waiting: Vec<usize> = model
            .updates()
            .iter()
            .copied()
            .filter(|index| {
                let vertex = model.vertex(*index);
                !vertex.hidden && vertex.log.has_news()
            })
            .collect();
        for index in waiting {
            self.vertex(model, index, out);
        }
    }
}

/// Writes `#number ` and the parts as one line.
fn line(out: &mut Vec<u8>, number: usize, parts: &[&[u8]]) {
    out.extend_from_slice(format!("#{number} ").as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
