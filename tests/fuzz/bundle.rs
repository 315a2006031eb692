//! Signatures as a registry may send them: no text panics, is taken for a signature of a key that nobody has, or is two
//! manifests at once.

#![no_main]

use std::sync::LazyLock;

use docker_cachex::for_tests::cache::sign::bundle::Opened;
use docker_cachex::for_tests::cache::sign::embedded::{bare, embed, take_apart};
use docker_cachex::for_tests::cache::sign::key::{Algorithm, PublicKey, SigningKey};
use docker_cachex::for_tests::digest::Digest;

/// Keys whose private halves are gone.
static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let algorithms = [Algorithm::P256, Algorithm::Ed25519];
    let key = |algorithm| {
        let pem = SigningKey::generate(algorithm).expect("a key");
        SigningKey::parse(&pem).expect("a key").public()
    };
    algorithms.map(key).into()
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        look_at(text);
    }
    if let Ok(Some(parts)) = take_apart(data) {
        assert_eq!(bare(data).expect("a manifest"), parts.bare);
        let again = embed(&parts.bare, &parts.bundle).expect("a manifest");
        assert_eq!(take_apart(&again).expect("a manifest"), Some(parts));
        let Ok(Some(parts)) = take_apart(data) else {
            unreachable!("it was taken apart before");
        };
        look_at(&parts.bundle);
    }
});

fn look_at(text: &str) {
    let Ok(opened) = Opened::parse(text) else {
        return;
    };
    for key in KEYS.iter() {
        assert!(!opened.is_signed_with(key), "{text:?}");
    }
    let _hint = opened.hint();
    let said = opened.says();
    if let Ok(Some(claims)) = opened.claims(&Digest::of(b"m")) {
        assert_eq!(said, Some(claims));
    }
}
