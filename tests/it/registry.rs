//! The registry client against a real registry.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use docker_cachex::for_tests::digest::{Digest, Hasher};
use docker_cachex::for_tests::docker::Tokens;
use docker_cachex::for_tests::registry::{
    Access, Arrival, BlobSource, Download, HostConfig, RegistryClient, Repository, RetryPolicy,
    SystemClock, UploadOptions,
};
use futures_util::stream;

use crate::support::noise::noise;
use crate::support::rig::Rig;

/// A repository of the rig that no other test uses.
fn repository(name: &str) -> Repository {
    let rig = Rig::get();
    let (host, _) = rig.busybox.split_once('/').expect("a reference");
    let client = RegistryClient::new(
        HostConfig::new(host),
        Tokens::anonymous(),
        RetryPolicy::default(),
        Arc::new(SystemClock),
    )
    .expect("a client");
    let unique = format!("{name}-{}", std::process::id());
    client
        .repository(&unique, Access::Delete)
        .expect("a repository")
}

async fn read(mut download: Download) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(piece) = download.next().await.expect("a piece") {
        out.extend_from_slice(&piece);
    }
    out
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn blobs_go_there_and_come_back() {
    let repository = repository("it/blobs");
    let options = UploadOptions::default();
    let known = noise(1, 3_000_000);
    let digest = Digest::of(&known);
    assert_eq!(
        repository.blob_size(&digest).await.expect("an answer"),
        None
    );

    let source = BlobSource::Bytes(known.clone());
    let before = repository.client().requests();
    let uploaded = repository
        .upload(&digest, 3_000_000, &source, &options)
        .await
        .expect("upload");
    assert_eq!(uploaded.arrival, Arrival::Sent);
    assert_eq!(repository.client().requests() - before, 2);
    assert_eq!(
        repository.blob_size(&digest).await.expect("an answer"),
        Some(3_000_000)
    );

    let unknown = noise(2, 2_000_000);
    let pieces: Vec<_> = unknown
        .chunks(32 * 1024)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    let spool = tempfile::tempdir().expect("a folder");
    let source = BlobSource::spooled(stream::iter(pieces), &spool.path().into(), u64::MAX);
    let before = repository.client().requests();
    let uploaded = repository
        .upload_stream(&source, &options)
        .await
        .expect("upload");
    assert_eq!(uploaded.digest, Digest::of(&unknown));
    assert_eq!(repository.client().requests() - before, 3);
    assert!(repository.client().takes_streams());

    let whole = repository
        .download(&digest, Some(3_000_000))
        .await
        .expect("download");
    assert!(read(whole).await == known);
    let part = repository
        .download_range(&digest, 1_000_000..1_500_000)
        .await
        .expect("download");
    assert!(read(part).await == known[1_000_000..1_500_000]);

    let empty = Digest::of(b"");
    let source = BlobSource::Bytes(Bytes::new());
    repository
        .upload(&empty, 0, &source, &options)
        .await
        .expect("upload");
    assert_eq!(
        read(
            repository
                .download(&empty, Some(0))
                .await
                .expect("download")
        )
        .await,
        b""
    );
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn a_blob_is_mounted_from_another_repository() {
    let (first, second) = (repository("it/mount-from"), repository("it/mount-to"));
    let bytes = noise(3, 10_000);
    let digest = Digest::of(&bytes);
    let source = BlobSource::Bytes(bytes);
    first
        .upload(&digest, 10_000, &source, &UploadOptions::default())
        .await
        .expect("upload");
    let mount = UploadOptions {
        mount_from: Some(first.name().to_owned()),
        ..UploadOptions::default()
    };
    let uploaded = second
        .upload(&digest, 10_000, &source, &mount)
        .await
        .expect("mount");
    assert_eq!(uploaded.arrival, Arrival::Mounted);
    assert_eq!(second.client().requests(), 1);

    // One that is not there becomes an upload in the session that the registry offers.
    let other = noise(4, 5000);
    let digest = Digest::of(&other);
    let source = BlobSource::Bytes(other);
    let uploaded = second
        .upload(&digest, 5000, &source, &mount)
        .await
        .expect("upload");
    assert_eq!(uploaded.arrival, Arrival::Sent);
    assert_eq!(second.client().requests(), 3);
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn manifests_are_written_read_and_deleted() {
    let repository = repository("it/manifests");
    let config = Bytes::from_static(b"{}");
    let config_digest = Digest::of(&config);
    let source = BlobSource::Bytes(config);
    repository
        .upload(&config_digest, 2, &source, &UploadOptions::default())
        .await
        .expect("upload");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":2}},"layers":[]}}"#
    ));
    assert_eq!(
        repository
            .manifest_descriptor("t")
            .await
            .expect("an answer"),
        None
    );
    let digest = repository
        .put_manifest("t", media_type, &manifest)
        .await
        .expect("put");
    let before = repository.client().requests();
    let descriptor = repository
        .manifest_descriptor("t")
        .await
        .expect("an answer")
        .expect("one");
    assert_eq!(repository.client().requests() - before, 1);
    assert_eq!(
        (
            &descriptor.digest,
            descriptor.size,
            descriptor.media_type.as_str()
        ),
        (&digest, manifest.len() as u64, media_type)
    );
    let read = repository
        .manifest("t")
        .await
        .expect("an answer")
        .expect("one");
    assert_eq!(read.bytes, manifest);

    let absent = noise(9, 10);
    let broken = String::from_utf8(manifest.to_vec())
        .expect("text")
        .replace(config_digest.as_str(), Digest::of(&absent).as_str());
    let error = repository
        .put_manifest("u", media_type, &broken.into())
        .await;
    let error = error.expect_err("a manifest of a blob that is not there");
    assert!(error.has_code("MANIFEST_BLOB_UNKNOWN"), "{error}");

    assert!(
        repository
            .delete_manifest(digest.as_str())
            .await
            .expect("delete")
    );
    assert_eq!(repository.manifest("t").await.expect("an answer"), None);
    assert!(
        repository
            .delete_blob(&config_digest)
            .await
            .expect("delete")
    );
    assert_eq!(
        repository
            .blob_size(&config_digest)
            .await
            .expect("an answer"),
        None
    );
}

