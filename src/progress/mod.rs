//! The model of a running build and its renderers.
//!
//! Reports of BuildKit's status stream, and steps of the client itself, go through a
//! [`StatusSender`] to a thread that keeps the [`model`] and writes what the chosen display
//! prints. The thread is owned by [`Progress`] and ends with it.
//!
//! | file | prints |
//! |---|---|
//! | [`plain`] | text lines as BuildKit does, to be searched |
//! | [`rawjson`] | reports as JSON lines |
//! | [`tty`] | the live tree of a terminal |
//! | [`quiet`] | nothing |
//! | [`logs`], [`warnings`], [`source_error`] | the blocks at the end of a build |

pub mod colors;
mod limit;
pub mod logs;
pub mod model;
pub mod plain;
pub mod quiet;
pub mod rawjson;
pub mod resolve;
mod sender;
pub mod source_error;
mod step;
mod thread;
pub mod time;
mod trace;
pub mod tty;
pub mod units;
pub mod warnings;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, VertexWarning};
use tokio::sync::oneshot;

pub use colors::Colors;
pub use model::Traffic;
pub use resolve::{Mode, Request, Resolved, resolve};
pub use sender::StatusSender;
pub use step::Step;
pub use trace::Trace;
pub use tty::SizeSource;

use model::{LogPolicy, Model};
use sender::{Message, Queue};
use time::Time;

/// A way to print a build. All output is appended to `out`, which is then written in one piece.
pub(crate) trait Display: Send {
    /// A report came; the model has it already.
    fn status(&mut self, model: &mut Model, status: &StatusResponse, now: Time, out: &mut Vec<u8>);

    /// No report came for a while.
    fn tick(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>);

    /// No more reports come.
    fn end(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>);
}

/// How and where a build is printed.
pub struct RenderOptions {
    /// Where to; buildx prints all forms of progress to standard error.
    pub writer: Box<dyn Write + Send>,
    /// The writer is a terminal: control characters of a builder's texts do not reach it.
    pub is_terminal: bool,
    /// Asked for the size of the terminal; needed for [`Mode::Tty`] only.
    pub size: SizeSource,
    /// Colours.
    pub colors: Colors,
    /// Warnings are printed with details and source lines (`docker --debug`).
    pub debug: bool,
    /// Printed first by the plain printer, as `#0 …`: `building with "name" instance using
    /// docker-container driver`. Nothing if it is empty.
    pub description: String,
    /// Right end of the terminal's head line: `docker-container:name`.
    pub terminal_description: String,
    /// Rows of a log window (`BUILDKIT_TTY_LOG_LINES`); 6 by default.
    pub log_rows: usize,
    /// The terminal display ends with a summary of steps, time and bytes of caches.
    pub summary: bool,
    /// The plain printer cuts long names (`PROGRESS_NO_TRUNC=0`).
    pub truncate_names: bool,
}

impl RenderOptions {
    /// Creates options for a writer that is not a terminal, without colours.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self {
            writer: Box::new(writer),
            is_terminal: false,
            size: Box::new(|| None),
            colors: Colors::none(),
            debug: false,
            description: String::new(),
            terminal_description: String::new(),
            log_rows: tty::Labels::default().log_rows,
            summary: false,
            truncate_names: false,
        }
    }
}

/// What there is to say about a build that is over.
#[derive(Debug, Default)]
pub struct Summary {
    /// The warnings, each once.
    pub warnings: Vec<VertexWarning>,
}

/// The display of a build.
#[derive(Debug)]
pub struct Progress {
    tx: Sender<Message>,
    queue: Arc<Queue>,
    sources: AtomicU64,
    result: Option<oneshot::Receiver<Summary>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to print.
    ///
    /// # Errors
    ///
    /// Fails if the system gives no thread.
    pub fn start(mode: Mode, options: RenderOptions) -> io::Result<Self> {
        let (tx, rx) = mpsc::channel();
        let (result_tx, result) = oneshot::channel();
        let queue = Arc::new(Queue::default());
        let renderer = thread::Renderer::new(mode, options, Arc::clone(&queue));
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                let summary = renderer.run(&rx);
                // Nobody waits where the display was dropped.
                drop(result_tx.send(summary));
            })?;
        Ok(Self {
            tx,
            queue,
            sources: AtomicU64::new(0),
            result: Some(result),
            thread: Some(thread),
        })
    }

    /// Returns a sender that is a source of its own: one for each status stream.
    pub fn sender(&self) -> StatusSender {
        let number = self.sources.fetch_add(1, Ordering::Relaxed);
        StatusSender::new(number, self.tx.clone(), Arc::clone(&self.queue))
    }

    /// Prints what is left and ends. In the modes plain and tty this ends with the log block of
    /// each failed step and the block of warnings, as buildx prints them; the source lines of an
    /// error and the error itself are for the caller to print.
    pub async fn finish(mut self) -> Summary {
        self.stop();
        let summary = match self.result.take() {
            Some(result) => result.await.unwrap_or_default(),
            None => Summary::default(),
        };
        self.join();
        summary
    }

    fn stop(&self) {
        // A renderer that is gone needs no end.
        drop(self.tx.send(Message::Finish));
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A renderer that panicked has reported it already; the build goes on without it.
            drop(thread.join());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

fn policy(mode: Mode) -> LogPolicy {
    match mode {
        Mode::Tty => LogPolicy::terminal(),
        Mode::Plain => LogPolicy::lines(true),
        Mode::RawJson | Mode::Quiet => LogPolicy::lines(false),
    }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
