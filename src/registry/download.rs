//! Downloads of blobs, whole or in part: resumed where they broke, verified while they come.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::{HeaderValue, RANGE};
use http::{Method, StatusCode};

use super::content_range::content_range;
use super::error::RegistryError;
use super::limit::Class;
use super::manifest::content_length;
use super::reply::Reply;
use super::repository::Repository;
use super::retry::Budget;
use crate::digest::{Digest, Hasher};

/// The content of a blob, piece by piece.
///
/// When the connection breaks the rest is asked for, within one budget. The end is given only
/// after digest and size were found right (the digest for whole blobs only); never more bytes
/// than promised.
pub struct Download {
    repository: Repository,
    digest: Digest,
    /// The next byte that is given.
    at: u64,
    /// Where the content ends; `None` until the registry has said.
    end: Option<u64>,
    whole: bool,
    hasher: Hasher,
    reply: Option<Reply>,
    /// Bytes that the reply has before the next one that is wanted.
    skip: u64,
    budget: Budget,
    ended: bool,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("digest", &self.digest)
            .field("at", &self.at)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Opens a whole blob. With a size it must have exactly that.
    ///
    /// # Errors
    /// The blob is not there, or cannot be had.
    pub async fn download(
        &self,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Download, RegistryError> {
        let budget = self.client.budget();
        self.open(digest, (0, size), true, budget).await
    }

    /// Opens a whole blob of which nothing is tried again.
    pub(super) async fn download_at_once(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Download, RegistryError> {
        self.open(digest, (0, Some(size)), true, self.client.budget_of_one())
            .await
    }

    /// Opens a part of a blob; the range must lie in it. Its length is verified, its digest
    /// cannot be.
    ///
    /// # Errors
    /// The blob is not there, is too short, or cannot be had.
    pub async fn download_range(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Download, RegistryError> {
        let end = range.end.max(range.start);
        let budget = self.client.budget();
        self.open(digest, (range.start, Some(end)), false, budget)
            .await
    }

    async fn open(
        &self,
        digest: &Digest,
        (at, end): (u64, Option<u64>),
        whole: bool,
        budget: Budget,
    ) -> Result<Download, RegistryError> {
        let mut download = Download {
            repository: self.clone(),
            digest: digest.clone(),
            at,
            end,
            whole,
            hasher: digest.hasher(),
            reply: None,
            skip: 0,
            budget,
            ended: false,
        };
        // An empty part needs no request; an empty blob does: it may not be there.
        if whole || end != Some(at) {
            while download.reply.is_none() {
                if let Err(error) = download.request().await {
                    download.budget.pause(error).await?;
                }
            }
        }
        Ok(download)
    }
}

impl Download {
    /// Returns the next piece, and `None` after the last one when everything is right.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while !self.ended {
            let error = match self.piece().await {
                Ok(Some(piece)) => return Ok(Some(piece)),
                Ok(None) => {
                    self.ended = true;
                    self.reply = None;
                    self.verify()?;
                    break;
                }
                Err(error) => error,
            };
            self.reply = None;
            if let Err(error) = self.budget.pause(error).await {
                self.ended = true;
                return Err(error);
            }
        }
        Ok(None)
    }

    /// Creates a stream of the download.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, RegistryError>> + Send {
        stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|piece| (piece, download)))
        })
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if self.end == Some(self.at) && !(self.whole && self.reply.is_some()) {
            return Ok(None);
        }
        if self.reply.is_none() {
            self.request().await?;
        }
        let Some(reply) = self.reply.as_mut() else {
            return Ok(None);
        };
        loop {
            let Some(mut piece) = reply.chunk().await? else {
                return match self.end {
                    Some(end) if self.at < end => Err(RegistryError::Broken {
                        request: reply.label.clone(),
                        source: format!("the answer ended {} bytes early", end - self.at).into(),
                    }),
                    _ => Ok(None),
                };
            };
            let skipped = piece
                .len()
                .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            drop(piece.split_to(skipped));
            if piece.is_empty() {
                continue;
            }
            let length = piece.len() as u64;
            if let Some(end) = self.end
                && self.at + length > end
            {
                if self.whole {
                    return Err(RegistryError::SizeMismatch {
                        what: self.what(),
                        expected: end,
                        actual: self.at + length,
                    });
                }
                // A registry without ranges sends the rest of the blob too.
                piece.truncate(usize::try_from(end - self.at).unwrap_or(piece.len()));
            }
            self.at += piece.len() as u64;
            if self.whole {
                self.hasher.update(&piece);
            }
            return Ok(Some(piece));
        }
    }

    /// Asks for what is still to come.
    async fn request(&mut self) -> Result<(), RegistryError> {
        let mut call = self
            .repository
            .call(Method::GET, &format!("blobs/{}", self.digest));
        let part = self.at > 0 || !self.whole;
        if part {
            let range = match self.end {
                Some(end) => format!("bytes={}-{}", self.at, end.saturating_sub(1)),
                None => format!("bytes={}-", self.at),
            };
            let value = HeaderValue::try_from(range).unwrap_or(HeaderValue::from_static(""));
            call = call.header(RANGE, value);
        }
        call.class = Class::Download;
        let reply = self.repository.client.send(&call).await?;
        let reply = reply
            .expect(&[StatusCode::OK, StatusCode::PARTIAL_CONTENT])
            .await?;
        self.skip = 0;
        if reply.status == StatusCode::PARTIAL_CONTENT && part {
            let range = content_range(&reply);
            let Some(range) = range.filter(|range| range.first == self.at) else {
                return Err(reply.protocol("the registry sends another part than was asked for"));
            };
            if self.end.is_none() {
                self.end = range.total;
            }
        } else if reply.status == StatusCode::PARTIAL_CONTENT {
            return Err(reply.protocol("the registry sends a part of the blob unasked"));
        } else {
            self.skip = self.at;
            let length = content_length(&reply);
            match (self.end, length) {
                (Some(expected), Some(actual)) if self.whole && expected != actual => {
                    return Err(RegistryError::SizeMismatch {
                        what: self.what(),
                        expected,
                        actual,
                    });
                }
                (Some(expected), Some(actual)) if expected > actual => {
                    return Err(RegistryError::SizeMismatch {
                        what: self.what(),
                        expected,
                        actual,
                    });
                }
                (None, length) => self.end = length,
                _ => {}
            }
        }
        self.reply = Some(reply);
        Ok(())
    }

    fn verify(&self) -> Result<(), RegistryError> {
        if !self.whole {
            return Ok(());
        }
        let actual = self.hasher.clone().finish();
        if actual == self.digest {
            return Ok(());
        }
        let (what, expected) = (self.what(), self.digest.clone());
        Err(RegistryError::DigestMismatch {
            what,
            expected,
            actual,
        })
    }

    fn what(&self) -> String {
        let client = &self.repository.client;
        format!(
            "{}/{}@{}",
            client.host(),
            self.repository.name(),
            self.digest
        )
    }
}
