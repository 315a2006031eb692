//! The results of several nodes as one image index (buildx `build.go`, `imagetools.Combine`).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::cache::registries::Registries;
use crate::digest::Digest;
use crate::options::platform::Platform;
use crate::reference::{Reference, ReferenceError};
use crate::registry::{Access, RegistryError};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Exporter answer with the descriptor of what was pushed, JSON in base64.
pub(super) const DESCRIPTOR: &str = "containerimage.descriptor";
/// Prefix of annotations of the index among an exporter's attributes.
const INDEX_ANNOTATION: &str = "annotation-index.";
/// Prefix of annotations of the descriptors in an index.
const DESCRIPTOR_ANNOTATION: &str = "annotation-manifest-descriptor";

/// Why the results cannot be joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// A node did not say what it pushed.
    #[error("a node of the builder did not tell what it pushed")]
    NoDescriptor,
    /// What a node pushed cannot be read.
    #[error("failed to unmarshal {0}")]
    Json(&'static str, #[source] serde_json::Error),
    /// What a node pushed is not in the registry.
    #[error("{digest} is not in {name}, where a node of the builder pushed it")]
    Missing {
        /// What is not there.
        digest: String,
        /// Where.
        name: String,
    },
    /// A name of the image is wrong.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Where the joined index goes.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Names of the image as the user wrote them, with commas.
    pub names: String,
    /// Plain HTTP, or HTTPS with any certificate.
    pub insecure: bool,
    /// The user wants no tags: the index is pushed by its digest.
    pub by_digest: bool,
    /// Attributes of the exporter, for the annotations of the index.
    pub attrs: BTreeMap<String, String>,
}

impl Target {
    /// Returns the repositories alone, for the nodes to push to by digest.
    ///
    /// # Errors
    ///
    /// Fails for a name that is no reference.
    pub fn repositories(&self) -> Result<String, ReferenceError> {
        let names: BTreeSet<String> = self
            .names
            .split(',')
            .map(|name| Reference::parse_normalized(name).map(|r| r.name()))
            .collect::<Result<_, _>>()?;
        Ok(Vec::from_iter(names).join(","))
    }
}

/// Joins what the nodes pushed by digest, and pushes the index under every name. Returns its digest.
///
/// # Errors
///
/// Fails if a registry does.
pub async fn push(
    responses: &[BTreeMap<String, String>],
    target: &Target,
    registries: &Registries,
) -> Result<Digest, JoinError> {
    let names: Vec<Reference> = target
        .names
        .split(',')
        .map(Reference::parse_normalized)
        .collect::<Result<_, _>>()?;
    let first = names.first().ok_or(JoinError::NoDescriptor)?;
    let source = registries.repository(first, target.insecure, Access::Push)?;
    let mut manifests = Vec::new();
    let mut is_docker = true;
    for response in responses {
        let descriptor = descriptor(response)?;
        let media_type = text(&descriptor, "mediaType");
        is_docker &= media_type.starts_with("application/vnd.docker.");
        if media_type != OCI_INDEX && media_type != DOCKER_LIST {
            manifests.push(descriptor);
            continue;
        }
        let digest = text(&descriptor, "digest");
        let missing = || JoinError::Missing {
            digest: digest.to_owned(),
            name: first.name(),
        };
        let index = source.manifest(digest).await?.ok_or_else(missing)?;
        let mut index: Value = serde_json::from_slice(&index.bytes)
            .map_err(|error| JoinError::Json("the index of a node", error))?;
        if let Some(Value::Array(list)) = index.get_mut("manifests").map(Value::take) {
            manifests.extend(list);
        }
    }
    let media_type = if is_docker { DOCKER_LIST } else { OCI_INDEX };
    let index = Bytes::from(index(manifests, media_type, &target.attrs).to_string());
    let digest = Digest::of(&index);
    for name in &names {
        let repository = registries.repository(name, target.insecure, Access::Push)?;
        let tag = name.effective_tag().unwrap_or("latest");
        let place = if target.by_digest {
            digest.as_str()
        } else {
            tag
        };
        repository.put_manifest(place, media_type, &index).await?;
    }
    Ok(digest)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn descriptor(response: &BTreeMap<String, String>) -> Result<Value, JoinError> {
    let encoded = response.get(DESCRIPTOR).ok_or(JoinError::NoDescriptor)?;
    let json = STANDARD
        .decode(encoded)
        .map_err(|_| JoinError::NoDescriptor)?;
    serde_json::from_slice(&json)
        .map_err(|error| JoinError::Json("the descriptor of a node's image", error))
}

/// Creates the index; a manifest that is there twice stands in it once.
fn index(manifests: Vec<Value>, media_type: &str, attrs: &BTreeMap<String, String>) -> Value {
    let mut seen = BTreeSet::new();
    let mut kept = manifests;
    kept.retain(|one| seen.insert((text(one, "digest").to_owned(), one["platform"].to_string())));
    let annotations: Map<String, Value> = attrs
        .iter()
        .filter_map(|(key, value)| {
            let key = key.strip_prefix(INDEX_ANNOTATION)?;
            Some((key.to_owned(), Value::from(value.clone())))
        })
        .collect();
    let mut index = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": kept,
    });
    // Docker's own list has no annotations.
    if media_type == OCI_INDEX {
        if !annotations.is_empty() {
            index["annotations"] = Value::Object(annotations);
        }
        annotate_descriptors(&mut index["manifests"], attrs);
    }
    index
}

