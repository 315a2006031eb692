use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cache::config::{CacheInput, CacheLayer, CacheRecord, CacheResult, Parent};
use crate::cache::extras::Extras;

fn layer(blob: &str, parent: Option<usize>) -> CacheLayer {
    CacheLayer {
        blob: Digest::of(blob.as_bytes()),
        parent: Parent(parent),
        annotations: None,
        other: Unknown::default(),
    }
}

fn result(layer: usize, created_at: &str) -> CacheResult {
    CacheResult {
        layer,
        created_at: created_at.to_owned(),
        last_used: String::new(),
        other: Unknown::default(),
    }
}

fn link(record: usize, selector: &str) -> CacheInput {
    CacheInput {
        selector: selector.to_owned(),
        link: record,
        other: Unknown::default(),
    }
}

fn unknown(fields: &str) -> Unknown {
    serde_json::from_str(fields).unwrap()
}

fn manifest(config: &CacheConfig) -> CacheManifest {
    let descriptor = |layer: &CacheLayer| {
        Descriptor::new(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            layer.blob.clone(),
            100,
        )
    };
    CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: None,
        layers: config.layers.iter().map(descriptor).collect(),
        other: Unknown::default(),
    }
}

fn contents(config: &CacheConfig) -> Contents {
    Contents::new(&manifest(config), config).unwrap()
}

fn merged(a: &Contents, b: &Contents) -> Contents {
    let mut merged = a.clone();
    merged.merge(b);
    merged
}

/// Steps on each other: record and layer N lie on N-1; the result of N was made on day N+1.
fn steps(name: &str, count: usize) -> CacheConfig {
    let mut config = CacheConfig::default();
    for step in 0..count {
        let below = step.checked_sub(1);
        config.layers.push(layer(&format!("{name}{step}"), below));
        config.records.push(CacheRecord {
            results: vec![result(step, &format!("2026-01-{:02}T00:00:00Z", step + 1))],
            digest: format!("{name}{step}"),
            inputs: below
                .map(|below| vec![link(below, "")])
                .into_iter()
                .collect(),
            ..CacheRecord::default()
        });
    }
    config
}

/// Everything that a config says: each chain of keys, as text, with the blobs that it leads to.
fn facts(config: &CacheConfig) -> BTreeSet<(String, Vec<Digest>)> {
    let mut terms: Vec<Vec<String>> = vec![Vec::new(); config.records.len()];
    let mut facts = BTreeSet::new();
    for index in config.inputs_first() {
        let record = &config.records[index];
        let mut found = vec![record.digest.clone()];
        for input in &record.inputs {
            let mut alternatives = Vec::new();
            for link in input {
                let below = terms[link.link].iter();
                alternatives.extend(below.map(|term| format!("{}:{term}", link.selector)));
            }
            let each = |head: &String| {
                let head = head.clone();
                let add = move |tail: &String| format!("{head}({tail})");
                alternatives.iter().map(add).collect::<Vec<_>>()
            };
            found = found.iter().flat_map(each).collect();
        }
        for result in &record.results {
            let chain = config.chain(result.layer).into_iter();
            let blobs: Vec<_> = chain.map(|l| config.layers[l].blob.clone()).collect();
            facts.extend(found.iter().map(|term| (term.clone(), blobs.clone())));
        }
        terms[index] = found;
    }
    facts
}

#[test]
fn what_both_have_is_there_once() {
    let a = contents(&steps("a", 4));
    let both = merged(&a, &contents(&steps("a", 6)));
    assert_eq!(both, contents(&steps("a", 6)));
    assert!(!a.is_still(&both, Duration::MAX));
    let other = merged(&both, &contents(&steps("b", 2)));
    assert_eq!(
        (other.results(), other.blobs().count(), other.size()),
        (8, 8, 800)
    );
}

