//! Packs compressed and stored while the stream is read.

use std::io::Write as _;
use std::mem;
use std::sync::mpsc::Receiver;

use super::{Pack, PackError};
use crate::digest::Digest;
use crate::mounts::index::PackRef;

/// Level of zstd: libzstd's default.
const LEVEL: i32 = 3;

/// What packs are made of.
pub(super) enum Piece {
    /// More of the pack that is open.
    Bytes(Vec<u8>),
    /// It is full. Without it, the stream has broken off, and what is in it is of no use.
    End,
}

/// Compresses and stores packs until no more come, and returns them.
pub(super) fn all(
    input: Receiver<Piece>,
    store: &mut (dyn FnMut(Pack) -> bool + Send),
) -> Result<Vec<PackRef>, PackError> {
    let mut packs = Vec::new();
    let mut open = Open::new()?;
    for piece in input {
        match piece {
            Piece::Bytes(bytes) => open.add(&bytes)?,
            Piece::End => {
                let plain = open.plain;
                let pack = mem::replace(&mut open, Open::new()?).end()?;
                packs.push(PackRef {
                    digest: pack.digest.clone(),
                    stored: pack.bytes.len() as u64,
                    plain,
                });
                if !store(pack) {
                    return Err(PackError::NotStored);
                }
            }
        }
    }
    Ok(packs)
}

/// A pack that is not full.
struct Open {
    encoder: zstd::Encoder<'static, Vec<u8>>,
    plain: u64,
}

impl Open {
    fn new() -> Result<Self, PackError> {
        let encoder = zstd::Encoder::new(Vec::new(), LEVEL);
        Ok(Self {
            encoder: encoder.map_err(PackError::Compress)?,
            plain: 0,
        })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.plain += bytes.len() as u64;
        self.encoder.write_all(bytes).map_err(PackError::Compress)
    }

    fn end(self) -> Result<Pack, PackError> {
        let mut bytes = self.encoder.finish().map_err(PackError::Compress)?;
        bytes.shrink_to_fit();
        Ok(Pack {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        })
    }
}
