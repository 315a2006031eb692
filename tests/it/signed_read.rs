//! What is read of a signed cache: what was verified, at no more cost, and a build that must have it verified.

use std::process::Command;

use fs_err as fs;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::own_registry::OwnRegistry;
use crate::support::recorder::Recorder;
use crate::support::registry::Registry;
use crate::support::rig::unique;
use crate::support::signing::{Keys, is_signed, project, registry, said};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_was_verified_is_read_though_the_tag_moves() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let recorder = Recorder::start(registry().host());
    let repository = unique("moved");
    let place = |tag: &str| format!("{}/{repository}:{tag}", recorder.host());
    let seed = unique("s");
    let (good, evil) = (project(&seed, "good"), project(&seed, "EVIL"));
    let how = "mode=max,via=client,record=off";
    let to = export(&place("cache"), &format!("{how},{}", keys.sign("main")));
    bench.build("cachex", &[&to], good.path());
    bench.prune();
    bench.build("cachex", &[&export(&place("evil"), how)], evil.path());
    let verified = registry()
        .manifest(&repository, "cache")
        .expect("a cache")
        .digest;

    // As soon as the tag was read, it holds another cache.
    let theirs = registry().manifest(&repository, "evil").expect("a cache");
    let bytes = registry().raw_manifest(&repository, "evil");
    let media_type = theirs.json["mediaType"]
        .as_str()
        .expect("a type")
        .to_owned();
    let (mut was_read, of) = (false, repository.clone());
    recorder.before_each(move |request| {
        let reads_tag = request.method == "GET" && request.target.ends_with("/manifests/cache");
        if was_read && !reads_tag {
            registry().put_manifest(&of, "cache", &media_type, &bytes);
        }
        was_read |= reads_tag;
    });
    let from = format!(
        "{},registry.insecure=true,{}",
        import(&place("cache")),
        keys.verify("main")
    );
    let (right, log) = said(&bench, "cachex", &from, good.path());
    assert_eq!(right, "good", "{log}");
    // The layers of the cache were loaded: a step that ran would have said nothing of them.
    let read = format!(
        "importing cache manifest from {}@{verified}",
        place("cache")
    );
    assert!(log.contains(&read) && log.contains(" CACHED\n"), "{log}");
    let now = registry().manifest(&repository, "cache").expect("a cache");
    assert_eq!(now.digest, theirs.digest, "the tag has moved");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_unchanged_signed_cache_costs_at_most_one_request_and_is_not_written() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let recorder = Recorder::start(registry().host());
    for how in ["mode=max,via=client", "mode=max,merge=true"] {
        let mut counts = Vec::new();
        let folder = project(&unique("s"), "x");
        for is_signed in [false, true] {
            let place = format!("{}/{}:cache", recorder.host(), unique("cost"));
            let mut to = export(&place, how);
            let mut from = format!("{},registry.insecure=true", import(&place));
            if is_signed {
                to = format!("{to},{}", keys.sign("main"));
                from = format!("{from},{}", keys.verify("main"));
            }
            bench.prune();
            bench.build("cachex", &[&to], folder.path());
            // The record of the build that ran settles in the one after it.
            for _ in 0..2 {
                bench.prune();
                recorder.take();
                let log = bench.build("cachex", &[&from, &to], folder.path());
                assert_all_cached(&log, 2);
            }
            let requests = recorder.take();
            let writes: Vec<_> = requests
                .iter()
                .filter(|request| !["GET", "HEAD"].contains(&request.method.as_str()))
                .collect();
            assert!(writes.is_empty(), "{how}: {writes:?}");
            counts.push(requests);
        }
        assert!(
            counts[1].len() <= counts[0].len() + 1,
            "{how}: unsigned {:#?}, signed {:#?}",
            counts[0],
            counts[1]
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn damaged_blobs_of_a_signed_cache_are_noticed() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let seed = unique("s");
    let good = project(&seed, "good");
    for what in ["config", "layer"] {
        let mut own = OwnRegistry::new();
        own.start();
        let place = format!("{}/team/cache:cache", own.host);
        let how = format!("mode=max,via=client,{}", keys.sign("main"));
        bench.prune();
        bench.build("cachex", &[&export(&place, &how)], good.path());
        let blob = if what == "config" {
            let manifest = Registry::new(&own.host).manifest("team/cache", "cache");
            let manifest = manifest.expect("a cache");
            let digest = manifest.json["config"]["digest"].as_str();
            digest.expect("a config").to_owned()
        } else {
            own.layers("team/cache", "cache").pop().expect("a layer")
        };
        let path = own.data(&blob);
        let mut bytes = fs::read(&path).expect("the blob");
        let half = bytes.len() / 2;
        bytes[half] ^= 1;
        fs::write(&path, bytes).expect("the blob");
        let from = format!("{},{}", import(&place), keys.verify("main"));
        let (right, log) = said(&bench, "cachex", &from, good.path());
        assert_eq!(right, "good", "{what}: {log}");
        // What was signed is whole; what it names is not.
        assert!(log.contains("signed by main.pub"), "{what}: {log}");
        assert!(
            !log.contains("[3/3] RUN echo good > /said\n#9 CACHED"),
            "{what}: {log}"
        );
        let public = keys.path("main.pub");
        let verify = ["cachex", "cache", "verify", &place, "--key", &public];
        bench.client.docker_ok(&verify);
        let deep = [&verify[..], &["--deep"]].concat();
        let deep = bench.client.docker(&deep);
        let said = String::from_utf8_lossy(&deep.stderr).into_owned();
        assert_eq!(deep.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains(&blob), "{what}: {said}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_may_insist_on_verified_caches() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let folder = project(&unique("s"), "x");
    let reference = reference("required").replace(":cache", ":s-insists");
    let verified = format!("{},{}", import(&reference), keys.verify("main"));
    let from = format!("{verified},verify-required=true");
    // One that is not there yet is none to verify.
    let log = bench.build("cachex", &[&from], folder.path());
    assert!(log.contains("no cache there yet"), "{log}");
    let how = "mode=max,via=client";
    bench.build("cachex", &[&export(&reference, how)], folder.path());
    let assert_refused = |flag: &str, why: &str| {
        let log = bench.fails(1, &[flag], folder.path());
        let expected = format!("cannot be verified (verify-required): {why}");
        assert!(log.contains(&expected), "{log}");
        // Nothing of it was built.
        assert!(!log.contains("RUN echo"), "{log}");
    };
    assert_refused(&from, "it is not signed");
    let (repository, _) = registry().place(&reference);
    let whole = format!("{}/{repository}", registry().host());
    let scoped = |more: &str| {
        format!(
            "--cache={whole},scope=insists,write=false,{}{more}",
            keys.verify("main")
        )
    };
    assert_refused(&scoped(",verify-required=true"), "it is not signed");
    let log = bench.build("cachex", &[&scoped("")], folder.path());
    assert!(log.contains("is passed over: it is not signed"), "{log}");
    let to = export(&reference, &format!("{how},{}", keys.sign("other")));
    bench.build("cachex", &[&to], folder.path());
    assert_refused(&from, "none of the keys");
    let explain = ["cachex", "cache", "explain", &from];
    let mut command = bench.client.command(&explain);
    let output = command.arg(folder.path()).output().expect("the docker CLI");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // One of several is enough to end it.
    let plain = format!("{},verify=false", import(&reference));
    let log = bench.fails(1, &[&plain, &from], folder.path());
    assert!(log.contains("(verify-required)"), "{log}");
    let to = export(&reference, &format!("{how},{}", keys.sign("main")));
    bench.build("cachex", &[&to], folder.path());
    assert!(is_signed(&reference));
    bench.prune();
    assert_all_cached(&bench.build("cachex", &[&from], folder.path()), 2);
    // Without any key nothing can be verified.
    let from = format!("{},verify-required=true", import(&reference));
    let log = bench.fails(1, &[&from], folder.path());
    assert!(log.contains("no key is known"), "{log}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_odd_trust_file_ends_the_build_before_it_begins() {
    let bench = Bench::new();
    let folder = project(&unique("s"), "x");
    let trust = folder.path().join(".cachex");
    let file = trust.join("trust.toml");
    fs::create_dir(&trust).expect("a folder");
    let from = import(&reference("trust"));
    fs::create_dir(&file).expect("a folder");
    let log = bench.fails(1, &[&from], folder.path());
    assert!(log.contains("trust.toml is not a regular file"), "{log}");
    fs::remove_dir(&file).expect("a folder");
    fs::os::unix::fs::symlink("nowhere", &file).expect("a link");
    let log = bench.fails(1, &[&from], folder.path());
    assert!(
        log.contains("trust.toml") && log.contains("No such file"),
        "{log}"
    );
    fs::remove_file(&file).expect("a link");
    let made = Command::new("mkfifo").arg(&file).status();
    assert!(made.expect("mkfifo").success());
    let log = bench.fails(1, &[&from], folder.path());
    assert!(log.contains("trust.toml is not a regular file"), "{log}");
    let sign = format!(
        "--cache-to=type=registry,ref={},sign={}",
        reference("t"),
        file.display()
    );
    let log = bench.fails(1, &[&sign], folder.path());
    assert!(log.contains("is not a regular file"), "{log}");
}
