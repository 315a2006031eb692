//! What a build leaves behind besides its outputs: the image identifier and the metadata file.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::output_file::{self, OutputError};
use crate::text::go_json;

/// Exporter answer with the digest of the image's manifest or index.
const IMAGE_DIGEST: &str = "containerimage.digest";
/// Exporter answer with the digest of the image's config.
pub(super) const CONFIG_DIGEST: &str = "containerimage.config.digest";

/// Returns the identifier of the image that was made, or nothing if no image was: the config's
/// digest where the exporter tells it, else the digest of the manifest.
pub fn image_id(response: &BTreeMap<String, String>) -> Option<&str> {
    response
        .get(CONFIG_DIGEST)
        .or_else(|| response.get(IMAGE_DIGEST))
        .map(String::as_str)
}

/// Returns the exporters' answers as the metadata file shows them: a value that is base64 of a
/// JSON object, or of a list of objects, becomes that JSON; every other stays a text.
pub fn decode_response(response: &BTreeMap<String, String>) -> Map<String, Value> {
    response
        .iter()
        .map(|(key, text)| {
            let value = decode_value(key, text).unwrap_or_else(|| Value::from(text.clone()));
            (key.clone(), value)
        })
        .collect()
}

fn decode_value(key: &str, text: &str) -> Option<Value> {
    let json = if key == "result.json" {
        // The answer of a subrequest is JSON already.
        text.as_bytes().to_vec()
    } else {
        STANDARD.decode(text).ok()?
    };
    let value: Value = serde_json::from_slice(&json).ok()?;
    let useful = match &value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => !list.is_empty() && list.iter().all(Value::is_object),
        _ => false,
    };
    useful.then_some(value)
}

/// Writes the metadata file as a whole or not at all: readers never see half of it.
///
/// # Errors
///
/// Fails if the path is no place for a file, or its folder does not exist or cannot be written.
pub fn write_file(path: &Path, metadata: &Map<String, Value>) -> Result<(), OutputError> {
    output_file::write(path, go_json::encode_pretty(metadata).as_bytes())
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;
    use crate::testing::map;

    #[test]
    fn config_digest_is_the_image_id_where_known() {
        let both = map(&[(IMAGE_DIGEST, "sha256:m"), (CONFIG_DIGEST, "sha256:c")]);
        assert_eq!(image_id(&both), Some("sha256:c"));
        assert_eq!(
            image_id(&map(&[(IMAGE_DIGEST, "sha256:m")])),
            Some("sha256:m")
        );
        assert_eq!(image_id(&map(&[])), None);
    }

    #[test]
    fn only_objects_and_lists_of_objects_are_decoded() {
        let encoded = |json: &str| STANDARD.encode(json);
        let decoded = decode_response(&map(&[
            ("descriptor", &encoded(r#"{"size":1}"#)),
            ("list", &encoded(r#"[{"a":1}]"#)),
            ("number", &encoded("17")),
            ("empty", &encoded("{}")),
            ("result.json", r#"{"b":2}"#),
            (IMAGE_DIGEST, "sha256:aa"),
        ]));
        assert_eq!(decoded["descriptor"]["size"], 1);
        assert_eq!(decoded["list"][0]["a"], 1);
        assert_eq!(decoded["number"], encoded("17"));
        assert_eq!(decoded["empty"], encoded("{}"));
        assert_eq!(decoded["result.json"]["b"], 2);
        assert_eq!(decoded[IMAGE_DIGEST], "sha256:aa");
    }

    #[test]
    fn file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.json");
        fs::write(&path, "old").unwrap();
        write_file(&path, &decode_response(&map(&[("a", "b")]))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"a\": \"b\"\n}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_file(&dir.path().join("no/meta.json"), &Map::new()).is_err());
    }
}
