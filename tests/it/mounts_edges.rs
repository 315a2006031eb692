//! Cache mounts with odd names, of several platforms, too old, refused, and written to a folder.

use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::rig::{Rig, text, unique};
use crate::support::running::folder;
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

const RESTORING: &str = "restoring cache mount";
const KEYS: &str = "mode=max,via=client,mounts=all";

/// A step with this mount at `/c`, which says what is in it and leaves a file.
fn step(options: &str, seed: &str, mark: &str) -> TempDir {
    let busybox = &Rig::get().busybox;
    folder(&format!(
        "FROM {busybox} AS stage-0\nARG ID\nRUN --mount=type=cache,target=/c{options} : {seed}; \
         echo \"had: $(ls /c | tr '\\n' ' ')end\"; touch /c/{mark}\n"
    ))
}

/// What the step found, by the progress.
fn had(progress: &str) -> &str {
    let (_, rest) = progress.split_once(" had: ").expect(progress);
    rest.split_once("end").expect(progress).0.trim()
}

fn mounts_of(reference: &str) -> Vec<Value> {
    let manifest = Rig::get().registry.manifest_of(reference);
    let entries = manifest.json["layers"].as_array().expect("layers").clone();
    let is_index = |entry: &Value| entry["annotations"]["dev.docker-cachex.mount.id"].is_string();
    entries.into_iter().filter(is_index).collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn ids_may_have_any_characters() {
    let (reference, seed) = (reference("odd"), unique("odd"));
    let (first, fresh) = (Bench::new(), Bench::new());
    let (to, from) = (
        export(&reference, &format!("{KEYS},merge=true")),
        import(&reference),
    );
    for (number, id) in [
        "a\"b",
        "a\\b",
        "a=b c",
        "größe",
        "-x",
        "no\u{a0}break",
        " with id ",
    ]
    .iter()
    .enumerate()
    {
        let arg = format!("--build-arg=ID={id}");
        let (options, mark) = (",id=$ID,uid=7", format!("of-{number}"));
        let made = step(options, &seed, &mark);
        let progress = first.build("cachex", &[&arg, &to], made.path());
        assert_eq!(had(&progress), "", "{id}\n{progress}");
        for (round, expected) in [("two", mark.clone()), ("three", format!("more {mark}"))] {
            let look = step(options, &format!("{seed} {round}"), "more");
            let progress = fresh.build("cachex", &[&arg, &from], look.path());
            // What the builder has is not replaced.
            assert_eq!(had(&progress), expected, "{id} {round}\n{progress}");
            assert_eq!(
                progress.contains(RESTORING),
                round == "two",
                "{id}\n{progress}"
            );
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_that_a_step_without_cache_empties_is_not_restored() {
    let (reference, seed, fresh) = (reference("emptied"), unique("emptied"), Bench::new());
    let to = export(&reference, KEYS);
    Bench::new().build("cachex", &[&to], step("", &seed, "made").path());
    let (from, look) = (
        import(&reference),
        step("", &format!("{seed} again"), "more"),
    );
    for flag in ["--no-cache", "--no-cache-filter=stage-0"] {
        let progress = fresh.build("cachex", &[flag, &from], look.path());
        assert_eq!(had(&progress), "", "{flag}\n{progress}");
        assert!(!progress.contains(RESTORING), "{flag}\n{progress}");
        fresh.prune();
    }
    let progress = fresh.build("cachex", &[&from], look.path());
    assert_eq!(had(&progress), "made", "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn platforms_have_mounts_of_their_own() {
    let (reference, seed) = (reference("platforms"), unique("platforms"));
    let to = export(&reference, &format!("{KEYS},merge=true"));
    let from = import(&reference);
    let platforms = ["linux/amd64", "linux/amd64/v2"];
    for platform in platforms {
        let made = step(",id=go", &seed, &platform.replace('/', "-"));
        let flag = format!("--platform={platform}");
        let progress = Bench::new().build("cachex", &[&flag, &to, &from], made.path());
        assert_eq!(had(&progress), "", "{platform}\n{progress}");
    }
    assert_eq!(mounts_of(&reference).len(), 2);
    for platform in platforms {
        let look = step(",id=go", &format!("{seed} again"), "more");
        let flag = format!("--platform={platform}");
        let progress = Bench::new().build("cachex", &[&flag, &from], look.path());
        assert_eq!(had(&progress), platform.replace('/', "-"), "{progress}");
    }
}

/// Makes all mounts of a cache as old as this.
fn date(reference: &str, when: &str) {
    let registry = &Rig::get().registry;
    let (repository, tag) = registry.place(reference);
    let mut manifest = registry.manifest_of(reference).json;
    for entry in manifest["layers"].as_array_mut().expect("layers") {
        let annotations = &mut entry["annotations"];
        if annotations["dev.docker-cachex.mount.id"].is_string() {
            annotations["dev.docker-cachex.mount.created"] = when.into();
        }
    }
    let media_type = manifest["mediaType"].as_str().expect("a type").to_owned();
    let json = serde_json::to_vec(&manifest).expect("JSON");
    registry.put_manifest(repository, tag, &media_type, &json);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_that_nobody_uses_goes_with_its_time() {
    let (reference, seed) = (reference("age"), unique("age"));
    let bounded = export(&reference, &format!("{KEYS},merge=true,max-age=48h"));
    let (bench, from) = (Bench::new(), import(&reference));
    for id in ["used", "unused"] {
        let made = step(&format!(",id={id}"), &seed, "made");
        bench.build("cachex", &[&bounded], made.path());
    }
    date(&reference, "2020-01-01T00:00:00Z");
    // One that a step uses is restored however old it is, and young again, though nothing in it is new.
    let fresh = Bench::new();
    let look = step(",id=used", &format!("{seed} again"), "made");
    let progress = fresh.build("cachex", &[&from, &bounded], look.path());
    assert_eq!(had(&progress), "made", "{progress}");
    let left = mounts_of(&reference);
    assert_eq!(left.len(), 1, "{left:#?}");
    let annotations = &left[0]["annotations"];
    assert_eq!(annotations["dev.docker-cachex.mount.id"], "used");
    let created = annotations["dev.docker-cachex.mount.created"]
        .as_str()
        .expect("a time");
    assert!(!created.starts_with("2020"), "{created}");
    // By hand, too.
    date(&reference, "2020-01-01T00:00:00Z");
    let merge = [
        "cachex",
        "cache",
        "merge",
        "--max-age=48h",
        &reference,
        &reference,
    ];
    bench.client.docker_ok(&merge);
    assert!(mounts_of(&reference).is_empty());
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_takes_no_files_of_a_mount_gets_the_rest() {
    let (runtime, seed) = (Runtime::new().expect("a runtime"), unique("refused"));
    for status in [413, 507] {
        let registry = runtime.block_on(ScriptedRegistry::start());
        let place = format!("{}/refused:c", registry.host());
        let to = export(&place, &format!("{KEYS},ignore-error=true"));
        let bench = Bench::new();
        let project = |command: &str| {
            let base = &Rig::get().busybox;
            folder(&format!(
                "FROM {base}\nRUN --mount=type=cache,target=/c : {seed} {status}; {command}\n"
            ))
        };
        bench.build("cachex", &[&to], project("echo x > /c/x").path());
        let count = registry.seen().len();
        let fault = Fault::Status(status, Vec::new(), "");
        registry.fault("PUT", "/uploads/", (0, usize::MAX), fault.clone());
        registry.fault("PATCH", "/uploads/", (0, usize::MAX), fault);
        // No step makes a layer: what is sent are the files of the mount.
        let progress = bench.build(
            "cachex",
            &[&to],
            project("head -c 300000 /dev/urandom > /c/x").path(),
        );
        assert!(registry.seen().len() > count);
        assert!(
            progress.contains("cache mount /c is not saved"),
            "{status}\n{progress}"
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_loaded_image_has_no_files_of_its_mounts() {
    let (reference, seed, name) = (reference("load"), unique("load"), unique("loaded"));
    let (bench, made) = (Bench::new(), step("", &seed, "made"));
    let flags = ["--load", "--tag", &name, &export(&reference, KEYS)];
    bench.build("cachex", &flags, made.path());
    let (files, _) = bench
        .client
        .docker_ok(&["run", "--rm", &name, "find", "/", "-xdev", "-name", "made"]);
    bench.client.docker_ok(&["image", "rm", "--force", &name]);
    assert_eq!(files, "");
    let look = step("", &format!("{seed} again"), "more");
    let progress = Bench::new().build("cachex", &[&import(&reference)], look.path());
    assert_eq!(had(&progress), "made", "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn files_of_a_mount_are_written_where_nothing_is() {
    let (reference, seed, bench) = (reference("folder"), unique("folder"), Bench::new());
    let to = export(&reference, "mode=max,via=client,mounts=odd id;/c;nobody's");
    bench.build(
        "cachex",
        &[&to, "--build-arg=ID=odd id"],
        step(",id=$ID", &seed, "made").path(),
    );
    let place = TempDir::new().expect("a folder");
    let write = |id: &str, folder: &Path| {
        let folder = folder.display().to_string();
        let args = [
            "cachex", "cache", "mounts", "export", &reference, id, &folder,
        ];
        let output = bench.client.docker(&args);
        (output.status.success(), text(&output.stderr))
    };
    let there = place.path().join("there");
    fs::create_dir(&there).expect("a folder");
    assert_eq!(write("odd id", &there), (true, String::new()));
    assert!(there.join("made").exists());
    // It is not written over, also where it is a file.
    for (name, file) in [("there", "kept"), ("", "file")] {
        let file = place.path().join(name).join(file);
        fs::write(&file, "kept").expect("a file");
        let target = if name.is_empty() {
            file.clone()
        } else {
            there.clone()
        };
        let (done, error) = write("odd id", &target);
        assert!(!done && error.contains("ERROR"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "kept");
    }
    // Nothing is made where there is no such mount.
    let none = place.path().join("none");
    let (done, error) = write("nobody's", &none);
    assert!(
        !done && error.contains("it has no mount nobody's"),
        "{error}"
    );
    assert!(!none.exists(), "a folder was made for nothing");
}
