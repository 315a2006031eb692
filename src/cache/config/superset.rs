//! Whether one config has all that another has.
//!
//! BuildKit does not write the same config for the same result each time: a step that ran leaves more
//! cache keys than one that was found, so the second export of an unchanged build lacks some of the first.

use std::collections::HashMap;

use super::{CacheConfig, CacheInput, CacheRecord};
use crate::digest::Digest;

/// The blobs of a result, lowest first.
type Blobs<'a> = Vec<&'a Digest>;

impl CacheConfig {
    /// Returns whether every record of `other` is here: the same key, results of the same blobs, and for
    /// each input every record that it may come from. Both configs must have been checked.
    pub fn is_superset_of(&self, other: &Self) -> bool {
        let mut by_digest: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, record) in self.records.iter().enumerate() {
            by_digest.entry(&record.digest).or_default().push(index);
        }
        // For each record of the other config those here that cover it.
        let mut covering: HashMap<usize, Vec<usize>> = HashMap::new();
        for index in other.inputs_first() {
            let Some(record) = other.records.get(index) else {
                return false;
            };
            let wanted = other.results(record);
            let candidates = by_digest.get(record.digest.as_str()).into_iter().flatten();
            let found: Vec<usize> = candidates
                .copied()
                .filter(|here| {
                    self.records.get(*here).is_some_and(|here| {
                        let have = self.results(here);
                        wanted.iter().all(|blobs| have.contains(blobs))
                            && covers_inputs(here, record, &covering)
                    })
                })
                .collect();
            if found.is_empty() {
                return false;
            }
            covering.insert(index, found);
        }
        true
    }

    fn results(&self, record: &CacheRecord) -> Vec<Blobs<'_>> {
        let blobs = |layers: &[usize]| -> Blobs<'_> {
            let layers = layers.iter().filter_map(|layer| self.layers.get(*layer));
            layers.map(|layer| &layer.blob).collect()
        };
        let whole = record.results.iter().map(|r| blobs(&self.chain(r.layer)));
        let listed = record.chains.iter().map(|c| blobs(&c.layers));
        whole.chain(listed).collect()
    }

    /// Returns the records so that those of its inputs come before each. Without recursion: a hostile
    /// config may be as deep as it is long.
    pub(in crate::cache) fn inputs_first(&self) -> Vec<usize> {
        let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut waiting = Vec::with_capacity(self.records.len());
        for (index, record) in self.records.iter().enumerate() {
            let links = record.inputs.iter().flatten();
            let count = links.map(|input| users.entry(input.link).or_default().push(index));
            waiting.push(count.count());
        }
        let none = waiting.iter().enumerate().filter(|(_, left)| **left == 0);
        let mut ready: Vec<usize> = none.map(|(index, _)| index).collect();
        let mut order = Vec::with_capacity(self.records.len());
        while let Some(index) = ready.pop() {
            order.push(index);
            for user in users.get(&index).into_iter().flatten() {
                if let Some(left) = waiting.get_mut(*user) {
                    *left -= 1;
                    if *left == 0 {
                        ready.push(*user);
                    }
                }
            }
        }
        order
    }
}

fn covers_inputs(
    here: &CacheRecord,
    other: &CacheRecord,
    covering: &HashMap<usize, Vec<usize>>,
) -> bool {
    let same = |have: &CacheInput, wanted: &CacheInput| {
        have.selector == wanted.selector
            && covering
                .get(&wanted.link)
                .is_some_and(|found| found.contains(&have.link))
    };
    here.inputs.len() == other.inputs.len()
        && here.inputs.iter().zip(&other.inputs).all(|(have, wanted)| {
            wanted
                .iter()
                .all(|wanted| have.iter().any(|have| same(have, wanted)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> CacheConfig {
        let blob = |name: &str| Digest::of(name.as_bytes()).to_string();
        let text = text.replace("A!", &blob("a")).replace("B!", &blob("b"));
        CacheConfig::parse(text.as_bytes()).unwrap()
    }

    /// Two layers; a step whose input has one of two keys, as after a run.
    fn ran() -> CacheConfig {
        config(
            r#"{"layers":[{"blob":"A!","parent":-1},{"blob":"B!"}],"records":[
                {"digest":"step","layers":[{"layer":1}],"inputs":[[{"link":1},{"link":2,"selector":"s"}]]},
                {"digest":"one","layers":[{"layer":0}]},
                {"digest":"two"}]}"#,
        )
    }

    #[test]
    fn fewer_keys_in_another_order_are_covered() {
        let found = config(
            r#"{"layers":[{"blob":"B!","parent":1},{"blob":"A!","parent":-1}],"records":[
                {"digest":"one","layers":[{"layer":1}]},
                {"digest":"step","layers":[{"layer":0}],"inputs":[[{"link":0}]]}]}"#,
        );
        assert!(ran().is_superset_of(&found));
        assert!(!found.is_superset_of(&ran()));
        assert!(ran().is_superset_of(&ran()) && found.is_superset_of(&found));
        assert!(ran().is_superset_of(&CacheConfig::default()));
    }

    #[test]
    fn what_differs_is_not_covered() {
        for other in [
            // Another key, another blob, another place of the blob, another selector, one input more.
            r#"{"records":[{"digest":"other"}]}"#,
            r#"{"layers":[{"blob":"B!","parent":-1}],"records":[{"digest":"one","layers":[{"layer":0}]}]}"#,
            r#"{"layers":[{"blob":"B!","parent":-1}],"records":[{"digest":"two","layers":[{"layer":0}]}]}"#,
            r#"{"records":[{"digest":"step","inputs":[[{"link":1,"selector":"x"}]]},{"digest":"one"}]}"#,
            r#"{"records":[{"digest":"step","inputs":[[{"link":1}],[{"link":1}]]},{"digest":"one"}]}"#,
            r#"{"records":[{"digest":"step","inputs":[[{"link":1}]]},{"digest":"two"}]}"#,
        ] {
            assert!(!ran().is_superset_of(&config(other)), "{other}");
        }
    }

    #[test]
    fn deep_configs_need_no_stack() {
        use crate::cache::unknown::Unknown;
        let records: Vec<CacheRecord> = (0..50_000_usize)
            .map(|index| CacheRecord {
                digest: format!("r{index}"),
                inputs: if index == 0 {
                    Vec::new()
                } else {
                    let link = index - 1;
                    vec![vec![CacheInput {
                        selector: String::new(),
                        link,
                        other: Unknown::default(),
                    }]]
                },
                ..CacheRecord::default()
            })
            .collect();
        let deep = CacheConfig {
            records,
            ..CacheConfig::default()
        };
        assert!(deep.is_superset_of(&deep));
    }
}
