//! Blobs and manifests that come broken, wrong, late or not at all.

use super::*;

#[tokio::test]
async fn downloads_go_on_where_they_broke() {
    let bytes = data(500_000);
    for faults in [
        vec![Fault::CutAnswer(1)],
        vec![
            Fault::CutAnswer(0),
            Fault::CutAnswer(200_000),
            Fault::CutAnswer(100_000),
        ],
        vec![Fault::StallAnswer(250_000)],
        vec![
            Fault::ShortAnswer(0),
            busy(503),
            Fault::ResetBeforeBody,
            Fault::StallBeforeAnswer,
        ],
        vec![Fault::CutAnswer(100_000), Fault::IgnoreRange],
        vec![busy(429), Fault::CutAnswer(499_999)],
    ] {
        let registry = ScriptedRegistry::start().await;
        registry.put_blob(REPO, &bytes);
        for fault in &faults {
            registry.fault("GET", "/blobs/", (0, 1), fault.clone());
        }
        let repository = pushable(&registry);
        let digest = digest(&bytes);
        let size = Some(500_000).filter(|_| !matches!(faults[0], Fault::ShortAnswer(_)));
        let result = async { read(repository.download(&digest, size).await?).await };
        match within(result).await {
            Ok(read) => assert!(read == bytes, "{faults:?}"),
            // Without a promised size a short answer is a blob with the wrong digest.
            Err(RegistryError::DigestMismatch { .. }) if size.is_none() => {}
            Err(error) => panic!("{faults:?}: {}", crate::error::chain(&error)),
        }
    }
}

#[tokio::test]
async fn wrong_content_is_found() {
    let bytes = data(100_000);
    let registry = ScriptedRegistry::start().await;
    registry.put_blob(REPO, &bytes);
    let repository = pushable(&registry);
    let digest = digest(&bytes);
    registry.fault("GET", "/blobs/", (0, 1), Fault::CorruptAnswer);
    let download = repository.download(&digest, Some(100_000)).await.unwrap();
    let error = within(read(download)).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error:?}"
    );
    for size in [99_999, 100_001] {
        let error = repository.download(&digest, Some(size)).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::SizeMismatch { .. }),
            "{error:?}"
        );
    }
    registry.fault("GET", "/blobs/", (0, 1), Fault::ShortAnswer(5));
    let error = repository
        .download(&digest, Some(100_000))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::SizeMismatch { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn wrong_manifests_are_found() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let bytes = Bytes::from_static(b"{\"schemaVersion\":2}");
    let digest = repository
        .put_manifest("t", "application/x", &bytes)
        .await
        .unwrap();
    for reference in ["t", digest.as_str()] {
        registry.fault("GET", "/manifests/", (0, 1), Fault::CorruptAnswer);
        let error = repository.manifest(reference).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::DigestMismatch { .. }),
            "{error:?}"
        );
    }
    let other = digest_of(b"other");
    registry.fault(
        "PUT",
        "/manifests/",
        (0, 1),
        Fault::SetHeader("docker-content-digest", other),
    );
    let error = repository
        .put_manifest("t", "application/x", &bytes)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("instead of"), "{error}");
    let huge = "x".repeat(5 * 1024 * 1024);
    let huge: &'static str = huge.leak();
    registry.fault(
        "GET",
        "/manifests/",
        (0, 1),
        Fault::Status(200, vec![], huge),
    );
    let error = repository.manifest("t").await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
    registry.fault("PUT", "/manifests/", (0, 1), Fault::ResetAfterBody);
    registry.fault("PUT", "/manifests/", (0, 1), busy(503));
    repository
        .put_manifest("t", "application/x", &bytes)
        .await
        .unwrap();
    registry.fault("GET", "/manifests/", (0, 1), Fault::CutAnswer(5));
    assert_eq!(
        repository.manifest("t").await.unwrap().unwrap().bytes,
        bytes
    );
}

#[tokio::test]
async fn head_refused_or_useless_means_get() {
    for fault in [
        busy(405),
        busy(501),
        Fault::DropHeader("docker-content-digest"),
    ] {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let bytes = data(500);
        registry.put_blob(REPO, &bytes);
        let digest = repository
            .put_manifest("t", "application/x", &bytes)
            .await
            .unwrap();
        registry.fault("HEAD", "", (0, 99), fault.clone());
        let descriptor = repository.manifest_descriptor("t").await.unwrap().unwrap();
        assert_eq!(
            (descriptor.digest, descriptor.size),
            (digest, 500),
            "{fault:?}"
        );
        assert_eq!(repository.manifest_descriptor("u").await.unwrap(), None);
        assert_eq!(
            repository.blob_size(&super::digest(&bytes)).await.unwrap(),
            Some(500)
        );
        assert_eq!(
            repository.blob_size(&super::digest(b"no")).await.unwrap(),
            None
        );
    }
}

#[tokio::test]
async fn a_slow_registry_is_waited_for() {
    let registry = ScriptedRegistry::start().await;
    let bytes = data(100_000);
    registry.put_blob(REPO, &bytes);
    // Two seconds in all, never more than the idle limit at once.
    registry.fault(
        "GET",
        "/blobs/",
        (0, 1),
        Fault::Slow(Duration::from_millis(200)),
    );
    let repository = pushable(&registry);
    let download = repository.download(&digest(&bytes), None).await.unwrap();
    assert!(within(read(download)).await.unwrap() == bytes);
    assert_eq!(registry.count("GET", ""), 1);
}
