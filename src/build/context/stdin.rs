//! Standard input as a build's context or Dockerfile: looked at once, then streamed.
//!
//! BuildKit unpacks tar archives that are plain or compressed with gzip, bzip2 or xz (`dockerui`
//! `isArchive`); what is compressed with zstd is unpacked here.

use std::fmt;
use std::io::{self, Cursor, Read, Write};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

/// The bytes that tell what an archive is; the tar magic stands at offset 257.
const HEADER: usize = 512;
/// Bytes of one read from standard input.
const BLOCK: usize = 64 << 10;
/// Blocks that wait for the session.
const QUEUE: usize = 8;
/// The first bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Standard input whose first bytes have perhaps been read already.
pub struct Stdin {
    head: Vec<u8>,
    rest: Box<dyn Read + Send + Sync>,
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin")
            .field("looked_at", &self.head.len())
            .finish_non_exhaustive()
    }
}

impl Stdin {
    /// Takes the standard input of this process.
    pub fn from_process() -> Self {
        Self::new(io::stdin())
    }

    /// Takes any reader.
    pub fn new(reader: impl Read + Send + Sync + 'static) -> Self {
        Self {
            head: Vec::new(),
            rest: Box::new(reader),
        }
    }

    /// Reads the first bytes and tells whether they begin a tar archive, plain or compressed with
    /// gzip, bzip2, xz or zstd.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read.
    pub fn is_archive(&mut self) -> io::Result<bool> {
        self.look()?;
        Ok(looks_like_archive(&self.head))
    }

    fn look(&mut self) -> io::Result<()> {
        let missing = HEADER.saturating_sub(self.head.len());
        let mut limited = (&mut self.rest).take(missing as u64);
        limited.read_to_end(&mut self.head)?;
        Ok(())
    }

    /// Reads the first bytes and returns whether they can begin a Dockerfile, which has no zero bytes.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read.
    pub fn is_text(&mut self) -> io::Result<bool> {
        self.look()?;
        Ok(!self.head.contains(&0))
    }

    /// Writes everything to a file.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read or the file cannot be written.
    pub fn copy_to(self, to: &mut impl Write) -> io::Result<u64> {
        io::copy(&mut self.into_reader()?, to)
    }

    /// Returns a stream of everything, what was looked at included, unpacked if it is zstd. Standard
    /// input can only be read by a blocking thread, which ends with the input or when the stream is
    /// dropped.
    pub fn into_async(self) -> impl AsyncRead + Send + Unpin + 'static {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let mut reader = match self.into_reader() {
                Ok(reader) => reader,
                Err(error) => {
                    // Nobody may listen any more.
                    drop(sender.blocking_send(Err(error)));
                    return;
                }
            };
            loop {
                let mut block = BytesMut::zeroed(BLOCK);
                let (message, last) = match reader.read(&mut block) {
                    Ok(0) => return,
                    Ok(count) => {
                        block.truncate(count);
                        (Ok(block.freeze()), false)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => (Err(error), true),
                };
                if sender.blocking_send(message).is_err() || last {
                    return;
                }
            }
        });
        StreamReader::new(ReceiverStream::new(receiver))
    }

    fn into_reader(self) -> io::Result<Box<dyn Read + Send + Sync>> {
        let is_zstd = self.head.starts_with(ZSTD_MAGIC);
        let whole = Cursor::new(self.head).chain(self.rest);
        Ok(if is_zstd {
            Box::new(zstd::stream::read::Decoder::new(whole)?)
        } else {
            Box::new(whole)
        })
    }
}

fn looks_like_archive(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [
        &[0x1f, 0x8b, 0x08],
        b"BZh",
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        ZSTD_MAGIC,
    ];
    MAGICS.iter().any(|magic| head.starts_with(magic))
        || head.get(257..262).is_some_and(|magic| magic == b"ustar")
        || is_old_tar(head)
}

/// A header without magic, as tar wrote it before POSIX: told by its checksum.
fn is_old_tar(head: &[u8]) -> bool {
    let (Some(block), Some(field)) = (head.get(..512), head.get(148..156)) else {
        return false;
    };
    let text: String = field
        .iter()
        .map(|b| char::from(*b))
        .filter(char::is_ascii_digit)
        .collect();
    let Ok(expected) = u32::from_str_radix(&text, 8) else {
        return false;
    };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                u32::from(b' ')
            } else {
                u32::from(*b)
            }
        })
        .sum();
    sum == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(data: &[u8]) -> bool {
        Stdin::new(Cursor::new(data.to_vec())).is_archive().unwrap()
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        assert!(archive(&[0x1f, 0x8b, 0x08, 0]));
        assert!(archive(b"BZh9"));
        assert!(archive(&[0x28, 0xb5, 0x2f, 0xfd, 1]));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_size(0);
        header.set_path("a").unwrap();
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        assert!(archive(&builder.into_inner().unwrap()));
        assert!(!archive(b"FROM scratch\n"));
        let text = |bytes: &'static [u8]| Stdin::new(bytes).is_text().unwrap();
        assert!(text(b"FROM scratch\n") && text(b"\xef\xbb\xbfFROM a\n"));
        // A zip, and UTF-16.
        assert!(!text(b"PK\x03\x04\x14\x00") && !text(b"\xff\xfeF\x00R\x00"));
        assert!(!archive(b""));
    }

    #[tokio::test]
    async fn streaming_loses_nothing() {
        let data: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
        let mut stdin = Stdin::new(Cursor::new(data.clone()));
        stdin.is_archive().unwrap();
        let mut copy = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stdin.into_async(), &mut copy)
            .await
            .unwrap();
        assert!(copy == data);
    }

    #[tokio::test]
    async fn zstd_is_unpacked_and_broken_zstd_is_an_error() {
        let data: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        // Two frames, as `zstd -c a b` writes them.
        let (one, two) = data.split_at(1000);
        let pack = |data: &[u8]| zstd::encode_all(data, 0).unwrap();
        let packed = [pack(one), pack(two)].concat();
        for (bytes, whole) in [(packed.clone(), true), (packed[..900].to_vec(), false)] {
            let mut stdin = Stdin::new(Cursor::new(bytes));
            assert!(stdin.is_archive().unwrap());
            let mut copy = Vec::new();
            let read =
                tokio::io::AsyncReadExt::read_to_end(&mut stdin.into_async(), &mut copy).await;
            assert_eq!((read.is_ok(), copy == data), (whole, whole));
        }
    }

    #[test]
    fn looking_loses_nothing() {
        let data: Vec<u8> = (0..=255u8).cycle().take(2000).collect();
        let mut stdin = Stdin::new(Cursor::new(data.clone()));
        stdin.is_archive().unwrap();
        let mut copy = Vec::new();
        stdin.copy_to(&mut copy).unwrap();
        assert_eq!(copy, data);
    }
}
