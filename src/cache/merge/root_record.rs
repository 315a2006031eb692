//! One record that all others lead to.
//!
//! BuildKit (0.20 and later, `cache/remotecache/v1/cachestorage.go`) reads a cache from the records that
//! nothing follows on. Where it comes from a second of those to a record that it has taken already, it
//! takes over only the first link to it: steps that a cache has are run again, now one and now another.
//! From a single last record it reads all links.

use std::collections::HashSet;

use crate::cache::config::{CacheConfig, CacheInput, CacheRecord};
use crate::cache::unknown::Unknown;
use crate::digest::Digest;

/// What the digest of the record is made of. No step has it, and it has no result.
const NAME: &[u8] = b"docker-cachex: all builds of a merged cache";

/// Returns whether a record's digest is that of the record that all others lead to. It is no step.
pub fn is_root_record(digest: &str) -> bool {
    digest == Digest::of(NAME).as_str()
}

/// Adds a record that lies on all that nothing follows on, if they are several.
pub(super) fn add(config: &CacheConfig) -> CacheConfig {
    let mut joined = config.clone();
    let records = config.records.iter();
    let followed: HashSet<usize> = records
        .flat_map(|record| record.inputs.iter().flatten().map(|input| input.link))
        .collect();
    let records = config.records.iter().enumerate();
    let last = records.filter(|(at, record)| !followed.contains(at) && !record.inputs.is_empty());
    let inputs: Vec<Vec<CacheInput>> = last
        .map(|(link, _)| {
            vec![CacheInput {
                selector: String::new(),
                link,
                other: Unknown::default(),
            }]
        })
        .collect();
    if inputs.len() > 1 {
        joined.records.push(CacheRecord {
            digest: Digest::of(NAME).to_string(),
            inputs,
            ..CacheRecord::default()
        });
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::merge::Contents;

    /// Two steps on one base, each of its own build.
    fn config() -> CacheConfig {
        let blob = |name: &str| Digest::of(name.as_bytes()).to_string();
        let text = r#"{"layers":[{"blob":"A!","parent":-1},{"blob":"B!","parent":-1}],"records":[
            {"digest":"base"},
            {"digest":"one","layers":[{"layer":0}],"inputs":[[{"link":0}]]},
            {"digest":"two","layers":[{"layer":1}],"inputs":[[{"link":0}]]}]}"#;
        let text = text.replace("A!", &blob("a")).replace("B!", &blob("b"));
        CacheConfig::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn all_last_records_lead_to_one() {
        let joined = add(&config());
        joined.check().unwrap();
        let last = joined.records.last().unwrap();
        let links: Vec<usize> = last.inputs.iter().flatten().map(|i| i.link).collect();
        assert_eq!((joined.records.len(), links), (4, vec![1, 2]));
        assert!(last.results.is_empty() && last.chains.is_empty());
    }

    #[test]
    fn one_last_record_is_enough() {
        let mut alone = config();
        alone.records.pop();
        assert_eq!(add(&alone), alone);
    }

    #[test]
    fn it_is_not_taken_for_a_part_of_the_cache() {
        use crate::cache::descriptor::Descriptor;
        use crate::cache::extras::Extras;
        use crate::cache::manifest::CacheManifest;
        use crate::cache::media::Form;
        let blob = |name: &str| {
            Descriptor::new(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                Digest::of(name.as_bytes()),
                1,
            )
        };
        let manifest = CacheManifest {
            extras: Extras::default(),
            form: Form::OciManifest,
            config: None,
            layers: vec![blob("a"), blob("b")],
            other: Unknown::default(),
        };
        let contents = Contents::new(&manifest, &config()).unwrap();
        let again = Contents::new(&manifest, &add(contents.config())).unwrap();
        assert_eq!(contents, again);
        let mut both = again.clone();
        both.merge(&contents);
        assert_eq!(both.to_parts().unwrap(), contents.to_parts().unwrap());
    }
}
