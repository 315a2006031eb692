//! An index as it is stored: messages of protobuf, one part of it each, every one behind its length; all in a frame of zstd.
//!
//! First a head, then the packs, then node after node, each followed by its attributes and its chunks. No message has a list,
//! so that reading one takes no more memory than its bytes, and there is no number of parts that would have to be believed.

use std::io::{self, BufRead, BufReader, Write};

use prost::Message as _;

use super::{Attribute, Chunk, Index, IndexError, Kind, Node, PackRef};

/// The version that this program writes and reads.
const VERSION: u32 = 2;
/// The longest message. The longest of a tree on Linux is an attribute of 64 KiB with its name.
const MAX_MESSAGE: u32 = 128 << 10;
/// All messages together.
const MAX_PLAIN: u64 = 512 << 20;
/// The largest window of zstd that is read, as a power of two: four times what is written.
const WINDOW: u32 = 23;

#[derive(Clone, PartialEq, prost::Message)]
struct Part {
    #[prost(oneof = "Of", tags = "1, 2, 3, 4, 5")]
    of: Option<Of>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Of {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Pack(WirePack),
    #[prost(message, tag = "3")]
    Node(WireNode),
    #[prost(message, tag = "4")]
    Attribute(WireAttribute),
    #[prost(message, tag = "5")]
    Chunk(WireChunk),
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Head {
    #[prost(uint32, tag = "1")]
    version: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WirePack {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(uint64, tag = "2")]
    stored: u64,
    #[prost(uint64, tag = "3")]
    plain: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireNode {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(enumeration = "Kind", tag = "2")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    mode: u32,
    #[prost(uint32, tag = "4")]
    uid: u32,
    #[prost(uint32, tag = "5")]
    gid: u32,
    #[prost(int64, tag = "6")]
    seconds: i64,
    #[prost(uint32, tag = "7")]
    nanos: u32,
    #[prost(bytes = "vec", tag = "8")]
    target: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireAttribute {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WireChunk {
    #[prost(uint32, tag = "1")]
    pack: u32,
    #[prost(uint32, tag = "2")]
    offset: u32,
    #[prost(uint32, tag = "3")]
    length: u32,
    #[prost(bytes = "vec", tag = "4")]
    hash: Vec<u8>,
}

/// What is read of an index.
pub(super) enum Read {
    Pack(PackRef),
    Node(Node),
    Attribute(Attribute),
    Chunk(Chunk),
}

/// Reads an index, and hands out part after part.
pub(super) fn read(
    blob: &[u8],
    mut take: impl FnMut(Read) -> Result<(), &'static str>,
) -> Result<(), IndexError> {
    let mut decoder = zstd::Decoder::new(blob).map_err(IndexError::Zstd)?;
    decoder.window_log_max(WINDOW).map_err(IndexError::Zstd)?;
    let mut messages = Messages {
        from: BufReader::new(decoder),
        bytes: Vec::new(),
        left: MAX_PLAIN,
    };
    match messages.next()? {
        Some(Of::Head(Head { version: VERSION })) => {}
        Some(Of::Head(head)) => return Err(IndexError::Version(head.version)),
        _ => return Err(IndexError::Invalid("it has no version")),
    }
    while let Some(part) = messages.next()? {
        let part = match part {
            Of::Head(_) => Err("it has two versions"),
            Of::Pack(pack) => pack.read(),
            Of::Node(node) => node.read(),
            Of::Attribute(one) => Ok(Read::Attribute(Attribute {
                name: one.name.into(),
                value: one.value.into(),
            })),
            Of::Chunk(chunk) => chunk.read(),
        };
        part.and_then(&mut take).map_err(IndexError::Invalid)?;
    }
    Ok(())
}

struct Messages<R> {
    from: R,
    bytes: Vec<u8>,
    left: u64,
}

impl<R: BufRead> Messages<R> {
    fn next(&mut self) -> Result<Option<Of>, IndexError> {
        if self.from.fill_buf().map_err(IndexError::Zstd)?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.from
            .read_exact(&mut length)
            .map_err(IndexError::Zstd)?;
        let length = u32::from_le_bytes(length);
        let left = self.left.checked_sub(u64::from(length) + 4);
        self.left = left.ok_or(IndexError::Invalid("it is too large"))?;
        if length > MAX_MESSAGE {
            return Err(IndexError::Invalid("a part of it is too large"));
        }
        self.bytes.resize(length as usize, 0);
        self.from
            .read_exact(&mut self.bytes)
            .map_err(IndexError::Zstd)?;
        let part = Part::decode(self.bytes.as_slice())?;
        let of = part.of.ok_or(IndexError::Invalid("a part of it is none"))?;
        Ok(Some(of))
    }
}

/// Writes an index.
pub(super) fn write(index: &Index) -> Result<Vec<u8>, IndexError> {
    let encoder = zstd::Encoder::new(Vec::new(), 0).map_err(IndexError::Zstd)?;
    let mut to = Written {
        to: encoder,
        bytes: Vec::new(),
    };
    to.part(Of::Head(Head { version: VERSION }))?;
    for pack in &index.packs {
        to.part(Of::Pack(WirePack {
            digest: pack.digest.to_string(),
            stored: pack.stored,
            plain: pack.plain,
        }))?;
    }
    for node in &index.nodes {
        to.node(node)?;
    }
    to.to.finish().map_err(IndexError::Zstd)
}

struct Written<W> {
    to: W,
    bytes: Vec<u8>,
}

impl<W: Write> Written<W> {
    fn node(&mut self, node: &Node) -> Result<(), IndexError> {
        self.part(Of::Node(WireNode {
            path: node.path.to_vec(),
            kind: node.kind.into(),
            mode: node.mode.into(),
            uid: node.uid,
            gid: node.gid,
            seconds: node.seconds,
            nanos: node.nanos,
            target: node.target.to_vec(),
        }))?;
        for one in &node.attributes {
            self.part(Of::Attribute(WireAttribute {
                name: one.name.to_vec(),
                value: one.value.to_vec(),
            }))?;
        }
        for chunk in &node.chunks {
            self.part(Of::Chunk(WireChunk {
                pack: chunk.pack,
                offset: chunk.offset,
                length: chunk.length,
                hash: chunk.hash.to_vec(),
            }))?;
        }
        Ok(())
    }

    fn part(&mut self, of: Of) -> Result<(), IndexError> {
        self.bytes.clear();
        // A vector takes all that is written.
        let _written = Part { of: Some(of) }.encode(&mut self.bytes);
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if length > MAX_MESSAGE {
            return Err(IndexError::Invalid("a part of it is too large"));
        }
        let written = self.to.write_all(&length.to_le_bytes());
        let written: io::Result<()> = written.and_then(|()| self.to.write_all(&self.bytes));
        written.map_err(IndexError::Zstd)
    }
}

impl WirePack {
    fn read(self) -> Result<Read, &'static str> {
        Ok(Read::Pack(PackRef {
            digest: self.digest.parse().map_err(|_| "a pack has no digest")?,
            stored: self.stored,
            plain: self.plain,
        }))
    }
}

impl WireNode {
    fn read(self) -> Result<Read, &'static str> {
        Ok(Read::Node(Node {
            kind: Kind::try_from(self.kind).map_err(|_| "an entry is of no known kind")?,
            mode: u16::try_from(self.mode).map_err(|_| "an entry has no valid mode")?,
            uid: self.uid,
            gid: self.gid,
            seconds: self.seconds,
            nanos: self.nanos,
            path: self.path.into(),
            target: self.target.into(),
            ..Node::default()
        }))
    }
}

impl WireChunk {
    fn read(self) -> Result<Read, &'static str> {
        let hash = self.hash.as_slice().try_into();
        Ok(Read::Chunk(Chunk {
            pack: self.pack,
            offset: self.offset,
            length: self.length,
            hash: hash.map_err(|_| "a chunk has no hash")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of an index as a blob, each behind a length.
    fn blob(version: u32, messages: &[(u32, &[u8])]) -> Vec<u8> {
        let head = Part {
            of: Some(Of::Head(Head { version })),
        };
        let head = head.encode_to_vec();
        let mut plain = u32::try_from(head.len()).unwrap().to_le_bytes().to_vec();
        plain.extend(head);
        for (length, message) in messages {
            plain.extend(length.to_le_bytes());
            plain.extend(*message);
        }
        zstd::bulk::compress(&plain, 1).unwrap()
    }

    #[test]
    fn what_a_message_says_of_its_length_takes_no_memory() {
        assert!(read(&blob(VERSION, &[]), |_| Ok(())).is_ok());
        for length in [MAX_MESSAGE + 1, u32::MAX] {
            let error = read(&blob(VERSION, &[(length, b"x")]), |_| Ok(())).unwrap_err();
            assert!(error.to_string().contains("too large"), "{error}");
        }
        // It is cut off, empty, or no message.
        for (length, message) in [(9, &b"x"[..]), (0, b""), (1, b"x")] {
            assert!(read(&blob(VERSION, &[(length, message)]), |_| Ok(())).is_err());
        }
        let later = read(&blob(VERSION + 1, &[]), |_| Ok(()));
        assert!(matches!(later, Err(IndexError::Version(3))), "{later:?}");
    }

    #[test]
    fn a_window_larger_than_any_that_is_written_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW + 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&vec![0; 20 << 20]).unwrap();
        let error = read(&encoder.finish().unwrap(), |_| Ok(())).unwrap_err();
        assert!(matches!(error, IndexError::Zstd(_)), "{error}");
    }
}
