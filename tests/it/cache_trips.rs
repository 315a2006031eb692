//! Registry caches on their way between builders: written by one tool and read by both, several at once, inline.

use crate::support::bench::{Bench, TOOLS, assert_all_cached, cached};
use crate::support::rig::{Rig, context, unique};

/// The main job: what one tool exported, both read on an empty builder.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_go_round_between_both_tools() {
    let bench = Bench::new();
    let rig = Rig::get();
    let dockerfile = format!(
        "FROM {}\nCOPY file /\nRUN cat /file > /said\nRUN echo more >> /said\n",
        rig.busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile), ("file", "")]);
    for (exporter, how) in [
        ("cachex", "mode=max"),
        ("buildx", "mode=max"),
        ("cachex", "mode=max,compression=zstd"),
        ("cachex", "mode=min,compression=uncompressed"),
        (
            "cachex",
            "mode=max,oci-mediatypes=false,compression=gzip,compression-level=0",
        ),
    ] {
        let app = format!("{}/{}", rig.registry.host(), unique("it/round"));
        fs_err::write(folder.path().join("file"), &app).expect("a file");
        let to = format!("type=registry,ref={app}:cache,{how}");
        let more = if exporter == "buildx" {
            ",image-manifest=true"
        } else {
            ""
        };
        let to = format!("{to}{more}");
        bench.prune();
        let first = bench.build(
            exporter,
            &["--push", "-t", &app, "--cache-to", &to],
            folder.path(),
        );
        assert_eq!(cached(&first), 0, "{first}");
        let from = format!("type=registry,ref={app}:cache");
        for importer in TOOLS {
            bench.prune();
            let again = bench.build(importer, &["--cache-from", &from], folder.path());
            assert_all_cached(&again, 3);
        }
        // And without the cache nothing is left.
        bench.prune();
        let without = bench.build("cachex", &[], folder.path());
        assert_eq!(cached(&without), 0, "{without}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn several_caches_of_which_one_is_missing_and_bare_references() {
    let rig = Rig::get();
    let bench = Bench::new();
    let dockerfile = |what: &str| format!("FROM {}\nRUN echo {what} > /said\n", rig.busybox);
    let folder = context(&[("Dockerfile", "")]);
    let app = format!("{}/{}", rig.registry.host(), unique("it/several"));
    let names = ["one", "two"].map(unique);
    for name in &names {
        fs_err::write(folder.path().join("Dockerfile"), dockerfile(name)).expect("a file");
        bench.build(
            "cachex",
            &["--cache-to", &format!("{app}:{name}")],
            folder.path(),
        );
    }
    let refs = ["none-yet", &names[0], &names[1]].map(|tag| format!("{app}:{tag}"));
    for name in &names {
        bench.prune();
        fs_err::write(folder.path().join("Dockerfile"), dockerfile(name)).expect("a file");
        let args: Vec<&str> = refs.iter().flat_map(|r| ["--cache-from", r]).collect();
        let progress = bench.build("cachex", &args, folder.path());
        assert_all_cached(&progress, 1);
        assert!(!progress.contains("ERROR"), "{progress}");
        assert_eq!(
            progress.matches("no cache there yet").count(),
            1,
            "{progress}"
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_inline_cache_is_in_the_image() {
    let rig = Rig::get();
    let bench = Bench::new();
    for args in [
        &["--cache-to", "type=inline"][..],
        &["--build-arg", "BUILDKIT_INLINE_CACHE=1"],
    ] {
        let app = format!("{}/{}", rig.registry.host(), unique("it/inline"));
        let dockerfile = format!("FROM {}\nRUN echo {app} > /said\n", rig.busybox);
        let folder = context(&[("Dockerfile", &dockerfile)]);
        let mut all = vec!["--push", "-t", &app];
        all.extend(args);
        bench.build("cachex", &all, folder.path());
        for importer in TOOLS {
            bench.prune();
            // The build argument is part of the key in neither tool.
            let progress = bench.build(importer, &["--cache-from", &app], folder.path());
            assert_all_cached(&progress, 1);
        }
    }
}
