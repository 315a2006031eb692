//! A byte stream through a program that connects its standard input and output: ssh, kubectl.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::demux::Tail;
use crate::child;

/// How long the last words of a program that has ended may take. Another process may keep its
/// standard error open for ever: a shared connection of ssh does.
const LAST_WORDS: Duration = Duration::from_millis(300);

type Ended = Pin<Box<dyn Future<Output = io::Error> + Send>>;

/// The pipes of a running program. Dropping it ends the program.
///
/// A program that ends before it has written anything did not connect: reading then fails with its
/// exit status and what it wrote to standard error.
pub struct ProcessStream {
    program: String,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    // Taken by the end of a program that did not connect.
    running: Option<(Child, ChildStderr)>,
    stderr: Tail,
    has_connected: bool,
    ended: Option<Ended>,
}

impl ProcessStream {
    /// Starts a program.
    ///
    /// # Errors
    ///
    /// Fails if it is not installed.
    pub fn spawn(program: &str, arguments: &[String]) -> io::Result<Self> {
        let mut child = child::command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C must not end it before the other side heard of the cancellation.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
            })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other(format!("{program} has no pipes")));
        };
        Ok(Self {
            program: program.to_owned(),
            stdin: Some(stdin),
            stdout,
            running: Some((child, stderr)),
            stderr: Tail::default(),
            has_connected: false,
            ended: None,
        })
    }

    fn stdin(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.stdin
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// A program whose standard error nobody reads would stand still.
    fn take_stderr(&mut self, cx: &mut Context<'_>) {
        let Some((_, stderr)) = &mut self.running else {
            return;
        };
        let mut buffer = [0; 1024];
        loop {
            let mut free = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *stderr).poll_read(cx, &mut free) {
                Poll::Ready(Ok(())) if !free.filled().is_empty() => {
                    self.stderr.push(free.filled());
                }
                _ => return,
            }
        }
    }

    fn end(&mut self) -> Option<Ended> {
        let (mut child, mut stderr) = self.running.take()?;
        drop(self.stdin.take());
        let (program, tail) = (self.program.clone(), self.stderr.clone());
        Some(Box::pin(async move {
            let status = child.wait().await;
            let mut words = Vec::new();
            let read = stderr.read_to_end(&mut words);
            let timely = tokio::time::timeout(LAST_WORDS, read).await;
            tracing::debug!(?timely, "standard error of a program that has ended");
            tail.push(&words);
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let text = tail.text();
            let text = if text.is_empty() {
                "it said nothing"
            } else {
                &text
            };
            io::Error::other(format!("{program} ended ({status}): {text}"))
        }))
    }
}

impl AsyncRead for ProcessStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.take_stderr(cx);
        if this.ended.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stdout).poll_read(cx, buf))?;
            this.has_connected |= buf.filled().len() > before;
            if this.has_connected || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.ended = this.end();
        }
        match &mut this.ended {
            Some(ended) => {
                let error = ready!(ended.as_mut().poll(cx));
                // Told once; after that it is an end like others.
                this.has_connected = true;
                this.ended = None;
                Poll::Ready(Err(error))
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for ProcessStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Bytes in a pipe reach nobody for certain. A program that is gone already is told by reading,
        // which knows the reason.
        if this.ended.is_some() {
            return Poll::Ready(Ok(data.len()));
        }
        let written = this.stdin()?.poll_write(cx, data);
        match &written {
            Poll::Ready(Err(error))
                if error.kind() == io::ErrorKind::BrokenPipe && !this.has_connected =>
            {
                Poll::Ready(Ok(data.len()))
            }
            _ => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stdin()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is the only half-close that a process understands.
        drop(self.get_mut().stdin.take());
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn shell(script: &str) -> ProcessStream {
        ProcessStream::spawn("sh", &["-c".to_owned(), script.to_owned()]).unwrap()
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_is_clean() {
        let mut stream = shell("cat; echo noise >&2; exit 3");
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn a_program_that_does_not_connect_says_why() {
        let mut stream =
            shell("echo no route to host >&2; exec <&-; exec >&-; sleep 0.2; exit 255");
        tokio::time::sleep(Duration::from_millis(100)).await;
        // A writer learns as much as a reader.
        stream.write_all(b"hello").await.unwrap();
        let error = stream.read_u8().await.unwrap_err().to_string();
        assert!(error.starts_with("sh ended (exit status: 255)"), "{error}");
        assert!(error.ends_with("no route to host"), "{error}");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn much_standard_error_does_not_stop_the_stream() {
        let mut stream = shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo done");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "done\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = ProcessStream::spawn("no-such-program", &[]).err().unwrap();
        assert!(error.to_string().contains("cannot run no-such-program"));
    }
}
