//! `compression=auto`, as `--cache` has it: what the layers of caches and images are.

use std::io::Read as _;
use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::scope::{self, assert_says};
use crate::support::bench::Bench;
use crate::support::registry::{Compression, Registry};
use crate::support::rig::{Rig, context, unique};

/// A stage of its own that nothing is taken from but one file, and a result on another one's steps.
fn stages(seed: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let fill = "head -c 300000 /dev/urandom | od -x > ";
    let dockerfile = format!(
        "FROM {base} AS common\nRUN echo {seed} > /seed; {fill} /common\n\
         FROM common AS tool\nRUN {fill} /tool; sleep 1.2\n\
         FROM common AS last\nRUN {fill} /last; sleep 1.2\nCOPY --from=tool /tool /tool\n"
    );
    context(&[("Dockerfile", &dockerfile)])
}

/// The compressions of a cache's or an image's own layers: without those of the base.
fn own_layers(registry: &Registry, name: &str, tag: &str) -> Vec<Compression> {
    let manifest = registry.manifest(name, tag).expect("a manifest");
    let manifest = match manifest.json["manifests"].as_array() {
        // The index of an image with its attestation.
        Some(list) => {
            let first = list[0]["digest"].as_str().expect("a digest");
            registry.manifest(name, first).expect("the image")
        }
        None => manifest,
    };
    registry.compressions(name, &manifest)
}

