//! Places that take one stream of bytes from an exporter.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::output_file::{self, Devices, OutputFile};

/// Messages that wait for a slow disk; BuildKit sends 32 KiB to 3 MiB in each.
const QUEUE: usize = 8;

/// Opens a sink when an exporter starts to send, which is after the build itself.
#[tonic::async_trait]
pub trait OpenSink: Send + Sync {
    /// Opens the sink. `metadata` is what the exporter knows about the result, such as
    /// `containerimage.digest`.
    async fn open(&self, metadata: BTreeMap<String, String>) -> io::Result<Box<dyn Sink>>;

    /// Returns whether nothing was handed on that cannot be taken back, so that a result may be sent once
    /// more.
    fn may_open_again(&self) -> bool {
        true
    }
}

/// Takes bytes. A sink that is dropped before [`Sink::finish`] was broken off and must leave nothing
/// behind.
#[tonic::async_trait]
pub trait Sink: Send {
    /// Takes the next bytes; returning late holds the daemon back.
    async fn write(&mut self, data: Bytes) -> io::Result<()>;

    /// Takes the end of the data; what was written must be complete and in its place afterwards.
    async fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Set once bytes went where they cannot be taken back from.
#[derive(Debug, Clone, Default)]
struct Spent(Arc<AtomicBool>);

impl Spent {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn sent_twice() -> io::Error {
    io::Error::other("the exporter has sent its result twice")
}

/// A file that appears, complete, at the end. A pipe or `/dev/null` is written through.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    spent: Spent,
}

impl FileSink {
    /// Creates a sink for this path; its folders are made when the first byte comes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            spent: Spent::default(),
        }
    }
}

#[tonic::async_trait]
impl OpenSink for FileSink {
    async fn open(&self, _metadata: BTreeMap<String, String>) -> io::Result<Box<dyn Sink>> {
        let (path, spent) = (self.path.clone(), self.spent.clone());
        let (sender, receiver) = mpsc::channel(QUEUE);
        let file = tokio::task::spawn_blocking(move || OpenFile::create(&path, spent))
            .await
            .map_err(io::Error::other)??;
        // Blocking writes on a thread of their own take the buffers as they come; the thread ends
        // when the sink is dropped.
        let writer = tokio::task::spawn_blocking(move || file.fill(receiver));
        Ok(Box::new(FileWriter { sender, writer }))
    }

    fn may_open_again(&self) -> bool {
        !self.spent.get()
    }
}

struct FileWriter {
    sender: mpsc::Sender<Bytes>,
    writer: JoinHandle<io::Result<OpenFile>>,
}

#[tonic::async_trait]
impl Sink for FileWriter {
    async fn write(&mut self, data: Bytes) -> io::Result<()> {
        if self.sender.send(data).await.is_ok() {
            return Ok(());
        }
        match (&mut self.writer).await.map_err(io::Error::other)? {
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn finish(self: Box<Self>) -> io::Result<()> {
        drop(self.sender);
        let file = self.writer.await.map_err(io::Error::other)??;
        tokio::task::spawn_blocking(move || file.file.publish())
            .await
            .map_err(io::Error::other)?
    }
}

struct OpenFile {
    file: OutputFile,
    spent: Spent,
}

impl OpenFile {
    fn create(path: &Path, spent: Spent) -> io::Result<Self> {
        let place = output_file::Place::find(path, Devices::Written)?;
        match &place {
            output_file::Place::Regular { path, .. } => {
                fs_err::create_dir_all(output_file::folder_of(path))?;
            }
            output_file::Place::Direct(_) if spent.get() => return Err(sent_twice()),
            output_file::Place::Direct(_) => {}
        }
        let file = place.open()?;
        Ok(Self { file, spent })
    }

    fn fill(mut self, mut data: mpsc::Receiver<Bytes>) -> io::Result<Self> {
        while let Some(data) = data.blocking_recv() {
            if let OutputFile::Direct(_) = self.file {
                self.spent.set();
            }
            self.file.write_all(&data)?;
        }
        Ok(self)
    }
}

/// Any writer, such as standard output. It takes one result: a second one only where nothing of the first
/// was written.
pub struct WriterSink<W> {
    place: Place<W>,
    spent: Spent,
}

/// Where a writer is while nobody writes.
type Place<W> = Arc<Mutex<Option<W>>>;

impl<W> fmt::Debug for WriterSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterSink").finish_non_exhaustive()
    }
}

impl<W> WriterSink<W> {
    /// Creates a sink of a writer.
    pub fn new(writer: W) -> Self {
        Self {
            place: Arc::new(Mutex::new(Some(writer))),
            spent: Spent::default(),
        }
    }
}

#[tonic::async_trait]
impl<W: AsyncWrite + Send + Unpin + 'static> OpenSink for WriterSink<W> {
    async fn open(&self, _metadata: BTreeMap<String, String>) -> io::Result<Box<dyn Sink>> {
        match self.place.lock().take() {
            Some(writer) => Ok(Box::new(OpenWriter {
                writer: Some(writer),
                place: Arc::clone(&self.place),
                spent: self.spent.clone(),
            })),
            None => Err(sent_twice()),
        }
    }

    fn may_open_again(&self) -> bool {
        !self.spent.get()
    }
}

struct OpenWriter<W> {
    /// Until the end, or until it goes back to its place.
    writer: Option<W>,
    place: Place<W>,
    spent: Spent,
}

impl<W> Drop for OpenWriter<W> {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take().filter(|_| !self.spent.get()) {
            *self.place.lock() = Some(writer);
        }
    }
}

#[tonic::async_trait]
impl<W: AsyncWrite + Send + Unpin> Sink for OpenWriter<W> {
    async fn write(&mut self, data: Bytes) -> io::Result<()> {
        self.spent.set();
        match &mut self.writer {
            Some(writer) => writer.write_all(&data).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.spent.set();
        match self.writer.take() {
            Some(mut writer) => {
                writer.flush().await?;
                writer.shutdown().await
            }
            None => Ok(()),
        }
    }
}
