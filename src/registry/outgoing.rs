//! Bodies of uploads: counted, hashed and checked while they are sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::Stream;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;

use super::client::{OpenBody, OutBody};
use super::error::RegistryError;
use super::idle::Activity;
use super::source::{BlobSource, ByteStream};
use crate::digest::{Digest, Hasher};

/// The largest piece that is given to the connection at once: what is given counts as moved, so a
/// large piece on a slow line would look as if nothing moved for its whole time.
const PIECE: usize = 128 * 1024;

/// What was computed of a body that was sent to its end.
pub(super) type Measure = Arc<Mutex<Option<(Digest, u64)>>>;

/// The body of one upload operation; each attempt opens it again.
pub(super) struct UploadBody<'a> {
    pub(super) source: &'a BlobSource,
    /// Digest and size, where they are known before.
    pub(super) promise: Option<(Digest, u64)>,
    /// Digest and size of the last sending that came to its end.
    pub(super) measure: Measure,
    /// Set to the bytes sent by the attempt that runs.
    pub(super) progress: Option<Arc<AtomicU64>>,
}

impl<'a> UploadBody<'a> {
    pub(super) fn new(
        source: &'a BlobSource,
        promise: Option<(Digest, u64)>,
        progress: Option<Arc<AtomicU64>>,
    ) -> Self {
        Self {
            source,
            promise,
            measure: Measure::default(),
            progress,
        }
    }

    pub(super) fn measured(&self) -> Option<(Digest, u64)> {
        self.measure.lock().clone()
    }

    async fn open_once(&self) -> Result<OutBody, RegistryError> {
        let source = self.source.open().await.map_err(RegistryError::Source)?;
        let source = source.ok_or(RegistryError::SourceSpent { source: None })?;
        let activity = Arc::<Activity>::default();
        let length = self.promise.as_ref().map(|(_, size)| *size);
        if let Some(progress) = &self.progress {
            progress.store(0, Ordering::Relaxed);
        }
        let mut outgoing = Outgoing {
            source,
            rest: Bytes::new(),
            hasher: self
                .promise
                .as_ref()
                .map_or_else(Hasher::sha256, |(d, _)| d.hasher()),
            sent: 0,
            promise: self.promise.clone(),
            measure: Arc::clone(&self.measure),
            progress: self.progress.clone(),
            activity: Arc::clone(&activity),
        };
        let body = if length == Some(0) {
            // Nothing is polled out of an empty body, so it is checked here.
            outgoing.check_empty().await?;
            reqwest::Body::from("")
        } else {
            reqwest::Body::wrap_stream(outgoing)
        };
        Ok(OutBody {
            body,
            length,
            activity,
        })
    }
}

impl OpenBody for UploadBody<'_> {
    fn open(&self) -> BoxFuture<'_, Result<OutBody, RegistryError>> {
        self.open_once().boxed()
    }
}

/// The stream of one sending.
struct Outgoing {
    source: ByteStream,
    /// What is left of a piece of the source.
    rest: Bytes,
    hasher: Hasher,
    sent: u64,
    promise: Option<(Digest, u64)>,
    measure: Measure,
    progress: Option<Arc<AtomicU64>>,
    activity: Arc<Activity>,
}

