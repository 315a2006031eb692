//! Manifests: read, written and looked at as they are, byte by byte.

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};

use super::client::{OpenBody, OutBody};
use super::error::RegistryError;
use super::reply::Reply;
use super::repository::{Repository, check_reference};
use crate::digest::Digest;

/// Registries need not take larger ones (OCI distribution spec, "Pushing Manifests").
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// The media types of manifests that are asked for, in order of preference.
pub const MANIFEST_TYPES: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// The headers in which registries name the digest of an answer.
const DIGEST_HEADER: &str = "docker-content-digest";

/// How often a registry may misread what it stored. The digest of a manifest that is sent was computed here, so
/// `DIGEST_INVALID` is not about it: distribution's file system driver says so of a blob's link that another
/// upload is writing at that moment.
const MAX_MISREAD: u32 = 4;

/// A manifest as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The bytes that the digest is of.
    pub bytes: Bytes,
    /// What the registry says they are.
    pub media_type: String,
    /// Computed from the bytes.
    pub digest: Digest,
}

/// What a registry reports about a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDescriptor {
    /// What the registry says it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Repository {
    /// Reads a manifest by tag or digest; `None` if there is none. Its digest is verified.
    pub async fn manifest(&self, reference: &str) -> Result<Option<RawManifest>, RegistryError> {
        check_reference(reference)?;
        let mut budget = self.client.budget();
        loop {
            match self.manifest_once(reference).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => drop(budget.pause(error).await?),
            }
        }
    }

    /// Reads a manifest as [`manifest`](Self::manifest) does, but tries nothing again.
    pub async fn manifest_at_once(
        &self,
        reference: &str,
    ) -> Result<Option<RawManifest>, RegistryError> {
        check_reference(reference)?;
        self.manifest_once(reference).await
    }

    async fn manifest_once(&self, reference: &str) -> Result<Option<RawManifest>, RegistryError> {
        let reply = self.ask_manifest(Method::GET, reference).await?;
        if reply.status == StatusCode::NOT_FOUND {
            reply.drain().await;
            return Ok(None);
        }
        let reply = reply.expect(&[StatusCode::OK]).await?;
        let media_type = media_type(&reply);
        let named = named_digest(&reply)?;
        let label = reply.label.clone();
        let bytes = reply.bytes(MAX_MANIFEST).await?;
        let expected = reference.parse::<Digest>().ok().or(named);
        let mut hasher = expected
            .as_ref()
            .map_or_else(crate::digest::Hasher::sha256, Digest::hasher);
        hasher.update(&bytes);
        let digest = hasher.finish();
        match expected {
            Some(expected) if expected != digest => {
                let what = label.to_string();
                Err(RegistryError::DigestMismatch {
                    what,
                    expected,
                    actual: digest,
                })
            }
            _ => Ok(Some(RawManifest {
                bytes,
                media_type,
                digest,
            })),
        }
    }

    /// Looks at a manifest by tag or digest; `None` if there is none. Costs one request, and a
    /// second one where the registry does not answer HEAD as it should.
    pub async fn manifest_descriptor(
        &self,
        reference: &str,
    ) -> Result<Option<ManifestDescriptor>, RegistryError> {
        check_reference(reference)?;
        let mut budget = self.client.budget();
        let head = loop {
            if self.client.inner.quirks.get().no_head {
                break None;
            }
            match self.head_manifest(reference).await {
                Ok(head) => break head,
                Err(error) => drop(budget.pause(error).await?),
            }
        };
        if let Some(known) = head {
            return Ok(known);
        }
        let manifest = self.manifest(reference).await?;
        Ok(manifest.map(|m| ManifestDescriptor {
            media_type: m.media_type,
            digest: m.digest,
            size: m.bytes.len() as u64,
        }))
    }

    /// The outer `None` says that HEAD does not tell.
    async fn head_manifest(
        &self,
        reference: &str,
    ) -> Result<Option<Option<ManifestDescriptor>>, RegistryError> {
        let reply = self.ask_manifest(Method::HEAD, reference).await?;
        match reply.status {
            StatusCode::NOT_FOUND => return Ok(Some(None)),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                self.client.inner.quirks.set(|q| q.no_head = true);
                return Ok(None);
            }
            _ => {}
        }
        let reply = reply.expect(&[StatusCode::OK]).await?;
        let digest = reference.parse::<Digest>().ok().or(named_digest(&reply)?);
        let size = content_length(&reply);
        let (Some(digest), Some(size)) = (digest, size) else {
            return Ok(None);
        };
        Ok(Some(Some(ManifestDescriptor {
            media_type: media_type(&reply),
            digest,
            size,
        })))
    }

    async fn ask_manifest(&self, method: Method, reference: &str) -> Result<Reply, RegistryError> {
        let mut call = self.call(method, &format!("manifests/{reference}"));
        for media_type in MANIFEST_TYPES {
            call = call.header(ACCEPT, HeaderValue::from_static(media_type));
        }
        self.client.send(&call).await
    }

    /// Writes a manifest under a tag or under its own digest, and returns its digest.
    ///
    /// # Errors
    /// Also when `reference` is a digest of other bytes; then nothing is sent.
    pub async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Digest, RegistryError> {
        check_reference(reference)?;
        let digest = Digest::of(bytes);
        let expected = reference
            .parse::<Digest>()
            .unwrap_or_else(|_| digest.clone());
        let mut hasher = expected.hasher();
        hasher.update(bytes);
        let actual = hasher.finish();
        if actual != expected {
            let what = format!("manifest of {}", self.name());
            return Err(RegistryError::DigestMismatch {
                what,
                expected,
                actual,
            });
        }
        let content_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Name {
            kind: "media type",
            value: super::redact::clean(media_type, 200),
        })?;
        let mut budget = self.client.budget();
        let mut misread = 0;
        loop {
            match self
                .put_manifest_once(reference, &content_type, bytes, &expected)
                .await
            {
                Ok(()) => return Ok(expected),
                Err(error) if misread < MAX_MISREAD && error.has_code("DIGEST_INVALID") => {
                    misread += 1;
                    drop(budget.pause_anyway(error).await?);
                }
                Err(error) => drop(budget.pause(error).await?),
            }
        }
    }

    async fn put_manifest_once(
        &self,
        reference: &str,
        content_type: &HeaderValue,
        bytes: &Bytes,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let body = MemoryBody(bytes.clone());
        let mut call = self
            .call(Method::PUT, &format!("manifests/{reference}"))
            .header(CONTENT_TYPE, content_type.clone());
        call.body = Some(&body);
        call.commit = true;
        let reply = self.client.send(&call).await?;
        let reply = reply
            .expect(&[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED])
            .await?;
        match named_digest(&reply)? {
            // A registry may name the sha256 of what was sent by sha512.
            Some(named) if named != *digest && named != Digest::of(bytes) => {
                Err(reply.protocol(format!("the registry stored {named} instead of {digest}")))
            }
            _ => {
                reply.drain().await;
                Ok(())
            }
        }
    }

    /// Deletes a manifest by digest, or a tag where the registry can. `false`: it was not there.
    pub async fn delete_manifest(&self, reference: &str) -> Result<bool, RegistryError> {
        check_reference(reference)?;
        self.delete(&format!("manifests/{reference}")).await
    }

    /// Returns whether the registry lists what refers to a manifest (OCI distribution spec 1.1, "Listing Referrers").
    pub async fn has_referrers(&self, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.referrers(digest).await?.is_some())
    }

    /// Returns the index of what refers to a manifest, in JSON; `None` where the registry lists nothing of the kind.
    pub async fn referrers(&self, digest: &Digest) -> Result<Option<Bytes>, RegistryError> {
        let call = self.call(Method::GET, &format!("referrers/{digest}"));
        let reply = self.client.send(&call).await?;
        if matches!(
            reply.status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        ) {
            reply.drain().await;
            return Ok(None);
        }
        let reply = reply.expect(&[StatusCode::OK]).await?;
        reply.bytes(MAX_MANIFEST).await.map(Some)
    }

    pub(super) async fn delete(&self, path: &str) -> Result<bool, RegistryError> {
        let mut budget = self.client.budget();
        let mut again = false;
        loop {
            let result = self.delete_once(path).await;
            match result {
                // After a lost answer the first attempt may have done it.
                Ok(done) => return Ok(done || again),
                Err(error) => drop(budget.pause(error).await?),
            }
            again = true;
        }
    }

    async fn delete_once(&self, path: &str) -> Result<bool, RegistryError> {
        let reply = self.client.send(&self.call(Method::DELETE, path)).await?;
        if reply.status == StatusCode::NOT_FOUND {
            reply.drain().await;
            return Ok(false);
        }
        let wanted = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];
        reply.expect(&wanted).await?.drain().await;
        Ok(true)
    }
}

/// Returns the type that an answer names, without its parameters.
fn media_type(reply: &Reply) -> String {
    let text = reply.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// Returns the digest that an answer names.
pub(super) fn named_digest(reply: &Reply) -> Result<Option<Digest>, RegistryError> {
    match reply.header(DIGEST_HEADER) {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|error| reply.protocol(format!("{error}"))),
    }
}

/// Returns the length that an answer names; reqwest's own is of the body, which HEAD does not have.
pub(super) fn content_length(reply: &Reply) -> Option<u64> {
    reply.header(CONTENT_LENGTH.as_str())?.parse().ok()
}

/// A body in memory.
struct MemoryBody(Bytes);

impl OpenBody for MemoryBody {
    fn open(&self) -> BoxFuture<'_, Result<OutBody, RegistryError>> {
        let activity = std::sync::Arc::<super::idle::Activity>::default();
        activity.finish();
        let body = reqwest::Body::from(self.0.clone());
        // The length of a body in memory is set by reqwest.
        async move {
            Ok(OutBody {
                body,
                length: None,
                activity,
            })
        }
        .boxed()
    }
}
