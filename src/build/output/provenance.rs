//! The provenance of a build for the metadata file: read from the build's record in the builder
//! (buildx `build/provenance.go`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo, Descriptor,
};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tonic::Code;

use crate::buildkit::content_read::{self, ReadError};
use crate::buildkit::{Client, RpcError};
use crate::options::boolean::parse_bool;

/// Name of the step that reads it, as buildx shows it.
pub const STEP: &str = "resolving provenance for metadata file";
/// Key in the metadata file; one of several platforms stands behind a slash.
const KEY: &str = "buildx.build.provenance";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const SLSA: &str = "https://slsa.dev/provenance/";
const SLSA_1: &str = "https://slsa.dev/provenance/v1";
/// BuildKit's build type in the older form, which the metadata file has.
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";

/// How much of the provenance is wanted (`BUILDX_METADATA_PROVENANCE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// None.
    #[default]
    Disabled,
    /// All but the definition and the metadata.
    Min,
    /// All.
    Max,
}

impl Mode {
    /// Parses the variable's value; what is not known is [`Mode::Min`], as in buildx.
    pub fn parse(text: &str) -> Self {
        match text {
            "max" => Self::Max,
            "disabled" => Self::Disabled,
            other if parse_bool(other) == Some(false) => Self::Disabled,
            _ => Self::Min,
        }
    }
}

