use super::*;

fn group(name: &str, driver: &str) -> NodeGroup {
    NodeGroup {
        name: name.to_owned(),
        driver: driver.to_owned(),
        ..NodeGroup::default()
    }
}

fn empty() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("buildx"), None);
    (dir, store)
}

fn current_name(store: &Store, key: &str) -> Option<String> {
    store.current(key).unwrap().map(|group| group.name)
}

#[tokio::test]
async fn round_trip_and_names() {
    let (_dir, store) = empty();
    assert!(store.list().unwrap().is_empty());
    let txn = store.begin().await.unwrap();
    txn.save(&group("Beta", "remote")).unwrap();
    txn.save(&group("alpha", "docker-container")).unwrap();
    assert!(store.dir().join("instances/beta").is_file());
    let names: Vec<_> = store.list().unwrap().into_iter().map(|g| g.name).collect();
    assert_eq!(names, ["Beta", "alpha"]);
    assert_eq!(store.get("BETA").unwrap().unwrap().driver, "remote");
    assert!(store.get("gamma").unwrap().is_none());
    assert!(matches!(store.get(".x"), Err(StoreError::Name(_))));
    assert!(store.last_activity("Beta").unwrap().is_some());
    txn.remove("Beta").unwrap();
    assert!(store.get("beta").unwrap().is_none());
    assert!(store.last_activity("Beta").unwrap().is_none());
    txn.remove("never-there").unwrap();
}

#[tokio::test]
async fn current_follows_global_key_and_default() {
    let (_dir, store) = empty();
    let txn = store.begin().await.unwrap();
    for name in ["one", "two"] {
        txn.save(&group(name, "remote")).unwrap();
    }
    assert_eq!(current_name(&store, "k1"), None);
    txn.set_current("k1", "one", false, false).unwrap();
    assert_eq!(current_name(&store, "k1").as_deref(), Some("one"));
    assert_eq!(current_name(&store, "k2"), None);
    // Global wins under every key.
    txn.set_current("k1", "two", true, false).unwrap();
    assert_eq!(current_name(&store, "k2").as_deref(), Some("two"));
    // The default of a key counts when the current choice is of another key.
    txn.set_current("k2", "one", false, true).unwrap();
    txn.set_current("k1", "two", false, false).unwrap();
    assert_eq!(current_name(&store, "k2").as_deref(), Some("one"));
    assert_eq!(current_name(&store, "k1").as_deref(), Some("two"));
    // A choice without default forgets the key's default.
    txn.set_current("k2", "", false, false).unwrap();
    assert_eq!(current_name(&store, "k2"), None);
    // A current builder that is gone: the context's own under its key.
    txn.set_current("k1", "two", false, false).unwrap();
    txn.remove("two").unwrap();
    assert_eq!(current_name(&store, "k1"), None);
}

#[tokio::test]
async fn a_global_choice_that_is_gone_falls_to_the_default() {
    let (_dir, store) = empty();
    let txn = store.begin().await.unwrap();
    txn.save(&group("one", "remote")).unwrap();
    txn.set_current("k2", "one", false, true).unwrap();
    txn.set_current("k1", "gone", true, false).unwrap();
    assert_eq!(current_name(&store, "k2").as_deref(), Some("one"));
    assert_eq!(current_name(&store, "k1"), None);
}

#[tokio::test]
async fn a_reader_writes_nothing() {
    let (dir, store) = empty();
    assert!(store.list().unwrap().is_empty());
    assert!(store.current("k").unwrap().is_none());
    assert!(store.get("x").unwrap().is_none());
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn files_are_those_of_buildx() {
    let (_dir, store) = empty();
    let txn = store.begin().await.unwrap();
    txn.save(&group("foo", "docker-container")).unwrap();
    txn.set_current("unix:///var/run/docker.sock", "foo", true, true)
        .unwrap();
    let read = |path: &str| fs_err::read_to_string(store.dir().join(path)).unwrap();
    assert_eq!(
        read("current"),
        r#"{"Key":"unix:///var/run/docker.sock","Name":"foo","Global":true}"#
    );
    // sha256 of the key, as `sha256sum` prints it.
    assert_eq!(read("defaults/13c4025c96f36e94b348").as_str(), "foo");
    assert_eq!(
        read("instances/foo"),
        r#"{"Name":"foo","Driver":"docker-container","Nodes":null,"Dynamic":false}"#
    );
    let time = read("activity/foo");
    assert_eq!(time.len(), "2026-01-01T00:00:00Z".len());
    assert!(time.ends_with('Z'));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &str| {
            let meta = fs_err::metadata(store.dir().join(path)).unwrap();
            meta.permissions().mode() & 0o777
        };
        assert_eq!(mode("instances/foo"), 0o600);
        assert_eq!(mode("instances"), 0o700);
        assert_eq!(mode("."), 0o700);
        assert_eq!(mode(".lock"), 0o600);
    }
}