#[test]
fn results_of_one_key_are_kept_the_youngest_first() {
    let key = |blob: &str, day: u8| {
        let mut config = steps("x", 1);
        config.layers[0].blob = Digest::of(blob.as_bytes());
        config.records[0].results[0].created_at = format!("2026-03-{day:02}T00:00:00Z");
        contents(&config)
    };
    let both = merged(&merged(&key("one", 3), &key("two", 9)), &key("one", 5));
    let [record] = &both.config.records[..] else {
        panic!("{both:?}")
    };
    let told = record.results.iter().map(|r| {
        let blob = both.config.layers[r.layer].blob.clone();
        (blob, r.created_at.as_str())
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (Digest::of(b"two"), "2026-03-09T00:00:00Z"),
            (Digest::of(b"one"), "2026-03-05T00:00:00Z"),
        ]
    );
}

/// The same steps as another writer tells them, who adds fields of its own to everything.
fn with_unknown(mut config: CacheConfig, fields: &str) -> CacheConfig {
    let all = || unknown(fields);
    config.other = all();
    for layer in &mut config.layers {
        layer.other = all();
    }
    for record in &mut config.records {
        record.other = all();
        let results = record.results.iter_mut();
        results.for_each(|result| result.other = all());
        let links = record.inputs.iter_mut().flatten();
        links.for_each(|link| link.other = all());
    }
    config
}

#[test]
fn what_is_equal_but_for_unknown_fields_is_there_once() {
    let plain = contents(&steps("a", 7));
    let (one, two) = (
        r#"{"x":[1],"m":1,"a":2}"#,
        r#"{"z":0.10000000000000000001,"m":3}"#,
    );
    let one = contents(&with_unknown(steps("a", 7), one));
    let two = contents(&with_unknown(steps("a", 7), two));
    let both = r#"{"a":2,"m":3,"x":[1],"z":0.10000000000000000001}"#;
    let both = contents(&with_unknown(steps("a", 7), both));
    assert_eq!(merged(&one, &plain), one);
    assert_eq!(merged(&plain, &one), one);
    assert_eq!(merged(&plain, &one).results(), 7);
    assert_eq!(merged(&one, &two), both);
    assert_eq!(
        merged(&two, &one).to_parts().unwrap(),
        both.to_parts().unwrap()
    );
}

