//! Caches that the program stores itself (`via=client`, `compressor=client`): written on one builder, read on
//! others by `docker buildx build` and by `docker cachex build`, and held against what is really stored.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::support::registry::{Compression, Manifest, is_record};
use crate::support::rig::{Builder, Client, Rig, context, text, unique};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// One way to store a cache.
#[derive(Debug, Clone, Copy)]
struct Way {
    compressor: &'static str,
    compression: &'static str,
    oci: bool,
    mode: &'static str,
}

impl Way {
    /// Every compressor with every compression, type and mode that is worth a test of its own.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for compressor in ["builder", "client"] {
            for compression in ["gzip", "zstd", "uncompressed"] {
                for oci in [true, false] {
                    let way = Self {
                        compressor,
                        compression,
                        oci,
                        mode: "max",
                    };
                    all.push(way);
                }
            }
            let min = Self {
                compressor,
                compression: "gzip",
                oci: true,
                mode: "min",
            };
            all.push(min);
        }
        all
    }

    fn options(self, reference: &str) -> String {
        format!(
            "type=registry,ref={reference},via=client,compressor={},compression={},oci-mediatypes={},mode={}",
            self.compressor, self.compression, self.oci, self.mode
        )
    }

    fn wanted(self) -> Compression {
        match self.compression {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => Compression::Uncompressed,
        }
    }

    fn layer_type(self) -> &'static str {
        match (self.compression, self.oci) {
            ("gzip", true) => "application/vnd.oci.image.layer.v1.tar+gzip",
            ("zstd", true) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (_, true) => "application/vnd.oci.image.layer.v1.tar",
            ("gzip", false) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ("zstd", false) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            (_, false) => "application/vnd.docker.image.rootfs.diff.tar",
        }
    }
}

/// Three steps in two stages; the seed makes every layer new.
fn dockerfile(seed: &str) -> String {
    let base = &Rig::get().busybox;
    format!(
        "FROM {base} AS one\n\
         RUN echo one-{seed} > /one && head -c 200000 /dev/urandom | base64 > /data\n\
         FROM {base}\n\
         RUN echo two-{seed} > /two\n\
         COPY --from=one /one /one\n"
    )
}

/// A step on top that fails unless every layer below it, and with `mode=max` that of the other stage, unpacks.
fn on_top(seed: &str, way: Way) -> String {
    let other = if way.mode == "max" {
        "test $(cat /m/one) = one-SEED && test $(wc -c < /m/data) -gt 200000 && "
    } else {
        ""
    };
    let mount = if way.mode == "max" {
        "--mount=type=bind,from=one,target=/m "
    } else {
        ""
    };
    let step =
        format!("RUN {mount}{other}test $(cat /two) = two-SEED && test $(cat /one) = one-SEED\n");
    step.replace("SEED", seed)
}

/// What a manifest lists: layers and, in an index, the config among them.
fn entries(manifest: &Manifest) -> Vec<Value> {
    let list = |name: &str| manifest.json[name].as_array().cloned();
    list("layers")
        .or_else(|| list("manifests"))
        .expect("layers")
        .into_iter()
        .filter(|entry| entry["mediaType"] != "application/vnd.buildkit.cacheconfig.v0")
        .filter(|entry| !is_record(entry))
        .collect()
}

fn digest_of(entry: &Value) -> String {
    entry["digest"].as_str().expect("a digest").to_owned()
}

/// The layers of the base image, which keep their compression.
fn base_layers() -> BTreeSet<String> {
    let rig = Rig::get();
    let manifest = rig.registry.manifest_of(&rig.busybox);
    entries(&manifest).iter().map(digest_of).collect()
}

/// Steps of a plain progress that were found in a cache.
fn cached(log: &str) -> usize {
    log.lines().filter(|line| line.ends_with(" CACHED")).count()
}

