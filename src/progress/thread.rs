//! The thread that takes reports, keeps the model, and writes.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use super::model::Model;
use super::plain::{self, Plain};
use super::quiet::Quiet;
use super::rawjson::RawJson;
use super::sender::{Message, Queue};
use super::time::Time;
use super::tty::{Labels, Tty};
use super::{Display, Mode, RenderOptions, Summary, logs, policy, warnings};

/// Without reports a display is refreshed this often.
const TICK: Duration = Duration::from_millis(150);

pub(super) struct Renderer {
    model: Model,
    display: Box<dyn Display>,
    writer: Option<Box<dyn Write + Send>>,
    queue: Arc<Queue>,
    /// Which source gives the logs of a step, by the digest of the step.
    log_sources: HashMap<String, u64>,
    /// The blocks at the end are printed.
    blocks: bool,
    is_terminal: bool,
    color: bool,
    debug: bool,
}

impl Renderer {
    pub(super) fn new(mode: Mode, options: RenderOptions, queue: Arc<Queue>) -> Self {
        let color = options.colors.enabled;
        let display: Box<dyn Display> = match mode {
            Mode::Plain => Box::new(Plain::new(plain::Options {
                description: options.description,
                terminal: options.is_terminal,
                truncate_names: options.truncate_names,
            })),
            Mode::Tty => {
                let labels = Labels {
                    description: options.terminal_description,
                    log_rows: options.log_rows,
                    summary: options.summary,
                    ..Labels::default()
                };
                Box::new(Tty::new(labels, options.colors, options.size))
            }
            Mode::RawJson => Box::new(RawJson),
            Mode::Quiet => Box::new(Quiet),
        };
        Self {
            model: Model::new(policy(mode)),
            display,
            writer: Some(options.writer),
            queue,
            log_sources: HashMap::new(),
            blocks: matches!(mode, Mode::Plain | Mode::Tty),
            is_terminal: options.is_terminal || mode == Mode::Tty,
            color,
            debug: options.debug,
        }
    }

    /// Prints until the build is over.
    pub(super) fn run(mut self, rx: &Receiver<Message>) -> Summary {
        let mut out = Vec::new();
        loop {
            match rx.recv_timeout(TICK) {
                Ok(Message::Status(source, status)) => {
                    self.queue.taken(&status);
                    self.status(source, status, &mut out);
                }
                Ok(Message::Note(digest, text)) => self.model.note(&digest, text),
                Ok(Message::Traffic(more)) => self.model.add_traffic(more),
                Ok(Message::Closed(source)) => {
                    self.log_sources.retain(|_, owner| *owner != source);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.display.tick(&mut self.model, Time::now(), &mut out);
                }
                Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.write(&mut out);
        }
        self.end(out)
    }

    fn status(&mut self, source: u64, mut status: StatusResponse, out: &mut Vec<u8>) {
        let sources = &mut self.log_sources;
        status.logs.retain(|log| {
            let owner = sources.entry(log.vertex.clone()).or_insert(source);
            *owner == source
        });
        let now = Time::now();
        self.model.apply(&status, now);
        self.display.status(&mut self.model, &status, now, out);
    }

    fn end(mut self, mut out: Vec<u8>) -> Summary {
        let now = Time::now();
        self.display.end(&mut self.model, now, &mut out);
        let dropped_log_bytes = self.queue.dropped();
        if self.blocks {
            for step in &self.model.failed() {
                out.extend_from_slice(&logs::block(step, self.is_terminal));
            }
            let list = self.model.warnings().list();
            out.extend_from_slice(warnings::block(list, self.debug, self.color).as_bytes());
            if dropped_log_bytes > 0 {
                out.extend_from_slice(
                    format!("\nWARNING: {dropped_log_bytes} bytes of logs are not shown: the output did not keep up\n")
                        .as_bytes(),
                );
            }
        }
        self.write(&mut out);
        Summary {
            warnings: self.model.into_warnings().into_list(),
        }
    }

    /// Writes in one piece. After an error, such as a closed pipe, the build goes on unseen.
    fn write(&mut self, out: &mut Vec<u8>) {
        if let Some(writer) = &mut self.writer
            && !out.is_empty()
            && writer.write_all(out).and_then(|()| writer.flush()).is_err()
        {
            self.writer = None;
        }
        out.clear();
    }
}
