//! Opens the end of a finished deflate stream, so that another can follow it.
//!
//! libdeflate makes whole streams only: the last block carries the final bit, and what follows it
//! up to the byte is padding. To join many of them into one stream the final bit must be cleared
//! and the stream brought to a byte boundary; both places are found only by walking through the
//! codes of all blocks (RFC 1951). Nothing is decompressed: codes are measured and skipped, which
//! takes about a fifth of the time of the compression at level 6.

use super::Error;

/// Symbols of the literal and length alphabet; the end of a block is number 256.
const MAX_LITERALS: usize = 288;
/// Symbols of the distance alphabet.
const MAX_DISTANCES: usize = 32;
const END_OF_BLOCK: u16 = 256;
/// The longest code, in bits.
const MAX_BITS: usize = 15;
/// Codes up to this length are looked up in one step.
const FAST_BITS: u32 = 11;
/// The order in which the lengths of the code length code are written.
const LENGTH_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
/// An empty stored block behind its three bits of header.
const EMPTY_STORED: [u8; 4] = [0, 0, 0xff, 0xff];

/// Turns a whole deflate stream into the beginning of one: the last block is no longer final, and
/// an empty stored block brings the end to a byte boundary.
///
/// # Errors
/// [`Error::Deflate`] if `stream` is not exactly one deflate stream; it is unchanged then.
pub(super) fn open_end(stream: &mut Vec<u8>) -> Result<(), Error> {
    let (last_block, end) = Walk::new(stream).ends()?;
    let used = end.div_ceil(8);
    if used != stream.len() {
        return Err(Error::Deflate);
    }
    if let Some(byte) = stream.get_mut(last_block / 8) {
        *byte &= !(1 << (last_block % 8));
    }
    if end % 8 != 0
        && let Some(byte) = stream.last_mut()
    {
        *byte &= (1 << (end % 8)) - 1;
    }
    // The padding is zero, and so are the three bits of a stored block that is not final.
    if end % 8 == 0 || end % 8 > 5 {
        stream.push(0);
    }
    stream.extend_from_slice(&EMPTY_STORED);
    Ok(())
}

/// A walk over the bits of a deflate stream.
struct Walk<'a> {
    bytes: &'a [u8],
    /// The next byte to take into `bits`.
    next: usize,
    /// Bits taken and not used yet, the first of them lowest.
    bits: u64,
    count: u32,
}

/// A Huffman code: fast table, and the canonical form for what is longer.
struct Code {
    /// Index: the next [`FAST_BITS`] bits. Entry: symbol × 16 + length; 0 for a longer code.
    fast: [u16; 1 << FAST_BITS],
    counts: [u16; MAX_BITS + 1],
    symbols: Vec<u16>,
}

/// Codes that are skipped in one step: any literals, and what ends them.
#[derive(Debug, Clone, Copy)]
struct Run {
    bits: u8,
    end: End,
}

/// How a [`Run`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a literal; the next code does not fit into the index.
    Literal,
    /// With a length and its extra bits: a distance follows.
    Length,
    /// With the block.
    Block,
    /// Not even the first code fits into the index.
    Slow,
}