fn check_stored(way: Way, repository: &str) {
    let registry = &Rig::get().registry;
    let manifest = registry.manifest(repository, "cache").expect("a cache");
    let form = if way.oci { OCI_MANIFEST } else { DOCKER_LIST };
    assert_eq!(manifest.media_type, form, "{way:?}");
    let base = base_layers();
    let entries = entries(&manifest);
    let own: Vec<&Value> = entries
        .iter()
        .filter(|entry| !base.contains(&digest_of(entry)))
        .collect();
    // Stage one is in a cache of mode=max only.
    let expected = if way.mode == "max" { 3 } else { 2 };
    assert_eq!(own.len(), expected, "{way:?}: {entries:?}");
    for entry in own {
        let blob = registry.blob(repository, &digest_of(entry));
        assert_eq!(Compression::of(&blob), way.wanted(), "{way:?}");
        assert_eq!(entry["size"], blob.len(), "{way:?}");
        assert_eq!(entry["mediaType"], way.layer_type(), "{way:?}");
        let content = entry["annotations"]["containerd.io/uncompressed"].as_str();
        assert!(content.is_some_and(|c| c.starts_with("sha256:")), "{way:?}");
    }
}

/// oras pulls manifest, config and every blob, and verifies digests and sizes.
fn check_pull(reference: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = format!("{}:cache", folder.path().join("layout").display());
    let output = Command::new("oras")
        .args([
            "cp",
            "--no-tty",
            "--from-plain-http",
            "--to-oci-layout",
            reference,
            &layout,
        ])
        .output()
        .expect("oras");
    assert!(
        output.status.success(),
        "oras cp {reference}: {}",
        text(&output.stderr)
    );
    let output = Command::new("crane")
        .args(["manifest", "--insecure", reference])
        .output()
        .expect("crane");
    assert!(
        output.status.success(),
        "crane manifest {reference}: {}",
        text(&output.stderr)
    );
}

fn round_trip(way: Way, exporter: &Builder<'_>, importers: [(&str, &Builder<'_>); 2]) {
    let rig = Rig::get();
    let (repository, seed) = (unique("it/client"), unique("seed"));
    let reference = format!("{}/{repository}:cache", rig.registry.host());
    let plain = dockerfile(&seed);
    let folder = context(&[("Dockerfile", &plain)]);
    let log = exporter.build(
        "cachex",
        &["--cache-to", &way.options(&reference)],
        folder.path(),
    );
    assert!(log.contains("sent "), "{way:?}: {log}");
    check_stored(way, &repository);
    check_pull(&reference);

    let topped = plain + &on_top(&seed, way);
    let topped = context(&[("Dockerfile", &topped)]);
    for (tool, builder) in importers {
        let from = format!("type=registry,ref={reference}");
        let log = builder.build(tool, &["--cache-from", &from], folder.path());
        assert_eq!(cached(&log), 3, "{way:?} read by {tool}: {log}");
        builder.build(tool, &["--cache-from", &from], topped.path());
    }
}

fn builders<'a>(client: &'a Client, tools: &[&str]) -> Vec<Builder<'a>> {
    thread::scope(|scope| {
        let all: Vec<_> = tools
            .iter()
            .map(|tool| scope.spawn(|| client.builder(tool)))
            .collect();
        let joined = all.into_iter().map(|one| one.join().expect("a builder"));
        joined.collect()
    })
}

/// All layers are new in each way, so one builder serves all: it has no blob of any of them yet.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn every_way_of_storing_is_read_by_both_tools_on_builders_that_never_built_it() {
    let client = Rig::get().client();
    let builders = builders(&client, &["buildx", "buildx", "cachex"]);
    let importers = [("buildx", &builders[1]), ("cachex", &builders[2])];
    thread::scope(|scope| {
        let (first, second): (Vec<_>, Vec<_>) = Way::all()
            .into_iter()
            .enumerate()
            .partition(|(n, _)| n % 2 == 0);
        for half in [first, second] {
            let exporter = &builders[0];
            scope.spawn(move || {
                for (_, way) in half {
                    round_trip(way, exporter, importers);
                }
            });
        }
    });
}

