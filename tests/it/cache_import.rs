//! Registry caches that this program reads for a builder: `--cache-from …,via=client`.

use fs_err as fs;
use serde_json::Value;

use crate::support::bench::{Bench, assert_all_cached, steps};
use crate::support::caches;
use crate::support::large::enlarge_with;
use crate::support::locked::{Locked, PASSWORD, auths};
use crate::support::rig::{Rig, context, unique};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_without_network_and_login_gets_the_cache() {
    let locked = Locked::start();
    let writer = Bench::new();
    fs::write(
        writer.client.config().join("config.json"),
        auths(&locked.host),
    )
    .expect("the config");
    // 5 MiB that do not compress: BuildKit reads the layer in several calls.
    let folder = context(&[(
        "Dockerfile",
        "FROM scratch\nCOPY data /data\nCOPY Dockerfile /x\n",
    )]);
    let data: Vec<u8> = (0..5_u32 << 20)
        .map(|n| {
            n.wrapping_mul(2_654_435_761)
                .rotate_left(n % 31)
                .to_be_bytes()[1]
        })
        .collect();
    fs::write(folder.path().join("data"), &data).expect("a file");
    for (tool, extra) in [
        ("buildx", ""),
        ("buildx", ",compression=zstd,oci-mediatypes=false"),
        ("cachex", ",via=client,image-manifest=false"),
    ] {
        let cache = format!(
            "type=registry,ref={}/{}:c",
            locked.host,
            unique("it/client")
        );
        let to = format!("{cache},mode=max{extra}");
        writer.build(tool, &["--cache-to", &to], folder.path());

        let reader = Bench::with_network("none");
        let config = reader.client.config().join("config.json");
        fs::write(&config, auths(&locked.host)).expect("the config");
        let dest = folder.path().join("result");
        let output = format!("type=local,dest={}", dest.display());
        let client = format!("{cache},via=client");
        let progress = reader.build(
            "cachex",
            &["--cache-from", &client, "-o", &output],
            folder.path(),
        );
        assert_all_cached(&progress, 2);
        assert!(!progress.contains(PASSWORD), "{progress}");
        assert!(fs::read(dest.join("data")).expect("the result") == data);
        fs::remove_dir_all(&dest).expect("removed");
        if tool == "cachex" {
            continue;
        }
        // The builder itself cannot do it.
        reader.prune();
        let progress = reader.build("cachex", &["--cache-from", &cache], folder.path());
        assert!(steps(&progress).iter().all(|(_, hit)| !hit), "{progress}");
        // Without a login it is a failure that stops no build; a cache that is not there is a remark.
        fs::write(&config, "{}").expect("the config");
        let progress = reader.build("cachex", &["--cache-from", &client], folder.path());
        assert!(progress.contains("401"), "{progress}");
        fs::write(&config, auths(&locked.host)).expect("the config");
        let missing = format!("{client}-gone")
            .replace(":c,", ":gone,")
            .replace("-gone", "");
        let progress = reader.build("cachex", &["--cache-from", &missing], folder.path());
        assert!(progress.contains("no cache there yet"), "{progress}");
        assert!(!progress.contains("ERROR"), "{progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_inline_cache_goes_through_the_client() {
    let bench = Bench::new();
    let rig = Rig::get();
    let image = format!("{}/{}:app", rig.registry.host(), unique("it/inline"));
    let dockerfile = format!("FROM {}\nRUN date > /{}\n", rig.busybox, unique("x"));
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let args = ["--push", "-t", &image, "--cache-to", "type=inline"];
    bench.build("buildx", &args, folder.path());
    bench.prune();
    let from = format!("type=registry,ref={image},via=client");
    assert_all_cached(
        &bench.build("cachex", &["--cache-from", &from], folder.path()),
        1,
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_that_is_too_large_is_trimmed() {
    let bench = Bench::new();
    let rig = Rig::get();
    let repository = unique("it/large");
    let cache = format!("type=registry,ref={}/{repository}:c", rig.registry.host());
    let dockerfile = format!(
        "FROM {}\nRUN date > /{repository}\nRUN date > /b\n",
        rig.busybox
    )
    .replace("/it/", "/");
    let folder = context(&[("Dockerfile", &dockerfile)]);
    bench.build(
        "buildx",
        &["--cache-to", &format!("{cache},mode=max")],
        folder.path(),
    );
    // All others are younger than the results that the build can use.
    enlarge_with(rig.registry.host(), &repository, "2199-01-01T00:00:00Z");

    bench.prune();
    let progress = bench.build("buildx", &["--cache-from", &cache], folder.path());
    assert!(
        steps(&progress)
            .iter()
            .filter(|(name, _)| name.contains("RUN"))
            .all(|(_, hit)| !hit),
        "{progress}"
    );
    for from in [cache.clone(), format!("{cache},via=client")] {
        bench.prune();
        let progress = bench.build("cachex", &["--cache-from", &from], folder.path());
        assert_all_cached(&progress, 2);
        assert!(
            progress.contains("only the 2 of its 10002 results that this build can use are read"),
            "{progress}"
        );
    }
    let name = format!("{}/{repository}:c", rig.registry.host());
    let (text, _) = bench
        .client
        .docker_ok(&["cachex", "cache", "inspect", "--format=json", &name]);
    let inspected: Value = serde_json::from_str(&text).expect("JSON");
    assert!(
        inspected["warnings"]
            .to_string()
            .contains("the config is over 1 MiB"),
        "{text}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn of_many_caches_those_that_have_nothing_of_the_build_are_left_out() {
    let bench = Bench::new();
    let rig = Rig::get();
    let folder = |what: &str| {
        let dockerfile = format!(
            "FROM {}\nRUN echo {} > /{what}\n",
            rig.busybox,
            unique(what)
        );
        context(&[("Dockerfile", &dockerfile)])
    };
    let (own, other) = (folder("own"), folder("other"));
    let reference = |what: &str| caches::reference(&format!("it/{what}"));
    let (used, others) = (reference("used"), [(); 8].map(|()| reference("other")));
    bench.build("cachex", &[&caches::export(&used, "mode=max")], own.path());
    let to: Vec<String> = others
        .iter()
        .map(|other| caches::export(other, "mode=max"))
        .collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    bench.build("cachex", &to, other.path());
    let from: Vec<String> = others
        .iter()
        .chain([&used])
        .map(|reference| caches::import(reference))
        .collect();
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    bench.prune();
    let progress = bench.build("cachex", &from, own.path());
    assert_all_cached(&progress, 1);
    let left_out = progress.matches("nothing of this build is in it").count();
    assert_eq!(left_out, 8, "{progress}");
    assert!(
        progress.contains(&format!("importing cache manifest from {used}")),
        "{progress}"
    );
    // Eight are not many, and what is not certain is read.
    bench.prune();
    let progress = bench.build("cachex", &from[1..], own.path());
    assert!(!progress.contains("nothing of this build"), "{progress}");
    bench.prune();
    let progress = bench.build("cachex", &from, folder("new").path());
    assert!(!progress.contains("nothing of this build"), "{progress}");
}
