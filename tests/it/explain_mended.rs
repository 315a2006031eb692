//! What is said of steps where the cache had to be cut down or mended to be read, and where it tells nothing of its builds.

use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::cache_heal::{damage, layer_at, started};
use crate::support::bench::Bench;
use crate::support::caches::{export, import};
use crate::support::large::enlarge;
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::{Registry, is_record};
use crate::support::rig::{Rig, context, unique};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

const REPOSITORY: &str = "team/cache";
/// What is said of the step that copies the folder of which a file was changed.
const NAMED: &str = "1 of 2 files differs: src/a (content)";

/// Layers 1 and 2 are those of a file and of a command, and only what is above them changes.
fn project() -> TempDir {
    let dockerfile = format!(
        "FROM {}\nCOPY kept /\nRUN echo {} && head -c 300000 /dev/urandom > /made\nCOPY src /src\nRUN cat /src/a /made > /b\n",
        Rig::get().busybox,
        unique("s")
    );
    context(&[
        ("Dockerfile", &dockerfile),
        ("kept", "k"),
        ("src/a", "a"),
        ("src/b", "b"),
    ])
}

fn change(folder: &Path) {
    fs::write(folder.join("src/a"), unique("other")).expect("a file");
}

fn place(registry: &OwnRegistry) -> String {
    format!("{}/{REPOSITORY}:c", registry.host)
}

/// Builds on an empty builder with a cache, and returns the progress.
fn read(bench: &Bench, cache: &str, args: &[&str], folder: &Path) -> String {
    bench.prune();
    let from = import(cache);
    bench.build("cachex", &[args, &[from.as_str()]].concat(), folder)
}

