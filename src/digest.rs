//! Content digests as OCI writes them, `algorithm:hex`: parse, compute while streaming.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A text is not a digest that can be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {0:?}: expected sha256 or sha512 in lower-case hexadecimal")]
pub struct DigestError(String);

/// The digest of a blob, a manifest or a layer's content (diff ID), checked: known algorithm, right
/// length, lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Returns the SHA-256 digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Creates a digest of a finished SHA-256 computation.
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// Returns the digest as it is written, algorithm first.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part before the colon.
    pub fn algorithm(&self) -> &str {
        self.0
            .split_once(':')
            .map_or("", |(algorithm, _)| algorithm)
    }

    /// Returns the part behind the colon.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// Returns a hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        if self.algorithm() == "sha512" {
            Hasher::Sha512(Box::default())
        } else {
            Hasher::sha256()
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        // What is not a digest may be anything, of any length.
        let error = || DigestError(text.chars().take(160).collect());
        let hex = match text.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 => hex,
            Some(("sha512", hex)) if hex.len() == 128 => hex,
            _ => return Err(error()),
        };
        if hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(error())
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Computes a digest piece by piece.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// For `sha256:` digests.
    Sha256(Box<sha2::Sha256>),
    /// For `sha512:` digests.
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// Starts a sha256 digest.
    pub fn sha256() -> Self {
        Self::Sha256(Box::default())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::from_sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest(format!("sha512:{}", hex::encode(hasher.finalize()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_content_has_the_well_known_digest() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), text);
        let parsed: Digest = text.parse().unwrap();
        assert_eq!(parsed.hasher().finish(), parsed);
        assert_eq!(parsed.algorithm(), "sha256");
        assert_eq!(parsed.hex().len(), 64);
    }

    #[test]
    fn a_sha512_digest_is_verified_as_such() {
        let parsed: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert!(
            parsed
                .hasher()
                .finish()
                .as_str()
                .starts_with("sha512:cf83e1")
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "sha256",
            "sha256:abc",
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha256:{}/", "a".repeat(63)),
            &format!("md5:{}", "a".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
