//! Compressed bytes in, content out.

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};

use super::gzip::Gunzip;
use super::workers::{Urgency, Workers};
use super::zstd::Unzstd;
use super::{Algorithm, Digests, Error};
use crate::digest::Digest;

/// The most that is decoded at a time: bounds memory whatever the ratio of the blob.
const PIECE: usize = 256 << 10;

/// Decodes one blob, on the pool. Give it bytes by [`push`](Self::push), take all content by
/// [`next`](Self::next) until there is none, and so on; then [`finish`](Self::finish).
///
/// A call that fails, or that is cancelled while it waits, leaves it unusable.
#[derive(Debug)]
pub struct Decoder {
    algorithm: Algorithm,
    workers: Workers,
    input: Bytes,
    /// The last piece was full: there may be more without more input.
    pending: bool,
    state: Option<Box<State>>,
}

/// What moves to the pool and back.
struct State {
    format: Format,
    blob: Side,
    content: Side,
}

enum Format {
    Coded(Box<dyn Decode>),
    Plain,
}

/// A running digest.
#[derive(Default)]
struct Side {
    hash: Sha256,
    size: u64,
}

/// A decoder of one format.
pub(super) trait Decode: Send {
    /// Decodes into the room that `output` has; it has some.
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, Error>;

    /// Tells whether the data may end here.
    fn complete(&self) -> bool;
}

/// What a step did.
pub(super) struct Step {
    /// Bytes of input that were used.
    pub(super) consumed: usize,
}

impl Decoder {
    /// Makes a decoder.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the library has no memory for it.
    pub fn new(algorithm: Algorithm, workers: &Workers) -> Result<Self, Error> {
        let format = match algorithm {
            Algorithm::Gzip => Format::Coded(Box::new(Gunzip::new())),
            Algorithm::Zstd => Format::Coded(Box::new(Unzstd::new()?)),
            Algorithm::Uncompressed => Format::Plain,
        };
        Ok(Self {
            algorithm,
            workers: workers.clone(),
            input: Bytes::new(),
            pending: false,
            state: Some(Box::new(State {
                format,
                blob: Side::default(),
                content: Side::default(),
            })),
        })
    }

    /// Gives the next bytes of the blob, to follow those that are not decoded yet.
    pub fn push(&mut self, piece: Bytes) {
        if self.input.is_empty() {
            self.input = piece;
        } else {
            self.input = [std::mem::take(&mut self.input), piece].concat().into();
        }
    }

    /// Returns the next piece of content; none if more of the blob is needed.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; [`Error::Panicked`], [`Error::Thread`]; [`Error::Interrupted`] after
    /// an earlier error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.input.is_empty() || self.pending {
            let mut state = self.state.take().ok_or(Error::Interrupted)?;
            let mut input = std::mem::take(&mut self.input);
            let job = self.workers.submit(Urgency::Urgent, move |_| {
                let output = state.decode(&mut input)?;
                Ok((state, input, output))
            })?;
            let (state, input, output) = job.wait().await??;
            self.pending = output.len() >= PIECE && matches!(state.format, Format::Coded(_));
            self.state = Some(state);
            self.input = input;
            if !output.is_empty() {
                return Ok(Some(output));
            }
        }
        Ok(None)
    }

    /// Checks that the blob was complete, and returns the digests of both sides.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the blob ends in its middle, or not all of it was decoded;
    /// [`Error::Interrupted`] after an earlier error.
    pub fn finish(self) -> Result<Digests, Error> {
        let state = self.state.ok_or(Error::Interrupted)?;
        let complete = match &state.format {
            Format::Coded(decode) => decode.complete(),
            Format::Plain => true,
        };
        if !complete || !self.input.is_empty() || self.pending {
            return Err(Error::Truncated {
                algorithm: self.algorithm,
            });
        }
        let (compressed, compressed_size) = state.blob.finish();
        let (uncompressed, uncompressed_size) = match state.format {
            Format::Coded(_) => state.content.finish(),
            Format::Plain => (compressed.clone(), compressed_size),
        };
        Ok(Digests {
            uncompressed,
            compressed,
            uncompressed_size,
            compressed_size,
        })
    }
}

impl State {
    /// Decodes one piece, and drops what was used from `input`.
    fn decode(&mut self, input: &mut Bytes) -> Result<Bytes, Error> {
        let Format::Coded(decode) = &mut self.format else {
            self.blob.update(input);
            return Ok(std::mem::take(input));
        };
        let mut output = Vec::with_capacity(PIECE);
        while output.len() < PIECE {
            let before = output.len();
            let step = decode.step(input, &mut output)?;
            let used = step.consumed.min(input.len());
            self.blob.update(input.get(..used).unwrap_or_default());
            input.advance(used);
            if used == 0 && output.len() == before {
                break;
            }
        }
        self.content.update(&output);
        Ok(output.into())
    }
}

impl Side {
    fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> (Digest, u64) {
        (Digest::from_sha256(self.hash.finalize().into()), self.size)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("blob", &self.blob.size)
            .field("content", &self.content.size)
            .finish_non_exhaustive()
    }
}
