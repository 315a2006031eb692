//! When a cache was written, as far as its manifest tells. Registries do not say it: none of the specification's answers
//! has the time.

use jiff::Timestamp;

use crate::cache::manifest::CacheManifest;
use crate::cache::sign::embedded;

/// Returns when a manifest was written: what it notes, or the time of its signature, which nobody has verified here. Nothing
/// for a cache that BuildKit has written, or this program without notes and signature.
pub fn written(bytes: &[u8], manifest: &CacheManifest) -> Option<Timestamp> {
    manifest
        .extras
        .notes()
        .written()
        .or_else(|| embedded::claimed_time(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::sign::CacheName;
    use crate::cache::sign::key::{Algorithm, SigningKey};
    use crate::cache::sign::writer::{Signer, sign};
    use crate::digest::Digest;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn of(bytes: &[u8]) -> Option<Timestamp> {
        written(bytes, &CacheManifest::parse(bytes, "").unwrap())
    }

    #[tokio::test]
    async fn notes_tell_it_and_else_the_signature() {
        let config = crate::cache::config::MEDIA_TYPE;
        let digest = Digest::of(b"c");
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"{config}","digest":"{digest}","size":1}},"layers":[]}}"#
        );
        assert_eq!(of(json.as_bytes()), None, "as BuildKit writes it");
        let pem = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let signer = Signer::new(SigningKey::parse(&pem).unwrap(), "k");
        let name = CacheName {
            repository: "r.io/a".into(),
            tag: Some("c".into()),
        };
        let manifest = sign(&signer, json.as_bytes(), &name, at(5)).await.unwrap();
        assert_eq!(of(&manifest), Some(at(5)));
        let mut manifest = CacheManifest::parse(json.as_bytes(), "").unwrap();
        let mut notes = manifest.extras.notes().clone();
        notes.note(&Digest::of(b"old"), at(3));
        manifest.extras.set_notes(notes.clone());
        // What it replaced was replaced when it was written.
        assert_eq!(of(&manifest.to_bytes().unwrap()), Some(at(3)));
        notes.set_written(at(8));
        manifest.extras.set_notes(notes);
        assert_eq!(of(&manifest.to_bytes().unwrap()), Some(at(8)));
    }
}
