//! `--load`: the image's tarball streamed into the image store of a Docker Engine.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::buildkit::session::file_send::{OpenSink, Sink};

/// Blocks of the tarball that wait for the engine.
const QUEUE: usize = 8;

/// Loads a tarball into an engine.
pub trait ImageLoader: Send + Sync {
    /// Loads the tarball that comes in blocks, into the engine of a docker context (empty: the
    /// current one). Ends when the engine has taken it.
    fn load(
        &self,
        context: String,
        tarball: mpsc::Receiver<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>>;
}

/// Opens the stream to the engine when the exporter starts to send.
pub struct LoadSink {
    context: String,
    loader: Arc<dyn ImageLoader>,
}

impl fmt::Debug for LoadSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadSink")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl LoadSink {
    /// Creates a sink for the engine of a docker context.
    pub fn new(context: String, loader: Arc<dyn ImageLoader>) -> Self {
        Self { context, loader }
    }
}

#[tonic::async_trait]
impl OpenSink for LoadSink {
    async fn open(&self, _metadata: BTreeMap<String, String>) -> io::Result<Box<dyn Sink>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        task.spawn(self.loader.load(self.context.clone(), receiver));
        Ok(Box::new(OpenLoad { sender, task }))
    }
}

/// A load in progress; dropping it breaks the load off.
struct OpenLoad {
    sender: mpsc::Sender<Bytes>,
    task: JoinSet<io::Result<()>>,
}

/// Waits for the engine's answer.
async fn answer(task: &mut JoinSet<io::Result<()>>) -> io::Result<()> {
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}

#[tonic::async_trait]
impl Sink for OpenLoad {
    async fn write(&mut self, data: Bytes) -> io::Result<()> {
        if self.sender.send(data).await.is_ok() {
            return Ok(());
        }
        // The engine stopped reading: its answer says why.
        answer(&mut self.task).await?;
        Err(io::Error::new(
            io::ErrorKind::BrokenPipe,
            "the engine ended the load too early",
        ))
    }

    async fn finish(self: Box<Self>) -> io::Result<()> {
        let Self { sender, mut task } = *self;
        drop(sender);
        answer(&mut task).await
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Fake {
        got: Arc<Mutex<Vec<u8>>>,
        fail_after: Option<usize>,
    }

    impl ImageLoader for Fake {
        fn load(
            &self,
            context: String,
            mut tarball: mpsc::Receiver<Bytes>,
        ) -> BoxFuture<'static, io::Result<()>> {
            assert_eq!(context, "other");
            let got = Arc::clone(&self.got);
            let fail_after = self.fail_after;
            Box::pin(async move {
                while let Some(block) = tarball.recv().await {
                    let mut got = got.lock();
                    got.extend_from_slice(&block);
                    if fail_after.is_some_and(|n| got.len() >= n) {
                        return Err(io::Error::other("no space"));
                    }
                }
                Ok(())
            })
        }
    }

    async fn open(fake: Fake) -> Box<dyn Sink> {
        LoadSink::new("other".into(), Arc::new(fake))
            .open(BTreeMap::new())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_engine_gets_every_byte_before_the_end() {
        let fake = Fake::default();
        let got = Arc::clone(&fake.got);
        let mut sink = open(fake).await;
        for _ in 0..100 {
            sink.write(Bytes::from_static(b"0123456789")).await.unwrap();
        }
        sink.finish().await.unwrap();
        assert_eq!(got.lock().len(), 1000);
    }

    #[tokio::test]
    async fn the_engines_refusal_is_the_error() {
        let mut sink = open(Fake {
            fail_after: Some(5),
            ..Default::default()
        })
        .await;
        let mut result = Ok(());
        for _ in 0..100 {
            result = sink.write(Bytes::from_static(b"0123456789")).await;
            if result.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let result = match result {
            Ok(()) => sink.finish().await,
            error => error,
        };
        assert_eq!(result.unwrap_err().to_string(), "no space");
    }
}
