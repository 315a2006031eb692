//! Docker's framed stream of a process without a terminal: 8 bytes of head (kind, three zeros, length
//! big-endian), then the payload. Standard output is read on, standard error is kept aside.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEAD: usize = 8;

/// Size of the read buffer in bytes. The daemon sends frames of up to 32 KiB; a large buffer takes
/// several of them with one system call.
const BUFFER: usize = 256 * 1024;

/// How much of standard error is kept, in bytes.
pub const STDERR_TAIL: usize = 16 * 1024;

/// The last [`STDERR_TAIL`] bytes of standard error, shared with the reader of the stream.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Returns the text, trimmed; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let mut tail = self.0.lock();
        String::from_utf8_lossy(tail.make_contiguous())
            .trim()
            .to_owned()
    }

    pub(super) fn push(&self, data: &[u8]) {
        let mut tail = self.0.lock();
        let data = &data[data.len().saturating_sub(STDERR_TAIL)..];
        let excess = (tail.len() + data.len()).saturating_sub(STDERR_TAIL);
        tail.drain(..excess);
        tail.extend(data);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stdout,
    Stderr,
    // An error of the daemon itself.
    System,
}

/// Reads standard output out of a framed stream; writes go through unchanged.
pub struct Demux<T> {
    inner: T,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    kind: Kind,
    left: usize,
    stderr: Tail,
    system: Tail,
}

impl<T> Demux<T> {
    /// Wraps a stream that begins with the head of a frame.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            kind: Kind::Stdout,
            left: 0,
            stderr: Tail::default(),
            system: Tail::default(),
        }
    }

    /// Returns the kept part of standard error; it grows while the stream is read.
    pub fn stderr(&self) -> Tail {
        self.stderr.clone()
    }

    /// Takes as much from the buffer as it has and `out` can hold. Returns false where more must be
    /// read first.
    fn take_buffered(&mut self, out: &mut ReadBuf<'_>) -> io::Result<bool> {
        loop {
            if self.left == 0 {
                if self.end - self.start < HEAD {
                    return Ok(false);
                }
                self.take_head()?;
                continue;
            }
            let have = &self.buffer[self.start..self.end];
            let mut n = have.len().min(self.left);
            if n == 0 {
                return Ok(false);
            }
            match self.kind {
                Kind::Stdout => {
                    n = n.min(out.remaining());
                    if n == 0 {
                        return Ok(true);
                    }
                    out.put_slice(&have[..n]);
                }
                Kind::Stderr => self.stderr.push(&have[..n]),
                Kind::System => self.system.push(&have[..n]),
            }
            self.start += n;
            self.left -= n;
            if self.left == 0 && self.kind == Kind::System {
                return Err(io::Error::other(format!(
                    "error of the docker daemon: {}",
                    self.system.text()
                )));
            }
        }
    }

    fn take_head(&mut self) -> io::Result<()> {
        let [kind, _, _, _, a, b, c, d] = self.buffer[self.start..][..HEAD] else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        self.kind = match kind {
            // Kind 0 is standard input, which docker's own reader takes as output, too.
            0 | 1 => Kind::Stdout,
            2 => Kind::Stderr,
            3 => Kind::System,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the docker daemon sent a frame of unknown kind {kind}"),
                ));
            }
        };
        self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        self.start += HEAD;
        Ok(())
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Demux<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        loop {
            let full = this.take_buffered(out)?;
            if full || out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            this.make_room();
            let mut free = ReadBuf::new(&mut this.buffer[this.end..]);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut free))?;
            let n = free.filled().len();
            if n == 0 {
                let clean = this.left == 0 && this.start == this.end;
                return Poll::Ready(if clean {
                    Ok(())
                } else {
                    Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the docker daemon closed the stream in the middle of a frame",
                    ))
                });
            }
            this.end += n;
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Demux<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Hands out its pieces one read at a time.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let n = piece.len().min(buf.remaining());
                buf.put_slice(&piece[..n]);
                let rest = piece.split_off(n);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0], length.as_slice(), payload].concat()
    }

    async fn read_all(pieces: Vec<Vec<u8>>, chunk: usize) -> (io::Result<Vec<u8>>, String) {
        let mut demux = Demux::new(Pieces(pieces.into()));
        let stderr = demux.stderr();
        let mut out = Vec::new();
        let mut buffer = vec![0; chunk];
        let result = loop {
            match demux.read(&mut buffer).await {
                Ok(0) => break Ok(out),
                Ok(n) => out.extend_from_slice(&buffer[..n]),
                Err(error) => break Err(error),
            }
        };
        (result, stderr.text())
    }

    proptest! {
        #[test]
        fn output_survives_any_split(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(97u8..=122, 0..300)), 0..12),
            cuts in prop::collection::vec(1usize..200, 1..40),
            chunk in 1usize..400,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, data)| frame(*kind, data)).collect();
            let of = |wanted: u8| -> Vec<u8> {
                frames.iter().filter(|(kind, _)| *kind == wanted).flat_map(|(_, data)| data.clone()).collect()
            };
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = tail;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (out, stderr) = runtime.block_on(read_all(pieces, chunk));
            prop_assert_eq!(out.unwrap(), of(1));
            prop_assert_eq!(stderr.into_bytes(), of(2));
        }
    }

    #[tokio::test]
    async fn frames_larger_than_the_buffer_arrive_whole() {
        let data: Vec<u8> = (0..=250).cycle().take(3 * BUFFER + 17).collect();
        let (out, _) = read_all(vec![frame(1, &data), frame(1, b"end")], 100_000).await;
        assert_eq!(out.unwrap(), [data.as_slice(), b"end"].concat());
    }

    #[tokio::test]
    async fn stderr_keeps_its_end_only() {
        let long = vec![b'x'; STDERR_TAIL];
        let frames = vec![frame(2, &long), frame(2, b"the end")];
        let (out, stderr) = read_all(frames, 10).await;
        assert!(out.unwrap().is_empty());
        assert_eq!(stderr.len(), STDERR_TAIL);
        assert!(stderr.ends_with("xthe end"));
    }

    #[tokio::test]
    async fn cut_frames_and_unknown_kinds_are_errors() {
        let mut cut = frame(1, b"hello");
        cut.pop();
        let (out, _) = read_all(vec![cut], 2).await;
        assert_eq!(out.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (out, _) = read_all(vec![vec![1, 0, 0]], 2).await;
        assert_eq!(out.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (out, _) = read_all(vec![frame(9, b"x")], 2).await;
        assert_eq!(out.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (out, _) = read_all(vec![frame(3, b"disk full")], 2).await;
        assert!(out.unwrap_err().to_string().ends_with("disk full"));
    }
}
