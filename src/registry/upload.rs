//! Uploads of blobs.
//!
//! A blob whose digest is known goes in one pass: POST, then one PUT with the whole body
//! (OCI distribution spec, "POST then PUT"). One whose digest comes out only at its end goes by
//! one streamed PATCH and a PUT that names the digest, as docker does it; registries that refuse
//! PATCH, or lose data with it, get the blob by POST and PUT after it was read once to measure it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue, RANGE};
use http::{Method, StatusCode};
use url::Url;

use super::auth::scope::{Access, Scopes};
use super::client::{Call, RegistryClient, Target};
use super::error::RegistryError;
use super::limit::Class;
use super::manifest::named_digest;
use super::outgoing::UploadBody;
use super::redirect;
use super::reply::Reply;
use super::repository::{Repository, check_name};
use super::retry::Budget;
use super::source::BlobSource;
use crate::digest::{Digest, Hasher};

/// How an upload is done.
#[derive(Debug, Clone, Default)]
pub struct UploadOptions {
    /// Asks first whether the repository has the blob; one request, worth it where it is likely.
    pub check_exists: bool,
    /// Another repository of the host that may have the blob, to mount it from.
    pub mount_from: Option<String>,
    /// Set to the bytes sent by the attempt that runs; starts again with each attempt.
    pub progress: Option<Arc<AtomicU64>>,
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there.
    Existed,
    /// It was mounted from another repository.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// A blob that is in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Digest of its content.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// How it came there.
    pub arrival: Arrival,
}

/// Answers that begin an upload: 202 by the specification; containerd takes all three.
const SESSION: [StatusCode; 3] = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];

enum Begun {
    Mounted,
    Session(Session),
}

/// What an attempt to stream a blob came to.
enum Streamed {
    Done(Uploaded),
    /// The registry does not take PATCH.
    Refused(RegistryError),
}

impl Repository {
    /// Brings a blob of known digest and size into the repository. Digest and size of what is
    /// sent are verified; a blob that is not as promised never gets there.
    ///
    /// # Errors
    /// [`SourceSpent`](RegistryError::SourceSpent) when the upload broke in a way that a restart
    /// may mend and the source can be read only once.
    pub async fn upload(
        &self,
        digest: &Digest,
        size: u64,
        source: &BlobSource,
        options: &UploadOptions,
    ) -> Result<Uploaded, RegistryError> {
        let mut budget = self.client.budget();
        self.upload_within(&mut budget, (digest, size), source, options)
            .await
    }

    async fn upload_within(
        &self,
        budget: &mut Budget,
        (digest, size): (&Digest, u64),
        source: &BlobSource,
        options: &UploadOptions,
    ) -> Result<Uploaded, RegistryError> {
        let promise = Some((digest.clone(), size));
        let body = UploadBody::new(source, promise, options.progress.clone());
        let mut check = options.check_exists;
        let mut failed = None;
        loop {
            let result = self
                .upload_once(&body, digest, options, check, failed.take())
                .await;
            let error = match result {
                Ok(arrival) => {
                    return Ok(Uploaded {
                        digest: digest.clone(),
                        size,
                        arrival,
                    });
                }
                Err(error) => error,
            };
            failed = Some(budget.pause(error).await?);
            // The attempt may have come through with its answer lost.
            check = true;
        }
    }

    async fn upload_once(
        &self,
        body: &UploadBody<'_>,
        digest: &Digest,
        options: &UploadOptions,
        check: bool,
        failed: Option<RegistryError>,
    ) -> Result<Arrival, RegistryError> {
        if check && self.blob_size_once(digest).await?.is_some() {
            return Ok(if failed.is_some() {
                Arrival::Sent
            } else {
                Arrival::Existed
            });
        }
        let mount = options.mount_from.as_deref().map(|from| (digest, from));
        let mut session = match self.begin(mount).await? {
            Begun::Mounted => return Ok(Arrival::Mounted),
            Begun::Session(session) => session,
        };
        if !body.source.is_readable() {
            return Err(RegistryError::SourceSpent {
                source: failed.map(Box::new),
            });
        }
        self.commit(&session, digest, Some(body)).await?;
        session.done();
        Ok(Arrival::Sent)
    }

