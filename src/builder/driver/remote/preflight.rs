//! What answers at an address: the first bytes of HTTP/2 are exchanged, which any BuildKit takes.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::builder::ByteStream;

/// How long the answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The beginning of every HTTP/2 connection, and empty settings (RFC 9113, 3.4 and 6.5).
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Length of the head of an HTTP/2 frame; its fourth byte is the kind.
const HEAD: usize = 9;
const SETTINGS: u8 = 4;

/// The first two bytes of an alert of TLS (RFC 8446, 5.1).
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// What speaks there instead of BuildKit.
#[derive(Debug)]
pub enum NotBuildKit {
    /// It speaks TLS.
    Tls,
    /// It speaks HTTP/1.
    Http1,
    /// It sent something else.
    Other,
    /// It closed the connection without an answer.
    Closed,
    /// It takes the connection and is silent.
    Silent,
    /// The connection broke, or the program that makes it failed.
    Broken(io::Error),
}

impl fmt::Display for NotBuildKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "it speaks TLS",
            Self::Http1 => "it speaks HTTP/1, not gRPC",
            Self::Other => "it does not speak gRPC",
            Self::Closed => "it closed the connection without an answer",
            Self::Silent => "it does not answer",
            Self::Broken(error) => return write!(f, "{error}"),
        })
    }
}

impl NotBuildKit {
    /// Returns whether certificates could help.
    pub fn may_want_tls(&self) -> bool {
        matches!(self, Self::Tls | Self::Closed)
    }

    /// Returns whether waiting could help: a daemon that is coming up.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Closed | Self::Silent | Self::Broken(_))
    }
}

/// Greets the other side and looks at its answer.
///
/// # Errors
///
/// Says what speaks there, if it is no HTTP/2.
pub async fn check(mut stream: ByteStream) -> Result<(), NotBuildKit> {
    let exchange = async {
        let greeting = async {
            stream.write_all(GREETING).await?;
            stream.flush().await
        };
        match greeting.await {
            // A program that could not connect is gone, and reading tells why.
            Err(error) if is_closed(&error) => {}
            greeted => greeted?,
        }
        let mut answer = Vec::with_capacity(HEAD);
        while answer.len() < HEAD {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok(answer)
    };
    let answer = match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if is_closed(&error) => return Err(NotBuildKit::Closed),
        Ok(Err(error)) => return Err(NotBuildKit::Broken(error)),
        Err(_) => return Err(NotBuildKit::Silent),
    };
    match answer.as_slice() {
        [] => Err(NotBuildKit::Closed),
        [first, second, ..] if [*first, *second] == TLS_ALERT => Err(NotBuildKit::Tls),
        [_, _, _, SETTINGS, ..] => Ok(()),
        other if other.starts_with(b"HTTP/1") => Err(NotBuildKit::Http1),
        _ => Err(NotBuildKit::Other),
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    ) && error.get_ref().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &[u8]) -> Result<(), NotBuildKit> {
        let (near, mut far) = tokio::io::duplex(1024);
        let server = async {
            let mut greeting = vec![0; GREETING.len()];
            far.read_exact(&mut greeting).await.unwrap();
            assert_eq!(greeting, GREETING);
            far.write_all(answer).await.unwrap();
            drop(far);
        };
        let near: ByteStream = Box::new(near);
        tokio::join!(check(near), server).0
    }

    #[tokio::test]
    async fn what_speaks_there_is_known() {
        let settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64";
        assert!(answered(settings).await.is_ok());
        for (answer, want) in [
            (&b""[..], "closed the connection"),
            (b"\x15\x03\x01\x00\x02\x02\x16", "speaks TLS"),
            (b"HTTP/1.1 400 Bad Request\r\n", "speaks HTTP/1"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak gRPC"),
            (b"abc", "does not speak gRPC"),
        ] {
            let text = answered(answer).await.unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told() {
        let (near, _far) = tokio::io::duplex(1024);
        let near: ByteStream = Box::new(near);
        let error = check(near).await.unwrap_err();
        assert!(matches!(error, NotBuildKit::Silent));
    }
}
