//! The entries of a tar stream, as GNU tar and busybox write it: ustar headers with extended ones (pax) or long names (GNU).
//!
//! Records of an extended header are read by the lengths that they begin with: names, targets and attributes hold any byte,
//! a newline among them.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Bytes of a block: headers are one, and content is filled up to a multiple of it.
const BLOCK: usize = 512;
/// The largest extended header that is read, in bytes. All attributes of a file have less on Linux.
const MAX_EXTENDED: u64 = 4 << 20;

/// Reads the entries of a stream.
#[derive(Debug)]
pub(super) struct Entries<R> {
    stream: R,
    /// Bytes of the entry's content that were not read, and of what fills it up.
    left: u64,
    filling: u64,
}

/// One entry. Its content is [read](Entries::content) before the next one.
#[derive(Debug)]
pub(super) struct Entry {
    header: Header,
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    records: Vec<Record>,
    size: u64,
}

/// A record of an extended header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl<R: Read> Entries<R> {
    /// Reads a stream from its beginning.
    pub(super) fn new(stream: R) -> Self {
        Self {
            stream,
            left: 0,
            filling: 0,
        }
    }

    /// Returns the next entry; `None` behind the last, where all of the stream has been read.
    ///
    /// # Errors
    ///
    /// Fails if the stream breaks off, or is no tar.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let (mut path, mut target, mut records) = (None, None, Vec::new());
        while let Some(header) = self.header()? {
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::XHeader => records = parse(&self.extended(size)?)?,
                EntryType::GNULongName => path = Some(text(self.extended(size)?)),
                EntryType::GNULongLink => target = Some(text(self.extended(size)?)),
                // It tells of the whole archive.
                EntryType::XGlobalHeader => drop(self.extended(size)?),
                EntryType::GNUSparse => return Err(invalid("a sparse file was not expected")),
                _ => {
                    let mut entry = Entry {
                        header,
                        path,
                        target,
                        records,
                        size,
                    };
                    entry.take_records()?;
                    self.begin(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
        if path.is_some() || target.is_some() || !records.is_empty() {
            return Err(invalid("an extended header belongs to no entry"));
        }
        // Behind the end of the archive there is padding, and then the end of the stream, or it has broken off.
        io::copy(&mut self.stream, &mut io::sink())?;
        Ok(None)
    }

    /// The content of the entry that came last.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    fn begin(&mut self, size: u64) {
        let block = BLOCK as u64;
        (self.left, self.filling) = (size, (block - size % block) % block);
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let rest = self.left + self.filling;
        let skipped = io::copy(&mut self.stream.by_ref().take(rest), &mut io::sink())?;
        if skipped < rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.begin(0);
        let mut block = [0; BLOCK];
        self.stream.read_exact(&mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |sum: u32, (at, byte): (usize, &u8)| {
            // The field of the sum itself counts as spaces.
            sum + u32::from(if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            })
        };
        if block.iter().enumerate().fold(0, sum) != header.cksum()? {
            return Err(invalid("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads the content of an extended header.
    fn extended(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENDED {
            return Err(invalid("an extended header is too large"));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Entry {
    /// Takes what stands in the extended header in place of the header.
    fn take_records(&mut self) -> io::Result<()> {
        for Record { key, value } in &self.records {
            match key.as_slice() {
                b"path" => self.path = Some(value.clone()),
                b"linkpath" => self.target = Some(value.clone()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok();
                    let size = size.and_then(|size| size.parse().ok());
                    self.size = size.ok_or_else(|| invalid("the size of an entry is none"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns its header.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns its path.
    pub(super) fn path(&self) -> Vec<u8> {
        let short = || self.header.path_bytes().into_owned();
        self.path.clone().unwrap_or_else(short)
    }

    /// Returns where a link leads.
    pub(super) fn target(&self) -> Vec<u8> {
        let short = || self.header.link_name_bytes().unwrap_or_default().into();
        self.target.clone().unwrap_or_else(short)
    }

    /// Returns the records of its extended header.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the bytes of its content.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// The content of an entry.
#[derive(Debug)]
pub(super) struct Content<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Entries { stream, left, .. } = self.0;
        if *left == 0 || into.is_empty() {
            return Ok(0);
        }
        let read = stream.by_ref().take(*left).read(into)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        Ok(read)
    }
}

/// Returns the records of an extended header: `LENGTH KEY=VALUE\n`, where the length counts all of it.
fn parse(mut bytes: &[u8]) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = parse_one(bytes).ok_or_else(|| invalid("a record is broken"))?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

fn parse_one(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let digits = bytes.iter().position(|byte| *byte == b' ')?;
    let length = std::str::from_utf8(bytes.get(..digits)?).ok()?;
    let length: usize = length.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let text = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let record = Record {
        key: text.get(..equals)?.to_vec(),
        value: text.get(equals + 1..)?.to_vec(),
    };
    Some((record, rest))
}

/// Writes a record of an extended header.
pub(super) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// What stands before a zero.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(kind: EntryType, size: usize) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_path("short").unwrap();
        header.set_cksum();
        header
    }

    /// Entries of a tar stream without its end.
    fn stream(entries: &[(EntryType, &[u8])]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (kind, content) in entries {
            stream.extend(header(*kind, content.len()).as_bytes());
            stream.extend(*content);
            stream.resize(stream.len().next_multiple_of(BLOCK), 0);
        }
        stream
    }

    fn ended(mut stream: Vec<u8>) -> Vec<u8> {
        stream.resize(stream.len() + 2 * BLOCK, 0);
        stream
    }

    #[test]
    fn records_are_as_long_as_they_say() {
        for length in [0, 1, 88, 89, 90, 91, 92, 93, 985, 986, 987, 988, 989, 990] {
            let one = record(b"key", &vec![b'\n'; length]);
            let digits = one.len().to_string();
            assert!(one.starts_with(format!("{digits} ").as_bytes()), "{length}");
        }
        for broken in [
            &b"x"[..],
            b"5",
            b" a=b\n",
            b"7 a=b\n",
            b"99 a=b\n",
            b"6 ab\n\n",
            b"6 a=bc",
            b"0 a=b\n",
            b"-6 a=b\n",
        ] {
            assert!(parse(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn what_is_broken_or_cut_off_is_told() {
        let whole = ended(stream(&[
            (EntryType::XHeader, &record(b"path", b"long\nname")),
            (EntryType::Regular, b"content"),
        ]));
        for length in 0..whole.len() {
            let mut entries = Entries::new(&whole[..length]);
            let all = (|| {
                while entries.next()?.is_some() {}
                io::Result::Ok(())
            })();
            // The first block of zeros is the end.
            assert_eq!(all.is_ok(), length >= whole.len() - BLOCK, "{length}");
        }
        let mut wrong = whole.clone();
        wrong[0] ^= 1;
        assert!(Entries::new(wrong.as_slice()).next().is_err());
        for odd in [
            stream(&[(EntryType::GNUSparse, b"")]),
            stream(&[
                (EntryType::XHeader, &record(b"size", b"many")),
                (EntryType::Regular, b""),
            ]),
            stream(&[(EntryType::XHeader, &record(b"path", b"of nothing"))]),
            header(EntryType::GNULongName, 1 << 30).as_bytes().to_vec(),
        ] {
            let odd = ended(odd);
            assert!(Entries::new(odd.as_slice()).next().is_err());
        }
    }

    #[test]
    fn the_size_of_a_large_file_stands_in_the_extended_header() {
        let mut large = stream(&[(EntryType::XHeader, &record(b"size", b"600"))]);
        large.extend(header(EntryType::Regular, 0).as_bytes());
        large.extend([b'x'; 600]);
        large.resize(large.len().next_multiple_of(BLOCK), 0);
        large.extend(stream(&[(EntryType::Regular, b"next")]));
        let large = ended(large);
        let mut entries = Entries::new(large.as_slice());
        assert_eq!(entries.next().unwrap().unwrap().size(), 600);
        let mut content = Vec::new();
        entries.content().read_to_end(&mut content).unwrap();
        assert_eq!(content, [b'x'; 600]);
        assert_eq!(entries.next().unwrap().unwrap().size(), 4);
        assert!(entries.next().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn records_hold_any_bytes(
            records in prop::collection::vec(("[^=\0]{1,40}", prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        ) {
            let bytes = records.iter().flat_map(|(key, value)| record(key.as_bytes(), value));
            let found = parse(&bytes.collect::<Vec<u8>>()).unwrap();
            let found = found.into_iter().map(|one| (String::from_utf8(one.key).unwrap(), one.value));
            prop_assert_eq!(found.collect::<Vec<_>>(), records);
        }

        #[test]
        fn names_hold_any_bytes_but_zero(name in prop::collection::vec(1_u8.., 1..400)) {
            let long = [&name[..], b"\0"].concat();
            for stream in [
                stream(&[(EntryType::XHeader, &record(b"path", &name)), (EntryType::Regular, b"x")]),
                stream(&[(EntryType::GNULongName, &long), (EntryType::Regular, b"x")]),
            ] {
                let stream = ended(stream);
                let mut entries = Entries::new(stream.as_slice());
                prop_assert_eq!(&entries.next().unwrap().unwrap().path(), &name);
            }
        }
    }
}
