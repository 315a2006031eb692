//! What this program notes in the annotations of a cache's manifest: which tag it is of, and which manifests that tag
//! held before. BuildKit does not read annotations (`cache/remotecache/import.go`).
//!
//! | annotation | value |
//! |---|---|
//! | `dev.docker-cachex.tag` | the tag that the manifest was written to |
//! | `dev.docker-cachex.replaced` | the manifests that the tag held before, as `DIGEST@TIME` with spaces between, the oldest first |
//! | `dev.docker-cachex.holds` | digests of other manifests of the repository that it has taken in, with spaces between |
//! | `dev.docker-cachex.written` | when the manifest was written |
//! | `dev.docker-cachex.undeletable` | when the registry last refused to delete one |
//!
//! Notes are about one tag. Who writes to the tag takes over what its manifest notes; a copy elsewhere has none. Since
//! each manifest names its tag, no two tags that this program writes ever have one manifest.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use crate::cache::unknown::Unknown;
use crate::digest::Digest;

const ANNOTATIONS: &str = "annotations";
const TAG: &str = "dev.docker-cachex.tag";
const REPLACED: &str = "dev.docker-cachex.replaced";
const HOLDS: &str = "dev.docker-cachex.holds";
const WRITTEN: &str = "dev.docker-cachex.written";
const UNDELETABLE: &str = "dev.docker-cachex.undeletable";

/// How many manifests are noted: about 25 KiB. Those that were replaced later are not deleted.
const MOST: usize = 256;
/// How long a registry that refuses to delete is not asked again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A manifest that a tag held before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Its digest.
    pub digest: Digest,
    /// When it was replaced, in whole seconds.
    pub at: Timestamp,
}

impl Replaced {
    /// Returns whether it was replaced longer ago than this.
    pub fn is_due(&self, grace: Duration, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.at)).is_ok_and(|age| age >= grace)
    }
}

/// The notes of one manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The tag that the manifest was written to.
    pub tag: Option<String>,
    replaced: Vec<Replaced>,
    /// Other manifests of the repository of which it has every result.
    pub holds: Vec<Digest>,
    written: Option<Timestamp>,
    undeletable: Option<Timestamp>,
}

impl Notes {
    /// Takes the notes out of a manifest's fields. What cannot be read is passed over.
    pub(in crate::cache) fn take(fields: &mut Unknown) -> Self {
        let annotations = fields.get(ANNOTATIONS).filter(|json| {
            [TAG, REPLACED, HOLDS, WRITTEN, UNDELETABLE]
                .iter()
                .any(|name| json.contains(name))
        });
        let annotations = annotations.and_then(|json| serde_json::from_str(json).ok());
        let Some(mut annotations) = annotations else {
            return Self::default();
        };
        let mut take = |name: &str| take_text(&mut annotations, name);
        let notes = Self {
            tag: take(TAG),
            replaced: take(REPLACED).map_or_else(Vec::new, |text| parse_list(&text)),
            holds: take(HOLDS).map_or_else(Vec::new, |text| {
                let digests = text.split(' ').take(MOST);
                digests.filter_map(|digest| digest.parse().ok()).collect()
            }),
            written: take(WRITTEN).and_then(|text| text.parse().ok()),
            undeletable: take(UNDELETABLE).and_then(|text| text.parse().ok()),
        };
        let rest = (!annotations.is_empty()).then(|| to_raw_value(&annotations));
        match rest.transpose() {
            Ok(rest) => fields.set(ANNOTATIONS, rest),
            // What was read as JSON can be written.
            Err(error) => tracing::debug!(%error, "annotations stay as they are"),
        }
        notes
    }

    /// Puts the notes behind the other annotations of a manifest.
    ///
    /// # Errors
    ///
    /// Fails only where an annotation cannot be written as JSON.
    pub(in crate::cache) fn put(&self, fields: &mut Unknown) -> Result<(), serde_json::Error> {
        if self.is_empty() {
            return Ok(());
        }
        let others = fields.get(ANNOTATIONS);
        let others = others.and_then(|json| serde_json::from_str(json).ok());
        let mut annotations: Map<String, Value> = others.unwrap_or_default();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                annotations.insert(name.to_owned(), Value::from(value));
            }
        };
        put(TAG, self.tag.clone());
        put(REPLACED, list(&self.replaced));
        let holds: Vec<&str> = self.holds.iter().map(Digest::as_str).collect();
        put(HOLDS, (!holds.is_empty()).then(|| holds.join(" ")));
        put(WRITTEN, self.written.map(|at| at.to_string()));
        put(UNDELETABLE, self.undeletable.map(|at| at.to_string()));
        fields.set(ANNOTATIONS, Some(to_raw_value(&annotations)?));
        Ok(())
    }

    /// Returns whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the manifests that the tag held before, the oldest first.
    pub fn replaced(&self) -> &[Replaced] {
        &self.replaced
    }

    /// Returns when the manifest was written, as far as it notes that.
    pub fn written(&self) -> Option<Timestamp> {
        // What it replaced was replaced by it.
        let replaced = self.replaced.iter().map(|old| old.at).max();
        self.written.max(replaced)
    }

    /// Notes when the manifest is written.
    pub fn set_written(&mut self, at: Timestamp) {
        self.written = Some(whole_seconds(at));
    }

    /// Notes that the tag held a manifest until then.
    pub fn note(&mut self, digest: &Digest, at: Timestamp) {
        let is_known = self.replaced.iter().any(|old| old.digest == *digest);
        if is_known || self.replaced.len() >= MOST {
            return;
        }
        let (digest, at) = (digest.clone(), whole_seconds(at));
        let place = self.replaced.partition_point(|old| old.at <= at);
        self.replaced.insert(place, Replaced { digest, at });
    }

    /// Forgets manifests that are no more.
    pub fn forget(&mut self, gone: &[Digest]) {
        self.replaced.retain(|old| !gone.contains(&old.digest));
    }

    /// Returns the manifests that were replaced longer ago than this.
    pub fn due(&self, grace: Duration, now: Timestamp) -> impl Iterator<Item = &Digest> {
        let due = self.replaced.iter();
        let due = due.filter(move |old| old.is_due(grace, now));
        due.map(|old| &old.digest)
    }

    /// Notes whether the registry deletes.
    pub fn set_deletes(&mut self, deletes: bool, now: Timestamp) {
        self.undeletable = (!deletes).then(|| whole_seconds(now));
    }

    /// Returns whether the registry has refused to delete, and need not be asked again.
    pub fn is_refused(&self, now: Timestamp) -> bool {
        self.undeletable
            .is_some_and(|at| now.duration_since(at) < PATIENCE)
    }
}

