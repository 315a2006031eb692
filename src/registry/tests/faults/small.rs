//! Small answers: those that come slowly or never, and those that come in another form.

use std::time::Instant;

use super::*;

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

async fn with_manifest() -> (ScriptedRegistry, Repository) {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let media_type = MANIFEST_TYPES[0];
    let bytes = Bytes::from_static(MANIFEST.as_bytes());
    let put = repository.put_manifest("t", media_type, &bytes);
    within(put).await.unwrap();
    (registry, repository)
}

#[tokio::test]
async fn a_small_answer_has_a_bound_for_the_whole() {
    for fault in [
        Fault::StallBeforeAnswer,
        Fault::Slow(Duration::from_millis(150)),
    ] {
        let (registry, repository) = with_manifest().await;
        registry.fault("GET", "/manifests/", (0, 99), fault.clone());
        let start = Instant::now();
        let error = within(repository.manifest("t")).await.unwrap_err();
        assert!(
            matches!(error.last(), RegistryError::Slow { .. }),
            "{error:?}"
        );
        assert_eq!(registry.count("GET", "/manifests/"), 2, "{fault:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{fault:?}");
    }
}

#[tokio::test]
async fn a_small_blob_that_drips_is_given_up_and_one_on_a_slow_line_is_not() {
    let (registry, repository) = with_manifest().await;
    registry.fault(
        "GET",
        "/blobs/",
        (0, 99),
        Fault::Slow(Duration::from_millis(100)),
    );
    let (small, large) = (data(100), data(64 * 1024));
    for bytes in [&small, &large] {
        registry.put_blob(REPO, bytes);
    }
    let error = Box::pin(within(repository.read_blob(&digest(&small), 100))).await;
    assert!(error.unwrap_err().is_slow());
    let read = Box::pin(within(repository.read_blob(&digest(&large), 64 * 1024))).await;
    assert_eq!(read.unwrap(), large);
}

#[tokio::test]
async fn a_manifest_that_is_packed_is_unpacked() {
    let (registry, repository) = with_manifest().await;
    registry.fault("GET", "/manifests/", (0, 1), Fault::Gzip);
    let manifest = within(repository.manifest("t")).await.unwrap().unwrap();
    assert_eq!(manifest.bytes, MANIFEST.as_bytes());
    let other = Fault::SetHeader("content-encoding", "br".to_owned());
    registry.fault("GET", "/manifests/", (0, 1), other);
    let error = within(repository.manifest("t")).await.unwrap_err();
    assert!(error.to_string().contains("encoding"), "{error}");
}

#[tokio::test]
async fn an_upload_may_begin_with_another_good_status() {
    for status in [200, 204] {
        let registry = ScriptedRegistry::start().await;
        registry.fault("POST", "/uploads/", (0, 1), Fault::SetStatus(status));
        let bytes = data(3000);
        let sent = upload(&pushable(&registry), &again(&bytes), &bytes).await;
        assert_eq!(sent.unwrap().arrival, Arrival::Sent, "{status}");
    }
}

#[tokio::test]
async fn a_link_that_the_registry_misreads_is_waited_for() {
    let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"},{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    let bytes = Bytes::from_static(b"{}");
    for (times, stored) in [(3, true), (100, false)] {
        let registry = ScriptedRegistry::start().await;
        let misread = Fault::Status(400, vec![], body);
        registry.fault("PUT", "/manifests/", (0, times), misread);
        let put = pushable(&registry);
        let put = within(put.put_manifest("t", "application/x", &bytes)).await;
        assert_eq!(put.is_ok(), stored, "{put:?}");
        let asked = registry.count("PUT", "/manifests/");
        assert_eq!(asked, if stored { 4 } else { 5 });
    }
}
