//! Caches in folders of the OCI image layout, shared by both tools.

use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, TOOLS, assert_all_cached};
use crate::support::registry::digest;
use crate::support::rig::{Rig, context};

/// The folder's tags with their manifests' digests. Every blob must be what its name says, and nothing may
/// be unfinished.
fn read(folder: &Path) -> Vec<(String, String)> {
    let names = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(folder.join(path)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.into_string().expect("UTF-8"))
            .collect()
    };
    for name in names("blobs/sha256") {
        let bytes = fs::read(folder.join("blobs/sha256").join(&name)).expect("a blob");
        assert_eq!(digest(&bytes), format!("sha256:{name}"));
    }
    assert_eq!(names("ingest"), Vec::<String>::new());
    let index = fs::read(folder.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let entries = index["manifests"].as_array().expect("manifests");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut tags: Vec<_> = entries
        .iter()
        .map(|entry| {
            let tag = text(&entry["annotations"]["org.opencontainers.image.ref.name"]);
            (tag, text(&entry["digest"]))
        })
        .collect();
    tags.sort();
    tags
}

fn blobs(folder: &Path) -> usize {
    fs::read_dir(folder.join("blobs/sha256"))
        .expect("blobs")
        .count()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn one_folder_serves_both_tools() {
    let bench = Bench::new();
    let folder = TempDir::new().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let path = cache.display();
    let base = &Rig::get().busybox;
    let one = context(&[(
        "Dockerfile",
        &format!("FROM {base}\nRUN echo one > /one\nRUN date > /two\n"),
    )]);
    let two = context(&[("Dockerfile", &format!("FROM {base}\nRUN echo 2 > /other\n"))]);

    let to_one = format!("type=local,dest={path},tag=one,mode=max,compression=zstd");
    bench.build("cachex", &["--cache-to", &to_one], one.path());
    let to_two = format!("type=local,dest={path},mode=max");
    bench.build("buildx", &["--cache-to", &to_two], two.path());
    let tags = read(&cache);
    assert_eq!(
        tags.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>(),
        ["latest", "one"]
    );

    for tool in TOOLS {
        bench.prune();
        let from = format!("type=local,src={path},tag=one");
        assert_all_cached(&bench.build(tool, &["--cache-from", &from], one.path()), 2);
        let from = format!("type=local,src={path}");
        assert_all_cached(&bench.build(tool, &["--cache-from", &from], two.path()), 1);
    }
    bench.prune();
    let from = format!("type=local,src={path},tag=gone,digest={}", tags[1].1);
    assert_all_cached(
        &bench.build("cachex", &["--cache-from", &from], one.path()),
        2,
    );

    // Exported again, then over the other's tag, and the rest goes.
    bench.build("cachex", &["--cache-to", &to_one], one.path());
    assert_eq!(read(&cache).len(), 2);
    let before = blobs(&cache);
    let reset = format!("type=local,dest={path},mode=max,tag=one,compression=zstd,reset=true");
    bench.build("cachex", &["--cache-to", &reset], two.path());
    let after = read(&cache);
    assert_eq!(after.len(), 2);
    assert_eq!(after[0], tags[0]);
    assert_ne!(after[1], tags[1]);
    assert!(blobs(&cache) < before, "{before}");
    bench.prune();
    let from = format!("type=local,src={path},tag=one");
    assert_all_cached(
        &bench.build("buildx", &["--cache-from", &from], two.path()),
        1,
    );

    // What is not there is one quiet line, and what is broken stops no build.
    let from = format!("type=local,src={path},tag=nothing");
    let nowhere = format!("type=local,src={path}/nowhere");
    let args = ["--cache-from", &from, "--cache-from", &nowhere];
    let progress = bench.build("cachex", &args, two.path());
    assert_eq!(
        progress.matches("building without it").count(),
        2,
        "{progress}"
    );
    assert!(
        !progress.contains("ERROR") && !cache.join("nowhere").exists(),
        "{progress}"
    );
    fs::write(cache.join("index.json"), "{").expect("a broken index");
    let progress = bench.build("cachex", &["--cache-from", &from], two.path());
    assert!(progress.contains("is no valid OCI index"), "{progress}");
    let error = bench.fails(1, &["--cache-to", &to_one], two.path());
    assert!(error.contains("is no valid OCI index"), "{error}");
    let ignored = format!("{to_one},ignore-error=true");
    bench.build("cachex", &["--cache-to", &ignored], two.path());
    assert_eq!(
        fs::read_to_string(cache.join("index.json")).expect("the index"),
        "{"
    );
}