    /// Brings a blob into the repository whose digest and size are not known yet, and returns
    /// them. The bytes are hashed (sha256) while they are sent.
    ///
    /// # Errors
    /// [`SourceSpent`](RegistryError::SourceSpent) as for [`upload`](Self::upload), and where the
    /// registry wants to know the digest first and the source can be read only once; see
    /// [`takes_streams`](RegistryClient::takes_streams).
    pub async fn upload_stream(
        &self,
        source: &BlobSource,
        options: &UploadOptions,
    ) -> Result<Uploaded, RegistryError> {
        let body = UploadBody::new(source, None, options.progress.clone());
        let mut budget = self.client.budget();
        let mut failed = None;
        while self.client.takes_streams() {
            if !source.is_readable() {
                return Err(RegistryError::SourceSpent {
                    source: failed.map(Box::new),
                });
            }
            match self.stream_once(&body, &mut budget).await {
                Ok(Streamed::Done(uploaded)) => return Ok(uploaded),
                Ok(Streamed::Refused(error)) => failed = Some(error),
                Err(error) => failed = Some(budget.pause(error).await?),
            }
        }
        let Some((digest, size)) = measure(source).await? else {
            return Err(RegistryError::SourceSpent {
                source: failed.map(Box::new),
            });
        };
        self.upload_within(&mut budget, (&digest, size), source, options)
            .await
    }

    async fn stream_once(
        &self,
        body: &UploadBody<'_>,
        budget: &mut Budget,
    ) -> Result<Streamed, RegistryError> {
        let mut session = match self.begin(None).await? {
            Begun::Session(session) => session,
            // Only an answer to a mount can say so.
            Begun::Mounted => {
                return Err(RegistryError::UploadLost {
                    request: super::error::RequestLabel::new(&Method::POST, self.client.home()),
                    source: None,
                });
            }
        };
        let mut call = Call::new(
            Method::PATCH,
            Target::Url(session.url.clone()),
            self.scopes(),
        )
        .header(CONTENT_TYPE, OCTETS);
        call.body = Some(body);
        call.class = Class::Upload;
        call.commit = true;
        let reply = self.client.send(&call).await?;
        if refuses_patch(&reply) {
            self.client.inner.quirks.set(|q| q.no_patch = true);
            return Ok(Streamed::Refused(reply.into_error().await));
        }
        let reply = reply
            .expect(&[StatusCode::ACCEPTED, StatusCode::NO_CONTENT])
            .await?;
        let Some((digest, size)) = body.measured() else {
            return Err(reply.protocol("the registry answered before it had the whole blob"));
        };
        if let Some(kept) = kept_bytes(&reply)
            && kept != size
            && size > 0
        {
            self.client.inner.quirks.set(|q| q.no_patch = true);
            let what = format!("the registry kept {kept} of {size} bytes");
            return Ok(Streamed::Refused(reply.protocol(what)));
        }
        if let Some(url) = self.location(&reply)? {
            session.url = url;
        }
        reply.drain().await;
        self.finish_stream(session, &digest, size, budget)
            .await
            .map(Streamed::Done)
    }

    /// Names the digest of a streamed upload. The bytes are in the session, so a failure here
    /// does not cost sending them again.
    async fn finish_stream(
        &self,
        mut session: Session,
        digest: &Digest,
        size: u64,
        budget: &mut Budget,
    ) -> Result<Uploaded, RegistryError> {
        let uploaded = Uploaded {
            digest: digest.clone(),
            size,
            arrival: Arrival::Sent,
        };
        loop {
            match self.commit(&session, digest, None).await {
                Ok(()) => {
                    session.done();
                    return Ok(uploaded);
                }
                Err(error @ RegistryError::UploadLost { .. }) => {
                    // An earlier attempt may have come through with its answer lost.
                    return match self.blob_size_once(digest).await? {
                        Some(_) => {
                            session.done();
                            Ok(uploaded)
                        }
                        None => Err(error),
                    };
                }
                Err(error) => drop(budget.pause(error).await?),
            }
        }
    }

    /// Begins an upload and cancels it: fails as a real one would where the login may not push. Tries nothing again.
    pub async fn try_push(&self) -> Result<(), RegistryError> {
        // The session is cancelled when it is dropped.
        self.begin(None).await.map(drop)
    }

    /// Asks for an upload session, or for a mount; a refused mount becomes a session.
    async fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Begun, RegistryError> {
        if let Some((digest, from)) = mount {
            check_name(from)?;
            let path = format!("blobs/uploads/?mount={digest}&from={from}");
            let scopes = self
                .scopes()
                .clone()
                .and(&Scopes::repository(from, Access::Pull));
            let reply = self
                .client
                .send(&Call::new(Method::POST, self.path(&path), &scopes))
                .await?;
            match reply.status {
                StatusCode::CREATED => {
                    reply.drain().await;
                    return Ok(Begun::Mounted);
                }
                status if SESSION.contains(&status) => return self.session(reply).await,
                status if status.is_client_error() && !reply_is_temporary(status) => {
                    // No right to the other repository, or no mounts at all.
                    reply.drain().await;
                }
                _ => return Err(reply.into_error().await),
            }
        }
        let reply = self
            .client
            .send(&self.call(Method::POST, "blobs/uploads/"))
            .await?;
        let reply = reply.expect(&SESSION).await?;
        self.session(reply).await
    }

