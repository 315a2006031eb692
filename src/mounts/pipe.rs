//! A stream of bytes between asynchronous code and a thread that reads or writes it.

use std::io::{self, Read, Write};
use std::mem;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Reads what is sent to a channel. For threads that may block. Where the sender is gone without an [end](END_OF_STREAM),
/// the stream has broken off.
#[derive(Debug)]
pub struct PipeReader {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    has_ended: bool,
}

/// What is sent behind the last bytes of a stream.
pub const END_OF_STREAM: Bytes = Bytes::new();

impl PipeReader {
    /// Reads from a channel.
    pub fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self {
            pieces,
            piece: Bytes::new(),
            has_ended: false,
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.has_ended {
            let next = self.pieces.blocking_recv();
            self.piece = next.ok_or_else(|| io::Error::other("it was not read to its end"))?;
            self.has_ended = self.piece.is_empty();
        }
        let length = into.len().min(self.piece.len());
        let read = self.piece.split_to(length);
        if let Some(into) = into.get_mut(..length) {
            into.copy_from_slice(&read);
        }
        Ok(length)
    }
}

/// Writes to a channel, in pieces of one size. For threads that may block. What is left at the end is [flushed](Write::flush).
#[derive(Debug)]
pub struct PipeWriter {
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    size: usize,
}

impl PipeWriter {
    /// Writes to a channel pieces of this size.
    pub fn new(pieces: mpsc::Sender<Vec<u8>>, size: usize) -> Self {
        Self {
            pieces,
            piece: Vec::with_capacity(size),
            size,
        }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= self.size {
            self.flush()?;
        }
        let room = self.size - self.piece.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = mem::replace(&mut self.piece, Vec::with_capacity(self.size));
        let sent = self.pieces.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_through_and_a_broken_stream_is_told() {
        for is_whole in [true, false] {
            let (send, receive) = mpsc::channel(1);
            let read = tokio::task::spawn_blocking(|| {
                let mut text = String::new();
                PipeReader::new(receive)
                    .read_to_string(&mut text)
                    .map(|_| text)
            });
            send.send(Bytes::from_static(b"some words")).await.unwrap();
            if is_whole {
                send.send(END_OF_STREAM).await.unwrap();
            }
            drop(send);
            let text = read.await.unwrap();
            assert_eq!(text.ok().as_deref(), is_whole.then_some("some words"));
        }
    }
    #[tokio::test]
    async fn what_is_written_comes_in_pieces_of_one_size() {
        let (send, mut receive) = mpsc::channel(1);
        let written = tokio::task::spawn_blocking(|| {
            let mut writer = PipeWriter::new(send, 4);
            writer.write_all(b"some ")?;
            writer.write_all(b"words")?;
            writer.flush()
        });
        let mut pieces = Vec::new();
        while let Some(piece) = receive.recv().await {
            pieces.push(piece);
        }
        written.await.unwrap().unwrap();
        assert_eq!(pieces, [&b"some"[..], b" wor", b"ds"]);
        let (send, _) = mpsc::channel(1);
        let gone = tokio::task::spawn_blocking(|| {
            let mut writer = PipeWriter::new(send, 4);
            writer.write_all(b"more than a piece")
        });
        let error = gone.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
