//! ECDSA keys. ring signs with two of the curves that SSH has; `p521` does with the third.

use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{Signature, SigningKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use sec1::{EcParameters, EcPrivateKey};
use zeroize::Zeroizing;

use super::{KeyError, put_integer, put_string, strip_zeros, take_string};

/// The curves that SSH has (RFC 5656).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
            Self::P521 => "nistp521",
        }
    }

    /// Object identifier in PEM files.
    fn oid(self) -> &'static str {
        match self {
            Self::P256 => "1.2.840.10045.3.1.7",
            Self::P384 => "1.3.132.0.34",
            Self::P521 => "1.3.132.0.35",
        }
    }

    /// Bytes of a number.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// How ring signs with it, where ring can.
    fn algorithm(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Self::P256 => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::P384 => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::P521 => None,
        }
    }

    /// Returns the name of the kind of key and signature.
    fn kind(self) -> String {
        format!("ecdsa-sha2-{}", self.name())
    }
}

/// A private key and its curve.
pub(super) struct EcdsaKey {
    curve: Curve,
    signer: Signer,
}

enum Signer {
    Ring(Box<EcdsaKeyPair>),
    P521(Box<SigningKey>),
}

impl EcdsaKey {
    /// Reads what follows the name of the kind in OpenSSH's format; nothing for another kind.
    pub(super) fn from_openssh(kind: &[u8], mut data: &[u8]) -> Option<Result<Self, KeyError>> {
        let curve = Curve::ALL
            .into_iter()
            .find(|c| c.kind().as_bytes() == kind)?;
        let mut read = || {
            let _name = take_string(&mut data)?;
            let public = take_string(&mut data)?;
            Self::from_numbers(curve, take_string(&mut data)?, public)
        };
        Some(read())
    }

    /// Reads the format of `EC PRIVATE KEY`.
    pub(super) fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        let key = EcPrivateKey::try_from(der).map_err(|_| KeyError::Broken)?;
        let oid = key.parameters.and_then(EcParameters::named_curve);
        let oid = oid.ok_or(KeyError::Unsupported)?.to_string();
        let curve = Curve::ALL.into_iter().find(|curve| curve.oid() == oid);
        let public = key.public_key.ok_or(KeyError::Unsupported)?;
        Self::from_numbers(curve.ok_or(KeyError::Unsupported)?, key.private_key, public)
    }

    /// Reads PKCS#8; `None` if it is none of an ECDSA key.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        for curve in Curve::ALL {
            let signer = match curve.algorithm() {
                Some(algorithm) => EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new())
                    .ok()
                    .map(|pair| Signer::Ring(Box::new(pair))),
                None => p521::SecretKey::from_der(der)
                    .ok()
                    .map(|key| Signer::P521(Box::new(SigningKey::from(key)))),
            };
            if let Some(signer) = signer {
                return Some(Self { curve, signer });
            }
        }
        None
    }

    fn from_numbers(curve: Curve, private: &[u8], public: &[u8]) -> Result<Self, KeyError> {
        let number = strip_zeros(private);
        let padding = curve.size().checked_sub(number.len());
        let mut private = Zeroizing::new(vec![0; padding.ok_or(KeyError::Broken)?]);
        private.extend_from_slice(number);
        let signer = match curve.algorithm() {
            Some(algorithm) => EcdsaKeyPair::from_private_key_and_public_key(
                algorithm,
                &private,
                public,
                &SystemRandom::new(),
            )
            .map(|pair| Signer::Ring(Box::new(pair)))
            .map_err(|_| KeyError::Broken)?,
            None => SigningKey::from_slice(&private)
                .map(|key| Signer::P521(Box::new(key)))
                .map_err(|_| KeyError::Broken)?,
        };
        let key = Self { curve, signer };
        if key.point() == public {
            Ok(key)
        } else {
            Err(KeyError::Broken)
        }
    }

    /// Returns the public point, uncompressed.
    fn point(&self) -> Vec<u8> {
        match &self.signer {
            Signer::Ring(pair) => pair.public_key().as_ref().to_vec(),
            Signer::P521(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// Adds the public key as it is on the wire.
    pub(super) fn put_public(&self, blob: &mut Vec<u8>) {
        put_string(blob, self.curve.kind().as_bytes());
        put_string(blob, self.curve.name().as_bytes());
        put_string(blob, &self.point());
    }

    /// Signs, and adds the signature as it is on the wire.
    pub(super) fn put_signature(&self, blob: &mut Vec<u8>, data: &[u8]) -> Option<()> {
        let signature = match &self.signer {
            Signer::Ring(pair) => pair
                .sign(&SystemRandom::new(), data)
                .ok()?
                .as_ref()
                .to_vec(),
            Signer::P521(key) => {
                let signature: Signature = key.try_sign(data).ok()?;
                signature.to_bytes().to_vec()
            }
        };
        let (r, s) = signature.split_at_checked(self.curve.size())?;
        let mut numbers = Vec::new();
        put_integer(&mut numbers, r);
        put_integer(&mut numbers, s);
        put_string(blob, self.curve.kind().as_bytes());
        put_string(blob, &numbers);
        Some(())
    }
}
