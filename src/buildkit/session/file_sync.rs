//! `moby.filesync.v1.FileSync`: local directories that the daemon reads, such as the build context.
//!
//! The daemon names a directory and says in metadata what it wants of it (BuildKit
//! `session/filesync`). It parses `.dockerignore` itself and sends the patterns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::bidi::{BidiMethod, BidiServer, Replies};
use super::tasks::{Tasks, WorkStream};
use crate::fsutil::wire::Packet;
use crate::fsutil::{self, Attributes, Filter, SendError};

pub(super) const METHODS: &[&str] = &[
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSync/TarStream",
];

const KEY_DIR: &str = "dir-name";
const KEY_INCLUDE: &str = "include-patterns";
const KEY_EXCLUDE: &str = "exclude-patterns";
const KEY_FOLLOW: &str = "followpaths";
/// Added to a key whose values are query-escaped, which is so where one of them is not ASCII.
const ENCODED_SUFFIX: &str = "-encoded";
/// Packets of at most 128 KiB that wait for the connection.
const QUEUE: usize = 8;

/// The directories of a build by the name that its sources use: `context`, `dockerfile`, and those
/// of named contexts.
#[derive(Debug, Clone, Default)]
pub struct LocalDirs {
    dirs: HashMap<String, PathBuf>,
    attributes: Attributes,
    failures: DirFailures,
}

/// Why a directory could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DirFailure {
    message: String,
}

/// The failures of which the daemon cannot tell: it only sees that the transfer ended.
#[derive(Debug, Clone, Default)]
pub struct DirFailures(Arc<Mutex<Option<DirFailure>>>);

impl DirFailures {
    /// Returns the first failure, if there was one.
    pub fn first(&self) -> Option<DirFailure> {
        self.0.lock().clone()
    }

    /// Keeps a failure to send `root`, unless the daemon tells it as well or better.
    fn add(&self, root: &Path, error: &SendError) {
        if matches!(error, SendError::NotUtf8 { .. }) {
            let message = format!("{}: {}", root.display(), crate::error::chain(error));
            self.0.lock().get_or_insert(DirFailure { message });
        }
    }
}

impl LocalDirs {
    /// Lets the daemon read a directory under a name.
    pub fn add(&mut self, name: impl Into<String>, dir: impl Into<PathBuf>) {
        self.dirs.insert(name.into(), dir.into());
    }

    /// Sets how entries are told. Owner and group of the files here mean nothing in a build; unless this is called, all is
    /// sent as root's.
    pub fn set_attributes(&mut self, attributes: Attributes) {
        self.attributes = attributes;
    }

    /// Returns the place where failures are kept; it can be read when the build is over.
    pub fn failures(&self) -> DirFailures {
        self.failures.clone()
    }
}

/// Creates the service.
pub(super) fn service(dirs: LocalDirs, tasks: Tasks) -> BidiServer<FileSync> {
    BidiServer::new(FileSync { dirs, tasks })
}

/// The service. The generated one would refuse names that are not UTF-8. `TarStream`, which no
/// daemon has called for years, is unimplemented.
#[derive(Debug)]
pub(super) struct FileSync {
    dirs: LocalDirs,
    tasks: Tasks,
}

#[tonic::async_trait]
impl BidiMethod for FileSync {
    const SERVICE: &'static str = "moby.filesync.v1.FileSync";
    const PATH: &'static str = METHODS[0];
    type Message = Packet;
    type Codec = ProstCodec<Packet, Packet>;

    async fn call(&self, request: Request<Streaming<Packet>>) -> Result<Replies<Packet>, Status> {
        let metadata = request.metadata();
        let name = values(metadata, KEY_DIR).into_iter().next();
        let name = name.unwrap_or_default();
        let root = self
            .dirs
            .dirs
            .get(&name)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?;
        let filter = Filter {
            include: values(metadata, KEY_INCLUDE),
            exclude: values(metadata, KEY_EXCLUDE),
            follow: values(metadata, KEY_FOLLOW),
        };
        let (failures, attributes) = (self.dirs.failures(), self.dirs.attributes);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let packets = request.into_inner();
        let work = self.tasks.spawn(async move {
            let stats = fsutil::send(&root, filter, attributes, packets, sender)
                .await
                .map_err(|error| {
                    failures.add(&root, &error);
                    Status::unknown(crate::error::chain(&error))
                })?;
            tracing::debug!(dir = %root.display(), ?stats, "sent a local directory");
            Ok(())
        });
        Ok(WorkStream::new(receiver, work).boxed())
    }
}

/// Returns the values of a key, decoded where the daemon says that they are encoded.
fn values(metadata: &MetadataMap, key: &str) -> Vec<String> {
    let encoded = metadata
        .get(format!("{key}{ENCODED_SUFFIX}"))
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    metadata
        .get_all(key)
        .iter()
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_encoded_bytes());
            if encoded {
                query_unescape(&text)
            } else {
                text.into_owned()
            }
        })
        .collect()
}

/// Undoes Go's `url.QueryEscape`: a plus sign is a space, the rest is percent-encoded UTF-8.
fn query_unescape(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_only_where_marked() {
        let mut metadata = MetadataMap::new();
        metadata.append(KEY_INCLUDE, "a+b%20c".parse().unwrap());
        metadata.append(KEY_INCLUDE, "!d".parse().unwrap());
        assert_eq!(values(&metadata, KEY_INCLUDE), ["a+b%20c", "!d"]);
        metadata.insert("include-patterns-encoded", "1".parse().unwrap());
        assert_eq!(values(&metadata, KEY_INCLUDE), ["a b c", "!d"]);
        assert!(values(&metadata, KEY_EXCLUDE).is_empty());
    }

    #[test]
    fn query_unescape_reads_what_go_writes() {
        assert_eq!(query_unescape("%C3%BC%2B+%25%2A%2F"), "ü+ %*/");
    }
}

#[cfg(test)]
mod transfer_tests;
