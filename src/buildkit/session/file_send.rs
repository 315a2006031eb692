//! `moby.filesync.v1.FileSend`: results of the build that exporters send to the client.
//!
//! One method carries two kinds of messages, told apart only by the exporter that the call names:
//! DiffCopy packets for `type=local`, plain bytes for `tar`, `oci` and `docker`
//! (BuildKit `session/filesync`). So this service takes raw messages and looks at the exporter first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Request, Status, Streaming};

pub use self::sink::{FileSink, OpenSink, Sink, WriterSink};
use super::bidi::{BidiMethod, BidiServer, Replies};
use super::codec::{RawCodec, bytes_field};
use super::tasks::{Tasks, WorkStream};
use crate::fsutil::wire::Packet;
use crate::fsutil::{self, ReceiveError, ReceiveMode, ReceiveOptions};
use crate::platform::process;

mod sink;

pub(super) const METHODS: &[&str] = &["/moby.filesync.v1.FileSend/DiffCopy"];

const KEY_EXPORTER: &str = "buildkit-attachable-exporter-id";
const KEY_MULTI_PLATFORM: &str = "buildkit-exporter-multi-platform";
const METADATA_PREFIX: &str = "exporter-md-";
/// Packets to the daemon that wait for the connection.
const QUEUE: usize = 16;

/// Where the data of one exporter goes.
#[derive(Clone)]
pub enum Target {
    /// A directory that gets the files of the result.
    Directory {
        /// Made if it is not there.
        dest: PathBuf,
        /// Removes what the result does not have; otherwise the result is merged in.
        delete: bool,
    },
    /// One stream of bytes.
    Stream(Arc<dyn OpenSink>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory { dest, delete } => f
                .debug_struct("Directory")
                .field("dest", dest)
                .field("delete", delete)
                .finish(),
            Self::Stream(_) => f.write_str("Stream(..)"),
        }
    }
}

/// An exporter whose result could not be taken.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot write the result of exporter {exporter}: {message}")]
pub struct ExportFailure {
    /// Position of the exporter in the solve request.
    pub exporter: usize,
    /// What went wrong, with its causes.
    pub message: String,
}

/// The failures of a session's exporters. The daemon reports them in words of its own; the client
/// knows better.
#[derive(Debug, Clone, Default)]
pub struct ExportFailures(Arc<Mutex<Vec<ExportFailure>>>);

impl ExportFailures {
    /// Returns the failures so far, in the order they happened.
    pub fn get(&self) -> Vec<ExportFailure> {
        self.0.lock().clone()
    }

    fn add(&self, exporter: usize, message: String) {
        self.0.lock().push(ExportFailure { exporter, message });
    }
}

/// The targets of a build's exporters by their position in the solve request.
#[derive(Debug, Clone, Default)]
pub struct Exports {
    targets: BTreeMap<usize, Target>,
    failures: ExportFailures,
}

impl Exports {
    /// Sets the target of an exporter.
    pub fn add(&mut self, exporter: usize, target: Target) {
        self.targets.insert(exporter, target);
    }

    /// Returns whether no exporter sends anything to the client.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Returns whether the exporters may send their results once more: none failed to be taken, and
    /// nothing was handed on that cannot be taken back.
    pub fn may_be_sent_again(&self) -> bool {
        let again = |target: &Target| match target {
            Target::Directory { .. } => true,
            Target::Stream(sink) => sink.may_open_again(),
        };
        self.failures.get().is_empty() && self.targets.values().all(again)
    }

    /// Returns the place where failures are kept; it can be read when the build is over.
    pub fn failures(&self) -> ExportFailures {
        self.failures.clone()
    }
}

/// Creates the service.
pub(super) fn service(exports: Exports, tasks: Tasks) -> BidiServer<FileSend> {
    BidiServer::new(FileSend { exports, tasks })
}

/// The service for both kinds of messages. The two generated services cannot be used: they have the
/// same name, which a router does not take.
#[derive(Debug)]
pub(super) struct FileSend {
    exports: Exports,
    tasks: Tasks,
}

#[tonic::async_trait]
impl BidiMethod for FileSend {
    const SERVICE: &'static str = "moby.filesync.v1.FileSend";
    const PATH: &'static str = METHODS[0];
    type Message = Bytes;
    type Codec = RawCodec;

    async fn call(&self, request: Request<Streaming<Bytes>>) -> Result<Replies<Bytes>, Status> {
        self.take(request).await
    }
}