    async fn session(&self, reply: Reply) -> Result<Begun, RegistryError> {
        let Some(url) = self.location(&reply)? else {
            return Err(reply.protocol("the registry began an upload without a location for it"));
        };
        reply.drain().await;
        Ok(Begun::Session(Session {
            client: self.client.clone(),
            scopes: self.scopes().clone(),
            url,
            open: true,
        }))
    }

    fn location(&self, reply: &Reply) -> Result<Option<Url>, RegistryError> {
        redirect::location(
            &reply.headers,
            &reply.method,
            &reply.url,
            self.client.home(),
        )
    }

    async fn commit(
        &self,
        session: &Session,
        digest: &Digest,
        body: Option<&UploadBody<'_>>,
    ) -> Result<(), RegistryError> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut call =
            Call::new(Method::PUT, Target::Url(url), self.scopes()).header(CONTENT_TYPE, OCTETS);
        if let Some(body) = body {
            call.body = Some(body);
            call.class = Class::Upload;
        }
        call.commit = true;
        let reply = self.client.send(&call).await?;
        match reply.status {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => {}
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => {
                let request = reply.label.clone();
                let source = Some(Box::new(reply.into_error().await));
                return Err(RegistryError::UploadLost { request, source });
            }
            _ => return Err(reply.into_error().await),
        }
        match named_digest(&reply)? {
            Some(named) if named != *digest => {
                Err(reply.protocol(format!("the registry stored {named} instead of {digest}")))
            }
            _ => {
                reply.drain().await;
                Ok(())
            }
        }
    }
}

impl RegistryClient {
    /// Returns whether the host may take blobs of unknown digest in one pass. Once it refused one,
    /// such a blob must come from a source that can be read again.
    pub fn takes_streams(&self) -> bool {
        !self.inner.quirks.get().no_patch
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Statuses by which registries say that they take no PATCH. 404 may also be a lost session; the
/// way without PATCH is right for both. Amazon's registry answers 201 and forgets the bytes
/// (aws/containers-roadmap#2831).
fn refuses_patch(reply: &Reply) -> bool {
    matches!(
        reply.status,
        StatusCode::OK
            | StatusCode::CREATED
            | StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::NOT_IMPLEMENTED
    )
}

fn reply_is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Returns how many bytes a session holds (`Range: 0-LAST`, where the spec has no unit).
fn kept_bytes(reply: &Reply) -> Option<u64> {
    let text = reply.header(RANGE.as_str())?;
    let last = text.trim_start_matches("bytes=").strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// Reads a source to its end for its digest and size; `None` if it cannot be read any more.
async fn measure(source: &BlobSource) -> Result<Option<(Digest, u64)>, RegistryError> {
    // A source that is read once would be gone after this.
    if !source.is_repeatable().await {
        return Ok(None);
    }
    let Some(mut stream) = source.open().await.map_err(RegistryError::Source)? else {
        return Ok(None);
    };
    let (mut hasher, mut size) = (Hasher::sha256(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(RegistryError::Source)?;
        hasher.update(&piece);
        size += piece.len() as u64;
    }
    Ok(Some((hasher.finish(), size)))
}

/// An upload session at the registry. One that is dropped before it is done is cancelled in the
/// background ([`RegistryClient::close`] waits for that).
struct Session {
    client: RegistryClient,
    scopes: Scopes,
    url: Url,
    open: bool,
}

impl Session {
    fn done(&mut self) {
        self.open = false;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // Without a runtime the program is at its end, and the registry ends the upload on its own.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (client, scopes, url) = (self.client.clone(), self.scopes.clone(), self.url.clone());
        let limit = client.inner.host.timeouts.cancel;
        let cancel = async move {
            let call = Call::new(Method::DELETE, Target::Url(url), &scopes);
            match tokio::time::timeout(limit, client.send(&call)).await {
                Ok(Ok(reply)) => tracing::debug!(status = %reply.status, "upload cancelled"),
                Ok(Err(error)) => tracing::debug!(%error, "upload not cancelled"),
                Err(_) => tracing::debug!("upload not cancelled in time"),
            }
        };
        self.client.inner.cleanup.spawn_on(cancel, &runtime);
    }
}
