//! Keys: ECDSA on P-256 and Ed25519, private ones as PKCS#8, public ones as `SubjectPublicKeyInfo`, both in PEM.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::digest::Digest;

/// `SubjectPublicKeyInfo` of a P-256 key up to its point (RFC 5480).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `SubjectPublicKeyInfo` of an Ed25519 key up to its point (RFC 8410).
const ED25519_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Lengths of the points: uncompressed, and of Ed25519.
const P256_POINT: usize = 65;
const ED25519_POINT: usize = 32;
/// The first byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;
/// What editors of Windows put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Characters of a line of PEM.
const LINE: usize = 64;

/// Why a key is not taken. No message has any of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// It is encrypted.
    #[error(
        "the key is encrypted, which is not supported: give a PKCS#8 key without a password, as docker cachex cache keygen writes it"
    )]
    Encrypted,
    /// It is of an older form.
    #[error(
        "the key has an old form: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW writes it as PKCS#8"
    )]
    OldForm,
    /// A public key stands in place of a private one.
    #[error("it is a public key, and a private one is needed to sign")]
    Public,
    /// A private key stands in place of a public one.
    #[error("it is a private key, and only the public one is needed to verify")]
    Private,
    /// There are several private keys.
    #[error("there are several keys in it, and one signs")]
    Several,
    /// Something else than keys stands beside them.
    #[error("there is something else than keys in it")]
    Other,
    /// It is no PEM.
    #[error("it is no key in PEM: no line begins with -----BEGIN")]
    NoPem,
    /// It is PEM, and broken.
    #[error("its PEM is broken")]
    BrokenPem,
    /// It is of another algorithm.
    #[error("it is neither a P-256 nor an Ed25519 key")]
    Algorithm,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// Ed25519.
    Ed25519,
}

/// A private key. It is never shown.
pub struct SigningKey(Pair);

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Makes a key, and returns it as PEM.
    ///
    /// # Errors
    ///
    /// Fails if the system gives no random numbers.
    pub fn generate(algorithm: Algorithm) -> Result<Zeroizing<String>, KeyError> {
        let random = SystemRandom::new();
        let made = match algorithm {
            Algorithm::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            }
            Algorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
        };
        let made = made.map_err(|_| KeyError::Random)?;
        Ok(pem("PRIVATE KEY", made.as_ref()))
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// Fails if the text is no PKCS#8 key in PEM, is encrypted, or of another algorithm.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim_start_matches(BYTE_ORDER_MARK);
        let labels = labels(text)?;
        let has = |word: &str| labels.iter().any(|label| label.contains(word));
        if has("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        match &labels[..] {
            ["PRIVATE KEY"] => {}
            ["PUBLIC KEY", ..] if !has("PRIVATE") => return Err(KeyError::Public),
            ["EC PARAMETERS", ..] => return Err(KeyError::OldForm),
            [label] if label.ends_with(" PRIVATE KEY") => return Err(KeyError::OldForm),
            [_] => return Err(KeyError::Algorithm),
            _ => return Err(KeyError::Several),
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
        let der = Zeroizing::new(der.map_err(|_| KeyError::BrokenPem)?);
        let der = der.secret_pkcs8_der();
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            return Ok(Self(Pair::P256(pair)));
        }
        // OpenSSL leaves the public part out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
        let pair = pair.map_err(|_| KeyError::Algorithm)?;
        Ok(Self(Pair::Ed25519(pair)))
    }

    /// Signs a text. With P-256 each signature is another.
    ///
    /// # Errors
    ///
    /// Fails if the system gives no random numbers.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.0 {
            Pair::P256(pair) => {
                let signed = pair.sign(&SystemRandom::new(), text);
                Ok(signed.map_err(|_| KeyError::Random)?.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(text).as_ref().to_vec()),
        }
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey {
        let (algorithm, head, point) = match &self.0 {
            Pair::P256(pair) => (
                Algorithm::P256,
                &P256_HEAD[..],
                pair.public_key().as_ref().to_vec(),
            ),
            Pair::Ed25519(pair) => (
                Algorithm::Ed25519,
                &ED25519_HEAD[..],
                pair.public_key().as_ref().to_vec(),
            ),
        };
        PublicKey {
            algorithm,
            der: [head, &point].concat(),
        }
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// Its `SubjectPublicKeyInfo`.
    der: Vec<u8>,
}

