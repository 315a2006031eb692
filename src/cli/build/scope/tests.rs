use super::*;
use crate::cache::export::Published;
use crate::digest::Digest;

fn event(name: &str) -> scope::Event {
    scope::Event::Branch(name.to_owned())
}

#[test]
fn the_event_file_is_read_if_it_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_event(dir.path()), None);
    assert_eq!(read_event(&dir.path().join("none")), None);
    let path = dir.path().join("event.json");
    fs_err::write(&path, r#"{"repository":{"default_branch":"trunk"}}"#).unwrap();
    let path = path.to_str().unwrap();
    let env = Env::from_pairs(
        [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REF", "refs/heads/x"),
            ("GITHUB_EVENT_PATH", path),
        ],
        dir.path(),
    );
    let facts = facts(&env).unwrap();
    assert_eq!(facts.default.as_deref(), Some("trunk"));
    assert_eq!(facts.event, event("x"));
}

fn scopes(value: &str, facts: &Facts) -> Scopes {
    let cache = ScopedCache::parse(value).unwrap().unwrap();
    let plan = scope::plan(facts, &GitFacts::default(), &wishes(&cache));
    Scopes {
        cache,
        plan,
        is_shown: AtomicBool::new(false),
    }
}

fn push() -> Facts {
    Facts {
        ci: Some("CI"),
        event: event("fix"),
        default: Some("main".into()),
        ..Facts::default()
    }
}

#[test]
fn scopes_come_after_what_the_user_names() {
    let mut scopes = scopes("r.io/c", &push());
    let mut request = BuildRequest {
        cache_from: crate::options::cache::CacheFrom::parse("r.io/own").unwrap(),
        ..BuildRequest::default()
    };
    scopes.add_to(&mut request).unwrap();
    let read: Vec<String> = request.cache_from.iter().map(ToString::to_string).collect();
    let expected = ["r.io/own", "r.io/c:b-main", "r.io/c:b-fix"];
    for (read, expected) in read.iter().zip(expected) {
        assert!(read.ends_with(&format!("ref={expected}")), "{read}");
    }
    assert_eq!(read.len(), 3);
    let [CacheTo::Registry(to)] = &request.cache_to[..] else {
        panic!("{:?}", request.cache_to)
    };
    assert_eq!(to.raw_ref, "r.io/c:b-fix");
}

#[test]
fn a_cache_to_write_that_the_user_names_wins() {
    let mut scopes = scopes("r.io/c", &push());
    let mut request = BuildRequest {
        cache_to: CacheTo::parse("r.io/own").unwrap(),
        ..BuildRequest::default()
    };
    scopes.add_to(&mut request).unwrap();
    assert_eq!(request.cache_to.len(), 1);
    assert_eq!(
        scopes.ended(&CacheEnds::default()),
        "cache r.io/c: found nothing to read; wrote nothing"
    );
    let line = scope::line("r.io/c", &scopes.plan, &[]);
    assert!(
        line.ends_with("writes nothing (--cache-to is given)"),
        "{line}"
    );
}

#[test]
fn ages_are_in_words() {
    let now = Timestamp::from_second(1_000_000).unwrap();
    let then = Timestamp::from_second(1_000_000 - 7200).unwrap();
    let of = |age| held(Holding::Cache(age), now);
    let words = |words: &str| Held::Cache(Some(words.to_owned()));
    assert_eq!(of(Some(Age::Written(then))), words("2 hours old"));
    assert_eq!(of(Some(Age::Made(then))), words("newest layer 2 hours old"));
    assert_eq!(of(None), Held::Cache(None));
    let later = Age::Written(Timestamp::from_second(1_000_060).unwrap());
    assert_eq!(of(Some(later)), Held::Cache(None), "clocks differ");
}

fn published(layers: usize, sent_bytes: u64) -> Published {
    Published {
        manifest: Digest::of(b"m"),
        unchanged: sent_bytes == 0,
        layers,
        sent_layers: 1,
        sent_bytes,
        too_large: false,
        merged: None,
        dropped: None,
        refused: false,
    }
}

#[test]
fn the_last_line_says_what_came_of_it() {
    let scopes = scopes("r.io/c", &push());
    let (fix, main) = ("r.io/c:b-fix", "r.io/c:b-main");
    let of = |read: &[(&str, ReadEnd)], written: Option<WriteEnd>| {
        let read = read.iter().map(|(name, end)| ((*name).to_owned(), *end));
        let written = written.map(|end| (fix.to_owned(), end));
        CacheEnds {
            read: read.collect(),
            written: written.into_iter().collect(),
            ..CacheEnds::default()
        }
    };
    let both = [(fix, ReadEnd::Missing), (main, ReadEnd::Read)];
    let stored = || WriteEnd::Stored(published(3, 1_000_000));
    for (ends, expected) in [
        (
            of(&both, Some(stored())),
            "read b-main; wrote b-fix: 3 layers, 1MB sent",
        ),
        (
            of(
                &[(fix, ReadEnd::Read), (main, ReadEnd::Failed)],
                Some(WriteEnd::Failed),
            ),
            "read b-fix; could not read b-main; could not write b-fix",
        ),
        (
            of(&[(main, ReadEnd::Failed)], Some(WriteEnd::Nothing)),
            "could not read b-main; wrote nothing: no step made a layer",
        ),
        (
            of(&both, Some(WriteEnd::Stored(published(3, 0)))),
            "read b-main; b-fix was up to date",
        ),
        (
            of(&both, None),
            "read b-main; the builder did not write b-fix",
        ),
        (
            CacheEnds {
                by_builder: true,
                ..of(&both, None)
            },
            "read b-main; wrote b-fix",
        ),
        (
            CacheEnds {
                refused: true,
                ..of(&both, None)
            },
            "read b-main; did not write b-fix",
        ),
    ] {
        assert_eq!(scopes.ended(&ends), format!("cache r.io/c: {expected}"));
    }
    // One node could not read it, and another one could.
    let mut nodes = of(&[(main, ReadEnd::Failed)], Some(stored()));
    nodes.read.push((main.to_owned(), ReadEnd::Read));
    nodes
        .written
        .push((fix.to_owned(), WriteEnd::Stored(published(5, 500_000))));
    let expected = "cache r.io/c: read b-main; wrote b-fix: 5 layers, 1.5MB sent";
    assert_eq!(scopes.ended(&nodes), expected);
}

#[test]
fn a_build_that_fails_has_a_last_line_too() {
    let scopes = scopes("r.io/c", &push());
    let kept = CacheEnds {
        read: vec![("r.io/c:b-main".to_owned(), ReadEnd::Read)],
        written: vec![(
            "r.io/c:b-fix".to_owned(),
            WriteEnd::Kept(published(2, 1000)),
        )],
        ..CacheEnds::default()
    };
    assert_eq!(scopes.failed(&kept), None, "nothing was begun");
    scopes.is_shown.store(true, Ordering::Relaxed);
    let failed = |ends: &CacheEnds| scopes.failed(ends).unwrap();
    assert_eq!(
        failed(&kept),
        "cache r.io/c: read b-main; wrote b-fix, what had finished: 2 layers, 1kB sent"
    );
    assert_eq!(
        failed(&CacheEnds {
            written: Vec::new(),
            ..kept
        }),
        "cache r.io/c: read b-main; wrote nothing"
    );
    assert_eq!(
        failed(&CacheEnds::default()),
        "cache r.io/c: read and wrote nothing"
    );
}
