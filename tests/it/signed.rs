//! Signed caches: written in every form, read by both tools, and written over by docker buildx.

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::rig::unique;
use crate::support::signing::{Keys, digest, is_signed, project, verify};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn signed_caches_are_read_by_both_tools_in_every_form() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    for (how, key, steady) in [
        ("mode=max,via=client", "main", true),
        ("mode=max,via=client,image-manifest=false", "other", true),
        ("mode=max,merge=true", "main", true),
        ("mode=max,via=client,record=off", "other", true),
        ("mode=max,via=builder", "main", false),
        (
            "mode=max,via=builder,oci-mediatypes=false,record=off",
            "other",
            false,
        ),
    ] {
        let (folder, reference) = (project(&unique("s"), "x"), reference("signed"));
        let to = export(&reference, &format!("{how},{}", keys.sign(key)));
        bench.prune();
        let log = bench.build("cachex", &[&to], folder.path());
        assert!(log.contains("signed with the key "), "{how}: {log}");
        assert!(is_signed(&reference), "{how}");
        let public = keys.path(&format!("{key}.pub"));
        let told = verify(&bench.client, &[&reference, "--key", &public, "--deep"]);
        let told = told.unwrap_or_else(|error| panic!("{how}: {error}"));
        assert!(told.contains(&format!("signed by {key}.pub (")), "{told}");
        assert!(told.contains(&digest(&reference)), "{told}");

        let plain = import(&reference);
        bench.prune();
        assert_all_cached(&bench.build("buildx", &[&plain], folder.path()), 2);
        let from = format!("{plain},{}", keys.verify(key));
        bench.prune();
        let log = bench.build("cachex", &[&from], folder.path());
        assert_all_cached(&log, 2);
        assert!(
            log.contains(&format!("signed by {key}.pub (")),
            "{how}: {log}"
        );
        // The builder is told what was verified, and not the tag alone.
        let pinned = format!("from {reference}@{}", digest(&reference));
        assert!(log.contains(&pinned), "{how}: {log}");

        let other = if key == "main" { "other" } else { "main" };
        let from = format!("{plain},{}", keys.verify(other));
        bench.prune();
        let log = bench.build("cachex", &[&from], folder.path());
        assert!(!log.contains(" CACHED\n"), "{how}: {log}");
        let warned = format!("the cache {reference} is passed over: none of the keys");
        assert!(log.contains(&warned), "{how}: {log}");

        if steady {
            let before = digest(&reference);
            bench.prune();
            let from = format!("{plain},{}", keys.verify(key));
            let log = bench.build("cachex", &[&from, &to], folder.path());
            assert_all_cached(&log, 2);
            assert!(log.contains("nothing new"), "{how}: {log}");
            assert_eq!(digest(&reference), before, "{how}");
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn buildx_writes_over_a_signed_cache_and_it_is_passed_over() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let (folder, reference) = (project(&unique("s"), "x"), reference("over"));
    let to = export(
        &reference,
        &format!("mode=max,via=client,{}", keys.sign("main")),
    );
    bench.build("cachex", &[&to], folder.path());
    bench.prune();
    bench.build("buildx", &[&export(&reference, "mode=max")], folder.path());
    let from = format!("{},{}", import(&reference), keys.verify("main"));
    bench.prune();
    let log = bench.build("cachex", &[&from, &to], folder.path());
    assert!(log.contains("is passed over: it is not signed"), "{log}");
    assert!(is_signed(&reference), "{log}");
    bench.prune();
    assert_all_cached(&bench.build("cachex", &[&from], folder.path()), 2);
    // A cache that is not there is no more than a line.
    let missing = format!(
        "{},{}",
        import(&self::reference("none")),
        keys.verify("main")
    );
    let log = bench.build("cachex", &[&missing], folder.path());
    assert!(
        log.contains("no cache there yet") && !log.contains("cannot read the cache"),
        "{log}"
    );
}
