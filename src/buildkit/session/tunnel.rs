//! The byte stream that BuildKit makes of `Control.Session`: messages of bytes in both directions
//! (BuildKit `session/grpchijack`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::Stream as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::MAX_MESSAGE;
use super::codec::BytesCodec;

/// Bytes of one message at most. Go takes 32 KiB. Sending a context of 480 MB, 64 KiB, four frames of
/// HTTP/2, took the least processor time here by a few per cent; larger messages gained nothing.
const CHUNK: usize = 64 << 10;
/// Messages that wait for the connection below; with [`CHUNK`] this bounds the memory of a tunnel.
const QUEUE: usize = 8;

const PATH: &str = "/moby.buildkit.v1.Control/Session";

/// Opens the byte stream of a session. `metadata` is [`Session::metadata`](super::Session::metadata).
///
/// This takes the channel and not the generated stub, whose message type would cost a copy of all
/// data in both directions.
///
/// # Errors
///
/// Fails if the daemon refuses the session or the connection is gone.
pub async fn open(channel: Channel, metadata: MetadataMap) -> Result<TunnelStream, Status> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut request = Request::new(ReceiverStream::new(receiver));
    *request.metadata_mut() = metadata;
    let mut grpc = Grpc::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    grpc.ready().await.map_err(|error| {
        Status::unavailable(format!("the connection to the builder is gone: {error}"))
    })?;
    let response = grpc
        .streaming(request, PathAndQuery::from_static(PATH), BytesCodec)
        .await?;
    Ok(TunnelStream {
        incoming: response.into_inner(),
        received: Bytes::new(),
        outgoing: PollSender::new(sender),
        pending: BytesMut::new(),
    })
}

/// A session's bytes. Writes are collected until they fill a message or are flushed; a slow daemon
/// holds the writer back.
#[derive(Debug)]
pub struct TunnelStream {
    incoming: Streaming<Bytes>,
    received: Bytes,
    outgoing: PollSender<Bytes>,
    pending: BytesMut,
}

impl TunnelStream {
    /// Hands the collected bytes over, if there are any.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| closed())?;
        let message = self.pending.split().freeze();
        self.outgoing.send_item(message).map_err(|_| closed())?;
        Poll::Ready(Ok(()))
    }

    /// Makes room in the message being collected and returns its size.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.outgoing.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        if self.pending.len() >= CHUNK {
            ready!(self.poll_send(cx))?;
        }
        if self.pending.capacity() < CHUNK {
            self.pending.reserve(CHUNK - self.pending.len());
        }
        Poll::Ready(Ok(CHUNK - self.pending.len()))
    }
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the builder has closed the build session",
    )
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.received.is_empty() {
            match ready!(Pin::new(&mut this.incoming).poll_next(cx)) {
                Some(Ok(message)) => this.received = message,
                Some(Err(status)) => return Poll::Ready(Err(io::Error::other(status))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.received.len().min(buf.remaining());
        buf.put_slice(&this.received[..count]);
        this.received.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let count = room.min(buf.len());
        self.pending.extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = ready!(self.poll_room(cx))?;
        let mut written = 0;
        for buf in bufs {
            let count = room.min(buf.len());
            self.pending.extend_from_slice(&buf[..count]);
            written += count;
            room -= count;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
