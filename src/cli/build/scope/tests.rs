use super::*;

fn event(name: &str) -> scope::Event {
    scope::Event::Branch(name.to_owned())
}

async fn run(dir: &Path, args: &[&str]) {
    let name = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let args: Vec<&str> = name.iter().chain(args).copied().collect();
    assert!(git(dir, &args).await.is_some(), "git {args:?}");
}

async fn of(dir: &Path) -> GitFacts {
    git_facts(dir, &Facts::default(), &Wishes::default()).await
}

#[tokio::test]
async fn git_names_the_branch_and_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(of(dir).await, GitFacts::default(), "no repository");
    let source = dir.join("source");
    fs_err::create_dir(&source).unwrap();
    run(&source, &["init", "-q", "-b", "trunk", "."]).await;
    run(&source, &["commit", "-q", "--allow-empty", "-m", "x"]).await;
    let clone = dir.join("clone");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    run(
        dir,
        &[
            "clone",
            "-q",
            "--depth=1",
            &format!("file://{}", text(&source)),
            &text(&clone),
        ],
    )
    .await;
    run(&clone, &["checkout", "-q", "-b", "feature/login"]).await;
    let expected = GitFacts {
        branch: Some("feature/login".into()),
        default: Some("trunk".into()),
    };
    assert_eq!(of(&clone).await, expected, "a shallow clone");
    let tree = dir.join("tree");
    run(
        &clone,
        &["worktree", "add", "-q", "-b", "other", &text(&tree)],
    )
    .await;
    assert_eq!(
        of(&tree).await.branch.as_deref(),
        Some("other"),
        "a work tree"
    );
    run(&clone, &["checkout", "-q", "--detach"]).await;
    assert_eq!(of(&clone).await.branch, None, "a detached commit");
    let known = Facts {
        ci: Some("CI"),
        event: event("x"),
        default: Some("main".into()),
        ..Facts::default()
    };
    let asked = git_facts(&clone, &known, &Wishes::default()).await;
    assert_eq!(
        asked,
        GitFacts::default(),
        "nothing is asked for that is known"
    );
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