fn take_text(annotations: &mut Map<String, Value>, name: &str) -> Option<String> {
    // The others keep their order.
    match annotations.shift_remove(name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn parse_list(text: &str) -> Vec<Replaced> {
    let parse = |word: &str| {
        let (digest, at) = word.split_once('@')?;
        Some(Replaced {
            digest: digest.parse().ok()?,
            at: at.parse().ok()?,
        })
    };
    let mut list: Vec<Replaced> = text.split(' ').filter_map(parse).take(MOST).collect();
    list.sort_by_key(|old| old.at);
    list
}

fn list(replaced: &[Replaced]) -> Option<String> {
    let words = replaced.iter();
    let words: Vec<String> = words.map(|r| format!("{}@{}", r.digest, r.at)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::manifest::CacheManifest;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn manifest(annotations: &str) -> String {
        let config = crate::cache::config::MEDIA_TYPE;
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"{config}","digest":"{}","size":1}},"layers":[]{annotations}}}"#,
            digest(0)
        )
    }

    #[test]
    fn notes_are_taken_and_come_back_byte_by_byte() {
        let json = manifest(&format!(
            r#","annotations":{{"z":"1","a":"2","{TAG}":"b-main","{REPLACED}":"{}@{} {}@{}","{HOLDS}":"{} {}","{WRITTEN}":"{}","{UNDELETABLE}":"{}"}}"#,
            digest(1),
            at(0),
            digest(2),
            at(5),
            digest(3),
            digest(4),
            at(7),
            at(9),
        ));
        let read = CacheManifest::parse(json.as_bytes(), "").unwrap();
        let notes = read.extras.notes();
        assert_eq!(notes.tag.as_deref(), Some("b-main"));
        assert_eq!(notes.replaced().len(), 2);
        assert_eq!(notes.holds, [digest(3), digest(4)]);
        assert_eq!(notes.written(), Some(at(7)));
        assert!(notes.is_refused(at(100)) && !notes.is_refused(at(40 * 24 * 3600)));
        assert_eq!(String::from_utf8(read.to_bytes().unwrap()).unwrap(), json);
        let mut without = read.clone();
        without.extras.set_notes(Notes::default());
        let expected = manifest(r#","annotations":{"z":"1","a":"2"}"#);
        assert_eq!(
            String::from_utf8(without.to_bytes().unwrap()).unwrap(),
            expected
        );
    }

    #[test]
    fn what_is_no_note_is_passed_over() {
        for value in ["3", "\"x\"", "\"sha256:00@y\"", "null", "{}"] {
            let json = manifest(&format!(r#","annotations":{{"{REPLACED}":{value}}}"#));
            let read = CacheManifest::parse(json.as_bytes(), "").unwrap();
            assert_eq!(*read.extras.notes(), Notes::default(), "{value}");
        }
        for json in [r#","annotations":null"#, r#","annotations":[1]"#, ""] {
            let json = manifest(json);
            let read = CacheManifest::parse(json.as_bytes(), "").unwrap();
            assert_eq!(String::from_utf8(read.to_bytes().unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn a_manifest_is_due_after_the_grace_and_noted_once() {
        let mut notes = Notes::default();
        for (n, seconds) in [(3, 60), (1, 0), (2, 30), (1, 90)] {
            notes.note(&digest(n), at(seconds));
        }
        let due = |notes: &Notes, now| -> Vec<Digest> {
            let grace = Duration::from_secs(60);
            notes.due(grace, at(now)).cloned().collect()
        };
        assert!(due(&notes, 59).is_empty());
        assert_eq!(due(&notes, 60), [digest(1)]);
        assert_eq!(due(&notes, 1000), [digest(1), digest(2), digest(3)]);
        // A clock that goes back makes nothing due.
        assert!(due(&notes, -1000).is_empty());
        notes.forget(&[digest(1), digest(9)]);
        assert_eq!(due(&notes, 1000), [digest(2), digest(3)]);
    }

    #[test]
    fn of_too_many_the_oldest_stay() {
        let mut notes = Notes::default();
        for n in 0..400_u32 {
            notes.note(&Digest::of(&n.to_be_bytes()), at(i64::from(n)));
        }
        assert_eq!(notes.replaced().len(), MOST);
        assert_eq!(notes.replaced()[0].at, at(0));
    }
}
