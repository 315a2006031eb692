//! What a build that signs trusts: nothing unverified is merged into its cache or vouched for by it.

use fs_err as fs;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::rig::{text, unique};
use crate::support::signing::{Keys, is_signed, project, registry};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signed_cache_is_merged_with_nothing_that_is_not() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let reference = reference("merged");
    let seed = unique("s");
    let projects = ["first", "second", "third"].map(|said| project(&seed, said));
    let hits = |index: usize| {
        bench.prune();
        let log = bench.build("buildx", &[&import(&reference)], projects[index].path());
        log.matches(" CACHED\n").count()
    };
    let to = |key: &str| {
        export(
            &reference,
            &format!("mode=max,merge=true,{}", keys.sign(key)),
        )
    };
    let unsigned = export(&reference, "mode=max,merge=true");
    bench.build("cachex", &[&unsigned], projects[0].path());
    let log = bench.build("cachex", &[&to("main")], projects[1].path());
    assert!(
        log.contains("replaced what was there: it is not signed"),
        "{log}"
    );
    assert!(
        is_signed(&reference) && hits(0) < 2 && hits(1) == 2,
        "{log}"
    );
    let log = bench.build("cachex", &[&to("main")], projects[2].path());
    assert!(log.contains("merged with 1 other result"), "{log}");
    assert!(
        is_signed(&reference) && hits(1) == 2 && hits(2) == 2,
        "{log}"
    );
    let log = bench.build("cachex", &[&to("other")], projects[0].path());
    assert!(
        log.contains("replaced what was there: none of the keys"),
        "{log}"
    );
    assert!(
        is_signed(&reference) && hits(0) == 2 && hits(1) < 2,
        "{log}"
    );
    // One that does not sign adds to it, and does not pass the signature on.
    bench.build("cachex", &[&unsigned], projects[1].path());
    assert!(!is_signed(&reference) && hits(0) == 2 && hits(1) == 2);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_was_read_unverified_is_not_vouched_for() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let (folder, unsigned) = (project(&unique("s"), "x"), reference("unsigned"));
    bench.build("cachex", &[&export(&unsigned, "mode=max")], folder.path());
    for how in [
        "mode=max,via=client",
        "mode=max,via=builder",
        "mode=max,merge=true",
    ] {
        let written = reference("vouched");
        let how = format!("{how},{}", keys.sign("main"));
        // A build that signs reads what its own key has signed, unless it is told otherwise.
        bench.prune();
        let args = [&import(&unsigned), &export(&written, &how)];
        let log = bench.build("cachex", &args.map(String::as_str), folder.path());
        assert!(
            log.contains("is passed over: it is not signed"),
            "{how}: {log}"
        );
        assert!(
            !log.contains(" CACHED\n") && is_signed(&written),
            "{how}: {log}"
        );
        let from = format!("{},verify=false", import(&unsigned));
        let written = reference("vouched");
        let args = [from.as_str(), &export(&written, &how)];
        let log = bench.build("cachex", &args, folder.path());
        let remark = format!("not signed: the build reads what is not verified ({unsigned})");
        assert!(
            log.contains(&remark) && !is_signed(&written),
            "{how}: {log}"
        );
        let in_spite = export(&written, &format!("{how},sign-unverified=true"));
        bench.build("cachex", &[from.as_str(), &in_spite], folder.path());
        assert!(is_signed(&written), "{how}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn one_variable_and_a_trust_file_are_enough() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let folder = project(&unique("s"), "x");
    let trust = folder.path().join(".cachex");
    fs::create_dir(&trust).expect("a folder");
    let rule = "[[rule]]\nscopes = [\"b-*\"]\nkeys = [\"main.pub\"]\n";
    fs::write(trust.join("trust.toml"), rule).expect("a file");
    fs::copy(keys.path("main.pub"), trust.join("main.pub")).expect("a key");
    fs::write(folder.path().join(".dockerignore"), ".cachex\n").expect("a file");
    let repository = format!("{}/{}", registry().host(), unique("scoped"));
    let build = |key: &str| {
        bench.prune();
        let mut command = bench.command("cachex", &["--cache", &repository], folder.path());
        command.env("CACHEX_BRANCH", "main");
        if !key.is_empty() {
            // A secret of a CI, as text.
            let pem = fs::read_to_string(keys.path(&format!("{key}.key"))).expect("a key");
            command.env("CACHEX_SIGN_KEY", pem);
        }
        let output = command.output().expect("the docker CLI");
        let log = text(&output.stderr);
        assert!(output.status.success(), "{log}");
        log
    };
    let reference = format!("{repository}:b-main");
    let change = || fs::write(folder.path().join("seed"), unique("s")).expect("a file");
    build("main");
    assert!(is_signed(&reference));
    let log = build("");
    assert_all_cached(&log, 2);
    assert!(log.contains("signed by main.pub ("), "{log}");
    // What another key has signed counts for nobody but itself.
    change();
    let log = build("other");
    assert!(log.contains("signed by main.pub ("), "{log}");
    let log = build("main");
    assert!(
        log.contains("passed over: none of the keys") && is_signed(&reference),
        "{log}"
    );
    change();
    build("");
    assert!(!is_signed(&reference));
    let log = build("main");
    assert!(
        log.contains("passed over: it is not signed") && is_signed(&reference),
        "{log}"
    );
    // Whoever has not the right file in the repository is told before the build.
    fs::write(trust.join("trust.toml"), "[[rule]]\nkey = \"main.pub\"\n").expect("a file");
    let log = bench.fails(1, &["--cache", &repository], folder.path());
    assert!(log.contains("unknown key \"key\""), "{log}");
}
