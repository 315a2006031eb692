//! The manifest of a cache: it lists the layers' blobs and names the config.
//!
//! BuildKit writes one of three forms and reads four: an OCI image manifest whose config is the
//! cache config, an OCI index or a Docker manifest list whose entries are the blobs with the config
//! among them (BuildKit `cache/remotecache/export.go`, `import.go`), and an image manifest with an
//! inline cache in the image's config. All annotations and unknown fields are kept.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use thiserror::Error;

use super::budget::{Budget, TooMuch};
use super::config;
use super::descriptor::Descriptor;
use super::extras::Extras;
use super::media::Form;
use super::sign;
use super::unknown::{Unknown, keeps_unknown};

/// A cache manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheManifest {
    /// Form in which it is stored.
    pub form: Form,
    /// Descriptor of the cache config; absent in an image with an inline cache.
    pub config: Option<Descriptor>,
    /// Descriptors of the layers' blobs, in the order of the manifest.
    pub layers: Vec<Descriptor>,
    /// Entries and notes of this program: the entries stand behind the layers, the notes among the annotations.
    pub extras: Extras,
    /// Top-level fields besides those above, such as other annotations, but for a signature.
    pub other: Unknown,
}

/// Why a manifest is not taken.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// It is more than this program reads.
    #[error("the cache manifest {0}")]
    TooLarge(#[from] TooMuch),
    /// It is no JSON of the right shape.
    #[error("the cache manifest is no valid JSON of its format")]
    Json(#[from] serde_json::Error),
    /// It is neither a manifest nor an index.
    #[error("the media type {0:?} is neither an image manifest nor an index")]
    MediaType(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Self")]
struct Wire {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u32,
    #[serde(
        rename = "mediaType",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Descriptor>>,
    #[serde(flatten, skip_deserializing)]
    other: Unknown,
}

keeps_unknown!(Wire);

impl CacheManifest {
    /// The largest manifest that is read, in bytes: what registries take (OCI distribution spec,
    /// "Pushing manifests").
    pub const MAX_BYTES: usize = 4 << 20;
    /// What is read of a manifest. BuildKit writes 50 bytes for a value.
    const BUDGET: Budget = Budget::new(Self::MAX_BYTES, 1 << 17);

    /// Parses a manifest. The media type of the registry's answer is used where the manifest names
    /// none.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are too many, no JSON of this format, or of another kind.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        let mut budget = Self::BUDGET;
        budget.take(bytes)?;
        let wire: Wire = serde_json::from_slice(bytes)?;
        let named = if wire.media_type.is_empty() {
            media_type
        } else {
            &wire.media_type
        };
        let form = Form::of_media_type(named)
            .or_else(|| guess(&wire))
            .ok_or_else(|| ManifestError::MediaType(named.chars().take(100).collect()))?;
        Self::from_wire(form, wire)
    }

    fn from_wire(form: Form, wire: Wire) -> Result<Self, ManifestError> {
        let (config, layers) = if form.is_index() {
            let (configs, layers): (Vec<_>, Vec<_>) = wire
                .manifests
                .unwrap_or_default()
                .into_iter()
                .partition(|entry| entry.media_type == config::MEDIA_TYPE);
            // Of several, BuildKit takes the last.
            (configs.into_iter().next_back(), layers)
        } else {
            let config = wire.config.as_deref().map(RawValue::get);
            let config: Option<Descriptor> = config.map(serde_json::from_str).transpose()?;
            (config, wire.layers.unwrap_or_default())
        };
        let mut manifest = Self {
            form,
            config,
            layers,
            extras: Extras::default(),
            other: wire.other,
        };
        if manifest.is_cache() {
            manifest.extras = Extras::take(&mut manifest.layers, &mut manifest.other);
            // It is about these bytes, and about none that are made of them.
            manifest.other.drop_annotation(sign::ANNOTATION);
        }
        Ok(manifest)
    }

    /// Returns whether the config is a cache config, and not that of an image.
    pub fn is_cache(&self) -> bool {
        self.config
            .as_ref()
            .is_some_and(|c| c.media_type == config::MEDIA_TYPE)
    }

    /// Returns the JSON text with the fields in the order that BuildKit writes.
    ///
    /// # Errors
    ///
    /// Fails only where a kept unknown field cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut wire = Wire {
            schema_version: 2,
            media_type: self.form.media_type().to_owned(),
            config: None,
            layers: None,
            manifests: None,
            other: self.other.clone(),
        };
        if self.form.has_annotations() {
            self.extras.notes().put(&mut wire.other)?;
        }
        let mut entries = self.layers.clone();
        entries.extend(self.extras.entries().cloned());
        if self.form.is_index() {
            entries.extend(self.config.clone());
            wire.manifests = Some(entries);
        } else {
            wire.config = self.config.as_ref().map(to_raw_value).transpose()?;
            wire.layers = Some(entries);
        }
        serde_json::to_vec(&wire)
    }
}

