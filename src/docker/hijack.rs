//! A connection that an HTTP upgrade turned into a plain byte stream: `/exec/ID/start`, `/grpc`,
//! `/session` of the Engine API.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::upgrade::Upgraded;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::{Conn, HyperConn};

/// The raw stream after the 101. Shutting it down closes the sending half only.
pub struct UpgradedStream {
    conn: Conn,
    // What hyper had read beyond the head of the answer.
    early: Bytes,
}

impl UpgradedStream {
    /// Takes hyper's stream apart; `None` if it is not over a connection of ours.
    pub(super) fn from_hyper(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<HyperConn>().ok()?;
        Some(Self {
            conn: parts.io.into_inner(),
            early: parts.read_buf,
        })
    }
}

impl AsyncRead for UpgradedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.conn).poll_read(cx, buf);
        }
        let n = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..n]);
        self.early.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
