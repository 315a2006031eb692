//! What works when nothing goes wrong, and how many requests it takes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[tokio::test]
async fn a_known_blob_takes_two_requests_and_comes_back() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let (bytes, sent) = (data(3_000_000), Arc::new(AtomicU64::new(0)));
    let source = once(&bytes);
    let options = UploadOptions {
        progress: Some(Arc::clone(&sent)),
        ..UploadOptions::default()
    };
    let uploaded = within(repository.upload(&digest(&bytes), 3_000_000, &source, &options))
        .await
        .unwrap();
    assert_eq!(
        (uploaded.arrival, uploaded.size),
        (Arrival::Sent, 3_000_000)
    );
    assert_eq!(sent.load(Ordering::Relaxed), 3_000_000);
    assert_eq!(repository.client().requests(), 2);
    let put = registry.seen().pop().unwrap();
    assert_eq!(put.header("content-length"), Some("3000000"));
    assert_eq!(put.header("transfer-encoding"), None);

    let download = repository.download(&digest(&bytes), None).await.unwrap();
    assert!(within(read(download)).await.unwrap() == bytes);
    assert_eq!(repository.client().requests(), 3);
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn an_unknown_blob_goes_in_one_patch() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let bytes = data(1_000_000);
    let uploaded = within(repository.upload_stream(&once(&bytes), &UploadOptions::default()))
        .await
        .unwrap();
    assert_eq!(uploaded.digest, digest(&bytes));
    assert_eq!(uploaded.size, 1_000_000);
    assert_eq!(
        registry.blob(REPO, uploaded.digest.as_str()).unwrap(),
        bytes
    );
    let methods: Vec<_> = registry.seen().into_iter().map(|s| s.method).collect();
    assert_eq!(methods, ["POST", "PATCH", "PUT"]);
    assert!(registry.seen()[2].query.contains("_state=secret-next"));
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let empty = digest(b"");
    let source = BlobSource::Bytes(Bytes::new());
    within(repository.upload(&empty, 0, &source, &UploadOptions::default()))
        .await
        .unwrap();
    assert_eq!(registry.blob(REPO, empty.as_str()), Some(Vec::new()));
    let download = repository.download(&empty, Some(0)).await.unwrap();
    assert_eq!(within(read(download)).await.unwrap(), b"");
    within(repository.upload_stream(&source, &UploadOptions::default()))
        .await
        .unwrap();
    let absent = digest(b"x");
    assert!(
        repository
            .download(&absent, None)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn what_is_there_is_not_sent() {
    let registry = ScriptedRegistry::start().await;
    let bytes = data(1000);
    registry.put_blob(REPO, &bytes);
    registry.put_blob("team/base", &bytes);
    let repository = pushable(&registry);
    let source = BlobSource::Bytes(bytes.clone());
    let check = UploadOptions {
        check_exists: true,
        ..UploadOptions::default()
    };
    let uploaded = repository
        .upload(&digest(&bytes), 1000, &source, &check)
        .await
        .unwrap();
    assert_eq!(uploaded.arrival, Arrival::Existed);
    assert_eq!(repository.client().requests(), 1);

    let other = repository
        .client()
        .repository("team/other", Access::Push)
        .unwrap();
    let uploaded = other
        .upload(&digest(&bytes), 1000, &source, &mounting())
        .await
        .unwrap();
    assert_eq!(uploaded.arrival, Arrival::Mounted);
    assert_eq!(repository.client().requests(), 2);
}

#[tokio::test]
async fn the_session_of_a_mount_that_is_not_granted_is_used() {
    let registry = ScriptedRegistry::start().await;
    registry.refuse_mounts();
    let repository = pushable(&registry);
    let bytes = data(1000);
    let uploaded = repository
        .upload(&digest(&bytes), 1000, &once(&bytes), &mounting())
        .await
        .unwrap();
    assert_eq!(uploaded.arrival, Arrival::Sent);
    assert_eq!(repository.client().requests(), 2);
}

#[tokio::test]
async fn a_mount_that_is_refused_becomes_an_upload() {
    for status in [400, 403, 404, 405] {
        let registry = ScriptedRegistry::start().await;
        registry.fault("POST", "mount=", (0, 1), Fault::Status(status, vec![], ""));
        let repository = pushable(&registry);
        let bytes = data(1000);
        let uploaded = repository
            .upload(&digest(&bytes), 1000, &once(&bytes), &mounting())
            .await
            .unwrap();
        assert_eq!(uploaded.arrival, Arrival::Sent, "{status}");
    }
}

#[tokio::test]
async fn manifests_keep_their_bytes_and_types() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let bytes = Bytes::from_static(b"{ \"odd\" :  1 }");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let digest = repository
        .put_manifest("cache", media_type, &bytes)
        .await
        .unwrap();
    for reference in ["cache", digest.as_str()] {
        let manifest = repository.manifest(reference).await.unwrap().unwrap();
        assert_eq!(
            (manifest.bytes.clone(), manifest.media_type.as_str()),
            (bytes.clone(), media_type)
        );
        let descriptor = repository
            .manifest_descriptor(reference)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(descriptor.digest, digest);
        assert_eq!(descriptor.size, bytes.len() as u64);
    }
    let accept = registry.seen()[1]
        .headers
        .iter()
        .filter(|(n, _)| n == "accept")
        .count();
    assert_eq!(accept, MANIFEST_TYPES.len());
    assert_eq!(repository.manifest("absent").await.unwrap(), None);
    assert_eq!(
        repository.manifest_descriptor("absent").await.unwrap(),
        None
    );
    assert!(repository.delete_manifest(digest.as_str()).await.unwrap());
    assert!(!repository.delete_manifest(digest.as_str()).await.unwrap());

    let requests = repository.client().requests();
    let other = super::digest(b"other");
    let error = repository
        .put_manifest(other.as_str(), media_type, &bytes)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { .. }));
    assert!(repository.manifest("../x").await.is_err());
    assert_eq!(
        repository.client().requests(),
        requests,
        "nothing is sent for bad input"
    );
}