/// What can be skipped, by the next [`FAST_BITS`] bits.
type Runs = [Run; 1 << FAST_BITS];

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            bits: 0,
            count: 0,
        }
    }

    /// Returns where the header of the final block is, and where the stream ends, both in bits.
    fn ends(mut self) -> Result<(usize, usize), Error> {
        loop {
            let start = self.position();
            let last = self.take(1)? == 1;
            match self.take(2)? {
                0 => self.skip_stored()?,
                1 => self.skip_compressed(&Code::fixed_literals()?, &Code::fixed_distances()?)?,
                2 => {
                    let (literals, distances) = self.read_codes()?;
                    self.skip_compressed(&literals, &distances)?;
                }
                _ => return Err(Error::Deflate),
            }
            if last {
                return Ok((start, self.position()));
            }
        }
    }

    fn position(&self) -> usize {
        self.next * 8 - self.count as usize
    }

    /// Takes bytes until at least 48 bits are there, or all that are left.
    fn fill(&mut self) {
        if let Some(word) = self
            .bytes
            .get(self.next..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            self.bits |= u64::from_le_bytes(*word) << self.count;
            let taken = (63 - self.count) / 8;
            self.next += taken as usize;
            self.count += taken * 8;
            // What was shifted in beyond `count` is taken again by the next call, with the same bits.
            self.bits &= (1 << self.count) - 1;
            return;
        }
        while self.count <= 55
            && let Some(byte) = self.bytes.get(self.next)
        {
            self.bits |= u64::from(*byte) << self.count;
            self.next += 1;
            self.count += 8;
        }
    }

    fn drop_bits(&mut self, count: u32) -> Result<(), Error> {
        self.count = self.count.checked_sub(count).ok_or(Error::Deflate)?;
        self.bits >>= count;
        Ok(())
    }

    /// Reads up to 16 bits.
    fn take(&mut self, count: u32) -> Result<usize, Error> {
        if self.count < count {
            self.fill();
        }
        let value = self.bits & ((1 << count) - 1);
        self.drop_bits(count)?;
        Ok(usize::try_from(value).unwrap_or(0))
    }

    fn skip_stored(&mut self) -> Result<(), Error> {
        self.drop_bits(self.count % 8)?;
        let length = self.take(16)?;
        let check = self.take(16)?;
        let start = self.position() / 8;
        if length ^ check != 0xffff || start + length > self.bytes.len() {
            return Err(Error::Deflate);
        }
        self.next = start + length;
        self.bits = 0;
        self.count = 0;
        Ok(())
    }

    fn skip_compressed(&mut self, literals: &Code, distances: &Code) -> Result<(), Error> {
        let runs = literals.runs();
        loop {
            // The most that a turn takes: 15 + 5 bits of a length, 15 + 13 of a distance.
            if self.count < 48 {
                self.fill();
            }
            let mut run = runs[self.peek()];
            if run.end == End::Slow {
                run = Run::of(self.symbol(literals)?)?;
            }
            self.drop_bits(u32::from(run.bits))?;
            match run.end {
                End::Block => return Ok(()),
                End::Length => {
                    let distance = self.symbol(distances)?;
                    self.drop_bits(distance_extra_bits(distance)?)?;
                }
                End::Literal | End::Slow => {}
            }
        }
    }

    /// The next bits as an index into a fast table.
    fn peek(&self) -> usize {
        usize::try_from(self.bits & ((1 << FAST_BITS) - 1)).unwrap_or(0)
    }

    /// Reads a symbol; the bits of the longest code must be there already, unless the data ends.
    fn symbol(&mut self, code: &Code) -> Result<u16, Error> {
        let entry = code.fast[self.peek()];
        if entry != 0 {
            self.drop_bits(u32::from(entry & 15))?;
            return Ok(entry >> 4);
        }
        let (symbol, length) = code.slow(self.bits).ok_or(Error::Deflate)?;
        self.drop_bits(length)?;
        Ok(symbol)
    }

    /// Reads the two codes at the head of a block with codes of its own.
    fn read_codes(&mut self) -> Result<(Code, Code), Error> {
        let literals = self.take(5)? + 257;
        let distances = self.take(5)? + 1;
        let written = self.take(4)? + 4;
        let mut lengths = [0u8; LENGTH_ORDER.len()];
        for place in LENGTH_ORDER.iter().take(written) {
            let length = self.take(3)?;
            if let Some(slot) = lengths.get_mut(*place) {
                *slot = u8::try_from(length).unwrap_or(0);
            }
        }
        let lengths = self.read_lengths(&Code::new(&lengths)?, literals + distances)?;
        let (literals, distances) = lengths.split_at_checked(literals).ok_or(Error::Deflate)?;
        Ok((Code::new(literals)?, Code::new(distances)?))
    }

    fn read_lengths(&mut self, code: &Code, total: usize) -> Result<Vec<u8>, Error> {
        let mut lengths = Vec::with_capacity(MAX_LITERALS + MAX_DISTANCES);
        while lengths.len() < total {
            self.fill();
            let symbol = self.symbol(code)?;
            let (value, times) = match symbol {
                0..=15 => (u8::try_from(symbol).unwrap_or(0), 1),
                16 => {
                    let before = *lengths.last().ok_or(Error::Deflate)?;
                    (before, 3 + self.take(2)?)
                }
                17 => (0, 3 + self.take(3)?),
                _ => (0, 11 + self.take(7)?),
            };
            lengths.resize(lengths.len() + times, value);
        }
        if lengths.len() == total {
            Ok(lengths)
        } else {
            Err(Error::Deflate)
        }
    }
}