impl PublicKey {
    /// Reads the keys of a text, one or more.
    ///
    /// # Errors
    ///
    /// Fails if the text has none, or one of another kind.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, KeyError> {
        let text = text.trim_start_matches(BYTE_ORDER_MARK);
        let labels = labels(text)?;
        if labels.iter().any(|label| label.contains("PRIVATE")) {
            return Err(KeyError::Private);
        }
        if labels.iter().any(|label| *label != "PUBLIC KEY") {
            let none = !labels.contains(&"PUBLIC KEY");
            return Err(if none {
                KeyError::Algorithm
            } else {
                KeyError::Other
            });
        }
        let mut keys = Vec::new();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()) {
            let der = der.map_err(|_| KeyError::BrokenPem)?;
            keys.push(Self::of_der(der.as_ref())?);
        }
        if keys.len() != labels.len() {
            return Err(KeyError::BrokenPem);
        }
        Ok(keys)
    }

    fn of_der(der: &[u8]) -> Result<Self, KeyError> {
        let point = |head: &[u8], length: usize| {
            let point = der.strip_prefix(head);
            point.filter(|point| point.len() == length)
        };
        let algorithm = if let Some([UNCOMPRESSED, ..]) = point(&P256_HEAD, P256_POINT) {
            Algorithm::P256
        } else if point(&ED25519_HEAD, ED25519_POINT).is_some() {
            Algorithm::Ed25519
        } else {
            return Err(KeyError::Algorithm);
        };
        Ok(Self {
            algorithm,
            der: der.to_vec(),
        })
    }

    /// Returns whether a signature of a text was made with the private key of this one.
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        let (algorithm, head): (&dyn VerificationAlgorithm, &[u8]) = match self.algorithm {
            Algorithm::P256 => (&ECDSA_P256_SHA256_ASN1, &P256_HEAD),
            Algorithm::Ed25519 => (&ED25519, &ED25519_HEAD),
        };
        let point = self.der.strip_prefix(head).unwrap_or_default();
        let key = UnparsedPublicKey::new(algorithm, point);
        key.verify(text, signature).is_ok()
    }

    /// Returns the key as PEM.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.der).to_string()
    }

    /// Returns the SHA-256 of its `SubjectPublicKeyInfo` in hexadecimal, as `openssl pkey -pubin -outform DER` and
    /// `sha256sum` give it.
    pub fn fingerprint(&self) -> String {
        Digest::of(&self.der).hex().to_owned()
    }

    /// Returns the beginning of the fingerprint, for people.
    pub fn short(&self) -> String {
        self.fingerprint().chars().take(12).collect()
    }
}

