//! Entries of this program in the manifest of a cache. This is the one place that knows them.
//!
//! | file | holds |
//! |---|---|
//! | [`age`] | when a cache was written |
//! | [`attach`] | record, signature and mounts added to a cache that has been written |
//! | [`clean`] | manifests that a tag held before, deleted |
//! | [`mounts`] | the entries of cache mounts |
//! | [`notes`] | what this program notes in a manifest's annotations |
//! | [`refusals`] | repositories whose registry does not take a record |
//! | [`store`] | the record of a build stored, and a manifest written with it |
//!
//! An entry stands among the layers, because registries keep only what a manifest names, and looks like one:
//! GitLab's registry refuses types that it does not know. An annotation tells it apart. No result of the
//! config leads to it, so BuildKit never reads it (`cache/remotecache/import.go`). It counts as no layer:
//! a [`CacheManifest`](super::manifest::CacheManifest) has it apart from those.
//!
//! | annotation | what the entry is |
//! |---|---|
//! | `dev.docker-cachex.record` | the [record](super::record) of the builds that wrote the cache |
//! | `dev.docker-cachex.mount` | the index or a pack of a [mount](mounts), which is the value |

pub mod age;
pub mod attach;
pub mod clean;
pub mod mounts;
pub mod notes;
pub mod refusals;
pub mod store;

use serde_json::Value;

use self::mounts::Mounts;
use self::notes::Notes;
use super::descriptor::{Descriptor, UNCOMPRESSED};
use super::media::Form;
use super::media::layer_type;
use super::record::Blob;
use super::unknown::Unknown;
use crate::compress::Algorithm;

/// Annotation of the record's entry.
const RECORD: &str = "dev.docker-cachex.record";

/// The entries and notes of this program in one manifest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extras {
    record: Option<Descriptor>,
    mounts: Mounts,
    notes: Notes,
}

impl Extras {
    /// Takes the entries out of those of a manifest, and the notes out of its other fields. Of several entries of one
    /// kind the first counts.
    pub(super) fn take(entries: &mut Vec<Descriptor>, fields: &mut Unknown) -> Self {
        let mut extras = Self {
            record: None,
            mounts: Mounts::default(),
            notes: Notes::take(fields),
        };
        entries.retain(|entry| {
            let is_record = entry.annotations.contains_key(RECORD);
            if is_record && extras.record.is_none() {
                extras.record = Some(entry.clone());
            }
            !is_record
        });
        extras.mounts = Mounts::take(entries);
        extras
    }

    /// Returns whether there is no entry.
    pub fn has_no_entry(&self) -> bool {
        self.record.is_none() && self.mounts.is_empty()
    }

    /// Returns the notes alone, without entries.
    #[must_use]
    pub fn without_entries(&self) -> Self {
        Self {
            record: None,
            mounts: Mounts::default(),
            notes: self.notes.clone(),
        }
    }

    /// Returns the notes.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Sets the notes.
    pub fn set_notes(&mut self, notes: Notes) {
        self.notes = notes;
    }

    /// Returns the entries, in the order in which they stand behind the layers.
    pub fn entries(&self) -> impl Iterator<Item = &Descriptor> {
        self.record.iter().chain(self.mounts.entries())
    }

    /// Returns the entry of the record.
    pub fn record(&self) -> Option<&Descriptor> {
        self.record.as_ref()
    }

    /// Sets the entry of the record.
    pub fn set_record(&mut self, record: Option<Descriptor>) {
        self.record = record;
    }

    /// Returns the mounts.
    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Sets the mounts.
    pub fn set_mounts(&mut self, mounts: Mounts) {
        self.mounts = mounts;
    }

    /// Takes the entries of another manifest of which this one has none. Of two records the one with the
    /// greater digest stays, so that the order does not matter; who has a registry at hand
    /// [merges](store) them. Notes stay as they are: they are about one tag, and not about what is under it.
    pub(super) fn merge(&mut self, other: &Self) {
        let digest = |extras: &Self| extras.record.as_ref().map(|entry| entry.digest.clone());
        if digest(other) > digest(self) {
            self.record.clone_from(&other.record);
        }
        self.mounts.merge(&other.mounts);
    }

    /// Writes the entries for a manifest of this form.
    pub(super) fn in_form(&self, form: Form) -> Self {
        let mut extras = self.clone();
        let oci = form != Form::DockerList;
        let entries = extras.record.iter_mut();
        for entry in entries.chain(extras.mounts.entries_mut()) {
            layer_type(Algorithm::Gzip, oci).clone_into(&mut entry.media_type);
        }
        extras
    }
}

/// Returns the entry of a record.
pub fn record_entry(blob: &Blob, form: Form) -> Descriptor {
    let oci = form != Form::DockerList;
    let mut entry = Descriptor::of(layer_type(Algorithm::Gzip, oci), &blob.bytes);
    for (name, value) in [(RECORD, "1"), (UNCOMPRESSED, blob.diff_id.as_str())] {
        entry
            .annotations
            .insert(name.to_owned(), Value::from(value));
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::config;
    use crate::cache::manifest::CacheManifest;
    use crate::cache::media::{OCI_INDEX, OCI_MANIFEST};
    use crate::cache::record::Record;

    fn with_record(media_type: &str) -> String {
        let record = record_entry(&Record::default().to_blob().unwrap(), Form::OciManifest);
        let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", b"layer");
        let config = Descriptor::of(config::MEDIA_TYPE, b"config");
        let json = |value: &Descriptor| serde_json::to_string(value).unwrap();
        let (layer, record, config) = (json(&layer), json(&record), json(&config));
        let body = if media_type == OCI_INDEX {
            format!(r#""manifests":[{layer},{record},{config}]"#)
        } else {
            format!(r#""config":{config},"layers":[{layer},{record}]"#)
        };
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}",{body}}}"#)
    }

    #[test]
    fn an_entry_is_no_layer_and_comes_back_byte_by_byte() {
        for media_type in [OCI_MANIFEST, OCI_INDEX] {
            let json = with_record(media_type);
            let manifest = CacheManifest::parse(json.as_bytes(), "").unwrap();
            assert_eq!(manifest.layers.len(), 1);
            assert!(manifest.extras.record().is_some());
            let bytes = manifest.to_bytes().unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), json);
        }
    }

    #[test]
    fn of_several_records_one_stays_whatever_the_order() {
        let entry = |text: &[u8]| {
            let mut entry = Descriptor::of("x", text);
            entry.annotations.insert(RECORD.into(), "1".into());
            entry
        };
        let mut entries = vec![entry(b"a"), Descriptor::of("x", b"layer"), entry(b"b")];
        let first = Extras::take(&mut entries, &mut Unknown::default());
        assert_eq!(first.record(), Some(&entry(b"a")));
        assert_eq!(entries.len(), 1);
        let second = Extras::take(&mut vec![entry(b"b")], &mut Unknown::default());
        let (mut one, mut other) = (first.clone(), second.clone());
        one.merge(&second);
        other.merge(&first);
        assert_eq!(one, other);
        one.merge(&Extras::default());
        assert_eq!(one, other);
    }
}
