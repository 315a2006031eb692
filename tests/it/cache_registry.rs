//! The registry cache: every option as it is stored, round trips between both tools, and what is refused.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::sync::Weak;

use serde_json::Value;

use crate::support::bench::{Bench, Shared, assert_all_cached, cached};
use crate::support::registry::{Compression, digest};
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
        let base = &Rig::get().busybox;
        let registry = &Rig::get().registry;
        let (repository, tag) = base
            .strip_prefix(registry.host())
            .and_then(|name| name.strip_prefix('/'))
            .and_then(|name| name.split_once(':'))
            .expect("an image of the rig's registry");
        let image = registry.manifest(repository, tag).expect("the base image");
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

#[test]
fn an_index_of_oci_types_can_be_asked_for() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let repository = unique("it/index");
    let host = Rig::get().registry.host();
    let to = format!("type=registry,ref={host}/{repository}:c,image-manifest=false");
    let new = format!("NEW={}", unique("new"));
    bench.build(
        "cachex",
        &["--build-arg", &new, "--cache-to", &to],
        folder.path(),
    );
    let stored = Stored::read(&repository, "c");
    assert_eq!(stored.media_type, OCI_INDEX);
    assert_eq!(stored.own().len(), 1);
}

/// `force-compression` also changes the layers of the base image.
#[test]
fn forced_compression_takes_every_layer() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let repository = unique("it/force");
    let host = Rig::get().registry.host();
    let to =
        format!("type=registry,ref={host}/{repository}:c,compression=zstd,force-compression=true");
    let new = format!("NEW={}", unique("new"));
    bench.build(
        "cachex",
        &["--build-arg", &new, "--cache-to", &to],
        folder.path(),
    );
    let stored = Stored::read(&repository, "c");
    assert_eq!(stored.layers.len(), 2);
    for layer in &stored.layers {
        assert_eq!(layer.compression, Compression::Zstd);
    }
}

/// The main job: what one tool exported, both read on an empty builder.
#[test]
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
        for importer in ["cachex", "buildx"] {
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
        for importer in ["cachex", "buildx"] {
            bench.prune();
            // The build argument is part of the key in neither tool.
            let progress = bench.build(importer, &["--cache-from", &app], folder.path());
            assert_all_cached(&progress, 1);
        }
    }
}

#[test]
fn a_registry_that_is_not_there() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!("FROM {}\nRUN echo {}\n", Rig::get().busybox, unique("x"));
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let gone = "127.0.0.1:1/app:cache";
    let metadata = folder.path().join("meta.json");
    let metadata_flag = format!("--metadata-file={}", metadata.display());

    let imported = bench.build("cachex", &["--cache-from", gone], folder.path());
    assert!(imported.contains("connection refused"), "{imported}");
    let to = format!("type=registry,ref={gone}");
    let error = bench.fails(1, &["--cache-to", &to, &metadata_flag], folder.path());
    let last = error
        .lines()
        .filter(|l| l.starts_with("ERROR:"))
        .collect::<Vec<_>>();
    assert_eq!(last.len(), 1, "{error}");
    assert!(
        last[0].contains("connection refused") && last[0].contains("127.0.0.1:1"),
        "{error}"
    );
    assert!(!metadata.exists());
    let ignored = format!("{to},ignore-error=true");
    let progress = bench.build(
        "cachex",
        &["--cache-to", &ignored, &metadata_flag],
        folder.path(),
    );
    assert!(progress.contains("connection refused"), "{progress}");
    assert!(metadata.exists());
}

#[test]
fn what_would_destroy_a_cache_is_refused_by_name() {
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    let bench = Bench::shared(&SHARED);
    let with_builder = |args: &[&str]| {
        let error = bench.fails(1, args, Path::new(folder));
        assert!(!error.contains("#1 "), "the build began: {error}");
        error
    };
    let error = with_builder(&[
        "--cache-to",
        "type=registry,ref=r.io/a:c,merge=true,via=builder",
    ]);
    assert!(error.contains("merge=true needs via=client"), "{error}");
    let error = with_builder(&["--cache-to", "r.io/a:1", "--push", "-t", "r.io/a:1"]);
    assert!(
        error.contains("r.io/a:1") && error.contains("hint: "),
        "{error}"
    );
    let error = with_builder(&["--cache-to", "r.io/a:1", "--cache-to", "r.io/a:1"]);
    assert!(error.contains("two caches"), "{error}");
}

/// A flag, its value, and what the message must contain.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,mod=max",
        "did you mean \"mode\"?",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,mode=mx",
        "\"mode\"",
    ),
    (
        "--cache-to",
        "type=registry,mode=max",
        "key \"ref\" is required",
    ),
    (
        "--cache-to",
        "type=registy,ref=r.io/a:c",
        "did you mean \"registry\"?",
    ),
    ("--cache-to", "type=registry,ref=r.io/A:c", "lowercase"),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,ref=r.io/b",
        "more than once",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression=lz4",
        "\"compression\"",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression-level=10",
        "0 to 9",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression=zstd,compression-level=23",
        "0 to 22",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression=uncompressed,compression-level=1",
        "cannot be used",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,oci-mediatypes=maybe",
        "\"oci-mediatypes\"",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,oci-mediatypes=false,image-manifest=true",
        "image-manifest=true needs",
    ),
    (
        "--cache-from",
        "type=registry,ref=r.io/a:c,rf=x",
        "unknown key \"rf\"",
    ),
    ("--cache-from", "type=registry", "key \"ref\" is required"),
];

#[test]
fn wrong_cache_options_are_errors_before_the_build() {
    // Nothing of this needs a builder: there is none.
    let client = Rig::get().client();
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    for (flag, value, expected) in WRONG {
        let output = client.docker(&["cachex", "build", flag, value, folder]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag} {value}: {error}");
        assert!(
            error.starts_with(&format!("ERROR: invalid {flag}: ")) && error.contains(expected),
            "{flag} {value}: {error}"
        );
    }
}

/// Both tools store the same for the same options.
#[test]
fn the_peer_stores_the_same() {
    let bench = Bench::shared(&SHARED);
    let folder = two_stages();
    let host = Rig::get().registry.host();
    let new = format!("NEW={}", unique("new"));
    let mut stored = BTreeMap::new();
    for tool in ["buildx", "cachex"] {
        let repository = unique("it/same");
        let to = format!(
            "type=registry,ref={host}/{repository}:c,mode=max,image-manifest=true,oci-mediatypes=true"
        );
        bench.build(
            tool,
            &["--build-arg", &new, "--cache-to", &to],
            folder.path(),
        );
        let mut digests: Vec<_> = Stored::read(&repository, "c")
            .layers
            .into_iter()
            .map(|layer| layer.digest)
            .collect();
        digests.sort();
        stored.insert(tool, digests);
    }
    assert_eq!(stored["buildx"], stored["cachex"]);
}
