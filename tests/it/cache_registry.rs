//! The registry cache: every option as it is stored.

use std::io::Read as _;
use std::path::Path;
use std::process::Output;
use std::sync::Weak;

use parking_lot::Mutex;
use serde_json::Value;

use crate::support::bench::{Bench, Shared, TOOLS};
use crate::support::registry::{Compression, digest, is_record};
use crate::support::rig::{Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Bytes of the file in each layer; they compress well.
const FILE_SIZE: usize = 50_000;

/// A cache as the registry has it.
struct Stored {
    media_type: String,
    config_type: String,
    config: Value,
    layers: Vec<Layer>,
}

struct Layer {
    media_type: String,
    compression: Compression,
    size: usize,
    digest: String,
}

impl Stored {
    /// Reads a cache with all that it refers to; every blob must be there, and be what is written about it.
    fn read(repository: &str, tag: &str) -> Self {
        let registry = &Rig::get().registry;
        let manifest = registry.manifest(repository, tag).expect("a cache");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let mut blobs: Vec<Value> = ["layers", "manifests"]
            .iter()
            .filter_map(|key| manifest.json[key].as_array().cloned())
            .flatten()
            .collect();
        let config = match &manifest.json["config"] {
            // An index has the config as its last entry.
            Value::Null => blobs.pop().expect("a config"),
            config => config.clone(),
        };
        let config_bytes = registry.blob(repository, &text(&config["digest"]));
        assert_eq!(config["size"], config_bytes.len());
        let layers = blobs
            .iter()
            .filter(|blob| !is_record(blob))
            .map(|blob| {
                let bytes = registry.blob(repository, &text(&blob["digest"]));
                assert_eq!(blob["size"], bytes.len());
                let compression = Compression::of(&bytes);
                assert_eq!(
                    blob["annotations"]["containerd.io/uncompressed"],
                    digest(&decompress(&bytes, compression)),
                    "{blob}"
                );
                Layer {
                    media_type: text(&blob["mediaType"]),
                    compression,
                    size: bytes.len(),
                    digest: text(&blob["digest"]),
                }
            })
            .collect();
        let stored = Self {
            media_type: manifest.media_type,
            config_type: text(&config["mediaType"]),
            config: serde_json::from_slice(&config_bytes).expect("a config in JSON"),
            layers,
        };
        stored.assert_consistent();
        stored
    }

    /// The config names exactly the blobs of the manifest.
    fn assert_consistent(&self) {
        let mut named: Vec<_> = self.config["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .map(|layer| layer["blob"].as_str().expect("a digest").to_owned())
            .collect();
        named.sort();
        named.dedup();
        let mut stored: Vec<_> = self.layers.iter().map(|l| l.digest.clone()).collect();
        stored.sort();
        assert_eq!(named, stored);
    }

    /// The layers that are not the base image's.
    fn own(&self) -> Vec<&Layer> {
        let rig = Rig::get();
        let image = rig.registry.manifest_of(&rig.busybox);
        let of_base = image.json["layers"].to_string();
        self.layers
            .iter()
            .filter(|layer| !of_base.contains(&layer.digest))
            .collect()
    }
}

fn decompress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut plain = Vec::new();
    match compression {
        Compression::Gzip | Compression::Estargz => {
            flate2::read::MultiGzDecoder::new(bytes)
                .read_to_end(&mut plain)
                .expect("gzip");
        }
        Compression::Zstd => plain = zstd::decode_all(bytes).expect("zstd"),
        Compression::Uncompressed => plain.extend_from_slice(bytes),
    }
    plain
}

/// Two stages; mode=max keeps the two layers of the first, too.
fn two_stages() -> tempfile::TempDir {
    let busybox = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {busybox} AS build\n\
         ARG NEW\n\
         RUN yes \"$NEW\" | head -c {FILE_SIZE} > /built\n\
         RUN yes \"not $NEW\" | head -c {FILE_SIZE} > /only-here\n\
         FROM {busybox}\n\
         COPY --from=build /built /moved\n"
    );
    context(&[("Dockerfile", &dockerfile)])
}

/// One way to store a cache.
struct Form {
    compression: &'static str,
    level: Option<u32>,
    oci: bool,
}

impl Form {
    fn option(&self) -> String {
        let level = self
            .level
            .map_or_else(String::new, |level| format!(",compression-level={level}"));
        format!(
            "compression={}{level},oci-mediatypes={}",
            self.compression, self.oci
        )
    }

    fn layer_type(&self) -> &'static str {
        match (self.compression, self.oci) {
            ("zstd", true) => "application/vnd.oci.image.layer.v1.tar+zstd",
            ("zstd", false) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            ("uncompressed", true) => "application/vnd.oci.image.layer.v1.tar",
            ("uncompressed", false) => "application/vnd.docker.image.rootfs.diff.tar",
            (_, true) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (_, false) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }

    fn magic(&self) -> Compression {
        match self.compression {
            "gzip" => Compression::Gzip,
            "estargz" => Compression::Estargz,
            "zstd" => Compression::Zstd,
            _ => Compression::Uncompressed,
        }
    }

