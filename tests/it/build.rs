//! What `build` makes: the same as with `docker buildx build` on the same builder.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, TOOLS};
use crate::support::compare::{archive, paths, tree, without_times};
use crate::support::registry::Manifest;
use crate::support::rig::{Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

/// A Dockerfile with two targets, arguments and most kinds of configuration.
fn rich_context() -> TempDir {
    let busybox = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {busybox} AS base\nARG WHAT=default\nENV WHAT=$WHAT\nRUN echo $WHAT {} > /what\n\
         FROM base AS other\nRUN echo other > /other\n\
         FROM base AS prod\nLABEL from=dockerfile\nCOPY . /app\nWORKDIR /app\nUSER 1000:1000\nEXPOSE 80/tcp\nVOLUME /data\n\
         STOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"/bin/busybox\"]\nCMD [\"echo\", \"hi\"]\n",
        unique("rich")
    );
    context(&[("Dockerfile", &dockerfile), ("src/a", "a"), ("b", "b")])
}

/// Builds the same with both tools, each under a repository of its own.
fn push_both(bench: &Bench, folder: &Path, args: &[&str]) -> [(String, Manifest); 2] {
    TOOLS.map(|tool| {
        let registry = &Rig::get().registry;
        let repository = unique("it/image");
        let name = format!("{}/{repository}:v1", registry.host());
        let mut all = vec!["--push", "-t", &name];
        all.extend(args);
        bench.build(tool, &all, folder);
        let manifest = registry.manifest(&repository, "v1").expect("an image");
        (repository, manifest)
    })
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn pushed_images_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    for args in [
        &["--provenance=false"][..],
        &[
            "--provenance=false",
            "--target=other",
            "--platform=linux/amd64",
        ],
        &[
            "--provenance=false",
            "--build-arg=WHAT=given",
            "--label=a=b",
            "--label=from=flag",
            "--target=prod",
        ],
        &[
            "--provenance=false",
            "--annotation=k=v,w",
            "--annotation=manifest:x=y",
        ],
        &[
            "--provenance=false",
            "--build-arg=SOURCE_DATE_EPOCH=1700000000",
        ],
        &[
            "--provenance=false",
            "--build-arg=SOURCE_DATE_EPOCH=1700000000",
            "-o",
            "type=image,push=true,rewrite-timestamp=true,compression=zstd,force-compression=true",
        ],
        &[
            "--provenance=false",
            "-o",
            "type=registry,oci-mediatypes=false",
        ],
        &[
            "--attest=type=provenance,disabled=true",
            "-o",
            "type=image,push=true,annotation.z=1",
        ],
    ] {
        let folder = rich_context();
        let [(peers, peer), (ours, our)] = push_both(&bench, folder.path(), args);
        let configs = [registry.config(&peers, &peer), registry.config(&ours, &our)];
        let [peer_config, our_config] = configs.map(without_times);
        assert_eq!(peer_config, our_config, "{args:?}");
        // All is in the cache for the second, so even the times are the same.
        assert_eq!(peer.json, our.json, "{args:?}");
        assert_eq!(peer.digest, our.digest, "{args:?}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_epoch_comes_from_the_environment_too() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    let folder = rich_context();
    let created = TOOLS.map(|tool| {
        let repository = unique("it/epoch");
        let name = format!("{}/{repository}:v1", registry.host());
        let output = bench
            .command(
                tool,
                &["--provenance=false", "--push", "-t", &name],
                folder.path(),
            )
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let manifest = registry.manifest(&repository, "v1").expect("an image");
        (
            registry.config(&repository, &manifest)["created"].clone(),
            manifest.digest,
        )
    });
    assert_eq!(created[0].0, "2023-11-14T22:13:20Z");
    assert_eq!(created[0], created[1]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn attestations_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    for args in [
        &[][..],
        &["--provenance=mode=max"],
        &[
            "--provenance=true",
            "--platform=linux/amd64,linux/arm64",
            "--target=plain",
        ],
        &["--attest=type=provenance,mode=min,version=v1"],
        &[
            "--annotation=index:k=v",
            "--annotation=manifest-descriptor:d=e",
        ],
    ] {
        let dockerfile = format!(
            "FROM {} AS run\nRUN echo {}\nFROM scratch AS plain\nCOPY b /\nFROM run\n",
            Rig::get().busybox,
            unique("x")
        );
        let folder = context(&[("Dockerfile", &dockerfile), ("b", "b")]);
        let shapes = push_both(&bench, folder.path(), args).map(|(repository, manifest)| {
            let list = manifest.json["manifests"]
                .as_array()
                .expect("an index")
                .clone();
            let mut parts = Vec::new();
            for entry in &list {
                let digest = entry["digest"].as_str().expect("a digest");
                let part = registry.manifest(&repository, digest).expect("a part");
                let platform = entry["platform"].clone();
                let is_image = platform["os"] != "unknown";
                let content = if is_image {
                    without_times(registry.config(&repository, &part))
                } else {
                    attestation(&repository, &part)
                };
                parts.push((platform, content, part.json["annotations"].clone()));
            }
            (
                manifest.media_type.clone(),
                manifest.json["annotations"].clone(),
                parts,
            )
        });
        assert_eq!(shapes[0], shapes[1], "{args:?}");
    }
}

/// The kinds of predicates, and the keys in each, without what differs between two builds.
fn attestation(repository: &str, manifest: &Manifest) -> Value {
    let registry = &Rig::get().registry;
    let layers = manifest.json["layers"].as_array().expect("layers");
    layers
        .iter()
        .map(|layer| {
            let digest = layer["digest"].as_str().expect("a digest");
            let statement: Value =
                serde_json::from_slice(&registry.blob(repository, digest)).expect("JSON");
            let mut keys = Vec::new();
            paths(&statement["predicate"], "", &mut keys);
            keys.sort();
            keys.dedup();
            serde_json::json!([statement["predicateType"], keys])
        })
        .collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn loaded_images_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    for args in [
        &["--load"][..],
        &[
            "--load",
            "--provenance=false",
            "--label=a=b",
            "--target=other",
        ],
        &["-o", "type=docker"],
    ] {
        let folder = rich_context();
        let images = TOOLS.map(|tool| {
            let name = format!("{}:v1", unique("it-loaded"));
            let mut all = vec!["-t", &name];
            all.extend(args);
            let progress = bench.build(tool, &all, folder.path());
            assert!(progress.contains("importing to docker"), "{progress}");
            let (json, _) = bench.client.docker_ok(&["image", "inspect", &name]);
            let (said, _) = bench.client.docker_ok(&[
                "run",
                "--rm",
                "--entrypoint=/bin/busybox",
                &name,
                "cat",
                "/what",
            ]);
            assert!(said.contains("rich-"), "{said}");
            bench.client.docker_ok(&["rmi", "--force", &name]);
            let list: Value = serde_json::from_str(&json).expect("JSON");
            let keep = ["Architecture", "Os", "Config", "RootFS", "Size", "Created"];
            keep.map(|key| list[0][key].clone())
        });
        assert_eq!(images[0], images[1], "{args:?}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn files_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {} AS made\nRUN mkdir -p /out/dir && cd /out && echo {} > file && ln -s file link && ln file hard && chmod 4711 file && head -c 300000 /dev/urandom > dir/large\n\
         FROM scratch\nCOPY --from=made /out /\n",
        Rig::get().busybox,
        unique("files")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let out = TempDir::new().expect("a temporary folder");
    let path = |tool: &str, name: &str| format!("{}/{tool}-{name}", out.path().display());
    for tool in TOOLS {
        for (name, args) in [
            ("bare", vec![format!("--output={}", path(tool, "bare"))]),
            (
                "local",
                vec![format!("--output=type=local,dest={}", path(tool, "local"))],
            ),
            (
                "tar",
                vec![format!("--output=type=tar,dest={}", path(tool, "tar"))],
            ),
            (
                "oci",
                vec![format!(
                    "--output=type=oci,dest={},name=it/x:1",
                    path(tool, "oci")
                )],
            ),
            (
                "docker",
                vec![
                    format!("--output=type=docker,dest={}", path(tool, "docker")),
                    "--tag=it/y:2".into(),
                ],
            ),
            (
                "both",
                vec![
                    format!("--output=type=local,dest={}", path(tool, "both")),
                    format!("--output=type=tar,dest={}", path(tool, "both.tar")),
                    "--output=type=cacheonly".into(),
                ],
            ),
        ] {
            let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
            args.push("--provenance=false");
            bench.build(tool, &args, folder.path());
            assert!(Path::new(&path(tool, name)).exists(), "{tool} {name}");
        }
        for kind in ["tar", "oci"] {
            let args = [
                &format!("--output=type={kind},dest=-")[..],
                "--provenance=false",
            ];
            let output = bench.try_build(tool, &args, folder.path());
            assert!(output.status.success(), "{}", text(&output.stderr));
            fs::write(path(tool, &format!("{kind}-stdout")), output.stdout).expect("a file");
        }
    }
    compare_files(out.path());
}

/// Compares what both tools wrote into a folder, each under its name.
fn compare_files(out: &Path) {
    let path = |tool: &str, name: &str| format!("{}/{tool}-{name}", out.display());
    for name in ["bare", "local", "both"] {
        let trees = TOOLS.map(|tool| tree(Path::new(&path(tool, name))));
        assert_eq!(trees[0].len(), 5, "{:?}", trees[0]);
        assert_eq!(trees[0], trees[1], "{name}");
        let linked = |name: &str| {
            fs::metadata(format!("{}/{name}", path("cachex", "local")))
                .expect("a file")
                .ino()
        };
        assert_eq!(linked("file"), linked("hard"));
    }
    for name in [
        "tar",
        "both.tar",
        "tar-stdout",
        "oci",
        "oci-stdout",
        "docker",
    ] {
        let entries = TOOLS.map(|tool| archive(Path::new(&path(tool, name))));
        assert!(entries[0].len() > 3, "{:?}", entries[0]);
        assert_eq!(entries[0], entries[1], "{name}");
    }
    // Nothing but what was asked for.
    let names = tree(out)
        .into_keys()
        .filter(|name| !name.contains('/'))
        .count();
    assert_eq!(names, 18);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_files_about_the_result_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let folder = rich_context();
    let out = TempDir::new().expect("a temporary folder");
    let app = format!("{}/{}", Rig::get().registry.host(), unique("it/meta"));
    let cache = format!("type=registry,ref={app}:cache,mode=max");
    for args in [
        &["--push", "-t", &app][..],
        &["--push", "-t", &app, "--provenance=false"],
        &["--push", "-t", &app, "--provenance=mode=max"],
        &["--load", "-t", "it-meta:1"],
        &["-o", "type=cacheonly"],
        &["--push", "-t", &app, "--cache-to", &cache],
    ] {
        let facts = TOOLS.map(|tool| {
            let meta = out.path().join("meta");
            let iid = out.path().join("iid");
            let meta_flag = format!("--metadata-file={}", meta.display());
            let iid_flag = format!("--iidfile={}", iid.display());
            let mut all = vec![&*meta_flag, &iid_flag];
            all.extend(args);
            bench.build(tool, &all, folder.path());
            let data: Value =
                serde_json::from_slice(&fs::read(&meta).expect("metadata")).expect("JSON");
            let mut keys = Vec::new();
            paths(&data, "", &mut keys);
            keys.sort();
            keys.dedup();
            let iid = fs::read_to_string(iid).expect("an identifier");
            let same = data["containerimage.digest"] == *iid;
            let name = data["image.name"].clone();
            (keys, iid.len(), same, name)
        });
        assert_eq!(facts[0], facts[1], "{args:?}");
    }
    bench.client.docker_ok(&["rmi", "--force", "it-meta:1"]);
}
