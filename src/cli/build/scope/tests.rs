use super::*;

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
    let facts = facts(&env);
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
        held: Mutex::default(),
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
        scopes.ended(&BuildOutcome::default()),
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
    let newest = Timestamp::from_second(1_000_000 - 7200).unwrap();
    let of = |newest| held(Holding::Cache { newest }, now);
    assert_eq!(of(Some(newest)), Held::Cache(Some("2 hours".into())));
    assert_eq!(of(None), Held::Cache(None));
    let later = Timestamp::from_second(1_000_060).unwrap();
    assert_eq!(of(Some(later)), Held::Cache(None), "clocks differ");
}