/// Returns what the sections of a PEM text are called; there is one at least.
fn labels(text: &str) -> Result<Vec<&str>, KeyError> {
    let lines = text.lines().map(str::trim);
    let labels = lines.filter_map(|line| line.strip_prefix("-----BEGIN "));
    let labels = labels.map(|label| label.strip_suffix("-----").ok_or(KeyError::BrokenPem));
    let labels: Vec<&str> = labels.collect::<Result<_, _>>()?;
    if labels.is_empty() {
        return Err(KeyError::NoPem);
    }
    Ok(labels)
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let lines = body.len() / LINE + 3;
    // A text that grows leaves its old self behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(
        body.len() + lines + 2 * (label.len() + LINE),
    ));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8032, section 7.1, test 1, in the form of OpenSSL.
    const OPENSSL_ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn keys_sign_and_are_read_back() {
        for algorithm in [Algorithm::P256, Algorithm::Ed25519] {
            let pem = SigningKey::generate(algorithm).unwrap();
            let key = SigningKey::parse(&pem).unwrap();
            let public = PublicKey::parse_all(&key.public().to_pem()).unwrap();
            assert_eq!(public, [key.public()]);
            let signature = key.sign(b"text").unwrap();
            assert!(public[0].verifies(b"text", &signature));
            assert!(!public[0].verifies(b"texT", &signature));
            assert!(!public[0].verifies(b"text", &signature[1..]));
            let other = SigningKey::parse(&SigningKey::generate(algorithm).unwrap()).unwrap();
            assert!(!other.public().verifies(b"text", &signature));
            assert!(!format!("{key:?}").contains(&pem[28..40]));
        }
    }

    #[test]
    fn the_keys_of_openssl_are_read() {
        let key = SigningKey::parse(OPENSSL_ED25519).unwrap();
        let public = key.public().to_pem();
        assert!(public.contains("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="));
    }

    #[test]
    fn the_ends_of_lines_do_not_count() {
        let pem = SigningKey::generate(Algorithm::P256).unwrap();
        let key = SigningKey::parse(&pem.replace('\n', "\r\n")).unwrap();
        let public = key.public().to_pem();
        for text in [
            public.replace('\n', "\r\n"),
            format!("\n  \n{public}\n"),
            public.trim_end().to_owned(),
            format!("Comment: of openssl\n{public}"),
        ] {
            assert_eq!(PublicKey::parse_all(&text).unwrap(), [key.public()]);
        }
    }

    #[test]
    fn several_public_keys_may_stand_in_one_text() {
        let key = || SigningKey::parse(&SigningKey::generate(Algorithm::P256).unwrap()).unwrap();
        let (one, other) = (key().public(), key().public());
        let text = format!("{}{}", one.to_pem(), other.to_pem());
        assert_eq!(PublicKey::parse_all(&text).unwrap(), [one, other]);
    }

    #[test]
    fn what_is_no_key_is_refused_in_words_that_show_none() {
        let section = |label: &str| {
            format!("-----BEGIN {label}-----\nc2VjcmV0c2VjcmV0\n-----END {label}-----\n")
        };
        for (label, expected) in [
            ("ENCRYPTED PRIVATE KEY", KeyError::Encrypted),
            ("ENCRYPTED SIGSTORE PRIVATE KEY", KeyError::Encrypted),
            ("EC PRIVATE KEY", KeyError::OldForm),
            ("PUBLIC KEY", KeyError::Public),
            ("PRIVATE KEY", KeyError::Algorithm),
            ("CERTIFICATE", KeyError::Algorithm),
        ] {
            let error = SigningKey::parse(&section(label)).unwrap_err();
            assert_eq!(error, expected, "{label}");
            assert!(!error.to_string().contains("c2VjcmV0"));
        }
        assert_eq!(SigningKey::parse("x").unwrap_err(), KeyError::NoPem);
        let two = [section("PRIVATE KEY"), section("PRIVATE KEY")].concat();
        assert_eq!(SigningKey::parse(&two).unwrap_err(), KeyError::Several);
        let both = [section("PUBLIC KEY"), section("PRIVATE KEY")].concat();
        assert_eq!(SigningKey::parse(&both).unwrap_err(), KeyError::Several);
        // A private key must not be committed with public ones.
        let both = PublicKey::parse_all(&both);
        assert_eq!(both.unwrap_err(), KeyError::Private);
        let other = [section("PUBLIC KEY"), section("CERTIFICATE")].concat();
        let other = PublicKey::parse_all(&other);
        assert_eq!(other.unwrap_err(), KeyError::Other);
        let public = PublicKey::parse_all(&section("PRIVATE KEY"));
        assert_eq!(public.unwrap_err(), KeyError::Private);
        let public = PublicKey::parse_all(&section("PUBLIC KEY"));
        assert_eq!(public.unwrap_err(), KeyError::Algorithm);
    }
}
