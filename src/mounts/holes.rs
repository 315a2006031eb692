//! Where a file has so many zeros that it needs no disk for them.
//!
//! An index knows no holes: what a sparse file reads there is zeros, in chunks that are all the same. Those are known by
//! their hash.

use std::collections::HashMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::CHUNK;
use super::index::Chunk;
use super::pack::cut;

/// Blocks of a tar stream, in bytes.
const BLOCK: usize = 512;

/// Finds the holes of files.
#[derive(Debug)]
pub(super) struct Holes {
    /// How long the chunks are that many zeros are cut into.
    usual: u32,
    /// The hashes of zeros, by how many.
    hashes: HashMap<u32, [u8; 32]>,
}

/// What of a file is no hole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map<'a> {
    /// The chunks that are no hole.
    pub(super) chunks: Vec<&'a Chunk>,
    /// Where they are: offsets and lengths.
    parts: Vec<(u64, u64)>,
}

impl Default for Holes {
    fn default() -> Self {
        let usual = cut(&vec![0; CHUNK.2]);
        Self {
            usual: u32::try_from(usual).unwrap_or(u32::MAX),
            hashes: HashMap::new(),
        }
    }
}

impl Holes {
    /// Returns what is no hole of a file with these chunks; `None` where it has none.
    pub(super) fn map_of<'a>(&mut self, chunks: &'a [Chunk]) -> Option<Map<'a>> {
        if !chunks.iter().any(|chunk| self.is_hole(chunk, false)) {
            return None;
        }
        let mut map = Map {
            chunks: Vec::new(),
            parts: Vec::new(),
        };
        let (mut at, mut in_hole) = (0, false);
        for chunk in chunks {
            in_hole = self.is_hole(chunk, in_hole);
            let length = u64::from(chunk.length);
            if !in_hole {
                map.chunks.push(chunk);
                match map.parts.last_mut() {
                    Some((from, long)) if *from + *long == at => *long += length,
                    _ => map.parts.push((at, length)),
                }
            }
            at += length;
        }
        if in_hole {
            // The file ends here.
            map.parts.push((at, 0));
        }
        Some(map)
    }

    /// Returns whether a chunk is zeros. One of another length may be the end of a hole.
    fn is_hole(&mut self, chunk: &Chunk, in_hole: bool) -> bool {
        if chunk.length != self.usual && !in_hole {
            return false;
        }
        let zeros = self.hashes.entry(chunk.length);
        let zeros = zeros.or_insert_with(|| Sha256::digest(vec![0; chunk.length as usize]).into());
        chunk.hash == *zeros
    }
}

impl Map<'_> {
    /// Returns the bytes that are no hole.
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().map(|(_, length)| length).sum()
    }

    /// Returns the map as it stands before the content: in decimal numbers, one a line.
    pub(super) fn table(&self) -> Vec<u8> {
        let mut table = format!("{}\n", self.parts.len());
        for (offset, length) in &self.parts {
            // A string takes all that is written.
            let _written = write!(table, "{offset}\n{length}\n");
        }
        let mut table = table.into_bytes();
        table.resize(table.len().next_multiple_of(BLOCK), 0);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk {
            pack: 0,
            offset: 0,
            length: u32::try_from(bytes.len()).unwrap(),
            hash: Sha256::digest(bytes).into(),
        }
    }

    #[test]
    fn many_zeros_are_a_hole() {
        let mut holes = Holes::default();
        let zeros = chunk(&vec![0; holes.usual as usize]);
        let (some, few, end) = (chunk(b"some"), chunk(&[0; 100]), u64::from(zeros.length));
        assert!(end >= 1 << 16);
        assert_eq!(holes.map_of(&[some.clone(), few.clone()]), None);
        assert_eq!(holes.map_of(&[]), None);
        let file = [
            zeros.clone(),
            some.clone(),
            few.clone(),
            zeros.clone(),
            few.clone(),
        ];
        let map = holes.map_of(&file).unwrap();
        assert_eq!(map.parts, [(end, 104), (2 * end + 204, 0)]);
        assert_eq!((map.chunks.len(), map.size()), (2, 104));
        let table = map.table();
        assert_eq!(table.len(), BLOCK);
        let text = format!("2\n{end}\n104\n{}\n0\n", 2 * end + 204);
        assert!(table.starts_with(text.as_bytes()));
        let all = holes.map_of(std::slice::from_ref(&zeros)).unwrap().parts;
        assert_eq!(all, [(end, 0)]);
    }
}