    /// Exports new layers in both modes, one after the other: where a builder exports both at once, the cache of
    /// mode=min may get layers of the other.
    fn export(&self, bench: &Bench, tool: &str, folder: &Path, repository: &str) -> Output {
        let host = Rig::get().registry.host();
        // buildx leaves it to its user to say that Docker's types need the list.
        let more = if self.oci {
            ""
        } else {
            ",image-manifest=false"
        };
        let to = |mode: &str| {
            format!(
                "--cache-to=type=registry,ref={host}/{repository}:{mode},mode={mode},{}{more}",
                self.option()
            )
        };
        let new = format!("--build-arg=NEW={}", unique("new"));
        let min = bench.try_build(tool, &[&new, &to("min")], folder);
        if !min.status.success() {
            return min;
        }
        bench.try_build(tool, &[&new, &to("max")], folder)
    }

    fn check(&self, repository: &str) {
        let (min, max) = (
            Stored::read(repository, "min"),
            Stored::read(repository, "max"),
        );
        for stored in [&min, &max] {
            let form = if self.oci { OCI_MANIFEST } else { DOCKER_LIST };
            assert_eq!(stored.media_type, form);
            assert_eq!(stored.config_type, CACHE_CONFIG);
            for layer in stored.own() {
                assert_eq!(layer.media_type, self.layer_type(), "{}", self.option());
                assert_eq!(layer.compression, self.magic(), "{}", self.option());
                let stored_plain = self.level == Some(0) && self.compression != "zstd"
                    || self.magic() == Compression::Uncompressed;
                assert_eq!(layer.size > FILE_SIZE, stored_plain, "{}", self.option());
            }
        }
        assert_eq!(min.own().len(), 1, "{}", self.option());
        assert_eq!(max.own().len(), 3, "{}", self.option());
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn every_compression_is_stored_as_asked() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let ends: [(&str, &[Option<u32>]); 3] = [
        ("gzip", &[Some(0), Some(9)]),
        ("zstd", &[Some(0), Some(22)]),
        ("uncompressed", &[None]),
    ];
    for oci in [true, false] {
        for (compression, levels) in ends {
            for &level in levels {
                let form = Form {
                    compression,
                    level,
                    oci,
                };
                let repository = unique("it/matrix");
                let output = form.export(&bench, "cachex", folder.path(), &repository);
                assert!(output.status.success(), "{}", text(&output.stderr));
                form.check(&repository);
            }
        }
    }
}

/// Some builds of `BuildKit` fall over eStargz: Go's newer gzip writer makes a footer that the library inside does not
/// expect. The peer tells which case this is; both have a right behaviour.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn estargz_is_stored_as_asked_where_the_builder_can() {
    let bench = Bench::new();
    let folder = two_stages();
    let forms = [(Some(0), true), (Some(9), true), (Some(9), false)].map(|(level, oci)| Form {
        compression: "estargz",
        level,
        oci,
    });
    let by_peer = forms[0].export(&bench, "buildx", folder.path(), &unique("it/estargz"));
    if by_peer.status.success() {
        for form in &forms {
            let repository = unique("it/estargz");
            let output = form.export(&bench, "cachex", folder.path(), &repository);
            assert!(output.status.success(), "{}", text(&output.stderr));
            form.check(&repository);
        }
        return;
    }
    let logs = bench.client.docker(&["logs", &bench.container()]);
    let logs = text(&logs.stderr) + &text(&logs.stdout);
    assert!(logs.contains("footer buffer"), "{}", text(&by_peer.stderr));
    // The engine starts it again.
    bench
        .client
        .docker_ok(&["cachex", "inspect", "--bootstrap"]);
    let output = forms[0].export(&bench, "cachex", folder.path(), &unique("it/estargz"));
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("the connection to the builder broke"),
        "{error}"
    );
    let hint = format!("hint: docker logs {}", bench.container());
    assert!(error.contains(&hint), "{error}");
}

/// Builds the two stages, whose steps differ by an argument, and reads the cache that was stored.
fn stored(bench: &Bench, tool: &str, folder: &Path, new: &str, keys: &str) -> Stored {
    let repository = unique("it/stored");
    let host = Rig::get().registry.host();
    let to = format!("type=registry,ref={host}/{repository}:c,{keys}");
    let new = format!("NEW={new}");
    bench.build(tool, &["--build-arg", &new, "--cache-to", &to], folder);
    Stored::read(&repository, "c")
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_index_of_oci_types_can_be_asked_for() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let new = unique("new");
    let stored = stored(
        &bench,
        "cachex",
        folder.path(),
        &new,
        "image-manifest=false",
    );
    assert_eq!(stored.media_type, OCI_INDEX);
    assert_eq!(stored.own().len(), 1);
}

/// `force-compression` also changes the layers of the base image.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn forced_compression_takes_every_layer() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let new = unique("new");
    let keys = "compression=zstd,force-compression=true";
    let stored = stored(&bench, "cachex", folder.path(), &new, keys);
    assert_eq!(stored.layers.len(), 2);
    for layer in &stored.layers {
        assert_eq!(layer.compression, Compression::Zstd);
    }
}

/// Both tools store the same for the same options.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_peer_stores_the_same() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let new = unique("new");
    let keys = "mode=max,image-manifest=true,oci-mediatypes=true";
    let digests = TOOLS.map(|tool| {
        let layers = stored(&bench, tool, folder.path(), &new, keys).layers;
        let mut digests: Vec<_> = layers.into_iter().map(|layer| layer.digest).collect();
        digests.sort();
        digests
    });
    assert_eq!(digests[0], digests[1]);
}
