//! Bytes in, compressed bytes out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::gzip::{self, Member};
use super::hash::Hasher;
use super::workers::{Pending, Urgency, Workers};
use super::{Algorithm, Digests, Error, Level, zstd};

/// Pieces of output that may wait for the receiver.
const OUTPUT_PIECES: usize = 1;

/// Compresses one layer. What is written comes out of its [`Output`], which must be read at the
/// same time: a full output holds the writer.
///
/// Dropping it gives up: jobs that have not begun are skipped, and the output ends in an error.
/// A call that fails, or that is cancelled while it waits, leaves it unusable.
#[derive(Debug)]
pub struct Encoder {
    level: Level,
    workers: Workers,
    format: Format,
    /// The block that is not full yet.
    filling: Vec<u8>,
    in_flight: VecDeque<InFlight>,
    content: Hasher,
    blob: Hasher,
    output: mpsc::Sender<Bytes>,
    complete: Arc<AtomicBool>,
    started: bool,
    /// A call is running, or did not come to its end.
    interrupted: bool,
}

/// What is done around the blocks.
#[derive(Debug)]
enum Format {
    Gzip(Member),
    Zstd,
    Uncompressed,
}

/// A block on its way through the pool.
#[derive(Debug)]
struct InFlight {
    block: Pending<Result<Block, Error>>,
    /// Given back when the block goes to the output. The first block in flight needs none.
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Block {
    Gzip(gzip::Block),
    Zstd(Bytes),
}

/// The compressed bytes of an [`Encoder`], in order. Ends in [`Error::Abandoned`] if the encoder
/// was dropped before its end.
#[derive(Debug)]
pub struct Output {
    receiver: mpsc::Receiver<Bytes>,
    complete: Arc<AtomicBool>,
    ended: bool,
}

impl Encoder {
    /// Creates an encoder and the stream of its output.
    pub fn new(level: Level, workers: &Workers) -> (Self, Output) {
        let (sender, receiver) = mpsc::channel(OUTPUT_PIECES);
        let complete = Arc::new(AtomicBool::new(false));
        let output = Output {
            receiver,
            complete: Arc::clone(&complete),
            ended: false,
        };
        let format = match level.algorithm() {
            Algorithm::Gzip => Format::Gzip(Member::default()),
            Algorithm::Zstd => Format::Zstd,
            Algorithm::Uncompressed => Format::Uncompressed,
        };
        let encoder = Self {
            level,
            workers: workers.clone(),
            format,
            filling: Vec::new(),
            in_flight: VecDeque::new(),
            content: Hasher::new(workers),
            blob: Hasher::new(workers),
            output: sender,
            complete,
            started: false,
            interrupted: false,
        };
        (encoder, output)
    }

    /// Adds bytes. Waits while the output is full and the places for blocks in flight are taken.
    ///
    /// # Errors
    /// [`Error::OutputClosed`] if the output was dropped; [`Error::Compress`], [`Error::Deflate`],
    /// [`Error::Panicked`], [`Error::Thread`]; [`Error::Interrupted`] after an earlier error.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.begin()?;
        if matches!(self.format, Format::Uncompressed) {
            self.pass(piece).await?;
        } else {
            self.fill(&piece).await?;
            self.deliver_ready().await?;
        }
        self.interrupted = false;
        Ok(())
    }

    /// Ends the blob and returns its digests, when the last bytes are in the output.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn finish(mut self) -> Result<Digests, Error> {
        self.begin()?;
        if matches!(self.format, Format::Zstd) && !self.started && self.filling.is_empty() {
            // An empty frame: no bytes at all would be no zstd blob.
            self.dispatch().await?;
        }
        if !self.filling.is_empty() {
            self.dispatch().await?;
        }
        while !self.in_flight.is_empty() {
            self.deliver().await?;
        }
        if let Format::Gzip(member) = &self.format {
            let trailer = member.trailer();
            self.start().await?;
            self.send(trailer).await?;
        }
        let (uncompressed, uncompressed_size) = self.content.finish().await?;
        let (compressed, compressed_size) = match self.format {
            Format::Uncompressed => (uncompressed.clone(), uncompressed_size),
            _ => self.blob.finish().await?,
        };
        self.complete.store(true, Ordering::Release);
        Ok(Digests {
            uncompressed,
            compressed,
            uncompressed_size,
            compressed_size,
        })
    }

    fn begin(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.interrupted, true) {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }

    async fn pass(&mut self, piece: Bytes) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        self.content.update(piece.clone()).await?;
        self.output
            .send(piece)
            .await
            .map_err(|_closed| Error::OutputClosed)
    }

    async fn fill(&mut self, mut rest: &[u8]) -> Result<(), Error> {
        let block_size = self.block_size();
        while !rest.is_empty() {
            let room = block_size - self.filling.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.filling.extend_from_slice(now);
            rest = later;
            if self.filling.len() == block_size {
                self.dispatch().await?;
                self.filling.reserve_exact(block_size);
            }
        }
        Ok(())
    }

    fn block_size(&self) -> usize {
        match self.format {
            Format::Zstd => zstd::block_size(self.level.number()),
            _ => gzip::BLOCK,
        }
    }

    /// Hands the filled block to the pool, when there is a place for it.
    async fn dispatch(&mut self) -> Result<(), Error> {
        let place = loop {
            if self.in_flight.is_empty() {
                break None;
            }
            match self.workers.spare_place() {
                Some(place) => break Some(place),
                None => self.deliver().await?,
            }
        };
        self.start().await?;
        let block = Bytes::from(std::mem::take(&mut self.filling));
        self.content.update(block.clone()).await?;
        let level = self.level;
        let job = self.workers.submit(Urgency::Normal, move |scratch| {
            Ok(match level.algorithm() {
                Algorithm::Zstd => {
                    Block::Zstd(zstd::compress(&mut scratch.zstd, level.number(), &block)?)
                }
                _ => Block::Gzip(gzip::compress(
                    &mut scratch.deflate,
                    level.number(),
                    &block,
                )?),
            })
        })?;
        self.in_flight.push_back(InFlight {
            block: job,
            _place: place,
        });
        Ok(())
    }

    /// Sends what comes before the first block, once.
    async fn start(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        match self.format {
            Format::Gzip(_) => self.send(Member::header()).await,
            _ => Ok(()),
        }
    }

    /// Waits for the oldest block in flight and sends it.
    async fn deliver(&mut self) -> Result<(), Error> {
        let Some(oldest) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let InFlight { block, _place } = oldest;
        let bytes = match (block.wait().await??, &mut self.format) {
            (Block::Gzip(block), Format::Gzip(member)) => {
                member.add(&block);
                block.bytes
            }
            (Block::Gzip(gzip::Block { bytes, .. }) | Block::Zstd(bytes), _) => bytes,
        };
        self.send(bytes).await
    }

    /// Sends what is done and finds room, so that places do not wait for the next full block.
    async fn deliver_ready(&mut self) -> Result<(), Error> {
        while self.output.capacity() > 0
            && let Some(oldest) = self.in_flight.front()
            && oldest.block.is_ready()
        {
            self.deliver().await?;
        }
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), Error> {
        self.blob.update(piece.clone()).await?;
        self.output
            .send(piece)
            .await
            .map_err(|_closed| Error::OutputClosed)
    }
}

impl Stream for Output {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(piece) = ready!(self.receiver.poll_recv(context)) {
            return Poll::Ready(Some(Ok(piece)));
        }
        self.ended = true;
        if self.complete.load(Ordering::Acquire) {
            Poll::Ready(None)
        } else {
            Poll::Ready(Some(Err(Error::Abandoned)))
        }
    }
}
