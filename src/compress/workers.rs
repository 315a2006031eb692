//! The threads that compress and hash for all layers of a build.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Error;
use super::gzip::DeflateScratch;
use super::zstd::ZstdScratch;
use crate::platform::process;

/// A bounded pool of threads, shared by all encoders of a build; clones are handles.
///
/// Threads start when there is work for them. They end, at the latest after the block in hand,
/// when the last handle is dropped; each encoder holds one.
#[derive(Debug, Clone)]
pub struct Workers {
    handle: Arc<Handle>,
}

/// Ends the threads when the last [`Workers`] goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Blocks in flight beyond the one that every encoder may always have: this bounds the memory
    /// of all encoders together. An encoder never waits for one, so none can starve another.
    spare: Arc<Semaphore>,
    threads: usize,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    urgent: VecDeque<Job>,
    normal: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// Which jobs go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Short work that the next step waits for: hashing.
    Urgent,
    /// Compression.
    Normal,
}

/// What a thread keeps from block to block, so that compressors are made once a thread.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) deflate: DeflateScratch,
    pub(super) zstd: ZstdScratch,
}

/// The result of a job that may not have run yet.
#[derive(Debug)]
pub(super) struct Pending<T>(oneshot::Receiver<T>);

impl Workers {
    /// Creates a pool of at most `threads` threads.
    pub fn new(threads: NonZeroUsize) -> Self {
        let queue = Queue {
            urgent: VecDeque::new(),
            normal: VecDeque::new(),
            threads: 0,
            idle: 0,
            closed: false,
        };
        Self {
            handle: Arc::new(Handle {
                shared: Arc::new(Shared {
                    queue: Mutex::new(queue),
                    wake: Condvar::new(),
                }),
                spare: Arc::new(Semaphore::new(threads.get())),
                threads: threads.get(),
            }),
        }
    }

    /// Creates a pool with one thread for each core that this process may use.
    pub fn all_cores() -> Self {
        Self::new(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// Queues a job. It is skipped if the result is dropped before its turn.
    ///
    /// # Errors
    /// [`Error::Thread`] if the pool has no thread and none can be started.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        urgency: Urgency,
        job: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<Pending<T>, Error> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |scratch| {
            if !sender.is_closed() {
                let _gone = sender.send(job(scratch));
            }
        });
        let shared = &self.handle.shared;
        let mut queue = shared.queue.lock();
        let waiting = queue.urgent.len() + queue.normal.len();
        if queue.idle <= waiting && queue.threads < self.handle.threads {
            shared.start_thread(&mut queue)?;
        }
        match urgency {
            Urgency::Urgent => queue.urgent.push_back(job),
            Urgency::Normal => queue.normal.push_back(job),
        }
        drop(queue);
        shared.wake.notify_one();
        Ok(Pending(receiver))
    }

    /// Takes a place for one more block in flight, if there is one now.
    pub(super) fn spare_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.handle.spare).try_acquire_owned().ok()
    }

    #[cfg(test)]
    pub(super) fn watch(&self) -> impl Fn() -> bool + use<> {
        let shared = Arc::downgrade(&self.handle.shared);
        move || shared.strong_count() > 0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        queue.urgent.clear();
        queue.normal.clear();
        drop(queue);
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>, queue: &mut Queue) -> Result<(), Error> {
        let shared = Arc::clone(self);
        let started = thread::Builder::new()
            .name("compress".to_owned())
            .spawn(move || {
                yield_to_the_build();
                shared.work();
            });
        match started {
            Ok(_) => queue.threads += 1,
            Err(source) if queue.threads == 0 => return Err(Error::Thread { source }),
            Err(source) => tracing::debug!(%source, "cannot start one more compression thread"),
        }
        Ok(())
    }

    fn work(&self) {
        let mut scratch = Scratch::default();
        while let Some(job) = self.next() {
            // The job's result channel closes when it panics: its owner learns of it there, and
            // this thread lives on for the others.
            if catch_unwind(AssertUnwindSafe(|| job(&mut scratch))).is_err() {
                scratch = Scratch::default();
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            let job = queue.urgent.pop_front();
            if let Some(job) = job.or_else(|| queue.normal.pop_front()) {
                return Some(job);
            }
            queue.idle += 1;
            self.wake.wait(&mut queue);
            queue.idle -= 1;
        }
    }
}

impl<T> Pending<T> {
    /// Returns whether [`wait`](Self::wait) would return at once.
    pub(super) fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`Error::Panicked`] if the job was lost.
    pub(super) async fn wait(self) -> Result<T, Error> {
        self.0.await.map_err(|_closed| Error::Panicked)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("urgent", &self.urgent.len())
            .field("normal", &self.normal.len())
            .field("threads", &self.threads)
            .field("idle", &self.idle)
            .field("closed", &self.closed)
            .finish()
    }
}

/// The builder often is on the same host, and its steps come first; the export still moves.
fn yield_to_the_build() {
    if let Err(source) = process::lower_thread_priority() {
        tracing::debug!(%source, "cannot lower the priority of a compression thread");
    }
}
