use std::sync::Arc;

use super::*;
use crate::build::cache::import::probe::ProbeResult;
use crate::build::cache::import::sources::RegistrySource;
use crate::cache::media::OCI_MANIFEST;
use crate::docker::token::Tokens;
use crate::options::signing::Verification;
use crate::reference::Reference;
use crate::registry::{Access, HostConfig, RegistryClient, RetryPolicy, SystemClock};

pub(in crate::build::cache::import) fn entry(kind: &str) -> Entry {
    Entry {
        kind: kind.to_owned(),
        attrs: BTreeMap::new(),
    }
}

/// A registry's cache of one layer.
pub(in crate::build::cache::import) fn cache(layer: &Digest) -> Slot {
    let json = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.buildkit.cacheconfig.v0",
            "digest": Digest::of(b"config"),
            "size": 1,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": layer,
            "size": 1,
        }],
    });
    let bytes = json.to_string().into_bytes();
    let raw = RawManifest {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
        media_type: OCI_MANIFEST.to_owned(),
    };
    let client = RegistryClient::new(
        HostConfig::new("127.0.0.1:1"),
        Tokens::anonymous(),
        RetryPolicy::never(),
        Arc::new(SystemClock),
    );
    let repository = client.unwrap().repository("a", Access::Pull).unwrap();
    let source = RegistrySource {
        reference: Reference::parse_normalized("127.0.0.1:1/a:c").unwrap(),
        raw_ref: "127.0.0.1:1/a:c".to_owned(),
        verification: Verification::default(),
        insecure: false,
        mounts: crate::options::cache::Mounts::All,
        mounts_helper: None,
    };
    let mut remote = Remote::new(&source);
    remote.answer = Some(Arc::new(ProbeResult::Found(repository, raw, None)));
    Slot {
        entry: Some(entry("registry")),
        registry: Some(remote),
        folder: None,
    }
}

#[test]
fn an_error_is_blamed_on_who_lists_the_blob() {
    let (mine, other) = (Digest::of(b"mine"), Digest::of(b"other"));
    let known = cache(&mine);
    let unknown = Slot::plain(Some(entry("gha")));
    let mut left_out = cache(&mine);
    left_out.entry = None;
    let fetch = |blob: &Digest| format!("failed to copy: {blob}: not found");
    let bare = |blob: &Digest| format!("blob {blob} is odd");
    for (slots, message, wanted) in [
        (&[&known][..], fetch(&mine), true),
        (&[&known], bare(&mine), true),
        // The base image's, perhaps.
        (&[&known], fetch(&other), false),
        (&[&known, &unknown], fetch(&other), true),
        (&[&known, &unknown], bare(&other), false),
        (&[&left_out], fetch(&mine), false),
        (
            &[&known, &unknown],
            "failed to copy: no space".into(),
            false,
        ),
        (
            &[&known],
            format!("process \"{mine}\" did not complete successfully: exit code: 1"),
            false,
        ),
    ] {
        let slots: Vec<Slot> = slots.iter().map(|slot| (*slot).clone()).collect();
        assert_eq!(is_to_blame(&slots, &message), wanted, "{message}");
    }
}
