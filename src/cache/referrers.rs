//! Signatures that are objects of their own and refer to a manifest, for tools that know nothing of the annotation: the form
//! of `cosign sign` (cosign `specs/BUNDLE_SPEC.md`).
//!
//! They are found by the referrers API of the registry, or, where it has none, by an index under a tag with the name of the
//! digest (OCI distribution spec 1.1, "Listing Referrers" and "Referrers Tag Schema").

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::descriptor::Descriptor;
use super::media::{OCI_INDEX, OCI_MANIFEST};
use super::sign::bundle::{MAX_BYTES, MEDIA_TYPE, PREDICATE};
use crate::digest::Digest;
use crate::registry::manifest::ManifestDescriptor;
use crate::registry::{BlobSource, RawManifest, RegistryError, Repository, UploadOptions};

/// Media type and content of the config of a manifest that has none (OCI image spec, "Guidance for an Empty Descriptor").
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// See [`EMPTY_TYPE`].
pub const EMPTY: &[u8] = b"{}";

/// Signatures of one manifest that are looked at.
const LOOKED_AT: usize = 16;
/// How often an index is written that others write at the same time.
const TRIES: usize = 5;

/// Why a signature is not added.
#[derive(Debug, thiserror::Error)]
pub enum ReferrerError {
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The tag for what refers to a manifest holds something else.
    #[error("the tag {0} holds something else than an index of what refers to the cache")]
    Taken(String),
    /// Others write the index at the same time, again and again.
    #[error("other programs change the index {0} at the same time")]
    Contended(String),
}

/// What refers to a manifest, and the index that says so where the registry itself does not.
struct Listed {
    entries: Vec<Value>,
    tagged: Option<RawManifest>,
}

/// A manifest that is a signature.
struct SignatureManifest {
    digest: Digest,
    bundle: Option<Descriptor>,
}

/// Adds a signature to a manifest that the repository holds; returns the digest of its own manifest.
///
/// # Errors
///
/// Fails if the registry does not answer, or refuses.
pub async fn attach(
    repository: &Repository,
    subject: &ManifestDescriptor,
    bundle: &str,
    now: Timestamp,
) -> Result<Digest, ReferrerError> {
    let config = store(repository, EMPTY_TYPE, Bytes::from_static(EMPTY)).await?;
    let layer = store(repository, MEDIA_TYPE, Bytes::from(bundle.to_owned())).await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": MEDIA_TYPE,
        "config": config,
        "layers": [layer],
        "subject": {
            "mediaType": subject.media_type,
            "digest": subject.digest.as_str(),
            "size": subject.size,
        },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": PREDICATE,
            "org.opencontainers.image.created": now.to_string(),
        },
    });
    let manifest = Bytes::from(manifest.to_string());
    let own = Digest::of(&manifest);
    repository
        .put_manifest(own.as_str(), OCI_MANIFEST, &manifest)
        .await?;
    if repository.referrers(&subject.digest).await?.is_none() {
        let entry = json!({
            "mediaType": OCI_MANIFEST,
            "digest": own.as_str(),
            "size": manifest.len(),
            "artifactType": MEDIA_TYPE,
        });
        add_to_tag(repository, &subject.digest, &entry).await?;
    }
    Ok(own)
}

