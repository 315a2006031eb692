//! The session of a build: services that BuildKit calls back, one file per service.
//!
//! The roles are turned round here: the client of the build is the gRPC *server*. It opens one byte
//! stream to the daemon ([`tunnel`], or a hijacked HTTP connection) and answers on it what the
//! daemon asks while it builds.
//!
//! | file | service of BuildKit |
//! |---|---|
//! | [`auth`] | `moby.filesync.v1.Auth`: credentials and tokens of registries |
//! | [`file_sync`] | `moby.filesync.v1.FileSync`: local directories, read by the daemon |
//! | [`file_send`] | `moby.filesync.v1.FileSend`: results of the build, written by the daemon |
//! | [`content`] | `containerd.services.content.v1.Content`: blobs of caches and layouts |
//! | [`secrets`] | `moby.buildkit.secrets.v1.Secrets` |
//! | [`ssh`] | `moby.sshforward.v1.SSH`: agents for `RUN --mount=type=ssh` |
//! | [`upload`] | `moby.upload.v1.Upload`: streams that are read once, such as a context on stdin |
//! | `health` | `grpc.health.v1.Health`: without it BuildKit ends the session after two checks |

pub mod auth;
mod bidi;
mod codec;
pub mod content;
pub mod file_send;
pub mod file_sync;
mod health;
pub mod secrets;
mod server;
pub mod ssh;
mod tasks;
pub mod tunnel;
pub mod upload;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::RoutesBuilder;

use self::auth::Auth;
use self::content::ContentStores;
use self::file_send::Exports;
use self::file_sync::LocalDirs;
use self::secrets::Secrets;
use self::ssh::SshAgents;
use self::tasks::Tasks;
use self::upload::Uploads;

/// The largest message that is taken or sent; BuildKit calls a session with this limit
/// (BuildKit `session/grpc.go`).
pub const MAX_MESSAGE: usize = 16 << 20;

const KEY_ID: &str = "x-docker-expose-session-uuid";
const KEY_SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const KEY_METHOD: &str = "x-docker-expose-session-grpc-method";

/// Why a session ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The byte stream broke before the session was over.
    #[error("the connection of the build session broke")]
    Connection(#[source] io::Error),
    /// The server could not serve the stream.
    #[error("cannot serve the build session")]
    Serve(#[source] tonic::transport::Error),
}

/// A session that is ready to be announced and served.
pub struct Session {
    id: String,
    shared_key: String,
    methods: Vec<String>,
    routes: RoutesBuilder,
    tasks: Tasks,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("shared_key", &self.shared_key)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Starts a session with nothing but the health service.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::new()
    }

    /// Returns the random identifier that a solve request names.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the metadata of `Control.Session`; the same names are HTTP headers of a hijacked
    /// `POST /session` (BuildKit `session/session.go`).
    pub fn metadata(&self) -> MetadataMap {
        let mut map = MetadataMap::new();
        let texts = [(KEY_ID, &self.id), (KEY_SHARED_KEY, &self.shared_key)];
        for (key, text) in texts {
            if !text.is_empty() {
                map.insert(key, header_value(text));
            }
        }
        for method in &self.methods {
            map.append(KEY_METHOD, header_value(method));
        }
        map
    }

    /// Serves HTTP/2 on a byte stream until the daemon ends it or `cancel` fires.
    ///
    /// All calls in progress end with the session, and so do their tasks: when this returns,
    /// nothing that it started is running any more.
    ///
    /// # Errors
    ///
    /// Fails if the stream breaks. A session that was cancelled ends well.
    pub async fn serve<S>(self, io: S, cancel: CancellationToken) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        server::serve(self.routes.routes(), self.tasks, io, cancel).await
    }
}

/// Collects what a session offers.
pub struct SessionBuilder {
    shared_key: String,
    methods: Vec<String>,
    routes: RoutesBuilder,
    tasks: Tasks,
}

impl std::fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionBuilder")
            .field("shared_key", &self.shared_key)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

impl SessionBuilder {
    fn new() -> Self {
        let builder = Self {
            shared_key: String::new(),
            methods: Vec::new(),
            routes: RoutesBuilder::default(),
            tasks: Tasks::default(),
        };
        builder.service(health::service(), health::METHODS)
    }

    /// Sets the key under which the daemon keeps local sources between builds: the same key finds
    /// the files of the build before, so that only changes are sent. Characters that a header cannot
    /// hold are percent-encoded (plain gRPC would refuse them).
    #[must_use]
    pub fn shared_key(mut self, key: &str) -> Self {
        self.shared_key = encode_header(key);
        self
    }

    /// Answers for registry credentials and tokens.
    #[must_use]
    pub fn auth(self, auth: Auth) -> Self {
        self.service(auth::service(auth), auth::METHODS)
    }

    /// Lets the daemon read local directories.
    #[must_use]
    pub fn file_sync(self, dirs: LocalDirs) -> Self {
        let service = file_sync::service(dirs, self.tasks.clone());
        self.service(service, file_sync::METHODS)
    }

    /// Takes the files that exporters send.
    #[must_use]
    pub fn exports(self, exports: Exports) -> Self {
        let service = file_send::service(exports, self.tasks.clone());
        self.service(service, file_send::METHODS)
    }

    /// Offers stores of blobs.
    #[must_use]
    pub fn content(self, stores: ContentStores) -> Self {
        let service = content::service(stores, self.tasks.clone());
        self.service(service, content::METHODS)
    }

    /// Answers for secrets.
    #[must_use]
    pub fn secrets(self, secrets: Secrets) -> Self {
        self.service(secrets::service(secrets), secrets::METHODS)
    }

    /// Forwards SSH agents.
    #[must_use]
    pub fn ssh(self, agents: SshAgents) -> Self {
        let service = ssh::service(agents, self.tasks.clone());
        self.service(service, ssh::METHODS)
    }

    /// Hands out streams that are read once.
    #[must_use]
    pub fn upload(self, uploads: Uploads) -> Self {
        self.service(upload::service(uploads), upload::METHODS)
    }

    /// Adds any other gRPC service with the paths of its methods (`/package.Service/Method`).
    #[must_use]
    pub fn service<S>(mut self, service: S, methods: &[&str]) -> Self
    where
        S: tower_service::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<tonic::body::Body>,
                Error = std::convert::Infallible,
            > + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.methods
            .extend(methods.iter().map(|&method| method.to_owned()));
        self
    }

    /// Creates the session with a new random identifier.
    pub fn build(self) -> Session {
        Session {
            id: super::new_id(),
            shared_key: self.shared_key,
            methods: self.methods,
            routes: self.routes,
            tasks: self.tasks,
        }
    }
}

/// Percent-encodes what is not printable ASCII.
fn encode_header(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string()
}

/// Creates a header value of a text that [`encode_header`] made.
fn header_value(text: &str) -> MetadataValue<tonic::metadata::Ascii> {
    MetadataValue::try_from(text).unwrap_or_else(|_| MetadataValue::from_static(""))
}