/// A manifest without any media type, from an old writer, is told by its fields.
fn guess(wire: &Wire) -> Option<Form> {
    match (&wire.layers, &wire.manifests) {
        (Some(_), None) => Some(Form::OciManifest),
        (None, Some(_)) => Some(Form::OciIndex),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;
    use crate::cache::descriptor::UNCOMPRESSED;
    use crate::cache::media::{DOCKER_LIST, OCI_INDEX, OCI_MANIFEST};
    use crate::digest::Digest;

    fn descriptor(n: u8, media_type: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{}","size":{n},"annotations":{{"{UNCOMPRESSED}":"{}"}}}}"#,
            Digest::of(&[n]),
            Digest::of(&[n, n]),
        )
    }

    fn cache_config() -> String {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":9}}"#,
            config::MEDIA_TYPE,
            Digest::of(b"c")
        )
    }

    #[test]
    fn image_manifest_form_comes_back_byte_for_byte() {
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#,
            cache_config(),
            descriptor(1, "application/vnd.oci.image.layer.v1.tar+gzip"),
        );
        let manifest = CacheManifest::parse(json.as_bytes(), "").unwrap();
        assert_eq!(manifest.form, Form::OciManifest);
        assert!(manifest.is_cache());
        assert_eq!(manifest.layers[0].diff_id(), Some(Digest::of(&[1, 1])));
        assert_eq!(
            String::from_utf8(manifest.to_bytes().unwrap()).unwrap(),
            json
        );
    }

    #[test]
    fn index_forms_hold_the_config_among_the_layers() {
        for (media_type, form) in [(OCI_INDEX, Form::OciIndex), (DOCKER_LIST, Form::DockerList)] {
            let json = format!(
                r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{},{}],"x":1}}"#,
                descriptor(1, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
                cache_config(),
            );
            let manifest = CacheManifest::parse(json.as_bytes(), "").unwrap();
            assert_eq!(manifest.form, form);
            assert!(manifest.is_cache());
            assert_eq!(manifest.layers.len(), 1);
            assert_eq!(
                String::from_utf8(manifest.to_bytes().unwrap()).unwrap(),
                json
            );
        }
    }

    #[test]
    fn an_image_is_no_cache() {
        let json = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#,
            descriptor(1, "application/vnd.oci.image.config.v1+json")
        );
        let manifest = CacheManifest::parse(json.as_bytes(), OCI_MANIFEST).unwrap();
        assert!(!manifest.is_cache());
    }

    #[test]
    fn other_kinds_are_refused() {
        let error = CacheManifest::parse(br#"{"mediaType":"text/plain"}"#, "").unwrap_err();
        assert!(matches!(error, ManifestError::MediaType(m) if m == "text/plain"));
        assert!(CacheManifest::parse(b"{}", "").is_err());
        assert!(CacheManifest::parse(b"", OCI_INDEX).is_err());
    }

    fn any_manifest() -> impl Strategy<Value = CacheManifest> {
        let form = proptest::sample::select(vec![
            Form::OciManifest,
            Form::DockerManifest,
            Form::OciIndex,
            Form::DockerList,
        ]);
        let layer = (any::<u8>(), any::<u32>(), "[a-z/+.]{1,20}", ".{0,10}").prop_map(
            |(seed, size, media_type, note)| {
                let mut annotations = Map::new();
                annotations.insert("note".into(), note.into());
                Descriptor {
                    media_type,
                    digest: Digest::of(&[seed]),
                    size: size.into(),
                    annotations,
                    other: Unknown::default(),
                }
            },
        );
        let layers = proptest::collection::vec(layer, 0..6);
        (form, layers).prop_map(|(form, layers)| CacheManifest {
            extras: Extras::default(),
            form,
            config: Some(Descriptor::of(config::MEDIA_TYPE, b"config")),
            layers,
            other: Unknown::default(),
        })
    }

    proptest! {
        #[test]
        fn every_manifest_survives_a_round_trip(manifest in any_manifest()) {
            let bytes = manifest.to_bytes().unwrap();
            prop_assert_eq!(CacheManifest::parse(&bytes, "").unwrap(), manifest);
        }

        #[test]
        fn damaged_manifests_never_panic(
            manifest in any_manifest(), at in any::<proptest::sample::Index>(), with in any::<u8>()
        ) {
            let mut bytes = manifest.to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _result = CacheManifest::parse(&bytes, OCI_INDEX);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            let _result = CacheManifest::parse(text.as_bytes(), OCI_MANIFEST);
        }
    }
}
