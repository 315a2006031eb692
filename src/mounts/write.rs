//! A tar stream written: headers as GNU tar and busybox read them, with names of any bytes.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

/// Bytes of a block: headers are one, and content is filled up to a multiple of it.
const BLOCK: usize = 512;
/// What the entry of a long name is called.
const LONG: &[u8] = b"././@LongLink";

/// A stream that is written.
#[derive(Debug)]
pub(super) struct Stream<W>(W);

/// Path and target of an entry. Where it is no link the target is empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) path: &'a [u8],
    pub(super) target: &'a [u8],
}

impl<W: Write> Stream<W> {
    /// Begins a stream.
    pub(super) fn new(to: W) -> Self {
        Self(to)
    }

    /// Writes an extended header with these records for the next entry.
    pub(super) fn records(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.special(EntryType::XHeader, b"PaxHeader", records)
    }

    /// Writes an entry. A name that is too long for the header comes before it.
    pub(super) fn entry(
        &mut self,
        mut header: Header,
        names: Names<'_>,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let old = header.as_old_mut();
        for (name, field, kind) in [
            (names.path, &mut old.name, EntryType::GNULongName),
            (names.target, &mut old.linkname, EntryType::GNULongLink),
        ] {
            if name.len() >= field.len() {
                self.special(kind, LONG, &[name, b"\0"].concat())?;
            }
            let length = name.len().min(field.len() - 1);
            fill(field, name.get(..length).unwrap_or_default());
        }
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        self.content(size, content)
    }

    /// Ends the stream.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        self.0.flush()
    }

    fn special(&mut self, kind: EntryType, name: &[u8], content: &[u8]) -> io::Result<()> {
        let mut header = match kind {
            EntryType::XHeader => Header::new_ustar(),
            _ => Header::new_gnu(),
        };
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        fill(&mut header.as_old_mut().name, name);
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        self.content(content.len() as u64, content)
    }

    fn content(&mut self, size: u64, mut content: impl Read) -> io::Result<()> {
        if io::copy(&mut content, &mut self.0)? != size {
            return Err(io::Error::other(
                "a file is not as long as it is said to be",
            ));
        }
        let filling = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(filling), &mut self.0)?;
        Ok(())
    }
}

fn fill(field: &mut [u8], name: &[u8]) {
    if let Some(field) = field.get_mut(..name.len()) {
        field.copy_from_slice(name);
    }
}
