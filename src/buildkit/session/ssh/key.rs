//! Private keys from files: OpenSSH's own format and PEM, unencrypted; and signatures by them.
//!
//! Sources: OpenSSH `PROTOCOL.key`, RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf as _;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512};
use zeroize::Zeroizing;

use self::ecdsa::EcdsaKey;
use super::wire::put_string;

mod ecdsa;

const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Flag of a sign request: RSA with SHA-256.
const FLAG_SHA256: u32 = 2;
/// Flag of a sign request: RSA with SHA-512.
const FLAG_SHA512: u32 = 4;

/// Why a file is not a usable key.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// The file holds no private key.
    #[error("it holds no private key")]
    NoKey,
    /// The key is protected.
    #[error(
        "the key needs a passphrase; add it to an agent with ssh-add and pass the agent instead"
    )]
    Encrypted,
    /// A kind or format that is not supported.
    #[error(
        "the key is of a kind that is not supported; add it to an agent with ssh-add and pass the \
         agent instead"
    )]
    Unsupported,
    /// The contents do not fit together.
    #[error("the key is damaged")]
    Broken,
}

/// A private key, ready to sign.
pub(super) struct Key {
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKey),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// Reads the contents of a key file.
    pub(super) fn parse(text: &str) -> Result<Self, KeyError> {
        let (label, data) = decode_pem(text)?;
        let pair = match label {
            "OPENSSH PRIVATE KEY" => parse_openssh(&data)?,
            "RSA PRIVATE KEY" => rsa(RsaKeyPair::from_der(&data))?,
            "EC PRIVATE KEY" => Pair::Ecdsa(EcdsaKey::from_sec1(&data)?),
            "PRIVATE KEY" => parse_pkcs8(&data)?,
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            label if label.ends_with("PRIVATE KEY") => return Err(KeyError::Unsupported),
            _ => return Err(KeyError::NoKey),
        };
        Ok(Self { pair })
    }

    /// Returns the public key as it is on the wire.
    pub(super) fn public(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                put_string(&mut blob, b"ssh-ed25519");
                put_string(&mut blob, pair.public_key().as_ref());
            }
            Pair::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                put_string(&mut blob, b"ssh-rsa");
                put_integer(&mut blob, &public.e);
                put_integer(&mut blob, &public.n);
            }
            Pair::Ecdsa(key) => key.put_public(&mut blob),
        }
        blob
    }

    /// Signs, and returns the signature as it is on the wire. RSA with SHA-1, which is what no flag
    /// asks for, is refused: servers of today do not take it.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut blob = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                put_string(&mut blob, b"ssh-ed25519");
                put_string(&mut blob, pair.sign(data).as_ref());
            }
            Pair::Rsa(pair) => {
                let (name, padding): (&[u8], &dyn ring::signature::RsaEncoding) =
                    if flags & FLAG_SHA512 != 0 {
                        (b"rsa-sha2-512", &RSA_PKCS1_SHA512)
                    } else if flags & FLAG_SHA256 != 0 {
                        (b"rsa-sha2-256", &RSA_PKCS1_SHA256)
                    } else {
                        return None;
                    };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut signature)
                    .ok()?;
                put_string(&mut blob, name);
                put_string(&mut blob, &signature);
            }
            Pair::Ecdsa(key) => key.put_signature(&mut blob, data)?,
        }
        Some(blob)
    }
}

/// Returns the label and the bytes of the first PEM block.
fn decode_pem(text: &str) -> Result<(&str, Zeroizing<Vec<u8>>), KeyError> {
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(KeyError::NoKey)?;
    let (label, rest) = rest.split_once("-----").ok_or(KeyError::NoKey)?;
    let (body, _) = rest.split_once("-----END ").ok_or(KeyError::Broken)?;
    if body.contains("ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let data = STANDARD
        .decode(body.as_bytes())
        .map_err(|_| KeyError::Broken)?;
    Ok((label, Zeroizing::new(data)))
}

fn parse_pkcs8(data: &[u8]) -> Result<Pair, KeyError> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(data) {
        return Ok(Pair::Ed25519(pair));
    }
    if let Some(key) = EcdsaKey::from_pkcs8(data) {
        return Ok(Pair::Ecdsa(key));
    }
    rsa(RsaKeyPair::from_pkcs8(data)).map_err(|_| KeyError::Unsupported)
}

