//! Caches that add up: `merge=true`, its bounds, and `docker cachex cache merge`.

use std::path::Path;
use std::thread;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, TOOLS, assert_all_cached, cached};
use crate::support::caches;
use crate::support::registry::{digest, is_record};
use crate::support::rig::{Rig, context, text, unique};

fn reference() -> String {
    caches::reference("it/merge")
}

/// A build of two steps that all have and one of its own.
fn project(shared: &str, own: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base}\nRUN echo {shared} > /shared\nCOPY file /file\nRUN echo {own} > /own\n"
    );
    context(&[("Dockerfile", &dockerfile), ("file", shared)])
}

fn merged(reference: &str) -> String {
    format!("type=registry,ref={reference},mode=max,merge=true")
}

/// Builds on a fresh builder, in turn by both tools; everything must come from the cache.
fn assert_hits(reference: &str, projects: &[&TempDir], steps: usize) {
    let fresh = Bench::new();
    for (index, project) in projects.iter().enumerate() {
        fresh.prune();
        let tool = if index % 2 == 0 { "buildx" } else { "cachex" };
        let log = fresh.build(tool, &["--cache-from", reference], project.path());
        assert_all_cached(&log, steps);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn eight_builds_at_once_into_one_reference_lose_nothing() {
    let benches = [Bench::new(), Bench::new()];
    let (reference, shared) = (reference(), unique("shared"));
    let projects: Vec<TempDir> = (0..8).map(|_| project(&shared, &unique("own"))).collect();
    let to = merged(&reference);
    thread::scope(|scope| {
        for (index, project) in projects.iter().enumerate() {
            let (bench, to) = (&benches[index % 2], &to);
            scope.spawn(move || bench.build("cachex", &["--cache-to", to], project.path()));
        }
    });
    let projects: Vec<&TempDir> = projects.iter().collect();
    assert_hits(&reference, &projects, 3);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn two_platforms_share_one_reference() {
    let reference = reference();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY ${TARGETARCH} /arch\nCOPY all /all\n";
    let (amd64, arm64) = (unique("amd64"), unique("arm64"));
    let files = [("amd64", amd64.as_str()), ("arm64", &arm64), ("all", "x")];
    let files = [&[("Dockerfile", dockerfile)][..], &files].concat();
    let folder = context(&files);
    let platforms = ["--platform=linux/amd64", "--platform=linux/arm64"];
    for platform in platforms {
        let args = [platform, "--cache-to", &merged(&reference)];
        Bench::new().build("cachex", &args, folder.path());
    }
    let fresh = Bench::new();
    for platform in platforms {
        for tool in TOOLS {
            fresh.prune();
            let args = [platform, "--cache-from", &reference];
            let log = fresh.build(tool, &args, folder.path());
            assert_all_cached(&log, 2);
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_of_buildx_is_united_and_an_unchanged_one_is_left_alone() {
    let bench = Bench::new();
    let (reference, shared) = (reference(), unique("shared"));
    let (old, new) = (project(&shared, "old"), project(&shared, "new"));
    let to = format!("type=registry,ref={reference},mode=max,image-manifest=false");
    bench.build("buildx", &["--cache-to", &to], old.path());
    let to = merged(&reference);
    let log = bench.build("cachex", &["--cache-to", &to], new.path());
    assert!(log.contains("merged with 1 other result, now"), "{log}");
    let held = manifest(&reference);
    assert!(held["layers"].is_array(), "the new form: {held}");
    for project in [&old, &new] {
        let log = bench.build("cachex", &["--cache-to", &to], project.path());
        assert!(log.contains("nothing new"), "{log}");
        assert_eq!(manifest(&reference), held);
    }
    assert_hits(&reference, &[&old, &new, &new, &old], 3);
}

fn manifest(reference: &str) -> Value {
    Rig::get().registry.manifest_of(reference).json
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_the_bounds_do_not_allow_is_dropped_and_said() {
    let bench = Bench::new();
    let reference = reference();
    let (old, new) = (project(&unique("a"), "old"), project(&unique("b"), "new"));
    let to = merged(&reference);
    bench.build("cachex", &["--cache-to", &to], old.path());
    // The base, its two steps and the copied file, with the keys of their contents.
    let records = config(&reference)["records"]
        .as_array()
        .expect("records")
        .len();
    let bounded = format!("{to},max-records={records}");
    let log = bench.build("cachex", &["--cache-to", &bounded], new.path());
    assert!(log.contains("least recently used of 6 results"), "{log}");
    assert!(log.contains("over max-records"), "{log}");
    assert_hits(&reference, &[&new, &new], 3);
    let log = bench.build("cachex", &["--cache-from", &reference], old.path());
    assert!(cached(&log) > 0, "from the builder itself: {log}");

    // Without a union the new cache alone is cut.
    let alone = format!("type=registry,ref={reference},mode=max,max-size=1");
    let log = bench.build("cachex", &["--cache-to", &alone], new.path());
    assert!(log.contains("3 least recently used of 3 results"), "{log}");
    let layers = manifest(&reference)["layers"].clone();
    let layers = layers.as_array().expect("layers").iter();
    assert_eq!(layers.filter(|entry| !is_record(entry)).count(), 0);

    let contradiction = format!("{to},via=builder");
    let error = bench.fails(1, &["--cache-to", &contradiction], new.path());
    assert!(error.contains("merge=true needs via=client"), "{error}");
}

fn config(reference: &str) -> Value {
    let registry = &Rig::get().registry;
    let (repository, _) = registry.place(reference);
    registry.config(repository, &registry.manifest_of(reference))
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_no_cache_is_replaced_with_a_remark() {
    let bench = Bench::new();
    let reference = reference();
    let folder = project(&unique("shared"), "own");
    bench.build("buildx", &["--push", "-t", &reference], folder.path());
    let to = merged(&reference);
    let log = bench.build("cachex", &["--cache-to", &to], folder.path());
    assert!(log.contains("replaced what was there"), "{log}");
    assert_hits(&reference, &[&folder, &folder], 3);
}

/// Notes a late use of every result in a layout folder, as a merge does, and gives the folder's name.
fn note_uses(folder: &Path) {
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        folder.join("blobs").join(digest)
    };
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
    };
    let write = |value: &Value| {
        let bytes = value.to_string().into_bytes();
        let digest = Value::from(digest(&bytes));
        fs::write(blob(&digest), &bytes).expect("a blob");
        (digest, Value::from(bytes.len()))
    };
    let mut index = read(&folder.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    let mut config = read(&blob(&manifest["config"]["digest"]));
    for record in config["records"].as_array_mut().expect("records") {
        for result in record["layers"].as_array_mut().into_iter().flatten() {
            result["lastUsed"] = "2199-01-01T00:00:00Z".into();
        }
    }
    let (digest, size) = write(&config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest, size);
    let (digest, size) = write(&manifest);
    let entry = &mut index["manifests"][0];
    (entry["digest"], entry["size"]) = (digest, size);
    fs::write(folder.join("index.json"), index.to_string()).expect("an index");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_are_united_by_hand() {
    let bench = Bench::new();
    let shared = unique("shared");
    let (one, two, three) = (
        project(&shared, "one"),
        project(&shared, "two"),
        project(&shared, "three"),
    );
    let layout = TempDir::new().expect("a temporary folder");
    let folder = layout.path().display().to_string();
    let (elsewhere, target, missing) = (reference(), reference(), reference());
    for (to, project) in [
        (format!("type=local,dest={folder},mode=max"), &one),
        (format!("type=registry,ref={elsewhere},mode=max"), &two),
        (format!("type=registry,ref={target},mode=max"), &three),
    ] {
        bench.build("buildx", &["--cache-to", &to], project.path());
    }
    note_uses(layout.path());
    let merge = |args: &[&str]| {
        let all = [&["cachex", "cache", "merge"][..], args].concat();
        bench.client.docker(&all)
    };
    let refused = merge(&[&folder, &missing, &target]);
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(
        error.contains(&missing) && error.contains("--ignore-missing"),
        "{error}"
    );
    let output = merge(&["--ignore-missing", &folder, &elsewhere, &missing, &target]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("passed over"));
    assert!(told.contains("mounted") && told.contains("sent "), "{told}");
    assert!(told.contains("now 5 in"), "{told}");
    // BuildKit passes over the field that it does not know.
    let config = config(&target).to_string();
    assert!(
        config.contains("\"lastUsed\":\"2199-01-01T00:00:00Z\""),
        "{config}"
    );
    assert_hits(&target, &[&one, &two, &three, &one, &two], 3);

    let again = merge(&[&elsewhere, &target]);
    assert!(text(&again.stdout).contains("unchanged"), "{again:?}");
    let replaced = merge(&["--replace", "--max-records=100", &elsewhere, &target]);
    assert!(text(&replaced.stdout).contains("3 results"), "{replaced:?}");
    let none = merge(&["--ignore-missing", &missing, &target]);
    assert!(none.status.success());
    assert!(text(&none.stdout).contains("nothing to merge"), "{none:?}");
    let folder_target = merge(&[&target, &folder]);
    assert_eq!(folder_target.status.code(), Some(1), "{folder_target:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn flags_may_stand_between_the_references() {
    let client = Rig::get().client();
    let (from, to) = (reference(), reference());
    let args = ["cachex", "cache", "merge", &from, "--ignore-missing", &to];
    let (output, _) = client.docker_ok(&args);
    assert!(output.contains("nothing to merge"), "{output}");
    let alone = client.docker(&["cachex", "cache", "merge", &from]);
    assert_eq!(alone.status.code(), Some(1));
    let errors = text(&alone.stderr);
    assert!(errors.contains("at least one cache to merge"), "{errors}");
}
