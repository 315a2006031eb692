//! What a signature claims and vouches for: the commit, one cache of several, and nothing that was healed or cut without
//! the key.

use std::path::Path;

use fs_err as fs;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::git::git;
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{text, unique};
use crate::support::signing::{Keys, SIGNATURE, is_signed, project, verify};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signature_tells_the_commit_that_was_built() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let folder = project(&unique("s"), "x");
    git(folder.path(), &["init", "-q", "-b", "main"]);
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-q", "-m", "first"]);
    let head = git(folder.path(), &["rev-parse", "HEAD"]);
    let short = &head[..7];
    let public = keys.path("main.pub");
    let told = |keys_of_cache: &str, vars: &[(&str, &str)]| {
        let reference = reference("commit");
        let to = format!("mode=max,{keys_of_cache},{}", keys.sign("main"));
        let mut command = bench.command("cachex", &[&export(&reference, &to)], folder.path());
        command.envs(vars.iter().copied());
        let output = command.output().expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let told = verify(&bench.client, &[&reference, "--key", &public]).expect("signed");
        let from = format!("{},{}", import(&reference), keys.verify("main"));
        bench.prune();
        let log = bench.build("cachex", &[&from], folder.path());
        let line = log.lines().find(|line| line.contains("signed by main.pub"));
        // Whoever reads the cache is told the same.
        let of = |text: &str| text.split(", of commit ").nth(1).map(str::to_owned);
        let (told, line) = (
            of(told.lines().next().expect("a line")),
            of(line.expect("a line")),
        );
        assert_eq!(
            told,
            line.map(|line| line.split(' ').next().expect("a word").to_owned())
        );
        told
    };
    for how in ["via=client", "via=builder", "merge=true"] {
        assert_eq!(told(how, &[]).as_deref(), Some(short), "{how}");
    }
    assert_eq!(told("via=client,record=steps", &[]), None);
    assert_eq!(told("via=client,record=off", &[]), None);
    // What git says of the folder wins over what a CI says; without git the CI is believed.
    let ci = "0123456789abcdef0123456789abcdef01234567";
    let vars = [("GITHUB_ACTIONS", "true"), ("GITHUB_SHA", ci)];
    assert_eq!(told("via=client", &vars).as_deref(), Some(short));
    fs::remove_dir_all(folder.path().join(".git")).expect("a folder");
    assert_eq!(told("via=client", &vars).as_deref(), Some(&ci[..7]));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn of_several_caches_only_the_unsigned_one_is_passed_over() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let folder = project(&unique("s"), "x");
    let [ours, theirs, plain] = ["ours", "theirs", "plain"].map(reference);
    for (reference, sign) in [
        (&ours, keys.sign("main")),
        (&theirs, keys.sign("other")),
        (&plain, "sign=false".to_owned()),
    ] {
        // Each has a step that only it has.
        let folder = if reference == &ours {
            folder.path().to_owned()
        } else {
            project(&unique("s"), "y").keep()
        };
        let to = export(reference, &format!("mode=max,via=client,{sign}"));
        bench.build("cachex", &[&to], &folder);
    }
    let from = |reference: &str| format!("{},{}", import(reference), keys.verify("main"));
    let flags = [from(&plain), from(&theirs), from(&ours)];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    bench.prune();
    let log = bench.build("cachex", &flags, folder.path());
    assert_all_cached(&log, 2);
    for (reference, why) in [(&plain, "it is not signed"), (&theirs, "none of the keys")] {
        let warned = format!("the cache {reference} is passed over: {why}");
        assert_eq!(log.matches(&warned).count(), 1, "{warned}: {log}");
        assert!(
            !log.contains(&format!("importing cache manifest from {reference}")),
            "{log}"
        );
    }
    assert!(
        !log.contains(&format!("the cache {ours} is passed over")),
        "{log}"
    );
}

/// Whether a cache in a registry of a test is signed, and with the key.
fn standing(bench: &Bench, host: &str, tag: &str, public: &str) -> (bool, bool) {
    let manifest = Registry::new(host)
        .manifest("team/cache", tag)
        .expect("a cache");
    let place = format!("{host}/team/cache:{tag}");
    let verified = verify(&bench.client, &[&place, "--key", public]).is_ok();
    (
        manifest.json["annotations"][SIGNATURE].is_string(),
        verified,
    )
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_healed_is_signed_only_by_a_build_that_signs() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let public = keys.path("main.pub");
    for signs in [false, true] {
        let mut own = OwnRegistry::new();
        own.start();
        let place = format!("{}/team/cache:cache", own.host);
        let folder = project(&unique("s"), "x");
        let how = format!("mode=max,via=client,{}", keys.sign("main"));
        bench.prune();
        bench.build("cachex", &[&export(&place, &how)], folder.path());
        assert_eq!(standing(&bench, &own.host, "cache", &public), (true, true));
        let layer = own.layers("team/cache", "cache").pop().expect("a layer");
        fs::remove_file(own.data(&layer)).expect("a blob");

        let from = format!("{},{}", import(&place), keys.verify("main"));
        let sign = if signs {
            keys.sign("main")
        } else {
            "sign=false".to_owned()
        };
        let to = export(&place, &format!("mode=max,merge=true,{sign}"));
        // The result is read, so that the builder needs the layer that is lost.
        let out = tempfile::tempdir().expect("a folder");
        let output = format!("--output=type=local,dest={}", out.path().display());
        bench.prune();
        let log = bench.build("cachex", &[&from, &to, &output], folder.path());
        assert!(log.contains("cannot be read"), "{log}");
        assert_eq!(said_in(out.path()), "x");
        let expected = (signs, signs);
        assert_eq!(
            standing(&bench, &own.host, "cache", &public),
            expected,
            "{log}"
        );
        bench.prune();
        let plain = bench.build("buildx", &[&import(&place)], folder.path());
        assert_all_cached(&plain, 2);
    }
}

fn said_in(folder: &Path) -> String {
    let said = fs::read_to_string(folder.join("said")).expect("a file");
    said.trim().to_owned()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_cut_is_signed_only_by_who_has_the_key() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let public = keys.path("main.pub");
    let seed = unique("s");
    let (first, second) = (project(&seed, "first"), project(&seed, "second"));
    for by_hand in [false, true] {
        let reference = reference("cut");
        let to = |more: &str| export(&reference, &format!("mode=max,merge=true,{more}"));
        let signed = to(&keys.sign("main"));
        bench.prune();
        bench.build("cachex", &[&signed], first.path());
        bench.build("cachex", &[&signed], second.path());
        verify(&bench.client, &[&reference, "--key", &public]).expect("signed");
        let bound = "max-records=2";
        if by_hand {
            let merge = ["cachex", "cache", "merge", "--replace", "--max-records=2"];
            let merge = [&merge[..], &[&reference, &reference]].concat();
            bench.client.docker_ok(&merge);
        } else {
            bench.build(
                "cachex",
                &[&to(&format!("{bound},sign=false"))],
                second.path(),
            );
        }
        assert!(!is_signed(&reference), "by hand: {by_hand}");
        let bound = to(&format!("{bound},{}", keys.sign("main")));
        let log = bench.build("cachex", &[&bound], second.path());
        verify(&bench.client, &[&reference, "--key", &public]).expect("signed");
        assert!(log.contains("signed with the key "), "{log}");
    }
}
