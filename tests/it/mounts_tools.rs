//! Cache mounts of real tools, and of steps that share one, on fresh builders and on those that stay.

use std::path::Path;
use std::process::Stdio;

use fs_err as fs;
use tempfile::TempDir;

use crate::support::bench::{Bench, TOOLS};
use crate::support::caches::{export, import, reference};
use crate::support::counter::Counter;
use crate::support::rig::{Rig, context, unique};
use crate::support::running::folder;
use crate::support::scripted_registry::ScriptedRegistry;

const RESTORING: &str = "restoring cache mount";
const KEYS: &str = "mode=max,via=client,mounts=all";

/// A step with these options of its mount at `/c`, which lists it and leaves a file.
fn marking(seed: &str, options: &str, mark: &str) -> TempDir {
    let base = &Rig::get().base;
    folder(&format!(
        "FROM {base}\nRUN --mount=type=cache,{options},target=/c : {seed}; \
         echo \"had: $(ls /c | tr '\\n' ' ')end\"; stat -c 'is %a:%u' /c; touch /c/{mark}\n"
    ))
}

/// Builds, and gives what the step found.
fn had(bench: &Bench, flags: &[&str], folder: &Path) -> String {
    let progress = bench.build("cachex", flags, folder);
    assert!(
        !progress.contains(" is not restored") && !progress.contains(" is not saved"),
        "{progress}"
    );
    let found = progress
        .split_once(" had: ")
        .and_then(|(_, rest)| rest.split_once("end"));
    found.map_or_else(
        || panic!("{progress}"),
        |(found, _)| found.trim().to_owned(),
    )
}

/// A package and a list of packages, made with the base image's own tools.
const REPOSITORY: &str = "RUN mkdir -p /p/DEBIAN /p/usr/bin /r && cd /r && \
     printf 'Package: tool\\nVersion: 1\\nArchitecture: all\\nMaintainer: me <me@example.com>\\nDescription: tool\\n' > /p/DEBIAN/control && \
     printf '#!/bin/sh\\necho it is installed\\n' > /p/usr/bin/tool && chmod 755 /p/usr/bin/tool && dpkg-deb -b /p tool.deb && \
     { cat /p/DEBIAN/control && printf 'Filename: ./tool.deb\\nSize: %s\\nSHA256: %s\\n' \
     $(stat -c %s tool.deb) $(sha256sum tool.deb | cut -d' ' -f1); } > Packages";

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn apt_finds_its_packages_on_a_fresh_builder() {
    let (reference, seed) = (reference("apt"), unique("apt"));
    let mounts = "--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked";
    let dockerfile = |repository: &str, run: &str| {
        let base = &Rig::get().base;
        let source = "deb [trusted=yes] copy:/r ./";
        folder(&format!(
            "FROM {base}\n{repository}\nRUN rm -rf /etc/apt/sources.list* /etc/apt/apt.conf.d/docker-clean; \
             echo '{source}' > /etc/apt/sources.list\nRUN {mounts} : {seed}; {run} && tool\n"
        ))
    };
    let bench = Bench::new();
    let first = dockerfile(REPOSITORY, "apt-get update && apt-get install -y tool");
    let progress = bench.build("cachex", &[&export(&reference, KEYS)], first.path());
    assert!(progress.contains("it is installed"), "{progress}");
    // The packages are nowhere else any more.
    let second = dockerfile("", "apt-get install -y --no-download tool");
    for tool in TOOLS {
        let fresh = Bench::new();
        let output = fresh.try_build(tool, &[&import(&reference)], second.path());
        let progress = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), tool == "cachex", "{progress}");
    }
}

