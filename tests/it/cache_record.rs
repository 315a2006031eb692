//! The record that a cache carries: written with every form and by both carriers, kept, carried over and left out,
//! and never in anybody's way.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Weak;

use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::own_registry::OwnRegistry;
use crate::support::recorder::Recorder;
use crate::support::registry::{Manifest, Registry, is_record};
use crate::support::rig::{Rig, text, unique};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

static SHARED: Shared = Mutex::new(Weak::new());

/// Two steps with a variable that no record may tell.
fn project(seed: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base} AS one\nARG WORD\nCOPY a.txt sub ./\nRUN echo {seed} $WORD > /said\n\
         FROM one AS two\nRUN echo more >> /said\n"
    );
    let files = [
        ("Dockerfile", dockerfile.as_str()),
        ("a.txt", "a"),
        ("sub/b.txt", "b"),
    ];
    let folder = TempDir::new().expect("a folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs_err::write(path, content).expect("a file");
    }
    folder
}

fn stored(host: &str, reference: &str) -> (String, Manifest) {
    let registry = Registry::new(host);
    let (repository, _) = registry.place(reference);
    (repository.to_owned(), registry.manifest_of(reference))
}

/// The entry of the record in a manifest.
fn entry(manifest: &Manifest) -> Option<Value> {
    let lists = ["layers", "manifests"].map(|key| manifest.json[key].as_array().cloned());
    lists.into_iter().flatten().flatten().find(is_record)
}

/// The record under a reference.
fn record(host: &str, reference: &str) -> Option<Value> {
    let (repository, manifest) = stored(host, reference);
    let entry = entry(&manifest)?;
    let blob = Registry::new(host).blob(&repository, entry["digest"].as_str().expect("a digest"));
    assert_eq!(entry["size"], blob.len());
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob.as_slice()));
    let mut file = archive
        .entries()
        .expect("a tar")
        .next()
        .expect("a file")
        .expect("a file");
    let mut json = String::new();
    file.read_to_string(&mut json).expect("JSON");
    Some(serde_json::from_str(&json).expect("JSON"))
}

