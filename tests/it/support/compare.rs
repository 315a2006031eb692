//! What builds leave behind, in forms that can be compared.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use serde_json::Value;

use super::rig::text;

/// An image's configuration without the times of the build.
pub(crate) fn without_times(mut config: Value) -> Value {
    let map = config.as_object_mut().expect("an object");
    map.remove("created");
    for step in map["history"].as_array_mut().expect("a history") {
        step.as_object_mut().expect("an object").remove("created");
    }
    config
}

/// A key of provenance that builders newer than the peer write. The peer loses it, because it reads provenance into
/// types of its own before it writes the metadata file.
const UNKNOWN_TO_AN_OLD_PEER: &str = "compatibilityVersion";

/// The paths of all keys in a document that every peer knows; places in lists do not count.
pub(crate) fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter().filter(|(key, _)| *key != UNKNOWN_TO_AN_OLD_PEER) {
                // The keys are identifiers of steps and layers.
                let key = if key.starts_with("step") || key.starts_with("sha256:") {
                    "N"
                } else {
                    key
                };
                paths(inner, &format!("{at}.{key}"), found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| paths(inner, at, found)),
        _ => found.push(at.to_owned()),
    }
}

/// Each entry of a folder: kind and mode, size, link target and content.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("an entry");
            let what = if meta.is_dir() {
                folders.push(path.clone());
                String::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).expect("a link").display().to_string()
            } else {
                let bytes = fs::read(&path).expect("a file");
                super::registry::digest(&bytes)
            };
            let name = path
                .strip_prefix(root)
                .expect("inside")
                .display()
                .to_string();
            found.insert(name, format!("{:o} {} {what}", meta.mode(), meta.mtime()));
        }
    }
    found
}

/// Each entry of a tar archive with its mode and content.
pub(crate) fn archive(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(fs::File::open(path).expect("an archive"));
    let mut found = BTreeMap::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("content");
        let header = entry.header();
        if name == "index.json" {
            // It holds the time of the export.
            let mut index: Value = serde_json::from_slice(&bytes).expect("JSON");
            for entry in index["manifests"].as_array_mut().expect("a list") {
                let annotations = entry["annotations"].as_object_mut().expect("an object");
                assert!(
                    annotations
                        .remove("org.opencontainers.image.created")
                        .is_some()
                );
            }
            bytes = index.to_string().into_bytes();
        }
        let link = header
            .link_name_bytes()
            .map(|l| text(&l))
            .unwrap_or_default();
        found.insert(
            name,
            format!(
                "{:o} {:?} {link} {}",
                header.mode().expect("a mode"),
                header.entry_type(),
                super::registry::digest(&bytes)
            ),
        );
    }
    found
}