fn assert_gzip(layers: &[Compression], what: &str) {
    assert!(
        layers.iter().all(|layer| *layer == Compression::Gzip),
        "{what}: {layers:?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn only_layers_that_no_image_has_are_zstd() {
    let bench = Bench::new();
    let registry = &Rig::get().registry;
    let name = unique("it/auto");
    let place = |tag: &str| format!("{}/{name}:{tag}", registry.host());
    let folder = stages(&unique("auto"));
    let vars = [("CACHEX_BRANCH", "main")];
    let build = |args: &[&str]| scope::build(&bench, &vars, args, folder.path());
    let of = |tag: &str| own_layers(registry, &name, tag);
    let cache = format!("--cache={}/{name}", registry.host());
    build(&[&cache, "--push", "-t", &place("image")]);
    assert_gzip(&of("image"), "the image of the build");
    let mut written = of("b-main");
    written.sort_unstable();
    let zstd = written
        .iter()
        .filter(|layer| **layer == Compression::Zstd)
        .count();
    assert_eq!(zstd, 1, "the tool's own layer, and no other: {written:?}");

    // Later images of the intermediate stage: on the same builder, and on one that has the cache alone.
    let target = |tag: &str| {
        [
            "--target=tool".into(),
            "--push".into(),
            "-t".into(),
            place(tag),
        ]
    };
    let push = |tag: &str, more: &[&str]| {
        let args = target(tag);
        let args: Vec<&str> = args
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        build(&args);
        assert_gzip(&of(tag), tag);
    };
    push("same-builder", &["--cache=off"]);
    bench.prune();
    push("from-cache", &[&cache]);
    bench.prune();
    push(
        "docker-types",
        &[
            "--cache-from",
            &place("b-main"),
            // Docker's media types have no place for attestations.
            "--provenance=false",
            "--output=type=image,oci-mediatypes=false,push=true",
        ],
    );
    bench.prune();
    let oci = folder.path().join("oci");
    let out = format!("--output=type=oci,tar=false,dest={}", oci.display());
    build(&[&cache, "--target=tool", &out]);
    assert_layout_is_gzip(&oci);
    bench.prune();
    let out = format!(
        "--output=type=docker,tar=false,dest={}-docker",
        oci.display()
    );
    build(&[&cache, "--target=tool", &out]);
    assert_layout_is_gzip(Path::new(&format!("{}-docker", oci.display())));
    bench.prune();
    let loaded = unique("it-auto-loaded");
    build(&[&cache, "--target=tool", "--load", "-t", &loaded]);
    let run = [
        "run",
        "--rm",
        "--network=none",
        &loaded,
        "wc",
        "-c",
        "/tool",
    ];
    let (count, _) = bench.client.docker_ok(&run);
    assert!(count.ends_with(" /tool\n"), "the image runs: {count}");
    let tarball = folder.path().join("loaded.tar");
    let saved = [
        "image",
        "save",
        "-o",
        tarball.to_str().expect("a path"),
        &loaded,
    ];
    bench.client.docker_ok(&saved);
    let layers = layers_of(&fs::read(&tarball).expect("a tarball"));
    assert!(
        layers.len() > 2 && !layers.contains(&Compression::Zstd),
        "{layers:?}"
    );
    bench.client.docker_ok(&["image", "rm", &loaded]);

    // One that the user asked for is one.
    bench.prune();
    build(&[
        &cache,
        "--target=tool",
        "--output",
        &format!(
            "type=registry,compression=zstd,force-compression=true,name={}",
            place("asked")
        ),
    ]);
    let asked = of("asked");
    assert!(asked.contains(&Compression::Zstd), "{asked:?}");

    // Of a cache with Docker's media types all is gzip.
    let docker = unique("it/auto-docker");
    let to = format!(
        "--cache-to=type=registry,ref={}/{docker}:c,mode=max,compression=auto,oci-mediatypes=false,via=client",
        registry.host()
    );
    let fresh = stages(&unique("auto-docker"));
    let image = format!("{}/{docker}:i", registry.host());
    scope::build(&bench, &vars, &[&to, "--push", "-t", &image], fresh.path());
    let manifest = registry.manifest(&docker, "c").expect("a cache");
    let blobs = manifest.json["manifests"].as_array().expect("a list");
    for blob in blobs {
        let media_type = blob["mediaType"].as_str().expect("a type");
        assert!(!media_type.contains("zstd"), "{media_type}");
    }
}

/// Checks the blobs of a layout folder.
fn assert_layout_is_gzip(layout: &Path) {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("a layout");
    let blobs = blobs.map(|blob| fs::read(blob.expect("an entry").path()).expect("a blob"));
    let layers: Vec<Compression> = blobs
        .filter(|blob| serde_json::from_slice::<Value>(blob).is_err())
        .map(|blob| Compression::of(&blob))
        .collect();
    assert!(!layers.is_empty());
    assert_gzip(&layers, "a layout");
}

/// The compressions of the layers of a tarball of `docker image save`.
fn layers_of(tarball: &[u8]) -> Vec<Compression> {
    let mut archive = tar::Archive::new(tarball);
    let mut layers = Vec::new();
    for entry in archive.entries().expect("a tarball") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let is_blob = path.starts_with("blobs/sha256") || path.ends_with("layer.tar");
        if !is_blob || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut blob = Vec::new();
        entry.read_to_end(&mut blob).expect("a blob");
        if serde_json::from_slice::<Value>(&blob).is_err() {
            layers.push(Compression::of(&blob));
        }
    }
    layers
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_builder_makes_the_same_layers() {
    let bench = Bench::new();
    let registry = &Rig::get().registry;
    let name = unique("it/auto-builder");
    let place = |tag: &str| format!("{}/{name}:{tag}", registry.host());
    let folder = stages(&unique("auto-builder"));
    let vars = [("CACHEX_BRANCH", "main")];
    let cache = format!("--cache={}/{name},via=builder", registry.host());
    let args = [&cache, "--push", "-t", &place("image")];
    let progress = scope::build(&bench, &vars, &args, folder.path());
    assert_says(&progress, "wrote b-main");
    let of = |tag: &str| own_layers(registry, &name, tag);
    assert_gzip(&of("image"), "the image of the build");
    let written = of("b-main");
    let zstd = written.iter().filter(|layer| **layer == Compression::Zstd);
    assert_eq!(
        zstd.count(),
        1,
        "the tool's own layer, and no other: {written:?}"
    );
    // Its stage, as an image made out of that cache.
    bench.prune();
    let args = [&cache, "--target=tool", "--push", "-t", &place("tool")];
    scope::build(&bench, &vars, &args, folder.path());
    assert_gzip(&of("tool"), "an image of the stage");
}