fn inspect(bench: &Bench, reference: &str) -> Value {
    let args = [
        "cachex", "cache", "inspect", "--check", "--format", "json", reference,
    ];
    serde_json::from_str(&bench.client.docker_ok(&args).0).expect("JSON")
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn every_cache_has_a_record_that_is_in_nobodys_way() {
    let bench = Bench::new();
    let host = Rig::get().registry.host();
    for how in [
        "mode=max,via=client",
        "mode=max,via=builder",
        "mode=max,via=client,image-manifest=false",
        "mode=max,via=builder,oci-mediatypes=false",
        "mode=max,merge=true",
        "mode=min,via=client",
    ] {
        let (folder, reference) = (project(&unique("s")), reference("record"));
        let to = export(&reference, how);
        bench.prune();
        bench.build("cachex", &[&to, "--build-arg", "WORD=hush"], folder.path());
        let told = record(host, &reference).expect("a record");
        let json = told.to_string();
        assert!(!json.contains("hush"), "{how}: {json}");
        let steps = told["builds"][0]["steps"].as_array().expect("steps");
        let step = |name: &str| {
            let of_name = |step: &&Value| step["name"].as_str().is_some_and(|n| n.contains(name));
            steps
                .iter()
                .find(of_name)
                .unwrap_or_else(|| panic!("{how}: {name}: {json}"))
        };
        assert_eq!(
            step("RUN echo s")["line"],
            serde_json::json!([4, 4]),
            "{json}"
        );
        assert!(step("$WORD > /said")["ms"].is_u64(), "{json}");
        assert_eq!(step("[one 2/3] COPY a.txt sub ./")["kind"], "file");
        // Every step that makes a layer is found in the cache by its key.
        let (repository, manifest) = stored(host, &reference);
        if manifest.json["config"].is_object() {
            let config = Rig::get()
                .registry
                .config(&repository, &manifest)
                .to_string();
            for step in steps.iter().filter(|step| step["kind"] != "local") {
                let key = step["key"].as_str().expect("a key");
                assert!(config.contains(key), "{how}: {step}");
            }
        }
        let cache = inspect(&bench, &reference);
        assert_eq!(cache["warnings"], serde_json::json!([]), "{how}: {cache}");
        assert_eq!(cache["unreachableSize"], 0);
        bench.prune();
        let args = [&import(&reference), "--build-arg", "WORD=hush"];
        let again = bench.build("buildx", &args, folder.path());
        assert_all_cached(&again, 3);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn record_off_writes_none() {
    let bench = Bench::shared(&SHARED);
    let host = Rig::get().registry.host();
    for how in [
        "mode=max,via=client,record=off",
        "mode=max,via=builder,record=off",
    ] {
        let (folder, reference) = (project(&unique("s")), reference("off"));
        bench.build("cachex", &[&export(&reference, how)], folder.path());
        assert_eq!(record(host, &reference), None, "{how}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_unchanged_build_writes_nothing_and_keeps_the_record() {
    let bench = Bench::shared(&SHARED);
    let recorder = Recorder::start(Rig::get().registry.host());
    let host = recorder.host();
    let folder = project(&unique("s"));
    let by_client = format!("{host}/{}:c", unique("it/still"));
    let to = export(&by_client, "mode=max,via=client");
    bench.build("cachex", &[&to], folder.path());
    let before = stored(&host, &by_client).1.digest;
    recorder.take();
    let log = bench.build("cachex", &[&to], folder.path());
    let requests = recorder.take();
    assert!(log.contains("nothing new"), "{log}");
    assert!(requests.len() <= 4, "{requests:?}");
    assert!(
        requests.iter().all(|request| request.method != "PUT"),
        "{requests:?}"
    );
    assert_eq!(stored(&host, &by_client).1.digest, before);
    // BuildKit writes a manifest with each build; with the record it is what it was.
    let host = Rig::get().registry.host();
    let by_builder = reference("still");
    let to = export(&by_builder, "mode=max,via=builder");
    bench.build("cachex", &[&to], folder.path());
    let first = stored(host, &by_builder).1;
    assert!(entry(&first).is_some());
    for _ in 0..2 {
        bench.build("cachex", &[&to], folder.path());
        let again = stored(host, &by_builder).1;
        assert_eq!(entry(&again), entry(&first));
        assert_eq!(again.digest, first.digest);
    }
}

fn targets(record: &Value) -> Vec<String> {
    let builds = record["builds"].as_array().expect("builds").iter();
    let mut targets: Vec<String> = builds.map(|b| b["target"].to_string()).collect();
    targets.sort();
    targets
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn united_caches_tell_of_all_builds() {
    let bench = Bench::shared(&SHARED);
    let host = Rig::get().registry.host();
    let (folder, united) = (project(&unique("s")), reference("united"));
    let to = export(&united, "mode=max,merge=true");
    bench.build("cachex", &[&to, "--target=one"], folder.path());
    bench.build("cachex", &[&to], folder.path());
    assert_eq!(
        targets(&record(host, &united).expect("a record")),
        ["\"\"", "\"one\""]
    );
    // By hand, from caches of one build each.
    let (one, two, all) = (reference("one"), reference("two"), reference("all"));
    bench.build(
        "cachex",
        &[&export(&one, "mode=max,via=client"), "--target=one"],
        folder.path(),
    );
    bench.build(
        "cachex",
        &[&export(&two, "mode=max,via=client")],
        folder.path(),
    );
    bench
        .client
        .docker_ok(&["cachex", "cache", "merge", &one, &two, &all]);
    assert_eq!(
        targets(&record(host, &all).expect("a record")),
        ["\"\"", "\"one\""]
    );
    let cache = inspect(&bench, &all);
    assert_eq!(cache["warnings"], serde_json::json!([]), "{cache}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_refuses_the_record_gets_the_cache_without() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bench = Bench::shared(&SHARED);
    for how in ["via=client", "via=client,merge=true"] {
        let registry = runtime.block_on(ScriptedRegistry::start());
        let reference = format!("{}/team/cache:c", registry.host());
        let invalid = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown media type"}]}"#;
        registry.fault(
            "PUT",
            "/manifests/",
            (0, 1),
            Fault::Status(400, Vec::new(), invalid),
        );
        let folder = project(&unique("s"));
        let to = export(&reference, &format!("mode=max,{how}"));
        let log = bench.build("cachex", &[&to], folder.path());
        let remark = "the registry refuses the record of the build";
        assert!(log.contains(remark), "{how}: {log}");
        let stored = registry.manifest("team/cache", "c").expect("a cache");
        let stored: Value = serde_json::from_slice(&stored).expect("JSON");
        let mut layers = stored["layers"].as_array().expect("layers").iter();
        assert!(!layers.any(is_record), "{how}: {stored}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_refused_the_record_is_not_asked_again() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bench = Bench::shared(&SHARED);
    let registry = runtime.block_on(ScriptedRegistry::start());
    let reference = format!("{}/team/cache:c", registry.host());
    let cache_dir = tempfile::tempdir().expect("a temporary folder");
    let invalid = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown media type"}]}"#;
    // The manifest that BuildKit writes is the first; all others would be refused.
    let puts = || registry.count("PUT", "/manifests/");
    let build = || {
        let folder = project(&unique("s"));
        let before = puts();
        let refused = Fault::Status(400, Vec::new(), invalid);
        registry.fault("PUT", "/manifests/", (1, usize::MAX), refused);
        let to = export(&reference, "mode=max,via=builder");
        let mut command = bench.command("cachex", &[&to], folder.path());
        let output = command.env("XDG_CACHE_HOME", cache_dir.path()).output();
        let output = output.expect("the docker CLI");
        let log = text(&output.stderr);
        assert!(output.status.success(), "{log}");
        registry.clear("PUT");
        let is_remarked = log.contains("the registry refuses the record of the build");
        (puts() - before, is_remarked)
    };
    assert_eq!(build(), (2, true));
    // Also by another build.
    assert_eq!(build(), (1, false));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn garbage_collection_keeps_the_record() {
    let mut registry = OwnRegistry::new();
    registry.start();
    let bench = Bench::shared(&SHARED);
    let reference = format!("{}/team/cache:c", registry.host);
    let folder = project(&unique("s"));
    bench.build(
        "cachex",
        &[&export(&reference, "mode=max,via=builder")],
        folder.path(),
    );
    let before = record(&registry.host, &reference).expect("a record");
    // The build names no platform: it is that of the builder.
    let platform = before["builds"][0]["platform"].as_str();
    assert!(
        platform.is_some_and(|platform| platform.starts_with("linux/")),
        "{before}"
    );
    registry.kill();
    registry.collect_garbage();
    registry.start();
    assert_eq!(record(&registry.host, &reference), Some(before));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_record_of_nonsense_breaks_nothing() {
    let bench = Bench::shared(&SHARED);
    let host = Rig::get().registry.host();
    let (folder, reference) = (project(&unique("s")), reference("nonsense"));
    let to = export(&reference, "mode=max,via=client");
    bench.build("cachex", &[&to], folder.path());
    let mut nonsense = vec![0_u8; 2 << 20];
    nonsense[..9].copy_from_slice(b"\x1b[2Jevil\x1b");
    put_record(host, &reference, &nonsense, folder.path());
    let from = import(&reference);
    let tree = ["cachex", "cache", "tree", &reference];
    let shown = bench.client.docker(&tree);
    assert!(
        shown.status.success() && !shown.stdout.contains(&0x1b),
        "{shown:?}"
    );
    assert_eq!(
        inspect(&bench, &reference)["warnings"],
        serde_json::json!([])
    );
    // The next build that changes something replaces it.
    fs_err::write(folder.path().join("a.txt"), "other").expect("a file");
    bench.build("cachex", &[&to, &from], folder.path());
    assert!(record(host, &reference).is_some());
}

/// Puts other bytes in the place of a record, with the registry's own tools.
fn put_record(host: &str, reference: &str, bytes: &[u8], folder: &Path) {
    let (repository, manifest) = stored(host, reference);
    let mut json = manifest.json;
    let blob = folder.join("blob");
    fs_err::write(&blob, bytes).expect("a file");
    let digest = crate::support::registry::digest(bytes);
    let oras = Rig::get().tool("oras");
    let run = |args: &[&str]| {
        let done = Command::new(&oras).args(args).output().expect("oras");
        assert!(done.status.success(), "{args:?}: {done:?}");
    };
    let blob = blob.to_str().expect("UTF-8");
    run(&[
        "blob",
        "push",
        "--plain-http",
        &format!("{host}/{repository}@{digest}"),
        blob,
    ]);
    let layers = json["layers"].as_array_mut().expect("layers");
    let entry = layers
        .iter_mut()
        .find(|layer| is_record(layer))
        .expect("a record");
    entry["digest"] = digest.into();
    entry["size"] = bytes.len().into();
    let file = folder.join("manifest.json");
    fs_err::write(&file, json.to_string()).expect("a file");
    let file = file.to_str().expect("UTF-8");
    run(&["manifest", "push", "--plain-http", reference, file]);
}