#[tokio::test]
async fn parts_of_a_blob() {
    let registry = ScriptedRegistry::start().await;
    let bytes = data(10_000);
    registry.put_blob(REPO, &bytes);
    let repository = pushable(&registry);
    let digest = digest(&bytes);
    for range in [0..1, 0..10_000, 17..4000, 9_999..10_000, 5..5] {
        let part = repository
            .download_range(&digest, range.clone())
            .await
            .unwrap();
        let wanted = &bytes[index(range.start)..index(range.end)];
        assert_eq!(within(read(part)).await.unwrap(), wanted, "{range:?}");
    }
    // A registry that does not know ranges.
    registry.fault("GET", "/blobs/", (0, 1), Fault::IgnoreRange);
    let part = repository.download_range(&digest, 100..200).await.unwrap();
    assert_eq!(within(read(part)).await.unwrap(), &bytes[100..200]);
    assert!(
        repository
            .download_range(&digest, 20_000..20_001)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn sizes_and_deletion_of_blobs() {
    let registry = ScriptedRegistry::start().await;
    let bytes = data(1234);
    registry.put_blob(REPO, &bytes);
    let repository = pushable(&registry);
    let digest = digest(&bytes);
    assert_eq!(repository.blob_size(&digest).await.unwrap(), Some(1234));
    assert!(repository.delete_blob(&digest).await.unwrap());
    assert_eq!(repository.blob_size(&digest).await.unwrap(), None);
}

#[tokio::test]
async fn a_registry_on_loopback_without_tls_is_found() {
    let registry = ScriptedRegistry::start().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let client = RegistryClient::new(
        HostConfig::new(registry.host()),
        Tokens::anonymous(),
        RetryPolicy::never(),
        clock,
    )
    .unwrap();
    let repository = client.repository(REPO, Access::Push).unwrap();
    assert_eq!(within(repository.manifest("x")).await.unwrap(), None);
    let source = BlobSource::Bytes(data(10));
    let digest = digest(&data(10));
    within(repository.upload(&digest, 10, &source, &UploadOptions::default()))
        .await
        .unwrap();
    assert_eq!(registry.seen().len(), 3);
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap()
}