/// Layers that a builder has compressed one way stay so, unless the user forces another.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn force_compression_changes_blobs_that_exist_and_the_next_export_sends_nothing() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let (repository, seed) = (unique("it/force"), unique("seed"));
    let reference = format!("{}/{repository}:cache", rig.registry.host());
    let folder = context(&[("Dockerfile", &dockerfile(&seed))]);
    let export = |more: &str| {
        let to = format!("type=registry,ref={reference},mode=max,via=client,{more}");
        builder.build("cachex", &["--cache-to", &to], folder.path())
    };
    let kinds = || {
        let manifest = rig
            .registry
            .manifest(&repository, "cache")
            .expect("a cache");
        let all = rig.registry.compressions(&repository, &manifest);
        all.into_iter().collect::<BTreeSet<_>>()
    };
    export("compressor=builder,compression=gzip");
    assert_eq!(kinds(), [Compression::Gzip].into());
    export("compressor=client,compression=zstd");
    assert_eq!(kinds(), [Compression::Gzip].into());
    export("compressor=client,compression=zstd,force-compression=true");
    assert_eq!(kinds(), [Compression::Zstd].into());
    let log = export("compressor=client,compression=zstd,force-compression=true");
    assert!(log.contains("nothing new"), "{log}");
    assert_eq!(kinds(), [Compression::Zstd].into());
}

/// The first export of a layer fixes its blob in the builder. One that was taken uncompressed for a cache must
/// not end up uncompressed in an image.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_image_is_compressed_after_layers_were_taken_uncompressed() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let (cache, image) = (unique("it/trap-cache"), unique("it/trap-image"));
    let host = rig.registry.host();
    let folder = context(&[("Dockerfile", &dockerfile(&unique("seed")))]);
    let to =
        format!("type=registry,ref={host}/{cache}:c,mode=max,compressor=client,compression=zstd");

    // Not in one build: the layers would be the image's.
    let name = format!("{host}/{image}:i");
    let path = folder.path().to_str().expect("a path");
    let both = [
        "cachex",
        "build",
        "--builder",
        &builder.name,
        "--cache-to",
        &to,
        "--push",
        "-t",
        &name,
        path,
    ];
    let refused = client.docker(&both);
    let message = text(&refused.stderr);
    assert!(!refused.status.success(), "{message}");
    assert!(
        message.contains("compressor=client cannot be used"),
        "{message}"
    );

    builder.build("cachex", &["--cache-to", &to], folder.path());
    builder.build("cachex", &["--push", "-t", &name], folder.path());
    let manifest = rig.registry.manifest(&image, "i").expect("an image");
    let manifest = match manifest.json["manifests"][0]["digest"].as_str() {
        Some(first) => rig.registry.manifest(&image, first).expect("an image"),
        None => manifest,
    };
    let kinds = rig.registry.compressions(&image, &manifest);
    assert_eq!(kinds.len(), 3, "{}", manifest.json);
    assert!(
        kinds.iter().all(|kind| *kind == Compression::Gzip),
        "{kinds:?}"
    );

    // The user's own word counts, and goes to the builder as it is.
    let output = format!("type=image,name={name},push=true,force-compression=false");
    builder.build("cachex", &["-o", &output], folder.path());
}

/// The mark that makes images compressed goes with the builder's state.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn rm_forgets_what_was_taken_out_of_a_builder() {
    let rig = Rig::get();
    let client = rig.client();
    let reference = format!("{}/{}:c", rig.registry.host(), unique("it/marks"));
    let folder = context(&[("Dockerfile", &dockerfile(&unique("seed")))]);
    let builder = client.builder("cachex");
    let marks = client
        .config()
        .join("buildx/cachex/uncompressed")
        .join(&builder.name);
    assert!(!marks.exists());
    let to = format!("type=registry,ref={reference},compressor=client");
    builder.build("cachex", &["--cache-to", &to], folder.path());
    assert!(marks.join(format!("{}0", builder.name)).exists());
    client.docker_ok(&["cachex", "rm", "--keep-state", &builder.name]);
    assert!(marks.exists(), "the state is still there");

    client.create("cachex", &builder.name, "network=host", &[]);
    client.docker_ok(&["cachex", "rm", &builder.name]);
    assert!(!marks.exists());
}
