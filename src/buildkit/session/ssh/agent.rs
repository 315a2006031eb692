//! The bytes between a build and an SSH agent. Frames: a big-endian `u32` length, then a type byte
//! and the body (draft-miller-ssh-agent, section 3).

use std::io;
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::BytesMessage;
use bytes::{Buf as _, BufMut as _, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tonic::Status;

use super::key::Key;
use super::wire::{put_string, take_string};

/// Asks for the keys.
const REQUEST_IDENTITIES: u8 = 11;
/// Answers with the keys.
const IDENTITIES_ANSWER: u8 = 12;
/// Asks for a signature.
const SIGN_REQUEST: u8 = 13;
/// Answers with a signature.
const SIGN_RESPONSE: u8 = 14;
/// The answer "no", as a whole frame.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// Longest frame, as in OpenSSH.
const MAX_FRAME: usize = 256 << 10;
/// Bytes that one message holds when bytes are passed through.
const CHUNK: usize = 32 << 10;

/// Who answers requests.
pub(super) enum Agent<A> {
    /// An agent behind a socket.
    Socket(A),
    /// Keys that were read from files.
    Keys(Arc<[Key]>),
}

/// Answers requests that only list keys or sign, one after the other, and all others with a failure.
pub(super) async fn serve<A, S>(
    mut agent: Agent<A>,
    mut requests: S,
    replies: mpsc::Sender<BytesMessage>,
) -> Result<(), Status>
where
    A: AsyncRead + AsyncWrite + Send + Unpin,
    S: Stream<Item = Result<BytesMessage, Status>> + Send + Unpin,
{
    let mut received = BytesMut::new();
    while let Some(message) = requests.next().await {
        received.extend_from_slice(&message?.data);
        while let Some(frame) = take_frame(&mut received)? {
            let allowed = matches!(frame[4], REQUEST_IDENTITIES | SIGN_REQUEST);
            let data = match &mut agent {
                Agent::Socket(socket) if allowed => ask(socket, &frame).await.map_err(|error| {
                    Status::unknown(format!("the SSH agent does not answer: {error}"))
                })?,
                Agent::Keys(keys) if allowed => {
                    answer(keys, &frame[4..]).unwrap_or_else(|| FAILURE.to_vec())
                }
                _ => FAILURE.to_vec(),
            };
            if replies.send(BytesMessage { data }).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Answers a request with keys of our own; `None` if it cannot be done.
fn answer(keys: &[Key], mut request: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if request.try_get_u8().ok()? == REQUEST_IDENTITIES {
        body.put_u8(IDENTITIES_ANSWER);
        body.put_u32(u32::try_from(keys.len()).ok()?);
        for key in keys {
            put_string(&mut body, &key.public());
            put_string(&mut body, b"");
        }
    } else {
        let wanted = take_string(&mut request)?;
        let data = take_string(&mut request)?;
        let flags = request.try_get_u32().ok()?;
        let key = keys.iter().find(|key| key.public() == wanted)?;
        body.put_u8(SIGN_RESPONSE);
        put_string(&mut body, &key.sign(data, flags)?);
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    put_string(&mut frame, &body);
    Some(frame)
}

/// Takes the first frame off the received bytes, if it is there as a whole.
fn take_frame(received: &mut BytesMut) -> Result<Option<BytesMut>, Status> {
    let Some(header) = received.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
    if length == 0 || length > MAX_FRAME {
        return Err(Status::invalid_argument(
            "the build sent no request of the SSH agent protocol",
        ));
    }
    if received.len() < 4 + length {
        return Ok(None);
    }
    Ok(Some(received.split_to(4 + length)))
}

/// Sends one frame to the agent and reads the frame that answers it.
async fn ask<A>(agent: &mut A, frame: &[u8]) -> io::Result<Vec<u8>>
where
    A: AsyncRead + AsyncWrite + Unpin,
{
    agent.write_all(frame).await?;
    agent.flush().await?;
    let length = agent.read_u32().await?;
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if size == 0 || size > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut reply = vec![0; 4 + size];
    reply[..4].copy_from_slice(&length.to_be_bytes());
    agent.read_exact(&mut reply[4..]).await?;
    Ok(reply)
}

/// Passes all bytes through in both directions until both have ended.
pub(super) async fn copy<A, S>(
    agent: A,
    mut requests: S,
    replies: mpsc::Sender<BytesMessage>,
) -> Result<(), Status>
where
    A: AsyncRead + AsyncWrite + Send + Unpin,
    S: Stream<Item = Result<BytesMessage, Status>> + Send + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(agent);
    let failed = |error: io::Error| Status::unknown(format!("the socket broke: {error}"));
    let up = async {
        while let Some(message) = requests.next().await {
            let data = message?.data;
            writer.write_all(&data).await.map_err(failed)?;
        }
        writer.shutdown().await.map_err(failed)
    };
    let down = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            if reader.read_buf(&mut buffer).await.map_err(failed)? == 0 {
                return Ok(());
            }
            let data = buffer.to_vec();
            buffer.advance(data.len());
            if replies.send(BytesMessage { data }).await.is_err() {
                return Ok(());
            }
        }
    };
    // The socket's end is the end of the connection, whatever the build would still send.
    tokio::pin!(up, down);
    tokio::select! {
        sent = &mut up => {
            sent?;
            down.await
        }
        received = &mut down => received,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(body.len() + 1)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        frame.push(kind);
        frame.extend_from_slice(body);
        frame
    }

    /// Serves these messages against an agent that echoes each frame with type 14.
    async fn exchange(messages: Vec<Vec<u8>>) -> (Result<(), Status>, Vec<u8>, Vec<u8>) {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (sender, mut receiver) = mpsc::channel(64);
        let requests = stream::iter(messages.into_iter().map(|data| Ok(BytesMessage { data })));
        let agent = async move {
            let mut seen = Vec::new();
            while let Ok(length) = theirs.read_u32().await {
                let mut body = vec![0; usize::try_from(length).unwrap()];
                theirs.read_exact(&mut body).await.unwrap();
                seen.push(body[0]);
                theirs.write_all(&frame(14, &body[1..])).await.unwrap();
            }
            seen
        };
        let served = serve(Agent::Socket(ours), requests, sender);
        let (outcome, seen) = tokio::join!(served, agent);
        let mut replies = Vec::new();
        while let Some(message) = receiver.recv().await {
            replies.extend(message.data);
        }
        (outcome, replies, seen)
    }

    #[tokio::test]
    async fn only_listing_and_signing_reach_the_agent() {
        // 17 add, 18 remove, 19 remove all, 22 lock, 23 unlock, 25 add constrained, 27 extension.
        let mut messages = vec![frame(11, b""), frame(13, b"key")];
        messages.extend([17, 18, 19, 22, 23, 25, 27].map(|kind| frame(kind, b"x")));
        let (outcome, replies, seen) = exchange(messages).await;
        outcome.unwrap();
        assert_eq!(seen, [11, 13]);
        let mut expected = [frame(14, b""), frame(14, b"key")].concat();
        expected.extend(FAILURE.repeat(7));
        assert_eq!(replies, expected);
    }

    #[tokio::test]
    async fn frames_are_found_however_they_are_cut() {
        let bytes = [frame(13, b"first"), frame(1, b""), frame(11, b"")].concat();
        let messages = bytes.iter().map(|&byte| vec![byte]).collect();
        let (outcome, replies, seen) = exchange(messages).await;
        outcome.unwrap();
        assert_eq!(seen, [13, 11]);
        let expected = [frame(14, b"first"), FAILURE.to_vec(), frame(14, b"")].concat();
        assert_eq!(replies, expected);
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        for nonsense in [vec![0, 0, 0, 0, 0], vec![0xff; 8]] {
            let (outcome, replies, seen) = exchange(vec![nonsense]).await;
            assert_eq!(outcome.unwrap_err().code(), tonic::Code::InvalidArgument);
            assert!(replies.is_empty() && seen.is_empty());
        }
    }
}