fn rsa(pair: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Pair, KeyError> {
    pair.map(|pair| Pair::Rsa(Box::new(pair)))
        .map_err(|error| match error.to_string().as_str() {
            // Under 2048 or over 4096 bits.
            "TooSmall" | "TooLarge" | "PrivateModulusLenNotMultipleOf512Bits" => {
                KeyError::Unsupported
            }
            _ => KeyError::Broken,
        })
}

fn parse_openssh(data: &[u8]) -> Result<Pair, KeyError> {
    let mut data = data.strip_prefix(MAGIC).ok_or(KeyError::Broken)?;
    let cipher = take_string(&mut data)?;
    let _kdf = take_string(&mut data)?;
    let _kdf_options = take_string(&mut data)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    if data.try_get_u32() != Ok(1) {
        return Err(KeyError::Broken);
    }
    let _public = take_string(&mut data)?;
    let mut private = take_string(&mut data)?;
    let checks = (private.try_get_u32(), private.try_get_u32());
    if !matches!(checks, (Ok(one), Ok(two)) if one == two) {
        return Err(KeyError::Broken);
    }
    match take_string(&mut private)? {
        b"ssh-ed25519" => {
            let public = take_string(&mut private)?;
            let seed = take_string(&mut private)?
                .get(..32)
                .ok_or(KeyError::Broken)?;
            Ed25519KeyPair::from_seed_and_public_key(seed, public)
                .map(Pair::Ed25519)
                .map_err(|_| KeyError::Broken)
        }
        b"ssh-rsa" => parse_rsa(private),
        kind => match EcdsaKey::from_openssh(kind, private) {
            Some(key) => key.map(Pair::Ecdsa),
            None => Err(KeyError::Unsupported),
        },
    }
}

#[expect(
    clippy::many_single_char_names,
    reason = "the names that RSA has everywhere"
)]
fn parse_rsa(mut data: &[u8]) -> Result<Pair, KeyError> {
    let mut number = || take_string(&mut data).map(strip_zeros);
    let (n, e, d) = (number()?, number()?, number()?);
    let (q_inv, p, q) = (number()?, number()?, number()?);
    let (d_p, d_q) = (remainder(d, &minus_one(p)?), remainder(d, &minus_one(q)?));
    rsa(RsaKeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: strip_zeros(&d_p),
        dQ: strip_zeros(&d_q),
        qInv: q_inv,
    }))
}

/// Takes a length and that many bytes.
fn take_string<'a>(data: &mut &'a [u8]) -> Result<&'a [u8], KeyError> {
    super::wire::take_string(data).ok_or(KeyError::Broken)
}

/// Puts an unsigned number in the form that has room for a sign.
fn put_integer(out: &mut Vec<u8>, number: &[u8]) {
    let number = strip_zeros(number);
    if number.first().is_some_and(|first| first & 0x80 != 0) {
        put_string(out, &[&[0], number].concat());
    } else {
        put_string(out, number);
    }
}

fn strip_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

/// Subtracts one from an odd number, which the primes of a key are.
fn minus_one(number: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut number = Zeroizing::new(number.to_vec());
    match number.last_mut() {
        Some(last) if *last & 1 == 1 => *last -= 1,
        _ => return Err(KeyError::Broken),
    }
    if strip_zeros(&number).is_empty() {
        return Err(KeyError::Broken);
    }
    Ok(number)
}

/// Divides big-endian numbers bit by bit; `divisor` is not zero. The format leaves out what this
/// computes, and a key is read once.
fn remainder(number: &[u8], divisor: &[u8]) -> Zeroizing<Vec<u8>> {
    // One byte longer than the divisor, so that doubling has room.
    let divisor: Zeroizing<Vec<u8>> = Zeroizing::new([&[0], divisor].concat());
    let mut rest = Zeroizing::new(vec![0_u8; divisor.len()]);
    for bit in number
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            let next = *byte >> 7;
            *byte = *byte << 1 | carry;
            carry = next;
        }
        if *rest >= *divisor {
            let mut borrow = false;
            for (byte, &other) in rest.iter_mut().zip(divisor.iter()).rev() {
                let (difference, first) = byte.overflowing_sub(other);
                let (difference, second) = difference.overflowing_sub(u8::from(borrow));
                *byte = difference;
                borrow = first || second;
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests;