#[tokio::test]
async fn stray_files_are_no_builders_and_old_ones_of_ours_go() {
    let (_dir, store) = empty();
    drop(store.begin().await.unwrap());
    fs_err::write(store.dir().join("instances/.tmp-foo123"), "half").unwrap();
    let old = store.dir().join(".tmp-cachex-old");
    let new = store.dir().join(".tmp-cachex-new");
    for path in [&old, &new] {
        fs_err::write(path, "x").unwrap();
    }
    let long_ago = SystemTime::now() - 2 * STRAY_AGE;
    fs_err::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .file()
        .set_modified(long_ago)
        .unwrap();
    assert!(store.list().unwrap().is_empty());
    drop(store.begin().await.unwrap());
    assert!(!old.exists());
    assert!(new.exists());
}

#[tokio::test]
async fn a_failed_write_leaves_the_old_file() {
    let (_dir, store) = empty();
    let txn = store.begin().await.unwrap();
    txn.save(&group("foo", "remote")).unwrap();
    // The target is a folder, so the rename fails after the temporary file was written.
    fs_err::create_dir(store.dir().join("instances/bar")).unwrap();
    assert!(txn.save(&group("bar", "remote")).is_err());
    assert_eq!(store.get("foo").unwrap().unwrap().driver, "remote");
    let left = fs_err::read_dir(store.dir())
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(".tmp"))
        .count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_broken_file_is_named() {
    let (_dir, store) = empty();
    drop(store.begin().await.unwrap());
    fs_err::write(store.dir().join("instances/foo"), "{\"Name\":").unwrap();
    let error = store.list().unwrap_err().to_string();
    assert!(error.contains("instances/foo"), "{error}");
}

#[tokio::test]
async fn the_lock_is_exclusive() {
    let (_dir, store) = empty();
    let txn = store.begin().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(100), store.begin()).await;
    assert!(second.is_err(), "the lock was given twice");
    drop(txn);
    tokio::time::timeout(Duration::from_secs(5), store.begin())
        .await
        .expect("the lock is free again")
        .unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_lock_blocks_across_processes() {
    let (_dir, store) = empty();
    drop(store.begin().await.unwrap());
    let lock = store.dir().join(".lock");
    // util-linux flock(1) uses flock(2), as buildx does.
    let mut other = tokio::process::Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", "echo locked; sleep 0.5"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("flock(1) of util-linux");
    let mut line = [0; 7];
    let mut out = other.stdout.take().unwrap();
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut line)
        .await
        .unwrap();
    let start = std::time::Instant::now();
    let txn = store.begin().await.unwrap();
    assert!(start.elapsed() > Duration::from_millis(300));
    other.wait().await.unwrap();
    // And the reverse: flock(1) without waiting fails while we hold the lock.
    let refused = tokio::process::Command::new("flock")
        .arg("--nonblock")
        .arg(&lock)
        .arg("true")
        .status()
        .await
        .unwrap();
    assert!(!refused.success());
    drop(txn);
}

#[test]
fn the_node_id_is_made_once() {
    let (_dir, store) = empty();
    let id = store.node_id().unwrap();
    assert_eq!(id.len(), 16);
    assert!(id.chars().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(store.node_id().unwrap(), id);
}

#[tokio::test]
async fn free_names_are_free() {
    let (_dir, store) = empty();
    let txn = store.begin().await.unwrap();
    let name = txn.free_name().unwrap();
    assert!(store.get(&name).unwrap().is_none());
}

/// A reader takes no lock, so it must see either the old or the new file, whole, at any time.
#[tokio::test]
async fn a_reader_never_sees_half_a_file() {
    let (_dir, store) = empty();
    let sizes = [1, 2000];
    let with_nodes = |count: usize| NodeGroup {
        nodes: vec![crate::builder::StoredNode::default(); count],
        ..group("foo", "remote")
    };
    let txn = store.begin().await.unwrap();
    txn.save(&with_nodes(sizes[0])).unwrap();
    let reader = store.clone();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&done);
    let reading = std::thread::spawn(move || {
        let mut reads = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let found = reader.get("foo").unwrap().unwrap();
            assert!(sizes.contains(&found.nodes.len()));
            reads += 1;
        }
        reads
    });
    for round in 0..30 {
        txn.save(&with_nodes(sizes[round % 2])).unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reading.join().unwrap() > 0);
}
