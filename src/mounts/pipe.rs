//! A stream of bytes between asynchronous code and a thread that reads or writes it.

use std::io::{self, Read, Write};

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

/// Writes to a channel. For threads that may block.
#[derive(Debug)]
pub struct PipeWriter(pub mpsc::Sender<Bytes>);

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
            let written = tokio::task::spawn_blocking(move || {
                PipeWriter(send.clone())
                    .write_all(b"some words")
                    .map(|()| send)
            });
            let send = written.await.unwrap().unwrap();
            if is_whole {
                send.send(END_OF_STREAM).await.unwrap();
            }
            drop(send);
            let text = read.await.unwrap();
            assert_eq!(text.ok().as_deref(), is_whole.then_some("some words"));
        }
    }
}