/// Why there is no provenance to write.
#[derive(Debug, Error)]
pub enum ProvenanceError {
    /// The record of the build cannot be read.
    #[error("cannot read the record of the build")]
    Record(#[source] RpcError),
    /// The blob that the record names cannot be read.
    #[error("failed to load provenance blob from build record")]
    Blob(#[from] ReadError),
    /// The blob is no provenance.
    #[error("failed to unmarshal provenance")]
    Json(#[from] serde_json::Error),
}

/// Returns the entries of the metadata file. A builder that keeps no records has none.
///
/// # Errors
///
/// Fails if the record or what it names cannot be read.
pub async fn fetch(
    client: &Client,
    build_ref: &str,
    mode: Mode,
) -> Result<BTreeMap<String, String>, ProvenanceError> {
    let mut entries = BTreeMap::new();
    if mode == Mode::Disabled {
        return Ok(entries);
    }
    let record = match record(client, build_ref).await {
        Err(error) if error.code() == Code::Unimplemented => return Ok(entries),
        other => other.map_err(ProvenanceError::Record)?,
    };
    for (key, descriptor, predicate) in record.iter().flat_map(named) {
        let blob = content_read::read(client, descriptor).await?;
        entries.insert(key, encode(&blob, predicate, mode)?);
    }
    Ok(entries)
}

/// The last state of a build's record.
async fn record(client: &Client, build_ref: &str) -> Result<Option<BuildHistoryRecord>, RpcError> {
    let request = BuildHistoryRequest {
        r#ref: build_ref.to_owned(),
        early_exit: true,
        ..Default::default()
    };
    let response = client.control().listen_build_history(request).await?;
    let mut events = response.into_inner();
    let mut last = None;
    while let Some(event) = events.message().await? {
        last = event.record.or(last);
    }
    Ok(last)
}

/// The provenances of a record: key of the metadata file, blob and predicate type.
fn named(record: &BuildHistoryRecord) -> Vec<(String, &Descriptor, &str)> {
    let one = |key: String, info| provenance_of(info).map(|(d, p)| (key, d, p));
    if record.results.is_empty() {
        let info = record.result.iter();
        return info.filter_map(|info| one(KEY.to_owned(), info)).collect();
    }
    let infos = record.results.iter();
    infos
        .filter_map(|(platform, info)| one(format!("{KEY}/{platform}"), info))
        .collect()
}

fn provenance_of(info: &BuildResultInfo) -> Option<(&Descriptor, &str)> {
    info.attestations.iter().find_map(|descriptor| {
        let predicate = descriptor.annotations.get(PREDICATE_TYPE)?;
        let matches = descriptor.media_type == IN_TOTO && predicate.starts_with(SLSA);
        matches.then_some((descriptor, predicate.as_str()))
    })
}

/// Puts a predicate into the form of the metadata file, SLSA 0.2, in base64.
fn encode(blob: &[u8], predicate: &str, mode: Mode) -> Result<String, serde_json::Error> {
    let mut given: Map<String, Value> = serde_json::from_slice(blob)?;
    if predicate == SLSA_1 {
        given = to_slsa_02(given);
    }
    let mut shown = Map::new();
    for key in ["builder", "buildType", "materials", "invocation"] {
        shown.extend(given.remove(key).map(|value| (key.to_owned(), value)));
    }
    if mode == Mode::Max {
        for key in ["buildConfig", "metadata"] {
            shown.extend(given.remove(key).map(|value| (key.to_owned(), value)));
        }
    }
    Ok(STANDARD.encode(serde_json::to_vec(&shown)?))
}

/// Converts SLSA 1 to SLSA 0.2 (BuildKit `provenance/types` `ConvertToSLSA02`).
fn to_slsa_02(mut one: Map<String, Value>) -> Map<String, Value> {
    let mut definition = take_object(&mut one, "buildDefinition");
    let mut run = take_object(&mut one, "runDetails");
    let mut external = take_object(&mut definition, "externalParameters");
    let mut internal = take_object(&mut definition, "internalParameters");
    let mut source = take_object(&mut external, "configSource");
    let mut config_source = Map::new();
    for (from, to) in [("uri", "uri"), ("digest", "digest"), ("path", "entryPoint")] {
        config_source.extend(source.remove(from).map(|value| (to.to_owned(), value)));
    }
    let build_config = internal.remove("buildConfig");
    let platform = internal.remove("builderPlatform");
    internal.insert("platform".into(), platform.unwrap_or_else(|| "".into()));
    let builder = take_object(&mut run, "builder");
    let mut two = Map::new();
    let id = builder.get("id").cloned().unwrap_or_else(|| "".into());
    two.insert("builder".into(), json!({"id": id}));
    two.insert("buildType".into(), BUILD_TYPE_02.into());
    if let Some(Value::Array(list)) = definition.remove("resolvedDependencies") {
        let materials = list.into_iter().map(material).collect();
        two.insert("materials".into(), Value::Array(materials));
    }
    two.insert(
        "invocation".into(),
        json!({
            "configSource": config_source,
            "parameters": external.remove("request").unwrap_or_else(|| json!({})),
            "environment": internal,
        }),
    );
    two.extend(build_config.map(|value| ("buildConfig".to_owned(), value)));
    if let Some(Value::Object(given)) = run.remove("metadata") {
        two.insert("metadata".into(), metadata(given));
    }
    two
}

fn material(mut dependency: Value) -> Value {
    let mut kept = Map::new();
    if let Some(given) = dependency.as_object_mut() {
        for key in ["uri", "digest"] {
            kept.extend(given.remove(key).map(|value| (key.to_owned(), value)));
        }
    }
    Value::Object(kept)
}

fn metadata(mut given: Map<String, Value>) -> Value {
    let complete = take_object(&mut given, "buildkit_completeness");
    let mut made = Map::new();
    for (from, to) in [
        // The name in SLSA v1; some builders spell it in their own way.
        ("invocationId", "buildInvocationID"),
        ("invocationID", "buildInvocationID"),
        ("startedOn", "buildStartedOn"),
        ("finishedOn", "buildFinishedOn"),
    ] {
        made.extend(given.remove(from).map(|value| (to.to_owned(), value)));
    }
    let is = |map: &Map<String, Value>, key| map.get(key) == Some(&Value::Bool(true));
    made.insert(
        "completeness".into(),
        json!({
            "parameters": is(&complete, "request"),
            "environment": true,
            "materials": is(&complete, "resolvedDependencies"),
        }),
    );
    let reproducible = is(&given, "buildkit_reproducible");
    made.insert("reproducible".into(), reproducible.into());
    let own = given.remove("buildkit_metadata");
    made.insert(
        format!("{BUILD_TYPE_02}#metadata"),
        own.unwrap_or_else(|| json!({})),
    );
    if is(&given, "buildkit_hermetic") {
        made.insert(format!("{BUILD_TYPE_02}#hermetic"), true.into());
    }
    Value::Object(made)
}

fn take_object(map: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match map.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &Value, predicate: &str, mode: Mode) -> Value {
        let text = encode(json.to_string().as_bytes(), predicate, mode).unwrap();
        serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn modes() {
        for (text, mode) in [
            ("", Mode::Min),
            ("min", Mode::Min),
            ("max", Mode::Max),
            ("disabled", Mode::Disabled),
            ("false", Mode::Disabled),
            ("0", Mode::Disabled),
            ("true", Mode::Min),
            ("x", Mode::Min),
        ] {
            assert_eq!(Mode::parse(text), mode, "{text}");
        }
    }

    #[test]
    fn the_minimum_has_no_definition_and_no_metadata() {
        let full = json!({
            "builder": {"id": ""}, "buildType": "b", "materials": [], "invocation": {"x": 1},
            "buildConfig": {"y": 1}, "metadata": {"z": 1},
        });
        let two = "https://slsa.dev/provenance/v0.2";
        assert_eq!(decoded(&full, two, Mode::Max), full);
        let min = decoded(&full, two, Mode::Min);
        assert_eq!(min["invocation"]["x"], 1);
        assert_eq!(min.as_object().unwrap().len(), 4);
    }

    #[test]
    fn the_newer_form_becomes_the_older_one() {
        let one = json!({
            "buildDefinition": {
                "buildType": "https://github.com/moby/buildkit/…",
                "resolvedDependencies": [{"uri": "pkg:a", "digest": {"sha256": "d"}, "name": "n"}],
                "externalParameters": {
                    "configSource": {"uri": "u", "path": "Dockerfile"},
                    "request": {"frontend": "dockerfile.v0"},
                },
                "internalParameters": {
                    "builderPlatform": "linux/amd64", "buildConfig": {"llbDefinition": []}, "custom": "c",
                },
            },
            "runDetails": {
                "builder": {"id": "me"},
                "metadata": {
                    "invocationId": "i", "startedOn": "s", "finishedOn": "f",
                    "buildkit_metadata": {"vcs": {}}, "buildkit_hermetic": true,
                    "buildkit_completeness": {"request": true, "resolvedDependencies": false},
                },
            },
        });
        assert_eq!(
            decoded(&one, SLSA_1, Mode::Max),
            json!({
                "builder": {"id": "me"},
                "buildType": BUILD_TYPE_02,
                "materials": [{"uri": "pkg:a", "digest": {"sha256": "d"}}],
                "invocation": {
                    "configSource": {"uri": "u", "entryPoint": "Dockerfile"},
                    "parameters": {"frontend": "dockerfile.v0"},
                    "environment": {"platform": "linux/amd64", "custom": "c"},
                },
                "buildConfig": {"llbDefinition": []},
                "metadata": {
                    "buildInvocationID": "i", "buildStartedOn": "s", "buildFinishedOn": "f",
                    "completeness": {"parameters": true, "environment": true, "materials": false},
                    "reproducible": false,
                    "https://mobyproject.org/buildkit@v1#metadata": {"vcs": {}},
                    "https://mobyproject.org/buildkit@v1#hermetic": true,
                },
            })
        );
        assert!(encode(b"[]", SLSA_1, Mode::Max).is_err());
        assert!(decoded(&json!({}), SLSA_1, Mode::Min)["invocation"].is_object());
    }

    #[test]
    fn several_platforms_have_a_key_each() {
        let attestation = |kind: &str, predicate: &str| Descriptor {
            media_type: kind.into(),
            annotations: [(PREDICATE_TYPE.to_owned(), predicate.to_owned())].into(),
            ..Default::default()
        };
        let info = BuildResultInfo {
            attestations: vec![
                attestation(IN_TOTO, "https://spdx.dev/Document"),
                attestation("other", SLSA_1),
                attestation(IN_TOTO, SLSA_1),
            ],
            ..Default::default()
        };
        let keys = |record: &BuildHistoryRecord| -> Vec<String> {
            let mut keys: Vec<_> = named(record).into_iter().map(|n| n.0).collect();
            keys.sort();
            keys
        };
        let one = BuildHistoryRecord {
            result: Some(info.clone()),
            ..Default::default()
        };
        assert_eq!(keys(&one), [KEY]);
        let several = BuildHistoryRecord {
            results: ["linux/arm64", "linux/amd64"]
                .map(|p| (p.to_owned(), info.clone()))
                .into(),
            ..Default::default()
        };
        assert_eq!(
            keys(&several),
            [
                "buildx.build.provenance/linux/amd64",
                "buildx.build.provenance/linux/arm64"
            ]
        );
        assert!(keys(&BuildHistoryRecord::default()).is_empty());
    }
}
