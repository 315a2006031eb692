//! What BuildKit does not read is not written; and caches that are brought from one registry to another.

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::export;
use crate::support::large::{OLD, enlarge};
use crate::support::locked::{Locked, PASSWORD, auths};
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{Rig, context, text, unique};
use crate::support::running::ran;

/// What BuildKit reads of a manifest or config.
const LIMIT: usize = 1 << 20;

/// A build of a step that all have and one of its own.
fn project(shared: &str, own: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base}\n\
         RUN echo first; echo {shared} > /s\n\
         RUN echo second; echo {own} > /own\n"
    );
    context(&[("Dockerfile", &dockerfile)])
}

/// These builds are found in a cache, in turn by both tools, each on a builder that has never seen them.
fn assert_hits(bench: &Bench, reference: &str, projects: &[&TempDir]) {
    for (index, project) in projects.iter().enumerate() {
        let tool = ["buildx", "cachex"][index % 2];
        bench.prune();
        let log = bench.build(tool, &["--cache-from", reference], project.path());
        assert_all_cached(&log, 2);
    }
}

/// Checks that BuildKit reads the cache, and returns how many records it has.
fn records(registry: &Registry, repository: &str) -> usize {
    let manifest = registry.manifest(repository, "c").expect("a cache");
    let config = manifest.json["config"]["digest"]
        .as_str()
        .expect("a digest");
    let config = registry.blob(repository, config);
    assert!(config.len() <= LIMIT, "{}", config.len());
    assert!(manifest.json.to_string().len() <= LIMIT);
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    config["records"].as_array().expect("records").len()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_united_cache_stays_so_small_that_buildkit_reads_it() {
    let bench = Bench::new();
    let registry = &Rig::get().registry;
    let shared = unique("shared");
    let (old, new) = (project(&shared, "old"), project(&shared, "new"));
    // Those of the builds are few.
    let said = format!("least recently used of {}", OLD / 10);
    let place = || {
        let repository = unique("it/bound");
        let reference = format!("{}/{repository}:c", registry.host());
        bench.build("buildx", &[&export(&reference, "mode=max")], old.path());
        enlarge(registry.host(), &repository);
        (repository, reference)
    };
    let assert_small = |repository: &str, reference: &str| {
        let records = records(registry, repository);
        // As many as there is room for, and not only the new ones.
        assert!((1000..OLD).contains(&records), "{records}");
        assert_hits(&bench, reference, &[&old, &new]);
    };

    // By a build that merges its cache with it.
    let (repository, reference) = place();
    bench.prune();
    let log = bench.build("buildx", &["--cache-from", &reference], old.path());
    assert!(ran(&log, "first"), "BuildKit itself refuses it: {log}");
    bench.prune();
    let log = bench.build(
        "cachex",
        &[&export(&reference, "mode=max,merge=true")],
        new.path(),
    );
    assert!(
        log.contains(&said) && log.contains("over BuildKit's 1 MiB"),
        "{log}"
    );
    assert_small(&repository, &reference);

    // By a build that fails, whose steps are merged with it.
    let (repository, reference) = place();
    let dockerfile = fs::read_to_string(new.path().join("Dockerfile")).expect("a file");
    let failing = context(&[("Dockerfile", &format!("{dockerfile}RUN false\n"))]);
    let log = bench.fails(1, &[&export(&reference, "mode=max")], failing.path());
    assert!(log.contains("kept what has finished"), "{log}");
    assert!(log.contains("over BuildKit's 1 MiB"), "{log}");
    assert_small(&repository, &reference);

    // By hand.
    let (repository, reference) = place();
    let other = format!("{}/{}:c", registry.host(), unique("it/bound"));
    bench.build("buildx", &[&export(&other, "mode=max")], new.path());
    let merge = ["cachex", "cache", "merge", &other, &reference];
    let (told, _) = bench.client.docker_ok(&merge);
    assert!(
        told.contains(&said) && told.contains("over BuildKit's 1 MiB"),
        "{told}"
    );
    assert_small(&repository, &reference);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_are_united_over_three_registries() {
    let locked = Locked::start();
    let mut own = OwnRegistry::new();
    own.start();
    let rig = Rig::get().registry.host();
    let bench = Bench::new();
    let config = bench.client.config().join("config.json");
    fs::write(&config, auths(&locked.host)).expect("the config");
    let shared = unique("shared");
    let names = ["locked", "own", "rig"];
    let projects = names.map(|name| project(&shared, name));
    let repository = unique("it/three");
    let references = [&locked.host, &own.host, rig].map(|host| format!("{host}/{repository}:c"));
    for (reference, project) in references.iter().zip(&projects) {
        bench.build("buildx", &[&export(reference, "mode=max")], project.path());
    }
    let all: Vec<&TempDir> = projects.iter().collect();

    // From a registry with a login and one without into a third.
    let merge = |args: &[&str]| {
        let args = [&["cachex", "cache", "merge"][..], args].concat();
        let output = bench.client.docker(&args);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!told.contains(PASSWORD), "{told}");
        (output.status.code(), told)
    };
    let [locked_ref, own_ref, rig_ref] = [&references[0], &references[1], &references[2]];
    let (code, told) = merge(&[locked_ref, own_ref, rig_ref]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("sent 2 "), "{told}");
    assert_hits(&bench, rig_ref, &all);

    // And back, into one that wants a login.
    let (code, told) = merge(&[rig_ref, locked_ref]);
    assert_eq!(code, Some(0), "{told}");
    assert_hits(&bench, locked_ref, &all);

    // A layer that its registry has lost is left out, and the rest is brought.
    let last = own.layers(&repository, "c").pop().expect("a layer");
    fs::remove_file(own.data(&last)).expect("the blob");
    let target = format!("{rig}/{}:c", unique("it/three"));
    let (code, told) = merge(&[own_ref, &target]);
    assert_eq!(code, Some(0), "{told}");
    bench.prune();
    let log = bench.build("cachex", &["--cache-from", &target], projects[1].path());
    assert!(!ran(&log, "first") && ran(&log, "second"), "{log}");

    // One that does not answer is an error that names it, and the target stays as it is.
    own.kill();
    let before = Rig::get().registry.manifest(&repository, "c");
    let (code, told) = merge(&[own_ref, rig_ref]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(own_ref), "{told}");
    let after = Rig::get().registry.manifest(&repository, "c");
    assert_eq!(before.map(|m| m.digest), after.map(|m| m.digest));
}