impl Code {
    /// Creates the canonical code of some code lengths; 0 is a symbol that does not occur.
    fn new(lengths: &[u8]) -> Result<Self, Error> {
        let mut counts = [0u16; MAX_BITS + 1];
        for length in lengths {
            *counts.get_mut(usize::from(*length)).ok_or(Error::Deflate)? += 1;
        }
        counts[0] = 0;
        let mut next_code = [0u32; MAX_BITS + 1];
        let mut offsets = [0u16; MAX_BITS + 1];
        for bits in 1..=MAX_BITS {
            next_code[bits] = (next_code[bits - 1] + u32::from(counts[bits - 1])) << 1;
            offsets[bits] = offsets[bits - 1] + counts[bits - 1];
            if next_code[bits] + u32::from(counts[bits]) > 1 << bits {
                return Err(Error::Deflate);
            }
        }
        let mut symbols = vec![0u16; usize::from(counts.iter().sum::<u16>())];
        let mut fast = [0u16; 1 << FAST_BITS];
        for (symbol, length) in (0u16..).zip(lengths).filter(|(_, length)| **length > 0) {
            let bits = usize::from(*length);
            symbols[usize::from(offsets[bits])] = symbol;
            offsets[bits] += 1;
            let code = next_code[bits];
            next_code[bits] += 1;
            if u32::from(*length) <= FAST_BITS {
                // Codes are written with their highest bit first.
                let reversed = (code.reverse_bits() >> (32 - u32::from(*length))) as usize;
                let entry = symbol << 4 | u16::from(*length);
                fast.iter_mut()
                    .skip(reversed)
                    .step_by(1 << length)
                    .for_each(|slot| *slot = entry);
            }
        }
        Ok(Self {
            fast,
            counts,
            symbols,
        })
    }

    /// Creates the table of what can be skipped.
    fn runs(&self) -> Runs {
        let slow = Run {
            bits: 0,
            end: End::Slow,
        };
        let mut runs = [slow; 1 << FAST_BITS];
        for (index, run) in runs.iter_mut().enumerate() {
            while matches!(run.end, End::Slow | End::Literal) {
                let entry = self.fast[index >> run.bits];
                let length = entry.to_le_bytes()[0] & 15;
                // Bits beyond the index are not known: a code that needs them is left for later.
                if entry == 0 || u32::from(run.bits + length) > FAST_BITS {
                    break;
                }
                // The two symbols that have codes but no meaning are an error only where they occur.
                let Ok(next) = Run::of(entry >> 4) else {
                    break;
                };
                run.bits += length + next.bits;
                run.end = next.end;
            }
        }
        runs
    }

