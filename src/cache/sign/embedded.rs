//! The signature in the manifest, and the manifest without it, byte by byte.
//!
//! What is signed is the compact JSON of the manifest with its members in their order and without the annotation, which is
//! the last one of a signed manifest. A manifest that is written otherwise was not signed by this program: so two readers
//! never see two manifests in one text.

use jiff::Timestamp;
use serde_json::{Map, Value};
use thiserror::Error;

use super::ANNOTATION;
use super::bundle::Opened;
use crate::cache::manifest::{CacheManifest, ManifestError};
use crate::digest::Digest;

/// The member of a manifest that has its annotations.
const ANNOTATIONS: &str = "annotations";

/// Why a manifest cannot be signed, or is not taken for a signed one.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// It is no cache.
    #[error("it is an image or an index of images, not a cache")]
    NoCache,
    /// It cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is no JSON object.
    #[error("its manifest is no JSON object")]
    Json(#[from] serde_json::Error),
    /// It has a signature, and is not written as signed manifests are.
    #[error("its manifest was changed after it was signed")]
    Changed,
}

/// A manifest taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts {
    /// The manifest without the annotation: what is signed.
    pub bare: Vec<u8>,
    /// The bundle.
    pub bundle: String,
}

/// Takes a signed manifest apart; `None` where it has no signature.
///
/// # Errors
///
/// Fails if it is no cache, or has a signature and was changed.
pub fn take_apart(manifest: &[u8]) -> Result<Option<Parts>, EmbeddedError> {
    let mut members = members(manifest)?;
    let annotations = members.get_mut(ANNOTATIONS).and_then(Value::as_object_mut);
    let Some(annotations) = annotations.filter(|all| all.contains_key(ANNOTATION)) else {
        return Ok(None);
    };
    let is_last = annotations.keys().next_back().map(String::as_str) == Some(ANNOTATION);
    let bundle = annotations.get(ANNOTATION).and_then(Value::as_str);
    let bundle = bundle.ok_or(EmbeddedError::Changed)?.to_owned();
    if !is_last || serde_json::to_vec(&members)? != manifest {
        return Err(EmbeddedError::Changed);
    }
    strip(&mut members);
    let bare = serde_json::to_vec(&members)?;
    Ok(Some(Parts { bare, bundle }))
}

/// Returns a manifest as it is to be signed: compact, and without a signature that it has.
///
/// # Errors
///
/// Fails if it is no cache.
pub fn bare(manifest: &[u8]) -> Result<Vec<u8>, EmbeddedError> {
    let mut members = members(manifest)?;
    strip(&mut members);
    Ok(serde_json::to_vec(&members)?)
}

/// Adds a bundle to a manifest that is [bare].
///
/// # Errors
///
/// Fails if it is no cache.
pub fn embed(bare: &[u8], bundle: &str) -> Result<Vec<u8>, EmbeddedError> {
    let mut members = members(bare)?;
    let annotations = members
        .entry(ANNOTATIONS)
        .or_insert_with(|| Value::Object(Map::new()));
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    let annotations = annotations.as_object_mut().ok_or(EmbeddedError::Changed)?;
    annotations.insert(ANNOTATION.to_owned(), Value::from(bundle));
    Ok(serde_json::to_vec(&members)?)
}

/// Returns when a manifest says that it was signed, which is when it was written. Nobody has verified that.
pub fn claimed_time(manifest: &[u8]) -> Option<Timestamp> {
    let parts = take_apart(manifest).ok()??;
    let claims = Opened::parse(&parts.bundle).ok()?;
    let claims = claims.claims(&Digest::of(&parts.bare)).ok()??;
    Some(claims.signed_at)
}

/// Reads a manifest of bounded size as members in their order.
fn members(manifest: &[u8]) -> Result<Map<String, Value>, EmbeddedError> {
    // This also bounds what the text takes in memory.
    if !CacheManifest::parse(manifest, "")?.is_cache() {
        return Err(EmbeddedError::NoCache);
    }
    Ok(serde_json::from_slice(manifest)?)
}

/// Removes the annotation, and annotations that are empty, which [`embed`] may have added.
fn strip(members: &mut Map<String, Value>) {
    let annotations = members.get_mut(ANNOTATIONS);
    let is_empty = annotations.is_some_and(|annotations| match annotations {
        Value::Null => true,
        Value::Object(all) => {
            all.shift_remove(ANNOTATION);
            all.is_empty()
        }
        _ => false,
    });
    if is_empty {
        members.shift_remove(ANNOTATIONS);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::config;
    use crate::cache::media::{OCI_INDEX, OCI_MANIFEST};
    use crate::digest::Digest;

    /// A manifest of each form, with annotations of its own and without.
    pub(in super::super) fn manifests() -> Vec<String> {
        let config = format!(
            r#"{{"mediaType":"{}","digest":"{}","size":9}}"#,
            config::MEDIA_TYPE,
            Digest::of(b"c")
        );
        let mut all = Vec::new();
        for annotations in ["", r#","annotations":{"b":"1","a":"2"}"#] {
            all.push(format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config},"layers":[]{annotations}}}"#
            ));
            all.push(format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{config}]{annotations}}}"#
            ));
        }
        all
    }

    #[test]
    fn a_signature_comes_and_goes_without_a_trace() {
        for manifest in manifests() {
            let manifest = manifest.as_bytes();
            assert_eq!(take_apart(manifest).unwrap(), None);
            assert_eq!(bare(manifest).unwrap(), manifest);
            let signed = embed(manifest, "bundle \"<&>").unwrap();
            let parts = take_apart(&signed).unwrap().unwrap();
            assert_eq!(
                (&parts.bare[..], &*parts.bundle),
                (manifest, "bundle \"<&>")
            );
            assert_eq!(bare(&signed).unwrap(), manifest);
        }
    }

    #[test]
    fn a_manifest_that_is_read_has_lost_its_signature() {
        for manifest in manifests() {
            let signed = embed(manifest.as_bytes(), "bundle").unwrap();
            let read = CacheManifest::parse(&signed, "").unwrap();
            assert_eq!(read, CacheManifest::parse(manifest.as_bytes(), "").unwrap());
            let written = read.to_bytes().unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), manifest);
        }
    }

    #[test]
    fn one_text_is_one_manifest() {
        let manifest = &manifests()[2];
        let signed = String::from_utf8(embed(manifest.as_bytes(), "bundle").unwrap()).unwrap();
        for changed in [
            signed.replacen(':', ": ", 1),
            // Readers differ on which of two counts.
            signed.replacen("{\"schema", "{\"layers\":[],\"schema", 1),
            signed.replacen("\"b\":\"1\",", "", 1).replacen(
                "\"bundle\"",
                "\"bundle\",\"b\":\"1\"",
                1,
            ),
            format!("{signed} "),
        ] {
            assert!(
                matches!(
                    take_apart(changed.as_bytes()),
                    Err(EmbeddedError::Changed | EmbeddedError::Manifest(_))
                ),
                "{changed}"
            );
        }
    }

    proptest! {
        #[test]
        fn damaged_manifests_never_panic(at in any::<proptest::sample::Index>(), with in any::<u8>()) {
            let mut signed = embed(manifests()[0].as_bytes(), "bundle").unwrap();
            let at = at.index(signed.len());
            signed[at] = with;
            let _result = take_apart(&signed);
        }
    }
}
