//! The rig itself: the peer exports and imports a registry cache on it, and builders come and go.

use crate::support::registry::{Compression, digest};
use crate::support::rig::{Rig, context, text, unique};

/// The media type of BuildKit's cache config.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_peer_exports_a_cache_that_another_builder_reads() {
    let rig = Rig::get();
    let client = rig.client();
    let dockerfile = format!(
        "FROM {}\nCOPY greeting /\nRUN cat /greeting > /said\n",
        rig.busybox
    );
    let context = context(&[("Dockerfile", &dockerfile), ("greeting", &unique("hello"))]);
    let repository = unique("rig/peer");
    let cache = format!("{}/{repository}:cache", rig.registry.host());
    assert!(rig.registry.manifest(&repository, "cache").is_none());

    let to = format!(
        "type=registry,ref={cache},mode=max,compression=zstd,oci-mediatypes=true,image-manifest=true"
    );
    client
        .builder("buildx")
        .build("buildx", &["--cache-to", &to], context.path());
    assert_is_cache(rig, &repository);

    let from = format!("type=registry,ref={cache}");
    let progress =
        client
            .builder("buildx")
            .build("buildx", &["--cache-from", &from], context.path());
    assert_eq!(progress.matches(" CACHED\n").count(), 2, "{progress}");
}

/// The cache of the build above: a base layer and two of its own.
fn assert_is_cache(rig: &Rig, repository: &str) {
    let manifest = rig.registry.manifest(repository, "cache").expect("a cache");
    assert_eq!(
        manifest.media_type,
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(manifest.json["config"]["mediaType"], CACHE_CONFIG);
    let by_digest = rig
        .registry
        .manifest(repository, &manifest.digest)
        .expect("the same by digest");
    assert_eq!(by_digest.json, manifest.json);
    let config = rig.registry.config(repository, &manifest);
    assert_eq!(
        config["layers"].as_array().map(Vec::len),
        Some(3),
        "{config}"
    );
    // The base's layer stays in the compression that its image has.
    let mut kinds = rig.registry.compressions(repository, &manifest);
    kinds.sort();
    assert_eq!(
        kinds,
        [Compression::Gzip, Compression::Zstd, Compression::Zstd]
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_goes_with_its_guard() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("buildx");
    let (container, volume) = (builder.container(), builder.volume());
    assert!(
        rig.docker(&["container", "inspect", &container])
            .status
            .success()
    );
    assert!(rig.docker(&["volume", "inspect", &volume]).status.success());
    let shared = rig.docker(&["buildx", "ls"]);
    assert!(
        !text(&shared.stdout).contains(&builder.name),
        "the store of one client is not another's"
    );
    assert!(
        client
            .config()
            .join("buildx/instances")
            .join(&builder.name)
            .exists()
    );
    drop(builder);
    assert!(
        !rig.docker(&["container", "inspect", &container])
            .status
            .success()
    );
    assert!(!rig.docker(&["volume", "inspect", &volume]).status.success());
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_base_images_are_in_the_registry() {
    let rig = Rig::get();
    for image in [&rig.base, &rig.busybox] {
        let (repository, tag) = image
            .strip_prefix(rig.registry.host())
            .and_then(|name| name.strip_prefix('/'))
            .and_then(|name| name.split_once(':'))
            .expect("an image of the rig's registry");
        let manifest = rig
            .registry
            .manifest(repository, tag)
            .expect("a base image");
        let config = rig.registry.config(repository, &manifest);
        assert_eq!(
            config["rootfs"]["diff_ids"].as_array().map(Vec::len),
            Some(1),
            "{config}"
        );
    }
}

#[test]
fn compressions_are_told_by_their_bytes() {
    let zstd = zstd::encode_all(&b"text"[..], 0).expect("zstd");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"text").expect("gzip");
    let gzip = gzip.finish().expect("gzip");
    let mut estargz = gzip.clone();
    estargz.extend_from_slice(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\x000000000000000abcSTARGZ\x01\0\0\xff\xff\0\0\0\0\0\0\0\0");
    assert_eq!(Compression::of(&zstd), Compression::Zstd);
    assert_eq!(Compression::of(&gzip), Compression::Gzip);
    assert_eq!(Compression::of(&estargz), Compression::Estargz);
    assert_eq!(Compression::of(b"text"), Compression::Uncompressed);
    assert_eq!(Compression::of(b""), Compression::Uncompressed);
    assert_eq!(
        digest(b""),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}
