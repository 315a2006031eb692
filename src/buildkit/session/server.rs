//! HTTP/2 over one byte stream that is already open.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::SessionError;
use super::tasks::Tasks;
use crate::buildkit::client::MAX_HEADER_LIST;

/// Receive window of one stream: several of BuildKit's 1 MiB content messages.
const STREAM_WINDOW: u32 = 8 << 20;
/// Receive window of all streams together.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Calls at once, and calls that are taken back before they were looked at: a build that is cancelled
/// takes back many. hyper's own limit of 20 protects servers from strangers; this peer is none.
const MAX_STREAMS: u32 = 1 << 12;

/// Serves until the stream ends or `cancel` fires, then ends all tasks of the session.
pub(super) async fn serve<S>(
    routes: Routes,
    tasks: Tasks,
    io: S,
    cancel: CancellationToken,
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // A child, so that the stream also ends where this future is dropped before its end.
    let over = cancel.child_token();
    let _end_stream = over.clone().drop_guard();
    let closed = CancellationToken::new();
    let failure = Arc::new(Mutex::new(None));
    let io = SessionIo {
        inner: io,
        over: over.clone(),
        wait_over: Box::pin(over.clone().cancelled_owned()),
        failure: Arc::clone(&failure),
        _closed: closed.clone().drop_guard(),
    };
    let incoming =
        futures_util::stream::iter([Ok::<_, io::Error>(io)]).chain(futures_util::stream::pending());
    let outcome = Server::builder()
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
        .http2_keepalive_interval(None)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, closed.cancelled())
        .await;
    let was_cancelled = cancel.is_cancelled();
    over.cancel();
    tasks.end().await;
    outcome.map_err(SessionError::Serve)?;
    let failure = failure.lock().take();
    match failure {
        Some(error) if !was_cancelled => Err(SessionError::Connection(error)),
        _ => Ok(()),
    }
}

/// The stream of a session: fails at once when the session is over, remembers the first error, and
/// tells when the connection has let go of it.
struct SessionIo<S> {
    inner: S,
    over: CancellationToken,
    wait_over: Pin<Box<WaitForCancellationFutureOwned>>,
    failure: Arc<Mutex<Option<io::Error>>>,
    _closed: DropGuard,
}

impl<S> SessionIo<S> {
    /// Fails if the session is over, else makes the task wake up when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.over.is_cancelled() || self.wait_over.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn remember<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome {
            self.failure
                .lock()
                .get_or_insert_with(|| io::Error::new(error.kind(), error.to_string()));
        }
        outcome
    }
}

impl<S> Connected for SessionIo<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for SessionIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.remember(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SessionIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.remember(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.remember(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.remember(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        // The other side may be gone by now, which is no failure of the session.
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