/// Adds the annotations of descriptors: to all, or to those of the platform in brackets.
fn annotate_descriptors(manifests: &mut Value, attrs: &BTreeMap<String, String>) {
    let rules: Vec<_> = attrs.iter().filter_map(descriptor_annotation).collect();
    for descriptor in manifests.as_array_mut().into_iter().flatten() {
        let platform = platform_of(descriptor);
        let matching = rules
            .iter()
            .filter(|(wanted, ..)| wanted.is_none() || *wanted == platform);
        for (_, key, value) in matching {
            descriptor["annotations"][*key] = Value::from(*value);
        }
    }
}

/// Reads `annotation-manifest-descriptor[PLATFORM].KEY`, where the platform may be missing.
fn descriptor_annotation<'a>(
    (attr, value): (&'a String, &'a String),
) -> Option<(Option<Platform>, &'a str, &'a str)> {
    let rest = attr.strip_prefix(DESCRIPTOR_ANNOTATION)?;
    if let Some(key) = rest.strip_prefix('.') {
        return Some((None, key, value));
    }
    let (platform, key) = rest.strip_prefix('[')?.split_once("].")?;
    Some((Some(Platform::parse(platform).ok()?), key, value))
}

fn platform_of(descriptor: &Value) -> Option<Platform> {
    let platform = descriptor.get("platform")?;
    let parts = ["os", "architecture", "variant"].map(|key| text(platform, key));
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Platform::parse(&parts.join("/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_push_to_each_repository_once() {
        let target = Target {
            names: "app,app:1,r.io/b/c:2".to_owned(),
            ..Target::default()
        };
        assert_eq!(
            target.repositories().unwrap(),
            "docker.io/library/app,r.io/b/c"
        );
        let wrong = Target {
            names: "a b".to_owned(),
            ..Target::default()
        };
        assert!(wrong.repositories().is_err());
    }

    #[test]
    fn an_index_has_each_manifest_once_and_the_annotations_of_indexes() {
        let one = |digest: &str, arch: &str| json!({"digest": digest, "platform": {"architecture": arch, "os": "linux"}});
        let list = vec![
            one("sha256:a", "amd64"),
            one("sha256:b", "arm64"),
            one("sha256:a", "amd64"),
        ];
        let attrs = BTreeMap::from([
            ("annotation-index.k".to_owned(), "v".to_owned()),
            ("annotation-manifest.m".to_owned(), "w".to_owned()),
            ("push".to_owned(), "true".to_owned()),
        ]);
        let oci = index(list.clone(), OCI_INDEX, &attrs);
        assert_eq!(oci["manifests"].as_array().unwrap().len(), 2);
        assert_eq!(oci["annotations"], json!({"k": "v"}));
        let docker = index(list, DOCKER_LIST, &attrs);
        assert!(docker.get("annotations").is_none());
    }

    #[test]
    fn descriptors_have_their_annotations() {
        let list = vec![
            json!({"digest": "sha256:a", "platform": {"architecture": "amd64", "os": "linux"}}),
            json!({"digest": "sha256:b", "platform": {"architecture": "arm64", "os": "linux"},
                   "annotations": {"own": "1"}}),
            json!({"digest": "sha256:c"}),
        ];
        let attrs = BTreeMap::from([
            ("annotation-manifest-descriptor.all".into(), "x".into()),
            (
                "annotation-manifest-descriptor[linux/arm64].a.b".into(),
                "y".into(),
            ),
            (
                "annotation-manifest-descriptor[linux/arm64".into(),
                "z".into(),
            ),
        ]);
        let oci = index(list.clone(), OCI_INDEX, &attrs);
        let annotations = |n: usize| oci["manifests"][n]["annotations"].clone();
        assert_eq!(annotations(0), json!({"all": "x"}));
        assert_eq!(annotations(1), json!({"all": "x", "a.b": "y", "own": "1"}));
        assert_eq!(annotations(2), json!({"all": "x"}));
        let docker = index(list, DOCKER_LIST, &attrs);
        assert!(docker["manifests"][0].get("annotations").is_none());
    }

    #[test]
    fn a_node_must_tell_what_it_pushed() {
        let mut response = BTreeMap::new();
        assert!(matches!(
            descriptor(&response),
            Err(JoinError::NoDescriptor)
        ));
        response.insert(
            DESCRIPTOR.to_owned(),
            STANDARD.encode(r#"{"digest":"sha256:a"}"#),
        );
        assert_eq!(text(&descriptor(&response).unwrap(), "digest"), "sha256:a");
        response.insert(DESCRIPTOR.to_owned(), STANDARD.encode("{"));
        assert!(matches!(descriptor(&response), Err(JoinError::Json(..))));
    }
}