impl FileSend {
    async fn take(&self, request: Request<Streaming<Bytes>>) -> Result<Replies<Bytes>, Status> {
        let exporter = exporter_of(request.metadata());
        let target = self
            .exports
            .targets
            .get(&exporter)
            .ok_or_else(|| Status::unknown(format!("exporter {exporter} not found")))?;
        match target {
            Target::Directory { dest, delete } => {
                // Without this mark an old daemon sends one platform after the other, and each would
                // delete the files of the one before.
                if *delete && !sends_all_platforms(request.metadata()) {
                    let message = "deleting files of a local output needs a newer BuildKit, \
                                   which sends all platforms at once";
                    self.exports.failures.add(exporter, message.to_owned());
                    return Err(Status::unknown(message));
                }
                Ok(self.take_directory(exporter, dest.clone(), *delete, request.into_inner()))
            }
            Target::Stream(sink) => {
                let metadata = exporter_metadata(request.metadata());
                let outcome = take_stream(sink.as_ref(), metadata, request.into_inner()).await;
                outcome.map_err(|failed| self.failed(exporter, failed))?;
                Ok(stream::empty().boxed())
            }
        }
    }

    fn failed(&self, exporter: usize, failed: TakeError) -> Status {
        match failed {
            TakeError::Daemon(status) => status,
            TakeError::Local(message) => {
                self.exports.failures.add(exporter, message.clone());
                Status::unknown(message)
            }
        }
    }

    fn take_directory(
        &self,
        exporter: usize,
        dest: PathBuf,
        delete: bool,
        messages: Streaming<Bytes>,
    ) -> Replies<Bytes> {
        let (sender, receiver) = mpsc::channel::<Packet>(QUEUE);
        let failures = self.exports.failures.clone();
        let options = ReceiveOptions {
            mode: if delete {
                ReceiveMode::Delete
            } else {
                ReceiveMode::Merge
            },
            // The result belongs to the user, whoever owns the files in the image.
            owner: Some(process::user()),
        };
        let work = self.tasks.spawn(async move {
            let packets = messages.map(|message| {
                Packet::decode(message?)
                    .map_err(|error| Status::internal(format!("broken packet: {error}")))
            });
            let outcome = fsutil::receive(&dest, options, packets, sender).await;
            let stats = outcome.map_err(|error| {
                let message = crate::error::chain(&error);
                if !is_from_daemon(&error) {
                    failures.add(exporter, message.clone());
                }
                Status::unknown(message)
            })?;
            tracing::debug!(dest = %dest.display(), ?stats, "received a directory");
            Ok(())
        });
        WorkStream::new(receiver, work)
            .map(|packet| packet.map(|packet| Bytes::from(packet.encode_to_vec())))
            .boxed()
    }
}

/// Returns whether the daemon or the connection broke a transfer off, so that the build's own error
/// says why.
fn is_from_daemon(error: &ReceiveError) -> bool {
    matches!(
        error,
        ReceiveError::Peer { .. } | ReceiveError::Stream(_) | ReceiveError::Closed
    )
}

/// Who is to blame for a stream that was not taken.
enum TakeError {
    /// The daemon or the connection broke off; the build's own error says why.
    Daemon(Status),
    /// The data could not be written here.
    Local(String),
}

async fn take_stream(
    target: &dyn OpenSink,
    metadata: BTreeMap<String, String>,
    mut messages: Streaming<Bytes>,
) -> Result<(), TakeError> {
    let local = |error: std::io::Error| TakeError::Local(crate::error::chain(&error));
    let mut sink = target.open(metadata).await.map_err(local)?;
    while let Some(message) = messages.message().await.map_err(TakeError::Daemon)? {
        let data = bytes_field(message).map_err(TakeError::Daemon)?;
        sink.write(data).await.map_err(local)?;
    }
    sink.finish().await.map_err(local)
}

/// Reads the exporter of a call; a daemon that knows only one exporter names none.
fn exporter_of(metadata: &MetadataMap) -> usize {
    metadata
        .get(KEY_EXPORTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn sends_all_platforms(metadata: &MetadataMap) -> bool {
    metadata
        .get_all(KEY_MULTI_PLATFORM)
        .iter()
        .any(|value| value == "1")
}

/// Collects the exporter's own metadata, such as `containerimage.digest`.
fn exporter_metadata(metadata: &MetadataMap) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    for entry in metadata.iter() {
        let KeyAndValueRef::Ascii(key, value) = entry else {
            continue;
        };
        let Some(key) = key.as_str().strip_prefix(METADATA_PREFIX) else {
            continue;
        };
        let value = value.to_str().unwrap_or_default();
        found
            .entry(key.to_owned())
            .and_modify(|all| {
                all.push(',');
                all.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    found
}

#[cfg(test)]
mod tests;
