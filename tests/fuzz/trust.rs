//! Trust files and keys as somebody may commit them: no text panics, and a rule says the same each time.

#![no_main]

use docker_cachex::for_tests::cache::sign::key::{PublicKey, SigningKey};
use docker_cachex::for_tests::cache::sign::trust::{Trust, TrustError};

const TAGS: [Option<&str>; 5] = [
    None,
    Some(""),
    Some("b-main"),
    Some("pr-12"),
    Some("s-a.b_c-0123456789abcdef"),
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(keys) = PublicKey::parse_all(text) {
        for key in keys {
            let again = PublicKey::parse_all(&key.to_pem()).expect("a key");
            assert_eq!(again, [key]);
        }
    }
    let _private = SigningKey::parse(text).is_ok();
    let parsed = Trust::parse(text, |_: &str| Ok::<_, TrustError>(Vec::new()));
    if let Ok(trust) = parsed {
        for tag in TAGS {
            let keys = trust.rule(tag).map(|rule| rule.allows_unsigned);
            assert_eq!(keys, trust.rule(tag).map(|rule| rule.allows_unsigned));
        }
    }
});