impl Outgoing {
    /// Takes a piece that is about to be sent. With a promise the last piece is held back when
    /// size or digest are not as promised: the registry must not be able to finish the blob.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        self.sent += bytes.len() as u64;
        self.hasher.update(bytes);
        if let Some((_, size)) = &self.promise
            && self.sent >= *size
        {
            self.complete()?;
        }
        self.activity.moved(bytes.len());
        if let Some(progress) = &self.progress {
            progress.store(self.sent, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Compares with the promise, or keeps what was computed.
    fn complete(&mut self) -> Result<(), RegistryError> {
        let actual = self.hasher.clone().finish();
        if let Some((expected, size)) = &self.promise {
            let what = "data to upload".to_owned();
            if self.sent != *size {
                let (expected, actual) = (*size, self.sent);
                return Err(RegistryError::SizeMismatch {
                    what,
                    expected,
                    actual,
                });
            }
            if actual != *expected {
                let expected = expected.clone();
                return Err(RegistryError::DigestMismatch {
                    what,
                    expected,
                    actual,
                });
            }
        }
        let mut measure = self.measure.lock();
        *measure = Some((actual, self.sent));
        self.activity.finish();
        Ok(())
    }

    async fn check_empty(&mut self) -> Result<(), RegistryError> {
        while let Some(piece) = self.source.next().await {
            self.sent += piece.map_err(RegistryError::Source)?.len() as u64;
        }
        self.complete()
    }

    fn broken(&self, error: RegistryError) -> io::Error {
        // The reason is kept aside; the connection only needs to end.
        self.activity.fail(error);
        io::Error::other("the data to upload ended early")
    }
}

impl Stream for Outgoing {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = if self.rest.is_empty() {
                self.activity.starved(true);
                let next = ready!(self.source.poll_next_unpin(cx));
                self.activity.starved(false);
                next
            } else {
                Some(Ok(std::mem::take(&mut self.rest)))
            };
            let result = match next {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(mut bytes)) => {
                    self.rest = bytes.split_off(bytes.len().min(PIECE));
                    self.pass(&bytes).map(|()| Some(bytes))
                }
                Some(Err(error)) => Err(RegistryError::Source(error)),
                None => self.complete().map(|()| None),
            };
            return Poll::Ready(match result {
                Ok(item) => item.map(Ok),
                Err(error) => Some(Err(self.broken(error))),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(data: &'static str, promise: Option<(Digest, u64)>) -> (Arc<Activity>, Outgoing) {
        let activity = Arc::<Activity>::default();
        let pieces: Vec<_> = data
            .as_bytes()
            .chunks(3)
            .map(|c| Ok(Bytes::from(c)))
            .collect();
        let outgoing = Outgoing {
            source: Box::pin(futures_util::stream::iter(pieces)),
            rest: Bytes::new(),
            hasher: Hasher::sha256(),
            sent: 0,
            promise,
            measure: Measure::default(),
            progress: None,
            activity: Arc::clone(&activity),
        };
        (activity, outgoing)
    }

    async fn sent(mut outgoing: Outgoing) -> (String, bool) {
        let mut out = String::new();
        while let Some(piece) = outgoing.next().await {
            match piece {
                Ok(piece) => out.push_str(std::str::from_utf8(&piece).unwrap()),
                Err(_) => return (out, false),
            }
        }
        (out, true)
    }

    #[tokio::test]
    async fn a_kept_promise_goes_through() {
        let digest = Digest::of(b"abcdefg");
        let (activity, body) = outgoing("abcdefg", Some((digest, 7)));
        assert_eq!(sent(body).await, ("abcdefg".to_owned(), true));
        assert!(activity.is_finished());
        assert!(activity.take_failure().is_none());
    }

    #[tokio::test]
    async fn the_last_piece_of_a_broken_promise_is_held_back() {
        let digest = Digest::of(b"abcdefX");
        let (activity, body) = outgoing("abcdefg", Some((digest, 7)));
        assert_eq!(sent(body).await, ("abcdef".to_owned(), false));
        assert!(matches!(
            activity.take_failure(),
            Some(RegistryError::DigestMismatch { .. })
        ));

        let digest = Digest::of(b"abcdefg");
        for size in [6, 5, 8] {
            let (activity, body) = outgoing("abcdefg", Some((digest.clone(), size)));
            assert!(!sent(body).await.1, "{size}");
            assert!(!activity.is_finished());
            let failure = activity.take_failure();
            let expected_kind = matches!(
                failure,
                Some(RegistryError::SizeMismatch { .. } | RegistryError::DigestMismatch { .. })
            );
            assert!(expected_kind, "{failure:?}");
        }
    }

    #[tokio::test]
    async fn a_large_piece_moves_in_small_ones() {
        let bytes = Bytes::from(vec![7; 3 * PIECE + 1]);
        let (activity, mut body) = outgoing("", None);
        body.source = Box::pin(futures_util::stream::iter([Ok(bytes.clone())]));
        let measure = Arc::clone(&body.measure);
        let mut sizes = Vec::new();
        while let Some(piece) = body.next().await {
            sizes.push(piece.unwrap().len());
        }
        assert_eq!(sizes, [PIECE, PIECE, PIECE, 1]);
        assert!(activity.is_finished());
        let measured = measure.lock().clone();
        assert_eq!(measured, Some((Digest::of(&bytes), bytes.len() as u64)));
    }

    #[tokio::test]
    async fn without_a_promise_the_digest_is_computed() {
        let (activity, body) = outgoing("abcdefg", None);
        let measure = Arc::clone(&body.measure);
        assert!(sent(body).await.1 && activity.is_finished());
        let measured = measure.lock().clone();
        assert_eq!(measured, Some((Digest::of(b"abcdefg"), 7)));
    }
}
