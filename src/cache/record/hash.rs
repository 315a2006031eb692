//! Hashes of values that must not be read out of a record.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// What the hashes of one build are salted with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Salt([u8; 16]);

/// A hash of a name and its value: the first 8 bytes of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hashed([u8; 8]);

impl Salt {
    /// Draws a new one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Hashes a value. The name keeps equal values of several names from being seen as equal.
    pub fn hash(&self, name: &str, value: &[u8]) -> Hashed {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(value);
        let sum: [u8; 32] = hash.finalize().into();
        let mut short = [0; 8];
        short.copy_from_slice(&sum[..8]);
        Hashed(short)
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        let bytes = bytes.try_into();
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a salt has 16 bytes"))
    }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Hashed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hashed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_salt_name_and_value() {
        let (one, other) = (Salt([1; 16]), Salt([2; 16]));
        let hash = one.hash("A", b"x");
        assert_eq!(hash, one.hash("A", b"x"));
        for different in [
            other.hash("A", b"x"),
            one.hash("B", b"x"),
            one.hash("A", b"y"),
        ] {
            assert_ne!(hash, different);
        }
        let json = serde_json::to_string(&(one, hash)).unwrap();
        assert_eq!(
            serde_json::from_str::<(Salt, Hashed)>(&json).unwrap(),
            (one, hash)
        );
        for wrong in [r#""abc""#, r#""zz""#, "7", r#""00112233445566""#] {
            assert!(serde_json::from_str::<Hashed>(wrong).is_err(), "{wrong}");
            assert!(serde_json::from_str::<Salt>(wrong).is_err(), "{wrong}");
        }
    }
}
