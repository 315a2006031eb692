//! Keys made by ssh-keygen and openssl for these tests only.

use proptest::prelude::*;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
};

use super::*;

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("testdata/", $name))
    };
}

/// The usable keys, each with the line that ssh-keygen writes for it.
const KEYS: [(&str, &str); 9] = [
    (key!("ed25519"), key!("ed25519.pub")),
    (key!("rsab2048"), key!("rsab2048.pub")),
    (key!("pemrsa"), key!("pemrsa.pub")),
    (key!("ecdsab256"), key!("ecdsab256.pub")),
    (key!("ecdsab384"), key!("ecdsab384.pub")),
    (key!("ecdsab521"), key!("ecdsab521.pub")),
    (key!("pemec"), key!("pemec.pub")),
    (key!("pemec384"), key!("pemec384.pub")),
    (key!("pemec521"), key!("pemec521.pub")),
];

#[test]
fn public_keys_are_those_of_ssh_keygen() {
    for (private, public) in KEYS {
        let key = Key::parse(private).unwrap();
        let blob = STANDARD.decode(public.split_whitespace().nth(1).unwrap());
        assert_eq!(key.public(), blob.unwrap(), "{public}");
    }
    let pkcs8 = Key::parse(key!("pk8ec521")).unwrap();
    assert_eq!(
        pkcs8.public(),
        Key::parse(key!("pemec521")).unwrap().public()
    );
    let pkcs8 = Key::parse(key!("pk8ed")).unwrap();
    assert_eq!(pkcs8.public().len(), 4 + 11 + 4 + 32);
}

/// Splits a signature into its name and its bytes.
fn split(mut blob: &[u8]) -> (String, Vec<u8>) {
    let name = take_string(&mut blob).unwrap().to_vec();
    let signature = take_string(&mut blob).unwrap().to_vec();
    assert!(blob.is_empty());
    (String::from_utf8(name).unwrap(), signature)
}

#[test]
fn ed25519_signatures_hold() {
    for text in [key!("ed25519"), key!("pk8ed")] {
        let key = Key::parse(text).unwrap();
        let (name, signature) = split(&key.sign(b"data", 0).unwrap());
        assert_eq!(name, "ssh-ed25519");
        let public = key.public();
        let public = UnparsedPublicKey::new(&ED25519, &public[public.len() - 32..]);
        public.verify(b"data", &signature).unwrap();
    }
}

#[test]
fn rsa_signatures_hold_and_sha1_is_refused() {
    for text in [key!("rsab2048"), key!("pemrsa")] {
        let key = Key::parse(text).unwrap();
        assert_eq!(key.sign(b"data", 0), None);
        let blob = key.public();
        let mut rest = blob.as_slice();
        take_string(&mut rest).unwrap();
        let e = strip_zeros(take_string(&mut rest).unwrap());
        let n = strip_zeros(take_string(&mut rest).unwrap());
        let public = PublicKeyComponents { n, e };
        let cases = [
            (FLAG_SHA256, "rsa-sha2-256", &RSA_PKCS1_2048_8192_SHA256),
            (FLAG_SHA512, "rsa-sha2-512", &RSA_PKCS1_2048_8192_SHA512),
        ];
        for (flags, expected, algorithm) in cases {
            let (name, signature) = split(&key.sign(b"data", flags).unwrap());
            assert_eq!(name, expected);
            public.verify(algorithm, b"data", &signature).unwrap();
        }
    }
}

#[test]
fn ecdsa_signatures_hold() {
    let cases = [
        (key!("ecdsab256"), 32, &ECDSA_P256_SHA256_FIXED),
        (key!("ecdsab384"), 48, &ECDSA_P384_SHA384_FIXED),
    ];
    for (text, size, algorithm) in cases {
        let key = Key::parse(text).unwrap();
        let public = key.public();
        let public = UnparsedPublicKey::new(algorithm, &public[public.len() - 2 * size - 1..]);
        // Numbers with a leading zero or a high bit come up soon.
        for round in 0..300_u32 {
            let data = round.to_be_bytes();
            let (_, numbers) = split(&key.sign(&data, 0).unwrap());
            let mut numbers = numbers.as_slice();
            let mut fixed = Vec::new();
            for _ in 0..2 {
                let number = strip_zeros(take_string(&mut numbers).unwrap());
                fixed.resize(fixed.len() + size - number.len(), 0);
                fixed.extend_from_slice(number);
            }
            public.verify(&data, &fixed).unwrap();
        }
    }
}

#[test]
fn signatures_of_the_largest_curve_hold() {
    use p521::ecdsa::signature::Verifier as _;

    for text in [key!("ecdsab521"), key!("pemec521"), key!("pk8ec521")] {
        let key = Key::parse(text).unwrap();
        let public = key.public();
        let point = &public[public.len() - 133..];
        let public = p521::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
        for round in 0..20_u32 {
            let data = round.to_be_bytes();
            let (name, numbers) = split(&key.sign(&data, 0).unwrap());
            assert_eq!(name, "ecdsa-sha2-nistp521");
            let mut numbers = numbers.as_slice();
            let mut fixed = Vec::new();
            for _ in 0..2 {
                let number = strip_zeros(take_string(&mut numbers).unwrap());
                fixed.resize(fixed.len() + 66 - number.len(), 0);
                fixed.extend_from_slice(number);
            }
            let signature = p521::ecdsa::Signature::from_slice(&fixed).unwrap();
            public.verify(&data, &signature).unwrap();
        }
    }
}

#[test]
fn other_keys_are_refused_with_the_reason() {
    let cases = [
        (key!("enc"), KeyError::Encrypted),
        (key!("pemenc"), KeyError::Encrypted),
        (key!("pemsecp256k1"), KeyError::Unsupported),
        (key!("rsab1024"), KeyError::Unsupported),
        (key!("ed25519.pub"), KeyError::NoKey),
        ("", KeyError::NoKey),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            KeyError::Unsupported,
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\n???\n-----END",
            KeyError::Broken,
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            KeyError::NoKey,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(Key::parse(text).err(), Some(expected), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_keys_never_panic(at in 0..2000_usize, byte in any::<u8>()) {
        for (text, _) in KEYS {
            let (label, mut data) = decode_pem(text).unwrap();
            let place = at % data.len();
            data[place] = byte;
            let body = STANDARD.encode(&*data);
            let damaged = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            let _outcome = Key::parse(&damaged).map(|key| key.public());
        }
    }

    #[test]
    fn remainder_is_that_of_integers(number in any::<u128>(), divisor in 1..u64::MAX) {
        let rest = remainder(&number.to_be_bytes(), &divisor.to_be_bytes());
        let expected = number % u128::from(divisor);
        prop_assert_eq!(&rest[1..], &u64::try_from(expected).unwrap().to_be_bytes()[..]);
    }
}