/// Checks that the record is still there.
fn assert_recorded(registry: &OwnRegistry) {
    let manifest = Registry::new(&registry.host).manifest(REPOSITORY, "c");
    let manifest = manifest.expect("a cache").json;
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(
        layers.iter().filter(|layer| is_record(layer)).count(),
        1,
        "{manifest:#}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_that_is_cut_down_to_be_read_tells_files_as_ever() {
    let (registry, bench, folder) = (started(), Bench::new(), project());
    let cache = place(&registry);
    bench.build("cachex", &[&export(&cache, "mode=max")], folder.path());
    enlarge(&registry.host, REPOSITORY);
    change(folder.path());
    let progress = read(&bench, &cache, &[], folder.path());
    for told in ["why 2 steps ran", NAMED] {
        assert!(progress.contains(told), "{told}: {progress}");
    }
    // It is united with what is new, and cut down for that.
    let to = export(&cache, "mode=max,merge=true");
    read(&bench, &cache, &[&to], folder.path());
    assert_recorded(&registry);
    change(folder.path());
    let progress = read(&bench, &cache, &[], folder.path());
    for told in ["why 2 steps ran", NAMED] {
        assert!(progress.contains(told), "{told}: {progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_that_is_mended_tells_what_it_has_lost_and_which_files_differ() {
    let bench = Bench::new();
    for how in ["gone", "damaged"] {
        let (registry, folder) = (started(), project());
        let cache = place(&registry);
        let to = export(&cache, "mode=max,compression=gzip");
        bench.build("cachex", &[&to], folder.path());
        let blob = layer_at(&registry, "c", 2);
        match how {
            "gone" => fs::remove_file(registry.data(&blob)).expect("the blob"),
            _ => damage(&registry, &blob),
        }
        change(folder.path());
        let output = format!(
            "--output=type=local,dest={}",
            folder.path().join("out").display()
        );
        fs::write(folder.path().join(".dockerignore"), "out\n").expect("a file");
        let progress = read(&bench, &cache, &[&output, &to], folder.path());
        let lost = format!(
            "in the cache, but the registry has lost its layer {}…",
            &blob[..11]
        );
        for told in ["why 3 steps ran", &lost, NAMED] {
            assert!(progress.contains(told), "{how}: {told}: {progress}");
        }
        // It was put back, with a record of this build.
        assert_recorded(&registry);
        change(folder.path());
        fs::remove_dir_all(folder.path().join("out")).expect("a folder");
        let progress = read(&bench, &cache, &[&output], folder.path());
        for told in ["why 2 steps ran", NAMED] {
            assert!(progress.contains(told), "{how}: {told}: {progress}");
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn where_no_record_was_written_less_is_said_and_nothing_wrong() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bench = Bench::new();
    let check = |cache: &str, to: &str, told: &str| {
        let folder = project();
        let log = bench.build("cachex", &[to], folder.path());
        change(folder.path());
        let progress = read(&bench, cache, &[], folder.path());
        let why: Vec<&str> = progress
            .lines()
            .skip_while(|line| !line.starts_with("why 2"))
            .collect();
        assert!(why.len() >= 3 && why[2].trim() == told, "{to}: {progress}");
        log
    };
    let rough = "files that it reads differ";
    let registry = started();
    for (tag, keys, told) in [
        ("off", "record=off", rough),
        ("steps", "record=steps", rough),
        ("full", "record=full", NAMED),
    ] {
        let cache = format!("{}/{REPOSITORY}:{tag}", registry.host);
        check(&cache, &export(&cache, &format!("mode=max,{keys}")), told);
    }
    // A registry that refuses the record.
    let scripted = runtime.block_on(ScriptedRegistry::start());
    let invalid = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown media type"}]}"#;
    scripted.fault(
        "PUT",
        "/manifests/",
        (0, 1),
        Fault::Status(400, Vec::new(), invalid),
    );
    let cache = format!("{}/{REPOSITORY}:c", scripted.host());
    let log = check(&cache, &export(&cache, "mode=max,via=client"), rough);
    assert!(
        log.contains("the registry refuses the record of the build"),
        "{log}"
    );
    // What another client has written over it.
    let folder = project();
    let cache = place(&registry);
    bench.build("cachex", &[&export(&cache, "mode=max")], folder.path());
    change(folder.path());
    bench.build(
        "buildx",
        &[&export(&cache, "mode=max,image-manifest=true")],
        folder.path(),
    );
    change(folder.path());
    let progress = read(&bench, &cache, &[], folder.path());
    assert!(
        progress.contains(rough) && !progress.contains("(content)"),
        "{progress}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_forecast_names_the_caches_that_it_could_not_look_into() {
    let (bench, folder) = (Bench::new(), project());
    let registry = started();
    let cache = place(&registry);
    bench.build("cachex", &[&export(&cache, "mode=max")], folder.path());
    let (nowhere, missing) = ("127.0.0.1:1/team/cache:c", format!("{cache}-none"));
    let path = folder.path().to_str().expect("UTF-8");
    let explain = |caches: &[&str], more: &[&str]| {
        let from: Vec<String> = caches.iter().map(|cache| import(cache)).collect();
        let from: Vec<&str> = from.iter().map(String::as_str).collect();
        let args = [&["cachex", "cache", "explain"], more, &from, &[path]].concat();
        bench.client.docker_ok(&args)
    };
    let (table, remarks) = explain(&[nowhere, &cache, &missing], &[]);
    assert!(table.contains(&cache), "{table}");
    for remark in [
        format!("cannot read the cache {nowhere}: "),
        format!("cannot read the cache {missing}: it does not exist"),
    ] {
        assert!(remarks.contains(&remark), "{remark}: {remarks}");
    }
    let (json, _) = explain(&[nowhere, &cache], &["--format=json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["unread"][0]["cache"], nowhere, "{json:#}");
    assert!(json["unread"][0]["error"].is_string(), "{json:#}");
    let (_, remarks) = explain(&[nowhere], &[]);
    let none = format!("no cache could be read: {nowhere}: ");
    assert!(remarks.contains(&none), "{remarks}");
}