/// Returns the bundles of the signatures that refer to a manifest. Nothing of them is believed yet.
///
/// # Errors
///
/// Fails if the registry does not answer.
pub async fn bundles(
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<String>, RegistryError> {
    let listed = list(repository, subject).await?;
    let mut bundles = Vec::new();
    for signature in signatures(repository, &listed).await? {
        let layer = signature
            .bundle
            .filter(|layer| layer.size <= MAX_BYTES as u64);
        if let Some(layer) = layer {
            let bytes = repository.read_blob(&layer.digest, layer.size).await?;
            bundles.extend(String::from_utf8(bytes));
        }
    }
    Ok(bundles)
}

/// Returns the digests of all manifests that are of no use without one: its signatures, and the index that lists nothing
/// else.
///
/// # Errors
///
/// Fails if the registry does not answer.
pub async fn left_behind(
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Digest>, RegistryError> {
    let listed = list(repository, subject).await?;
    let signatures = signatures(repository, &listed).await?;
    let lists_others = listed.entries.len() > signatures.len();
    let mut all: Vec<Digest> = signatures.into_iter().map(|found| found.digest).collect();
    if let Some(tagged) = listed.tagged.filter(|_| !lists_others) {
        all.push(tagged.digest);
    }
    Ok(all)
}

async fn store(
    repository: &Repository,
    media_type: &str,
    blob: Bytes,
) -> Result<Descriptor, RegistryError> {
    let stored = Descriptor::of(media_type, &blob);
    let options = UploadOptions {
        check_exists: true,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(blob);
    repository
        .upload(&stored.digest, stored.size, &source, &options)
        .await?;
    Ok(stored)
}

/// Returns the tag under which an index lists what refers to a manifest.
fn tag_of(subject: &Digest) -> String {
    subject.as_str().replacen(':', "-", 1)
}

async fn list(repository: &Repository, subject: &Digest) -> Result<Listed, RegistryError> {
    if let Some(bytes) = repository.referrers(subject).await? {
        return Ok(Listed {
            entries: entries(&bytes).unwrap_or_default(),
            tagged: None,
        });
    }
    let tagged = repository.manifest(&tag_of(subject)).await?;
    let found = tagged.as_ref().and_then(|raw| entries(&raw.bytes));
    Ok(Listed {
        tagged: tagged.filter(|_| found.is_some()),
        entries: found.unwrap_or_default(),
    })
}

/// Returns the manifests that an index lists; `None` where it is none.
fn entries(index: &[u8]) -> Option<Vec<Value>> {
    let index: Value = serde_json::from_slice(index).ok()?;
    Some(index.get("manifests")?.as_array()?.clone())
}

/// Finds the signatures among what refers to a manifest. What lists them may say something else of their type (cosign does),
/// so each is read.
async fn signatures(
    repository: &Repository,
    listed: &Listed,
) -> Result<Vec<SignatureManifest>, RegistryError> {
    let mut found = Vec::new();
    for entry in listed.entries.iter().take(LOOKED_AT) {
        let digest = entry["digest"]
            .as_str()
            .and_then(|text| text.parse::<Digest>().ok());
        let Some(digest) = digest else {
            continue;
        };
        let Some(raw) = repository.manifest(digest.as_str()).await? else {
            continue;
        };
        let manifest: Value = serde_json::from_slice(&raw.bytes).unwrap_or_default();
        if manifest["artifactType"] == MEDIA_TYPE {
            let layer = manifest["layers"].get(0).cloned();
            found.push(SignatureManifest {
                digest: raw.digest,
                bundle: layer.and_then(|layer| serde_json::from_value(layer).ok()),
            });
        }
    }
    Ok(found)
}

/// Adds an entry to the index of what refers to a manifest. Registries cannot compare and swap, so it is looked whether it
/// is there.
async fn add_to_tag(
    repository: &Repository,
    subject: &Digest,
    entry: &Value,
) -> Result<(), ReferrerError> {
    let tag = tag_of(subject);
    for _ in 0..TRIES {
        let mut index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
        if let Some(held) = repository.manifest(&tag).await? {
            index = serde_json::from_slice(&held.bytes).unwrap_or_default();
        }
        let listed = index.get_mut("manifests").and_then(Value::as_array_mut);
        let listed = listed.ok_or_else(|| ReferrerError::Taken(tag.clone()))?;
        if listed.iter().any(|one| one["digest"] == entry["digest"]) {
            return Ok(());
        }
        listed.push(entry.clone());
        let bytes = Bytes::from(index.to_string());
        repository.put_manifest(&tag, OCI_INDEX, &bytes).await?;
    }
    Err(ReferrerError::Contended(tag))
}