    /// Finds a code of any length bit by bit; returns the symbol and the length.
    fn slow(&self, mut bits: u64) -> Option<(u16, u32)> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for (length, count) in (0u32..).zip(self.counts).skip(1) {
            code |= u32::from(bits & 1 == 1);
            bits >>= 1;
            let count = u32::from(count);
            if code < first + count {
                let symbol = self.symbols.get((index + code - first) as usize)?;
                return Some((*symbol, length));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    fn fixed_literals() -> Result<Self, Error> {
        let mut lengths = [8u8; MAX_LITERALS];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        Self::new(&lengths)
    }

    fn fixed_distances() -> Result<Self, Error> {
        Self::new(&[5u8; MAX_DISTANCES])
    }
}

impl Run {
    /// What follows the code of one symbol: the extra bits of a length (symbols 257 to 285).
    fn of(symbol: u16) -> Result<Self, Error> {
        let (bits, end) = match symbol {
            0..END_OF_BLOCK => (0, End::Literal),
            END_OF_BLOCK => (0, End::Block),
            257..=264 | 285 => (0, End::Length),
            265..=284 => ((symbol - 261).to_le_bytes()[0] / 4, End::Length),
            _ => return Err(Error::Deflate),
        };
        Ok(Self { bits, end })
    }
}

/// How many bits follow the code of a distance (symbols 0 to 29).
fn distance_extra_bits(symbol: u16) -> Result<u32, Error> {
    match symbol {
        0..=3 => Ok(0),
        4..=29 => Ok(u32::from(symbol - 2) / 2),
        _ => Err(Error::Deflate),
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
    use proptest::prelude::*;

    use super::*;

    fn inflate(stream: &[u8]) -> (Vec<u8>, Status) {
        let mut content = Vec::with_capacity(1 << 20);
        let status = Decompress::new(false)
            .decompress_vec(stream, &mut content, FlushDecompress::Finish)
            .unwrap();
        (content, status)
    }

    /// The stream is open, and goes on with the final block behind it.
    fn assert_opens(mut stream: Vec<u8>, content: &[u8]) {
        open_end(&mut stream).unwrap();
        assert!(!matches!(inflate(&stream).1, Status::StreamEnd));
        stream.extend_from_slice(&[3, 0]);
        let (found, status) = inflate(&stream);
        assert_eq!(status, Status::StreamEnd);
        assert!(found == content);
    }

    #[test]
    fn blocks_of_every_kind() {
        // Fixed codes at each place of the end in a byte; stored; with codes of their own.
        for length in 0..40u8 {
            let data: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            for level in [0, 1, 6, 9] {
                let mut compress = Compress::new(Compression::new(level), false);
                let mut stream = Vec::with_capacity(1000);
                compress
                    .compress_vec(&data, &mut stream, FlushCompress::Finish)
                    .unwrap();
                assert_opens(stream, &data);
            }
        }
    }

    #[test]
    fn what_is_no_stream_is_refused_and_left_alone() {
        let mut compressor = libdeflater::Compressor::default();
        let data: Vec<u8> = (0..50_000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let mut stream = vec![0; compressor.deflate_compress_bound(data.len())];
        let size = compressor.deflate_compress(&data, &mut stream).unwrap();
        stream.truncate(size);
        for end in [0, 1, size / 2, size - 1] {
            let mut cut = stream[..end].to_vec();
            assert!(open_end(&mut cut).is_err(), "{end}");
            assert!(cut == stream[..end]);
        }
        let mut longer = stream.clone();
        longer.push(0);
        assert!(open_end(&mut longer).is_err());
        assert!(open_end(&mut vec![7, 0]).is_err(), "block of type 3");
    }

    proptest! {
        #[test]
        fn any_stream_of_libdeflate(
            pieces in proptest::collection::vec((any::<u8>(), 1usize..3000, 0u8..4), 0..40),
            level in 0i32..=9,
        ) {
            let mut seed = 1u32;
            let data: Vec<u8> = pieces.iter().flat_map(|(byte, times, kind)| {
                (0..*times).map(|n| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match kind {
                        0 => *byte,
                        1 => (seed >> 24) as u8,
                        2 => byte.wrapping_add((seed >> 30) as u8),
                        _ => byte.wrapping_add((n & 7).to_le_bytes()[0]),
                    }
                }).collect::<Vec<_>>()
            }).collect();
            let level = libdeflater::CompressionLvl::new(level).unwrap();
            let mut compressor = libdeflater::Compressor::new(level);
            let mut stream = vec![0; compressor.deflate_compress_bound(data.len())];
            let size = compressor.deflate_compress(&data, &mut stream).unwrap();
            stream.truncate(size);
            assert_opens(stream, &data);
        }

        #[test]
        fn garbage_never_panics(mut garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _refused = open_end(&mut garbage);
        }
    }
}
