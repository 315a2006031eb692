use proptest::prelude::*;

use super::*;

fn digest(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

fn layer(n: usize, parent: Option<usize>) -> CacheLayer {
    CacheLayer {
        blob: digest(n),
        parent: Parent(parent),
        annotations: None,
        other: Unknown::default(),
    }
}

fn record(n: usize, links: &[usize]) -> CacheRecord {
    let inputs = links
        .iter()
        .map(|l| {
            vec![CacheInput {
                selector: String::new(),
                link: *l,
                other: Unknown::default(),
            }]
        })
        .collect();
    CacheRecord {
        digest: digest(n).to_string(),
        inputs,
        ..Default::default()
    }
}

#[test]
fn absent_parent_is_layer_zero_and_minus_one_is_none() {
    let json = format!(
        r#"{{"layers":[{{"blob":"{}","parent":-1}},{{"blob":"{}"}}]}}"#,
        digest(0),
        digest(1)
    );
    let config = CacheConfig::parse(json.as_bytes()).unwrap();
    assert_eq!(config.layers[0].parent, Parent(None));
    assert_eq!(config.layers[1].parent, Parent(Some(0)));
    assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), json);
    assert_eq!(config.chain(1), [0, 1]);
}

#[test]
fn what_buildkit_writes_comes_back_byte_for_byte() {
    let (a, b) = (digest(1), digest(2));
    let json = format!(
        concat!(
            r#"{{"layers":[{{"blob":"{a}","parent":-1}}],"#,
            r#""records":[{{"digest":"{b}"}},{{"layers":[{{"layer":0,"#,
            r#""createdAt":"2026-11-24T10:00:00.123456789Z"}}],"digest":"{a}","#,
            r#""inputs":[[{{"selector":"sel","link":0}}],[{{"link":0}}]]}}]}}"#
        ),
        a = a,
        b = b
    );
    let config = CacheConfig::parse(json.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), json);
}

#[test]
fn unknown_fields_are_kept() {
    let json = format!(
        r#"{{"layers":[{{"blob":"{}","parent":-1,"new":[1]}}],"version":7}}"#,
        digest(0)
    );
    let config = CacheConfig::parse(json.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), json);
}

#[test]
fn what_takes_too_much_memory_is_not_read() {
    let records = |count: usize, record: &str| {
        let list = vec![record; count].join(",");
        CacheConfig::parse(format!(r#"{{"records":[{list}]}}"#).as_bytes())
    };
    let many = format!(r#"{{"digest":"{}"}}"#, digest(0));
    assert_eq!(records(50_000, &many).unwrap().records.len(), 50_000);
    let error = records(100_000, &many).unwrap_err().to_string();
    assert!(error.contains("bytes, more than the 8388608"), "{error}");
    let error = records(300_000, "{}").unwrap_err().to_string();
    assert!(error.contains("values, more than the 524288"), "{error}");
}

fn check(layers: Vec<CacheLayer>, records: Vec<CacheRecord>) -> Result<(), ConfigError> {
    CacheConfig {
        layers,
        records,
        other: Unknown::default(),
    }
    .check()
}

#[test]
fn contradictions_are_refused() {
    assert!(matches!(
        check(vec![layer(0, Some(3))], vec![]),
        Err(ConfigError::Dangling {
            kind: "layer",
            target: 3,
            ..
        })
    ));
    assert!(matches!(
        check(vec![layer(0, Some(1)), layer(1, Some(0))], vec![]),
        Err(ConfigError::Cycle { what: "layer", .. })
    ));
    assert!(matches!(
        check(
            vec![],
            vec![record(0, &[1]), record(1, &[2]), record(2, &[0])]
        ),
        Err(ConfigError::Cycle { what: "record", .. })
    ));
    assert!(matches!(
        check(vec![], vec![record(0, &[7])]),
        Err(ConfigError::Dangling {
            kind: "record",
            target: 7,
            ..
        })
    ));
    let mut empty = record(0, &[]);
    empty.inputs.push(vec![]);
    assert!(matches!(
        check(vec![], vec![empty]),
        Err(ConfigError::EmptyInput(0))
    ));
}

#[test]
fn a_shared_record_is_no_cycle() {
    let records = vec![record(0, &[]), record(1, &[0, 0]), record(2, &[0, 1])];
    check(vec![], records).unwrap();
}

#[test]
fn a_chain_of_100_000_records_needs_no_deep_stack() {
    let records = (0..100_000)
        .map(|i| {
            if i == 0 {
                record(0, &[])
            } else {
                record(i, &[i - 1])
            }
        })
        .collect();
    check(vec![], records).unwrap();
}

#[test]
fn hostile_json_is_refused() {
    for json in [
        "",
        "[]",
        "{\"layers\":3}",
        "{\"layers\":[{\"blob\":\"x\"}]}",
        "{\"layers\":[{}]}",
    ] {
        assert!(CacheConfig::parse(json.as_bytes()).is_err(), "{json}");
    }
    let deep = "[".repeat(200_000);
    assert!(CacheConfig::parse(deep.as_bytes()).is_err());
    let parent = format!(r#"{{"layers":[{{"blob":"{}","parent":-2}}]}}"#, digest(0));
    assert!(CacheConfig::parse(parent.as_bytes()).is_err());
}

prop_compose! {
    /// A config whose links point backwards only, so that it is valid.
    fn valid_config()(
        layers in prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<bool>()), 0..12),
        records in prop::collection::vec(
            (any::<u8>(), prop::collection::vec(any::<prop::sample::Index>(), 0..3),
             prop::option::of(any::<prop::sample::Index>()), "[a-z/]{0,4}"),
            0..12,
        ),
    ) -> CacheConfig {
        let layers: Vec<_> = layers.into_iter().enumerate().map(|(i, (n, parent, top))| {
            layer(usize::from(n), if i == 0 || top { None } else { Some(parent.index(i)) })
        }).collect();
        let count = layers.len();
        let records = records.into_iter().enumerate().map(|(i, (n, links, result, selector))| {
            let links: Vec<_> =
                if i == 0 { vec![] } else { links.iter().map(|l| l.index(i)).collect() };
            let mut record = record(usize::from(n), &links);
            for input in record.inputs.iter_mut().flatten() {
                input.selector.clone_from(&selector);
            }
            if let Some(result) = result.filter(|_| count > 0) {
                record.results.push(CacheResult {
                    layer: result.index(count),
                    created_at: "2026-01-01T00:00:00Z".into(),
                    last_used: String::new(),
                    other: Unknown::default(),
                });
            }
            record
        }).collect();
        CacheConfig { layers, records, other: Unknown::default() }
    }
}

proptest! {
    #[test]
    fn every_valid_config_survives_a_round_trip(config in valid_config()) {
        let bytes = config.to_bytes().unwrap();
        prop_assert_eq!(CacheConfig::parse(&bytes).unwrap(), config);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _result = CacheConfig::parse(&bytes);
    }

    #[test]
    fn damaged_configs_never_panic(config in valid_config(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = config.to_bytes().unwrap();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if let Ok(config) = CacheConfig::parse(&bytes) {
            for layer in 0..config.layers.len() {
                prop_assert!(config.chain(layer).len() <= config.layers.len());
            }
        }
    }
}