/// A compiler with a cache: what it has made of the same bytes before it does not make again.
const COMPILE: &str = "for f in src/*.c; do sum=$(sha256sum $f | cut -c1-16); \
     if [ -e /cc/$sum.o ]; then echo \"hit $f\"; else echo \"miss $f\"; tr a-z A-Z < $f > /cc/$sum.o; fi; done";

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_compilers_cache_makes_one_file_anew() {
    let (reference, base) = (reference("cc"), &Rig::get().base);
    let dockerfile = format!(
        "FROM {base}\nWORKDIR /w\nCOPY src src\nRUN --mount=type=cache,id=cc,target=/cc {COMPILE}\n"
    );
    let seed = unique("cc");
    let sources: Vec<(String, String)> = (0..9)
        .map(|n| (format!("src/{n}.c"), format!("{seed} {n}")))
        .collect();
    let mut files: Vec<(&str, &str)> = vec![("Dockerfile", &dockerfile)];
    files.extend(
        sources
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str())),
    );
    let project = context(&files);
    let progress = Bench::new().build("cachex", &[&export(&reference, KEYS)], project.path());
    assert_eq!(progress.matches(" miss src/").count(), 9, "{progress}");
    fs::write(project.path().join("src/4.c"), "changed").expect("a file");
    for (tool, missed) in [("cachex", 1), ("buildx", 9)] {
        let progress = Bench::new().build(tool, &[&import(&reference)], project.path());
        let misses = progress.matches(" miss src/").count();
        assert_eq!(misses, missed, "{tool}\n{progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn mounts_of_one_id_are_the_same_where_buildkit_has_it_so() {
    let (reference, seed) = (reference("ids"), unique("ids"));
    let to = export(&reference, KEYS);
    let first = Bench::new();
    let options = ["id=go", "id=go,uid=7", "id=go,mode=0700"];
    for (number, options) in options.iter().enumerate() {
        let mark = format!("of-{number}");
        let made = marking(&format!("{seed} first"), options, &mark);
        assert_eq!(had(&first, &[&to], made.path()), "", "{options}");
    }
    // Each is restored though the builder has another one of the same id, and once.
    let (from, fresh) = (import(&reference), Bench::new());
    for round in ["second", "third"] {
        for (number, options) in options.iter().enumerate() {
            let look = marking(&format!("{seed} {round}"), options, "more");
            let found = had(&fresh, &[&from], look.path());
            let more = if round == "third" { "more " } else { "" };
            assert_eq!(found, format!("{more}of-{number}"), "{options}");
        }
    }
    // Who looks into the cache tells them apart by their keys.
    let (inspection, _) =
        first
            .client
            .docker_ok(&["cachex", "cache", "inspect", "--format=json", &reference]);
    let inspection: serde_json::Value = serde_json::from_str(&inspection).expect("JSON");
    let mounts = inspection["mounts"].as_array().expect("mounts");
    assert_eq!(mounts.len(), 3);
    let place = TempDir::new().expect("a folder");
    let look = |name: &str, number: usize| {
        let folder = place.path().join(number.to_string()).display().to_string();
        first.client.docker(&[
            "cachex", "cache", "mounts", "export", &reference, name, &folder,
        ])
    };
    let several = String::from_utf8_lossy(&look("go", 9).stderr).into_owned();
    for (number, mount) in mounts.iter().enumerate() {
        let key = mount["key"].as_str().expect("a key");
        assert!(several.contains(key), "{several}");
        assert!(look(key, number).status.success());
    }
    let other = marking(&seed, "id=go,uid=8", "other");
    assert_eq!(had(&fresh, &[&from], other.path()), "");
    // Another Dockerfile of the repository that uses the same id has the same mount.
    let base = &Rig::get().busybox;
    let another = folder(&format!(
        "FROM {base}\nRUN --mount=type=cache,id=go,target=/elsewhere : {seed}; echo \"had: $(ls /elsewhere)end\"\n"
    ));
    assert_eq!(had(&Bench::new(), &[&from], another.path()), "of-0");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_that_begins_with_an_image_is_restored_over_it() {
    let (reference, seed, rig) = (reference("from"), unique("from"), Rig::get());
    let options = format!("id=from,from={},source=/etc", rig.busybox);
    let to = export(&reference, KEYS);
    let made = marking(&seed, &options, "made");
    assert_eq!(had(&Bench::new(), &[&to], made.path()), "group passwd");
    let look = marking(&format!("{seed} again"), &options, "more");
    let fresh = Bench::new();
    assert_eq!(
        had(&fresh, &[&import(&reference)], look.path()),
        "group made passwd"
    );
    let look = marking(&format!("{seed} third"), &options, "more");
    assert_eq!(
        had(&fresh, &[&import(&reference)], look.path()),
        "group made more passwd"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_image_carries_the_mounts_of_steps_without_a_shell() {
    let (bench, rig, seed) = (Bench::new(), Rig::get(), unique("bare"));
    let copy = format!("COPY --from={} /bin/busybox /busybox\n", rig.busybox);
    let image = format!("{}/{}:bare", rig.registry.host(), unique("image"));
    let bare = folder(&format!("FROM scratch\n{copy}"));
    bench.build(
        "cachex",
        &["--push", "--provenance=false", "-t", &image],
        bare.path(),
    );
    for (base, copy) in [("scratch", copy.as_str()), (&image, "")] {
        let reference = reference("bare");
        let step = |round: &str| {
            let run = format!("echo 'had: '$(/busybox ls /c)end; echo {seed} {round} > /c/made");
            folder(&format!(
                "FROM {base}\n{copy}RUN --mount=type=cache,target=/c [\"/busybox\", \"sh\", \"-c\", \"{run}\"]\n"
            ))
        };
        let to = export(&reference, KEYS);
        let progress = bench.build("cachex", &[&to], step("one").path());
        assert!(
            progress.contains("cache mount /c is not saved"),
            "{progress}"
        );
        assert!(progress.contains("mounts-helper="), "{progress}");
        let helped = format!("{to},mounts-helper={}", rig.busybox);
        bench.prune();
        assert_eq!(had(&bench, &[&helped], step("two").path()), "");
        let (fresh, from) = (Bench::new(), import(&reference));
        let progress = fresh.build("cachex", &[&from], step("three").path());
        assert!(
            progress.contains("cache mount /c is not restored"),
            "{progress}"
        );
        let (fresh, from) = (
            Bench::new(),
            format!("{from},mounts-helper={}", rig.busybox),
        );
        assert_eq!(had(&fresh, &[&from], step("three").path()), "made");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_that_was_restored_costs_nothing_later() {
    let (reference, seed, base) = (reference("later"), unique("later"), &Rig::get().base);
    let step = |first: &str, round: &str| {
        folder(&format!(
            "FROM {base}\nRUN {first}\nRUN --mount=type=cache,target=/c : {seed} {round}; echo \"had: $(ls /c)end\"; touch /c/made\n"
        ))
    };
    let bench = Bench::new();
    bench.build(
        "cachex",
        &[&export(&reference, KEYS)],
        step("true", "one").path(),
    );
    let (from, fresh) = (import(&reference), Bench::new());
    // It is restored, and no step uses it.
    let progress = fresh.fails(1, &[&from], step("false", "two").path());
    assert!(progress.contains(RESTORING), "{progress}");
    for round in ["three", "four"] {
        let progress = fresh.build("cachex", &[&from], step("true", round).path());
        assert!(progress.contains("had: made"), "{round}\n{progress}");
        assert!(!progress.contains(RESTORING), "{round}\n{progress}");
    }
    // Nor on the builder that made it.
    let progress = bench.build("cachex", &[&from], step("true", "five").path());
    assert!(progress.contains("had: made"), "{progress}");
    assert!(!progress.contains(RESTORING), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_with_an_owner_that_a_step_made_is_looked_at_once() {
    let (reference, seed) = (reference("owner"), unique("owner"));
    let step = |round: &str| marking(&format!("{seed} {round}"), "id=own,uid=7", "made");
    let (bench, from) = (Bench::new(), import(&reference));
    bench.build("cachex", &[&export(&reference, KEYS)], step("one").path());
    // The builder does not tell what it begins with.
    for (round, is_looked_at) in [("two", true), ("three", false), ("four", false)] {
        let progress = bench.build("cachex", &[&from], step(round).path());
        assert!(progress.contains("had: made"), "{round}\n{progress}");
        let is_shown = progress.contains(RESTORING);
        assert_eq!(is_shown, is_looked_at, "{round}\n{progress}");
        assert!(!progress.contains("received"), "{round}\n{progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_is_not_taken_for_one_that_begins_with_something_else() {
    let (reference, seed, rig) = (reference("other"), unique("other"), Rig::get());
    let of_image = format!("id=both,from={},source=/etc", rig.busybox);
    let made = marking(&seed, &of_image, "made");
    let to = export(&reference, KEYS);
    assert_eq!(had(&Bench::new(), &[&to], made.path()), "group passwd");
    // Steps have made one with the same id.
    let fresh = Bench::new();
    let owned = marking(&seed, "id=both,uid=7", "other");
    fresh.build("buildx", &[], owned.path());
    let look = marking(&format!("{seed} again"), &of_image, "more");
    let found = had(&fresh, &[&import(&reference)], look.path());
    assert_eq!(found, "group made passwd");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn of_two_jobs_at_once_the_last_one_wins_whole() {
    let (reference, seed) = (reference("jobs"), unique("jobs"));
    let (base, counter) = (&Rig::get().busybox, Counter::closed());
    let keys = "mode=max,merge=true,mounts=all";
    let jobs = ["one", "two"].map(|job| {
        let bench = Bench::new();
        let project = folder(&format!(
            "FROM {base}\nRUN --mount=type=cache,target=/c : {seed}; \
             for n in 1 2 3; do head -c 3000000 /dev/urandom > /c/{job}$n; done; echo {job} > /c/who; \
             until {}; do sleep 0.1; done\n",
            counter.tell(job)
        ));
        let mut command = bench.command("cachex", &[&export(&reference, keys)], project.path());
        let child = command.stderr(Stdio::piped()).spawn().expect("docker");
        (bench, project, child)
    });
    for job in ["one", "two"] {
        counter.wait_for(&format!("/{job}"));
    }
    counter.open();
    for (_bench, _project, child) in jobs {
        let output = child.wait_with_output().expect("docker");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let look = folder(&format!(
        "FROM {base}\nRUN --mount=type=cache,target=/c : {seed}; echo \"had: $(ls /c | tr '\\n' ' ')end\"; cat /c/who\n"
    ));
    let found = had(&Bench::new(), &[&import(&reference)], look.path());
    assert!(
        ["one1 one2 one3 who", "two1 two2 two3 who"].contains(&found.as_str()),
        "{found}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_without_mounts_asks_for_nothing_more() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bench = Bench::new();
    let project = folder(&format!(
        "FROM {}\nRUN echo {} > /made\n",
        Rig::get().busybox,
        unique("none")
    ));
    let asked = ["none", "all"].map(|mounts| {
        bench.prune();
        let registry = runtime.block_on(ScriptedRegistry::start());
        let place = format!("{}/none:c", registry.host());
        let to = export(&place, &format!("mode=max,via=client,mounts={mounts}"));
        let from = format!("{},via=client", import(&place));
        bench.build("cachex", &[&to], project.path());
        bench.build("cachex", &[&to, &from], project.path());
        let mut seen: Vec<String> = registry
            .seen()
            .iter()
            .map(|seen| seen.method.clone())
            .collect();
        seen.sort();
        seen
    });
    assert_eq!(asked[0], asked[1]);
}
