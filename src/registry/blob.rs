//! Blobs without their content: is it there, how large is it, delete it; and small ones whole.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::header::{HeaderValue, RANGE};
use http::{Method, StatusCode};

use super::content_range::content_range;
use super::download::Download;
use super::error::{RegistryError, RequestLabel};
use super::limit::Class;
use super::manifest::content_length;
use super::pace::Pace;
use super::repository::Repository;
use crate::digest::Digest;

/// Blobs that are asked for at the same time.
const CHECKS: usize = 16;

impl Repository {
    /// Returns the size of a blob that the repository has, in bytes; `None` if it does not have it.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let mut budget = self.client.budget();
        loop {
            match self.blob_size_once(digest).await {
                Ok(size) => return Ok(size),
                Err(error) => drop(budget.pause(error).await?),
            }
        }
    }

    /// Asks for several blobs, many at a time, and returns those that the repository does not have.
    ///
    /// # Errors
    ///
    /// Fails if the registry does not answer, or refuses.
    pub async fn missing_blobs(
        &self,
        blobs: impl IntoIterator<Item = Digest>,
    ) -> Result<HashSet<Digest>, RegistryError> {
        let mut checks = stream::iter(blobs)
            .map(|digest| async move { (self.blob_size(&digest).await, digest) })
            .buffer_unordered(CHECKS);
        let mut missing = HashSet::new();
        while let Some((found, digest)) = checks.next().await {
            if found?.is_none() {
                missing.insert(digest);
            }
        }
        Ok(missing)
    }

    /// Reads a blob whole into memory; its digest and size are verified. For small ones, such as a
    /// config.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, or is not what digest and size say, or comes too slowly.
    pub async fn read_blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, RegistryError> {
        let pace = Pace::new(self.client.inner.host.timeouts.small);
        let download = self.download(digest, Some(size));
        self.read_all(digest, download, pace).await
    }

    /// Reads a blob as [`read_blob`](Self::read_blob) does, but with another patience, and tries nothing again.
    ///
    /// # Errors
    ///
    /// Fails as [`read_blob`](Self::read_blob) does.
    pub async fn read_blob_at_once(
        &self,
        digest: &Digest,
        size: u64,
        patience: Duration,
    ) -> Result<Vec<u8>, RegistryError> {
        let download = self.download_at_once(digest, size);
        self.read_all(digest, download, Pace::new(patience)).await
    }

    async fn read_all(
        &self,
        digest: &Digest,
        download: impl Future<Output = Result<Download, RegistryError>>,
        mut pace: Pace,
    ) -> Result<Vec<u8>, RegistryError> {
        let slow = |after| self.slow_blob(digest, after);
        let mut download = pace.within(download).await.map_err(slow)??;
        let mut bytes = Vec::new();
        while let Some(piece) = pace.within(download.next()).await.map_err(slow)?? {
            pace.moved(piece.len());
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn slow_blob(&self, digest: &Digest, after: Duration) -> RegistryError {
        let path = format!("v2/{}/blobs/{digest}", self.name());
        let home = self.client.home();
        let url = home.join(&path).unwrap_or_else(|_| home.clone());
        RegistryError::Slow {
            request: RequestLabel::new(&Method::GET, &url),
            after,
        }
    }

    pub(super) async fn blob_size_once(
        &self,
        digest: &Digest,
    ) -> Result<Option<u64>, RegistryError> {
        if !self.client.inner.quirks.get().no_head {
            let call = self.call(Method::HEAD, &format!("blobs/{digest}"));
            let reply = self.client.send(&call).await?;
            match reply.status {
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                    self.client.inner.quirks.set(|q| q.no_head = true);
                }
                _ => {
                    let reply = reply.expect(&[StatusCode::OK]).await?;
                    if let Some(size) = content_length(&reply) {
                        return Ok(Some(size));
                    }
                }
            }
        }
        self.blob_size_by_get(digest).await
    }

    /// Asks for the first byte only: the answer names the size of the whole.
    async fn blob_size_by_get(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let mut call = self
            .call(Method::GET, &format!("blobs/{digest}"))
            .header(RANGE, HeaderValue::from_static("bytes=0-0"));
        call.class = Class::Download;
        let reply = self.client.send(&call).await?;
        match reply.status {
            StatusCode::NOT_FOUND => {
                reply.drain().await;
                return Ok(None);
            }
            // The first byte of an empty blob.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                reply.drain().await;
                return Ok(Some(0));
            }
            _ => {}
        }
        let reply = reply
            .expect(&[StatusCode::PARTIAL_CONTENT, StatusCode::OK])
            .await?;
        let size = if reply.status == StatusCode::OK {
            content_length(&reply)
        } else {
            content_range(&reply).and_then(|range| range.total)
        };
        match size {
            Some(size) => Ok(Some(size)),
            None => Err(reply.protocol("the registry does not tell the size of the blob")),
        }
    }

    /// Deletes a blob; `false`: it was not there. Many registries refuse it.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        self.delete(&format!("blobs/{digest}")).await
    }
}