/// Writes a file of so many times a megabyte and returns its digest.
fn large_file(path: &Path, megabytes: usize) -> Digest {
    let block = noise(5, 1_000_000);
    let mut file = fs_err::File::create(path).expect("a file");
    let mut hasher = Hasher::sha256();
    for _ in 0..megabytes {
        file.write_all(&block).expect("space");
        hasher.update(&block);
    }
    hasher.finish()
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn a_large_blob_moves_in_one_pass() {
    const MEGABYTES: u32 = 300;
    let size = u64::from(MEGABYTES) * 1_000_000;
    let repository = repository("it/large");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("blob");
    let digest = large_file(&path, MEGABYTES as usize);
    let source = BlobSource::File(path);
    let options = UploadOptions::default();

    let start = Instant::now();
    repository
        .upload(&digest, size, &source, &options)
        .await
        .expect("upload");
    let known = start.elapsed();
    repository.delete_blob(&digest).await.expect("delete");

    let start = Instant::now();
    let uploaded = repository
        .upload_stream(&source, &options)
        .await
        .expect("upload");
    let unknown = start.elapsed();
    assert_eq!((&uploaded.digest, uploaded.size), (&digest, size));

    let start = Instant::now();
    let mut download = repository
        .download(&digest, Some(size))
        .await
        .expect("download");
    while download.next().await.expect("a piece").is_some() {}
    let down = start.elapsed();

    assert_eq!(repository.client().requests(), 2 + 1 + 3 + 1);
    let rate = |time: Duration| f64::from(MEGABYTES) / time.as_secs_f64();
    println!(
        "upload {:.0} MB/s, streamed upload {:.0} MB/s, download {:.0} MB/s",
        rate(known),
        rate(unknown),
        rate(down)
    );
    repository.delete_blob(&digest).await.expect("delete");
}