/// One record whose alternatives differ in nothing that is known.
#[test]
fn links_that_are_equal_but_for_unknown_fields_are_one() {
    let mut config = steps("a", 2);
    let mut again = link(0, "");
    again.other = unknown(r#"{"x":1}"#);
    config.records[1].inputs[0].push(again.clone());
    let once = contents(&config);
    assert_eq!(once.config.records[1].inputs, [[again]]);
    assert_eq!(merged(&contents(&steps("a", 2)), &once), once);
}

/// A step that ran has two keys for its input; one that was found has one of them.
#[test]
fn fewer_keys_for_one_result_add_nothing() {
    let mut ran = steps("a", 2);
    ran.records.push(CacheRecord {
        digest: "content".to_owned(),
        ..CacheRecord::default()
    });
    ran.records[1].inputs[0].push(link(2, "path"));
    let (ran, found) = (contents(&ran), contents(&steps("a", 2)));
    assert_eq!(merged(&ran, &found), ran);
    assert_eq!(merged(&found, &ran), ran);
    assert!(ran.is_still(&merged(&ran, &found), Duration::ZERO));
    // With another result the key says something.
    let mut other = steps("a", 2);
    other.layers[1].blob = Digest::of(b"other");
    let both = merged(&ran, &contents(&other));
    assert_eq!(both.config.records.len(), 4);
    // A step on what was found stays on it.
    let longer = merged(&ran, &contents(&steps("a", 3)));
    assert_eq!((longer.config.records.len(), longer.results()), (5, 3));
}

#[test]
fn what_the_manifest_does_not_list_is_left_out() {
    let config = steps("a", 5);
    let mut listed = manifest(&config);
    listed.layers.remove(3);
    let without = Contents::new(&listed, &config).unwrap();
    assert_eq!(without, contents(&steps("a", 3)));
    let mut whole = contents(&config);
    let lost = HashSet::from([Digest::of(b"a3")]);
    assert_eq!(whole.drop_layers(&lost), 2);
    assert_eq!(whole, without);
    assert_eq!(whole.drop_layers(&lost), 0);
}

#[test]
fn a_list_of_layers_is_the_same_as_layers_on_each_other() {
    let mut config = steps("a", 3);
    let mut chained = config.clone();
    chained.records[2].results.clear();
    let chain = json!({"layers": [0, 1, 2], "createdAt": "2026-01-03T00:00:00Z"});
    chained.records[2].chains = vec![serde_json::from_value(chain).unwrap()];
    assert_eq!(contents(&chained), contents(&config));
    // A result without layers can be told in this way only.
    let empty = json!({"layers": [], "createdAt": ""});
    config.records[0].chains = vec![serde_json::from_value(empty).unwrap()];
    let with_empty = contents(&config);
    assert_eq!(with_empty.results(), 4);
    assert_eq!(merged(&with_empty, &contents(&steps("a", 3))), with_empty);
}

#[test]
fn forms_and_media_types_are_of_the_first() {
    let mut docker = contents(&steps("a", 1));
    docker.set_form(Form::DockerList);
    let both = merged(&docker, &contents(&steps("b", 1)));
    let parts = both.to_parts().unwrap();
    let listed = CacheManifest::parse(&parts.manifest, "").unwrap();
    assert_eq!(listed.form, Form::DockerList);
    for layer in &listed.layers {
        assert!(layer.media_type.contains("docker"), "{}", layer.media_type);
    }
    assert_eq!(listed.config.unwrap().digest, Digest::of(&parts.config));
    assert!(docker.is_still(&merged(&docker, &contents(&steps("a", 1))), Duration::ZERO));
}

#[test]
fn an_image_is_no_cache() {
    let image = br#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}"#;
    let read = Contents::parse(image, crate::cache::media::OCI_MANIFEST, b"{}");
    assert!(matches!(read, Err(ContentsError::NoCache)));
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_use_is_noted_beside_the_time_of_making() {
    let mut used = contents(&steps("a", 2));
    let old = used.clone();
    used.touch(at("2026-01-02T00:03:00.5Z"));
    let text = String::from_utf8(used.to_parts().unwrap().config.to_vec()).unwrap();
    assert_eq!(
        text.matches("\"lastUsed\":\"2026-01-02T00:03:00Z\"")
            .count(),
        1,
        "{text}"
    );
    assert_eq!(merged(&old, &used), used);
    assert_eq!(merged(&used, &old), used);
    assert!(!old.is_still(&used, Duration::from_secs(3600)));
    assert!(old.is_still(&used, Duration::from_secs(100_000)));
}

#[test]
fn the_least_recently_used_results_go() {
    let now = at("2026-02-01T00:00:00Z");
    let mut old = contents(&steps("a", 20));
    let mut new = contents(&steps("b", 3));
    new.touch(now);
    old.merge(&new);
    let cut = |bounds: Bounds| {
        let mut cut = old.clone();
        let dropped = cut.bound(&bounds, now).unwrap();
        (cut, dropped)
    };
    let (same, none) = cut(Bounds::default());
    assert_eq!((same, none), (old.clone(), None));

    let max_size = Some(599);
    let (cut_size, dropped) = cut(Bounds {
        max_size,
        ..Bounds::default()
    });
    // The youngest result of 20 needs all 20 layers.
    assert_eq!(cut_size, new);
    let dropped = dropped.unwrap();
    assert_eq!(
        (dropped.results, dropped.layers, dropped.bytes),
        (20, 20, 2000)
    );
    assert_eq!(
        dropped.to_string(),
        "dropped the 20 least recently used of 23 results (20 layers, 2kB), over max-size"
    );

    let max_records = Some(2);
    let (cut_records, dropped) = cut(Bounds {
        max_records,
        ..Bounds::default()
    });
    let mut first = contents(&steps("b", 2));
    first.touch(now);
    assert_eq!(cut_records, first);
    assert_eq!(dropped.unwrap().bounds, ["max-records"]);

    let max_age = Some(Duration::from_secs(20 * 86_400));
    let (cut_age, dropped) = cut(Bounds {
        max_age,
        ..Bounds::default()
    });
    // Those of day 12 and later; their keys and layers need all that is below.
    assert_eq!(
        (cut_age.results(), cut_age.config.records.len()),
        (9 + 3, 23)
    );
    assert_eq!(dropped.unwrap().bounds, ["max-age"]);

    let whole = old.to_parts().unwrap();
    let metadata = whole.manifest.len().max(whole.config.len()) - 1;
    let (cut_bytes, dropped) = cut(Bounds {
        metadata,
        ..Bounds::default()
    });
    assert!(cut_bytes.to_parts().unwrap().manifest.len() <= metadata);
    assert_eq!(dropped.unwrap().bounds, ["BuildKit's 1 MiB"]);
}

/// Ten thousand records each, with thousands that differ in little, and far deeper than any stack.
#[test]
fn large_and_deep_caches_are_united() {
    let mut wide = steps("w", 1);
    wide.records.push(CacheRecord {
        digest: "u".to_owned(),
        ..CacheRecord::default()
    });
    for index in 0..5_000 {
        wide.records.push(CacheRecord {
            digest: format!("u{index}"),
            ..CacheRecord::default()
        });
        let unlike = wide.records.len() - 1;
        wide.records.push(CacheRecord {
            results: vec![result(0, "2026-01-01T00:00:00Z")],
            digest: "same".to_owned(),
            inputs: vec![vec![link(0, "")], vec![link(1, ""), link(unlike, "")]],
            ..CacheRecord::default()
        });
    }
    let wide = contents(&wide);
    let mut deep = CacheConfig::default();
    for index in 0..10_000_usize {
        let below = index.checked_sub(1);
        deep.layers.push(layer(&format!("d{}", index % 10), below));
        deep.records.push(CacheRecord {
            results: vec![result(index, "2026-01-01T00:00:00Z")],
            digest: format!("d{}", index % 10),
            inputs: below
                .map(|below| vec![link(below, "")])
                .into_iter()
                .collect(),
            ..CacheRecord::default()
        });
    }
    let deep = contents(&deep);
    let both = merged(&wide, &deep);
    assert_eq!(both.results(), wide.results() + 10_000);
    let mut without = both.clone();
    without.drop_layers(&HashSet::from([Digest::of(b"d0")]));
    assert_eq!(without, wide);
}

/// Names and blobs are few, so that several configs have much in common.
fn any_config() -> impl Strategy<Value = CacheConfig> {
    let layer = (0_usize..5, any::<usize>(), any::<bool>());
    let results = proptest::collection::vec((any::<usize>(), 1_u8..29), 0..3);
    let links = proptest::collection::vec((any::<usize>(), any::<bool>()), 1..4);
    let record = (0_usize..4, results, links, any::<bool>());
    let layers = proptest::collection::vec(layer, 1..6);
    (layers, proptest::collection::vec(record, 0..7)).prop_map(|(layers, records)| {
        let mut config = CacheConfig::default();
        for (index, (blob, parent, first)) in layers.into_iter().enumerate() {
            let parent = (!first && index > 0).then(|| parent % index.max(1));
            config.layers.push(self::layer(&blob.to_string(), parent));
        }
        for (index, (name, results, links, second)) in records.into_iter().enumerate() {
            let mut inputs = Vec::new();
            if index > 1 {
                let links = links.into_iter();
                let links = links.map(|(to, all)| link(to % index, if all { "" } else { "s" }));
                inputs.push(links.collect());
                if second {
                    inputs.push(vec![link(usize::from(name > 1), "")]);
                }
            }
            let layers = config.layers.len();
            let one = |(layer, day)| result(layer % layers, &format!("2026-02-{day:02}T00:00:00Z"));
            config.records.push(CacheRecord {
                results: results.into_iter().map(one).collect(),
                digest: format!("{}{name}", if index < 2 { "root" } else { "step" }),
                inputs,
                ..CacheRecord::default()
            });
        }
        config
    })
}

proptest! {
    #[test]
    fn a_union_says_what_its_parts_say_and_nothing_else(a in any_config(), b in any_config()) {
        let (alone_a, alone_b) = (contents(&a), contents(&b));
        prop_assert_eq!(facts(alone_a.config()), facts(&a));
        let both = merged(&alone_a, &alone_b);
        both.config().check().unwrap();
        let mut said = facts(&a);
        said.extend(facts(&b));
        prop_assert_eq!(facts(both.config()), said);
        let read = Contents::parse(
            &both.to_parts().unwrap().manifest, "", &both.to_parts().unwrap().config
        );
        prop_assert_eq!(read.unwrap(), both);
    }

    #[test]
    fn order_and_repetition_do_not_matter(
        a in any_config(), b in any_config(), c in any_config()
    ) {
        let (a, b, c) = (contents(&a), contents(&b), contents(&c));
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&a, &a), a.clone());
        let (left, right) = (merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&left, &c), left.clone());
        prop_assert_eq!(left.timeless().0, right.timeless().0);
        prop_assert!(left.is_still(&merged(&left, &a), Duration::MAX));
    }

    #[test]
    fn unknown_fields_change_no_result(a in any_config(), b in any_config()) {
        let plain = merged(&contents(&a), &contents(&b));
        let one = contents(&with_unknown(a, r#"{"x":1.50,"b":[2]}"#));
        let two = contents(&with_unknown(b, r#"{"x":1.5,"a":{}}"#));
        let both = merged(&one, &two);
        let count = |c: &Contents| (c.results(), c.config.records.len(), c.config.layers.len());
        prop_assert_eq!(count(&both), count(&plain));
        prop_assert_eq!(&merged(&two, &one), &both);
        let parts = both.to_parts().unwrap();
        prop_assert_eq!(Contents::parse(&parts.manifest, "", &parts.config).unwrap(), both);
    }

    #[test]
    fn without_lost_blobs_the_rest_is_said(a in any_config(), lost in 0_usize..5) {
        let lost = Digest::of(lost.to_string().as_bytes());
        let mut left = contents(&a);
        left.drop_layers(&HashSet::from([lost.clone()]));
        let mut said = facts(&a);
        said.retain(|(_, blobs)| !blobs.contains(&lost));
        prop_assert_eq!(facts(left.config()), said);
        prop_assert_eq!(contents(left.config()), left);
    }

    #[test]
    fn bounds_hold_and_the_last_used_stay(
        a in any_config(), size in 0_u64..500, records in 0_u64..8, days in 0_u64..40
    ) {
        let now = at("2026-03-01T00:00:00Z");
        let bounds = Bounds {
            max_age: Some(Duration::from_secs(days * 86_400)),
            max_size: Some(size),
            max_records: Some(records),
            ..Bounds::default()
        };
        let whole = contents(&a);
        let mut cut = whole.clone();
        let dropped = cut.bound(&bounds, now).unwrap();
        prop_assert!(cut.size() <= size && cut.config().records.len() as u64 <= records);
        prop_assert_eq!(dropped.map_or(0, |d| d.results), whole.results() - cut.results());
        prop_assert!(facts(cut.config()).is_subset(&facts(whole.config())));
        prop_assert_eq!(contents(cut.config()), cut.clone());
        let times = |c: &Contents| c.timeless().1.iter().map(Times::used).collect::<Vec<_>>();
        let (mut all, mut kept) = (times(&whole), times(&cut));
        all.sort_unstable_by(|a, b| b.cmp(a));
        kept.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert_eq!(&all[..kept.len()], &kept[..]);
    }
}
