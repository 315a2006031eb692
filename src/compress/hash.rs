//! SHA-256 of a stream, computed on the pool while the stream moves on.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::workers::{Pending, Urgency, Workers};
use crate::digest::Digest;

/// Below this many bytes hashing costs less than handing it over.
const INLINE: usize = 8 << 10;

/// The running digest of a stream: at most one piece is being hashed while the next is made.
#[derive(Debug)]
pub(super) struct Hasher {
    workers: Workers,
    state: State,
    size: u64,
}

#[derive(Debug)]
enum State {
    Idle(Box<Sha256>),
    Busy(Pending<Box<Sha256>>),
    /// A piece was lost: by a panic, or because the caller gave up in the middle of a wait.
    Lost,
}

impl Hasher {
    pub(super) fn new(workers: &Workers) -> Self {
        Self {
            workers: workers.clone(),
            state: State::Idle(Box::default()),
            size: 0,
        }
    }

    /// Adds a piece. Waits for the piece before it.
    pub(super) async fn update(&mut self, piece: Bytes) -> Result<(), Error> {
        let mut hash = self.take().await?;
        self.size += piece.len() as u64;
        self.state = if piece.len() <= INLINE {
            hash.update(&piece);
            State::Idle(hash)
        } else {
            State::Busy(self.workers.submit(Urgency::Urgent, move |_| {
                hash.update(&piece);
                hash
            })?)
        };
        Ok(())
    }

    /// Returns the digest and the number of bytes.
    pub(super) async fn finish(mut self) -> Result<(Digest, u64), Error> {
        let hash = self.take().await?;
        Ok((Digest::from_sha256(hash.finalize().into()), self.size))
    }

    async fn take(&mut self) -> Result<Box<Sha256>, Error> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(hash) => Ok(hash),
            State::Busy(pending) => pending.wait().await,
            State::Lost => Err(Error::Interrupted),
        }
    }
}
