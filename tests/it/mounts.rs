//! Cache mounts that a cache brings along to a fresh builder.

use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::rig::{Rig, context, text, unique};

/// What is saved and restored is shown in steps of these names.
const SAVING: &str = "saving cache mount";
const RESTORING: &str = "restoring cache mount";

/// A project with one step that runs in a shell with this mount; the seed makes it another step.
fn project(base: &str, mount: &str, seed: &str, command: &str) -> TempDir {
    let dockerfile = format!(
        "FROM {base}\nRUN --mount=type=cache,{mount} : {seed}; {command}\nRUN echo after > /after\n"
    );
    context(&[("Dockerfile", &dockerfile)])
}

fn inspect(bench: &Bench, reference: &str) -> Value {
    let args = ["cachex", "cache", "inspect", "--format=json", reference];
    let (json, _) = bench.client.docker_ok(&args);
    serde_json::from_str(&json).expect("JSON")
}

fn folder_of(bench: &Bench, reference: &str, id: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().display().to_string();
    let args = ["cachex", "cache", "mounts", "export", reference, id, &path];
    bench.client.docker_ok(&args);
    folder
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("a file")
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_is_there_on_a_fresh_builder() {
    let rig = Rig::get();
    let make = "mkdir -p /c/a/b /c/.hidden && echo some > '/c/a/b/odd  name' && ln /c/a/b/odd* /c/hard && \
                ln -s ../nowhere /c/soft && chown 7:8 /c/hard && chmod 4711 /c/a/b/odd* && touch -d @1577836800 /c/hard && \
                head -c 3000000 /dev/urandom > /c/large && sha256sum /c/large > /c/sum && : > /c/empty";
    let look = "ls -lnR /c; test $(stat -c %a:%u:%g:%h:%Y /c/hard) = 4711:7:8:2:1577836800 && test -d /c/.hidden && \
                test \"$(readlink /c/soft)\" = ../nowhere && test \"$(cat /c/a/b/odd*)\" = some && test -f /c/empty && \
                sha256sum -c /c/sum && test ! -e /c/.docker-cachex-end && echo it is whole";
    for (base, keys) in [
        (&rig.base, "mode=max,via=client,mounts=all"),
        (&rig.base, "mode=max,via=builder,mounts=all"),
        (&rig.busybox, "mode=max,merge=true,mounts=/c"),
        (
            &rig.busybox,
            "mode=min,oci-mediatypes=false,via=client,mounts=all,record=off",
        ),
    ] {
        let reference = reference("mounts");
        let seed = unique("mounts");
        let bench = Bench::new();
        let first = project(base, "target=/c", &seed, make);
        let progress = bench.build("cachex", &[&export(&reference, keys)], first.path());
        assert!(
            progress.contains(SAVING) && !progress.contains(RESTORING),
            "{keys}\n{progress}"
        );
        let inspection = inspect(&bench, &reference);
        let mounts = inspection["mounts"].as_array().expect("mounts");
        assert_eq!(mounts.len(), 1, "{keys}\n{inspection:#}\n{progress}");
        assert_eq!(
            (&mounts[0]["id"], &mounts[0]["files"]),
            (&"/c".into(), &5.into())
        );
        // It is in nobody's way.
        let fresh = Bench::new();
        let progress = fresh.build("buildx", &[&import(&reference)], first.path());
        if keys.contains("mode=max") {
            assert_all_cached(&progress, 2);
        }
        // Where all comes from the cache nothing is restored.
        let fresh = Bench::new();
        let progress = fresh.build("cachex", &[&import(&reference)], first.path());
        if keys.contains("mode=max") {
            assert_all_cached(&progress, 2);
        }
        assert!(!progress.contains(RESTORING), "{keys}\n{progress}");
        let changed = project(base, "target=/c", &format!("{seed} changed"), look);
        let progress = fresh.build("cachex", &[&import(&reference)], changed.path());
        assert!(progress.contains(RESTORING), "{keys}\n{progress}");
        assert!(progress.contains("it is whole"), "{keys}\n{progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn only_what_has_changed_is_sent() {
    let rig = Rig::get();
    let (reference, seed) = (reference("mounts"), unique("mounts"));
    let to = export(&reference, "mode=max,via=client,mounts=all");
    let bench = Bench::new();
    let make = "head -c 20000000 /dev/urandom > /c/large && echo 1 > /c/count";
    let first = project(&rig.base, "id=go,target=/c", &seed, make);
    bench.build("cachex", &[&to], first.path());
    let one = inspect(&bench, &reference);
    let stored = |inspection: &Value| {
        inspection["mounts"][0]["storedSize"]
            .as_u64()
            .expect("a size")
    };
    assert!(stored(&one) > 20_000_000, "{one:#}");
    // No step runs: nothing is looked at, and nothing is written.
    let progress = bench.build("cachex", &[&to], first.path());
    assert!(!progress.contains(SAVING), "{progress}");
    assert_eq!(inspect(&bench, &reference)["digest"], one["digest"]);
    // One more step runs that changes a little.
    let add = "head -c 1000000 /dev/urandom >> /c/large && echo 2 > /c/count";
    let second = project(&rig.base, "id=go,target=/c", &format!("{seed} more"), add);
    let progress = bench.build("cachex", &[&to, &import(&reference)], second.path());
    assert!(
        progress.contains(SAVING) && !progress.contains(RESTORING),
        "{progress}"
    );
    let two = inspect(&bench, &reference);
    let more = stored(&two) - stored(&one);
    assert!((1_000_000..1_600_000).contains(&more), "{more} {two:#}");
    let folder = folder_of(&bench, &reference, "go");
    assert_eq!(read(folder.path(), "count"), "2\n");
    assert_eq!(
        fs::metadata(folder.path().join("large"))
            .expect("a file")
            .len(),
        21_000_000
    );
    // A step that changes nothing.
    let third = project(
        &rig.base,
        "id=go,target=/c",
        &format!("{seed} none"),
        "ls /c",
    );
    let progress = bench.build("cachex", &[&to], third.path());
    assert!(progress.contains("nothing new in"), "{progress}");
    assert_eq!(inspect(&bench, &reference)["mounts"], two["mounts"]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn mounts_of_all_kinds_are_told_apart() {
    let rig = Rig::get();
    let (reference, seed) = (reference("mounts"), unique("mounts"));
    let dockerfile = |what: &str| {
        format!(
            "FROM {} AS tools\nRUN mkdir /t && echo {seed} > /t/tool\nFROM {}\n\
             RUN --mount=type=cache,target=/own,uid=7,gid=8,mode=0750 \
                 --mount=type=cache,target=/locked,sharing=locked --mount=type=cache,target=/private,sharing=private \
                 --mount=type=cache,id=from,target=/from,from=tools,source=/t \
                 --mount=type=cache,id=other,target=/other : {what}; \
                 for m in own locked private from other; do echo \"$m had $(ls /$m | tr '\\n' ' ')\"; echo {what} > /$m/{what}; done; \
                 stat -c 'own is %a:%u:%g' /own\n",
            rig.busybox, rig.base
        )
    };
    let keys = "mode=max,via=client,mounts=/own;/locked;/private;from";
    let bench = Bench::new();
    let first = context(&[("Dockerfile", &dockerfile("first"))]);
    let progress = bench.build("cachex", &[&export(&reference, keys)], first.path());
    assert!(progress.contains(SAVING), "{progress}");
    let inspection = inspect(&bench, &reference);
    let mounts = inspection["mounts"].as_array().expect("mounts").iter();
    let mut ids: Vec<_> = mounts
        .map(|mount| mount["id"].as_str().expect("an id"))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["/locked", "/own", "/private"], "{progress}");
    // What begins with the result of a step cannot be restored before that has run.
    assert!(
        progress.contains("cache mount from is not saved"),
        "{progress}"
    );
    let fresh = Bench::new();
    let second = context(&[("Dockerfile", &dockerfile("second"))]);
    let progress = fresh.build("cachex", &[&import(&reference)], second.path());
    for line in [
        "own had first",
        "locked had first",
        "private had first",
        "other had",
        "own is 750:7:8",
    ] {
        assert!(progress.contains(line), "{line}\n{progress}");
    }
    assert!(
        !progress.contains("other had first") && !progress.contains("from had first"),
        "{progress}"
    );
    let none = Bench::new();
    let no_mounts = format!("{},mounts=none", import(&reference));
    let progress = none.build("cachex", &[&no_mounts], second.path());
    assert!(
        !progress.contains("had first") && !progress.contains(RESTORING),
        "{progress}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_that_cannot_be_restored_begins_empty() {
    let rig = Rig::get();
    let (reference, seed) = (reference("mounts"), unique("mounts"));
    let bench = Bench::new();
    let make = "head -c 20000000 /dev/urandom > /c/large && echo x > /c/small";
    let first = project(&rig.base, "target=/c", &seed, make);
    let to = export(&reference, "mode=max,via=client,mounts=all");
    bench.build("cachex", &[&to], first.path());
    // The registry loses a pack.
    let (repository, _) = rig.registry.place(&reference);
    let manifest = rig.registry.manifest_of(&reference);
    let mut packs = manifest.json["layers"].as_array().expect("layers").iter();
    let is_pack = |entry: &&Value| {
        let annotations = &entry["annotations"];
        annotations["dev.docker-cachex.mount"].is_string()
            && annotations["dev.docker-cachex.mount.id"].is_null()
    };
    let last = packs.rfind(is_pack).expect("a pack");
    let digest = last["digest"].as_str().expect("a digest");
    let status = rig
        .registry
        .delete(&format!("/v2/{repository}/blobs/{digest}"));
    assert_eq!(status, 202);
    let args = ["cachex", "cache", "inspect", "--check", &reference];
    let output = bench.client.docker(&args);
    let told = text(&output.stdout);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("1 cache mount is not whole"), "{told}");
    let fresh = Bench::new();
    let look = "ls -A /c | wc -l | sed 's/^/entries: /'; echo again > /c/small";
    let changed = project(&rig.base, "target=/c", &format!("{seed} changed"), look);
    let progress = fresh.build("cachex", &[&import(&reference), &to], changed.path());
    assert!(progress.contains("entries: 0"), "{progress}");
    assert!(
        progress.contains("cache mount /c is not restored"),
        "{progress}"
    );
    // The next one is whole again.
    let folder = folder_of(&fresh, &reference, "/c");
    assert_eq!(read(folder.path(), "small"), "again\n");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn limits_and_wrong_names_are_told() {
    let rig = Rig::get();
    let (reference, seed) = (reference("mounts"), unique("mounts"));
    let bench = Bench::new();
    let first = project(
        &rig.busybox,
        "target=/c",
        &seed,
        "head -c 200000 /dev/zero > /c/a",
    );
    let to = export(
        &reference,
        "mode=max,via=client,mounts=all,mounts-max-size=100k",
    );
    let progress = bench.build("cachex", &[&to], first.path());
    assert!(
        progress.contains("cache mount /c is not saved: its files have more than"),
        "{progress}"
    );
    assert_eq!(inspect(&bench, &reference)["mounts"], Value::Null);
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().display().to_string();
    let args = [
        "cachex", "cache", "mounts", "export", &reference, "/c", &path,
    ];
    let output = bench.client.docker(&args);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("it has no mount /c"),
        "{}",
        text(&output.stderr)
    );
    let cache = format!("--cache={}/{}", rig.registry.host(), unique("mounts"));
    let second = project(&rig.busybox, "target=/c", &format!("{seed} again"), "ls /c");
    let output = bench
        .command("cachex", &[&cache], second.path())
        .env("CACHEX_BRANCH", "main")
        .output()
        .expect("docker");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert!(progress.contains("mounts=all behind --cache"), "{progress}");
}
