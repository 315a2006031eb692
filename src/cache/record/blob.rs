//! The record as a blob. It looks like a layer: there are registries that refuse types which they do not
//! know. It is a tar with one file.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use thiserror::Error;

use super::{Record, VERSION};
use crate::digest::Digest;

/// The largest blob that is written or read, in bytes.
pub const MAX_BYTES: usize = 2 << 20;
/// The most that is unpacked of a blob, in bytes.
const MAX_UNPACKED: u64 = 24 << 20;
/// The file in the tar.
const FILE: &str = ".docker-cachex/record.json";

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The blob.
    pub bytes: Bytes,
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the tar in it.
    pub diff_id: Digest,
}

/// Why a record cannot be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It is larger than is read.
    #[error("the record is larger than the {MAX_BYTES} bytes that are read")]
    TooLarge,
    /// It is no archive with a record.
    #[error("the record is no archive with the file {FILE}")]
    Archive(#[from] std::io::Error),
    /// The file is no record.
    #[error("the record is no valid JSON of its format")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("the record is of version {0}, which this program does not know")]
    Version(u32),
}

impl Record {
    /// Writes the record. Where it is larger than [`MAX_BYTES`], lists of files are left out, the largest
    /// first, and then the oldest builds.
    ///
    /// # Errors
    ///
    /// Fails only if memory cannot be written to.
    pub fn to_blob(&self) -> Result<Blob, RecordError> {
        let mut blob = self.pack()?;
        if blob.bytes.len() <= MAX_BYTES {
            return Ok(blob);
        }
        let mut smaller = self.clone();
        while blob.bytes.len() > MAX_BYTES {
            let sets = smaller.sets.iter_mut();
            let largest = sets.max_by_key(|set| set.files.len());
            match largest.filter(|set| !set.files.is_empty()) {
                Some(set) => {
                    set.files.clear();
                    set.folders = None;
                    set.truncated = true;
                }
                None if smaller.builds.len() > 1 => drop(smaller.builds.pop()),
                None => return Err(RecordError::TooLarge),
            }
            blob = smaller.pack()?;
        }
        Ok(blob)
    }

    fn pack(&self) -> Result<Blob, RecordError> {
        let json = serde_json::to_vec(self)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(json.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, FILE, json.as_slice())?;
        let archive = archive.into_inner()?;
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(&archive)?;
        let bytes = Bytes::from(packer.finish()?);
        Ok(Blob {
            digest: Digest::of(&bytes),
            diff_id: Digest::of(&archive),
            bytes,
        })
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// Fails if it is too large, no record, or of another version.
    pub fn from_blob(blob: &[u8]) -> Result<Self, RecordError> {
        if blob.len() > MAX_BYTES {
            return Err(RecordError::TooLarge);
        }
        let unpacked = MultiGzDecoder::new(blob).take(MAX_UNPACKED);
        let mut archive = tar::Archive::new(unpacked);
        let entry = archive.entries()?.next();
        let mut entry = entry.ok_or_else(not_there)??;
        if entry.path_bytes().as_ref() != FILE.as_bytes() {
            return Err(not_there().into());
        }
        let mut json = Vec::new();
        entry.read_to_end(&mut json)?;
        Self::from_json(&json)
    }

    fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        /// What every version has.
        #[derive(serde::Deserialize)]
        struct Version {
            v: u32,
        }
        let version: Version = serde_json::from_slice(json)?;
        if version.v != VERSION {
            return Err(RecordError::Version(version.v));
        }
        let mut record: Self = serde_json::from_slice(json)?;
        record.builds.truncate(super::MAX_BUILDS);
        Ok(record)
    }
}

fn not_there() -> std::io::Error {
    std::io::Error::other("the file is not there")
}
