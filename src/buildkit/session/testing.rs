//! What the tests of the session share: a daemon's side of a session.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{Session, SessionError};

/// A session that is served, and the daemon's connection to it.
pub(super) struct Served {
    pub(super) channel: Channel,
    pub(super) cancel: CancellationToken,
    pub(super) server: JoinHandle<Result<(), SessionError>>,
}

impl Served {
    /// Cancels the session and waits for its end.
    pub(super) async fn end(self) {
        self.cancel.cancel();
        within(self.server).await.unwrap().unwrap();
    }
}

/// Serves a session over a pipe in memory.
pub(super) async fn serve(session: Session) -> Served {
    let (client, server) = tokio::io::duplex(256 << 10);
    let cancel = CancellationToken::new();
    let server = tokio::spawn(session.serve(server, cancel.clone()));
    Served {
        channel: connect(client).await,
        cancel,
        server,
    }
}

/// Starts HTTP/2 on a stream, as the daemon does.
pub(super) async fn connect<S>(stream: S) -> Channel
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.lock().take();
        async move {
            stream
                .map(hyper_util::rt::TokioIo::new)
                .ok_or_else(|| std::io::Error::other("dialled twice"))
        }
    });
    Endpoint::from_static("http://session")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// Fails a test that hangs.
pub(super) async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("the test hangs")
}
