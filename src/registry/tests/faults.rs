//! Everything that goes wrong between a client and a registry: it ends in success or in a clear
//! error, and never in a hang.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

async fn upload(
    repository: &Repository,
    source: &BlobSource,
    bytes: &Bytes,
) -> Result<Uploaded, RegistryError> {
    let options = UploadOptions::default();
    within(repository.upload(&digest(bytes), bytes.len() as u64, source, &options)).await
}

async fn stream(repository: &Repository, source: &BlobSource) -> Result<Uploaded, RegistryError> {
    within(repository.upload_stream(source, &UploadOptions::default())).await
}

fn again(bytes: &Bytes) -> BlobSource {
    BlobSource::Bytes(bytes.clone())
}

/// Pieces of 64 KiB through a spool.
fn spooled(bytes: &Bytes, dir: &tempfile::TempDir) -> BlobSource {
    let pieces: Vec<_> = bytes
        .chunks(64 * 1024)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    BlobSource::spooled(futures_util::stream::iter(pieces), dir.path(), u64::MAX).unwrap()
}

fn busy(status: u16) -> Fault {
    Fault::Status(status, vec![], "")
}

/// Faults after which the same bytes must arrive all the same.
fn passing() -> Vec<(&'static str, &'static str, usize, Fault)> {
    vec![
        ("POST", "/uploads/", 3, busy(500)),
        ("POST", "/uploads/", 3, busy(503)),
        ("POST", "/uploads/", 1, busy(408)),
        ("POST", "/uploads/", 1, Fault::ResetBeforeBody),
        ("POST", "/uploads/", 1, Fault::ResetAfterBody),
        ("POST", "/uploads/", 1, Fault::StallBeforeAnswer),
        ("PUT", "/uploads/", 3, busy(502)),
        ("PUT", "/uploads/", 2, busy(404)),
        ("PUT", "/uploads/", 1, Fault::EarlyStatus(503)),
        ("PUT", "/uploads/", 1, Fault::ResetBeforeBody),
        ("PUT", "/uploads/", 1, Fault::ResetAfterBody),
        ("PUT", "/uploads/", 1, Fault::StallBeforeAnswer),
    ]
}

#[tokio::test]
async fn known_and_unknown_blobs_survive_what_passes() {
    let bytes = data(600_000);
    let mut faults = passing();
    for part in ["PUT", "PATCH"] {
        faults.push((part, "/uploads/", 1, Fault::ResetInBody(100_000)));
        faults.push((part, "/uploads/", 1, Fault::StallInBody(100_000)));
    }
    faults.push(("PATCH", "/uploads/", 2, busy(500)));
    faults.push(("PATCH", "/uploads/", 1, Fault::ResetAfterBody));
    faults.push(("PATCH", "/uploads/", 1, Fault::StallBeforeAnswer));
    for (method, part, times, fault) in faults {
        for known in [true, false] {
            let in_body = matches!(fault, Fault::ResetInBody(_) | Fault::StallInBody(_));
            if in_body && known != (method == "PUT") {
                // That request has no body.
                continue;
            }
            let registry = ScriptedRegistry::start().await;
            registry.fault(method, part, (0, times), fault.clone());
            let repository = pushable(&registry);
            let dir = tempfile::tempdir().unwrap();
            let result = if known {
                upload(&repository, &again(&bytes), &bytes).await
            } else {
                stream(&repository, &spooled(&bytes, &dir)).await
            };
            let case = format!("{method} {fault:?} known={known}");
            let uploaded = result.unwrap_or_else(|e| panic!("{case}: {}", crate::error::chain(&e)));
            let stored = registry.blob(REPO, uploaded.digest.as_str()).unwrap();
            assert!(stored == bytes, "{case}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_last_byte_costs_no_second_upload() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("PUT", "/uploads/", (0, 1), Fault::ResetAfterBody);
    let repository = pushable(&registry);
    let bytes = data(100_000);
    // Even from a source that can be read only once.
    upload(&repository, &once(&bytes), &bytes).await.unwrap();
    assert_eq!(registry.count("PUT", "/uploads/"), 1);
}

#[tokio::test]
async fn a_source_that_is_spent_is_reported_with_its_cause() {
    let bytes = data(500_000);
    for known in [true, false] {
        let registry = ScriptedRegistry::start().await;
        let method = if known { "PUT" } else { "PATCH" };
        registry.fault(method, "/uploads/", (0, 1), Fault::ResetInBody(1000));
        let repository = pushable(&registry);
        let result = if known {
            upload(&repository, &once(&bytes), &bytes).await
        } else {
            stream(&repository, &once(&bytes)).await
        };
        let error = result.unwrap_err();
        assert!(error.needs_source(), "{error:?}");
        assert!(
            matches!(error.last(), RegistryError::Broken { .. }),
            "{error:?}"
        );
        repository.client().close().await;
        assert_eq!(registry.open_uploads(), 0, "the session was cancelled");
    }
}

#[tokio::test]
async fn retry_after_is_kept_and_slows_the_client_down() {
    let registry = ScriptedRegistry::start().await;
    let after = vec![("retry-after", "3".to_owned())];
    registry.fault("POST", "/uploads/", (0, 2), Fault::Status(429, after, ""));
    let (client, clock) = client_with(&registry, Credential::Anonymous);
    let repository = client.repository(REPO, Access::Push).unwrap();
    let bytes = data(100);
    upload(&repository, &again(&bytes), &bytes).await.unwrap();
    let waits = clock.sleeps();
    assert!(
        waits.len() >= 2 && waits.iter().take(2).all(|w| *w >= Duration::from_secs(3)),
        "{waits:?}"
    );
}

#[tokio::test]
async fn what_does_not_pass_is_given_up_with_the_registrys_words() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("POST", "/uploads/", (0, 99), busy(503));
    let repository = pushable(&registry);
    let bytes = data(100);
    let error = upload(&repository, &again(&bytes), &bytes)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::GaveUp { attempts: 8, .. }),
        "{error}"
    );
    assert_eq!(registry.count("POST", ""), 8);

    let registry = ScriptedRegistry::start().await;
    let body = r#"{"errors":[{"code":"DENIED","message":"quota is used up"}]}"#;
    registry.fault(
        "PUT",
        "/uploads/",
        (0, 99),
        Fault::Status(403, vec![], body),
    );
    let repository = pushable(&registry);
    let error = upload(&repository, &again(&bytes), &bytes)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("403 Forbidden: DENIED: quota is used up"),
        "{error}"
    );
    assert!(!error.to_string().contains("secret-state"), "{error}");
    repository.client().close().await;
    assert_eq!(registry.count("DELETE", "/uploads/"), 1);
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_cancelled() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("PUT", "/uploads/", (0, 1), Fault::StallInBody(10));
    let repository = pushable(&registry);
    let bytes = data(5_000_000);
    let source = again(&bytes);
    let (digest, options) = (digest(&bytes), UploadOptions::default());
    let upload = repository.upload(&digest, 5_000_000, &source, &options);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), upload)
            .await
            .is_err()
    );
    within(repository.client().close()).await;
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn patch_refused_means_post_and_put() {
    for fault in [
        busy(404),
        busy(405),
        busy(400),
        busy(501),
        busy(201),
        Fault::Forget(10),
    ] {
        let registry = ScriptedRegistry::start().await;
        registry.fault("PATCH", "/uploads/", (0, 9), fault.clone());
        let repository = pushable(&registry);
        let (bytes, dir) = (data(300_000), tempfile::tempdir().unwrap());
        assert!(repository.client().takes_streams());
        let uploaded = stream(&repository, &spooled(&bytes, &dir)).await.unwrap();
        assert!(
            registry.blob(REPO, uploaded.digest.as_str()).unwrap() == bytes,
            "{fault:?}"
        );
        assert!(!repository.client().takes_streams(), "{fault:?}");
        // It is remembered: the next blob tries no PATCH.
        let next = data(200_000);
        stream(&repository, &again(&next)).await.unwrap();
        assert_eq!(registry.count("PATCH", ""), 1, "{fault:?}");
        let error = stream(&repository, &once(&bytes)).await.unwrap_err();
        assert!(error.needs_source());
        repository.client().close().await;
        assert_eq!(registry.open_uploads(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_registry_that_lost_its_sessions_gets_the_blob_anew() {
    let registry = ScriptedRegistry::start().await;
    // The commit of a streamed upload fails once, and then the sessions are gone.
    registry.fault("PUT", "/uploads/", (0, 1), busy(500));
    registry.fault("PUT", "/uploads/", (0, 1), busy(404));
    let repository = pushable(&registry);
    let (bytes, dir) = (data(100_000), tempfile::tempdir().unwrap());
    let source = spooled(&bytes, &dir);
    stream(&repository, &source).await.unwrap();
    assert_eq!(registry.count("PATCH", ""), 2);
}

#[tokio::test]
async fn a_commit_that_fails_for_a_while_does_not_send_the_bytes_again() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("PUT", "/uploads/", (0, 2), busy(503));
    let repository = pushable(&registry);
    let bytes = data(100_000);
    stream(&repository, &once(&bytes)).await.unwrap();
    assert_eq!(registry.count("PATCH", ""), 1);
}

#[tokio::test]
async fn locations_in_every_form() {
    let registry = ScriptedRegistry::start().await;
    let storage = ScriptedRegistry::start().await;
    let bytes = data(10_000);
    let forms = [
        format!(
            "http://{}/v2/{REPO}/blobs/uploads/session1?x=1&_state=s",
            registry.host()
        ),
        format!("/v2/{REPO}/blobs/uploads/session1"),
        "session1?_state=s".to_owned(),
        format!("//{}/v2/{REPO}/blobs/uploads/session1", registry.host()),
    ];
    for form in forms {
        let registry = ScriptedRegistry::start().await;
        let form = form.replace(&host_of(&form), &registry.host());
        registry.fault(
            "POST",
            "/uploads/",
            (0, 1),
            Fault::SetHeader("location", form.clone()),
        );
        upload(&pushable(&registry), &once(&bytes), &bytes)
            .await
            .unwrap_or_else(|e| panic!("{form}: {e}"));
    }
    // On another host, as registries with their own storage server do it.
    let to = format!("http://{}/elsewhere/{REPO}/-/session9", storage.host());
    registry.fault(
        "POST",
        "/uploads/",
        (0, 9),
        Fault::SetHeader("location", to),
    );
    storage.fault("PUT", "/elsewhere/", (0, 1), Fault::Status(201, vec![], ""));
    upload(&pushable(&registry), &again(&bytes), &bytes)
        .await
        .unwrap();
    assert_eq!(
        storage
            .seen()
            .iter()
            .filter(|s| s.path.starts_with("/elsewhere/") && s.body == 10_000)
            .count(),
        1
    );
}

fn host_of(form: &str) -> String {
    form.split('/')
        .find(|p| p.starts_with("127."))
        .unwrap_or("no host")
        .to_owned()
}

#[tokio::test]
async fn no_location_is_a_clear_error() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("POST", "/uploads/", (0, 9), Fault::DropHeader("location"));
    let bytes = data(10);
    let error = upload(&pushable(&registry), &again(&bytes), &bytes)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("without a location"), "{error}");
    assert_eq!(registry.seen().len(), 1);
    // After PATCH the old location holds.
    let registry = ScriptedRegistry::start().await;
    registry.fault("PATCH", "/uploads/", (0, 9), Fault::DropHeader("location"));
    stream(&pushable(&registry), &once(&data(1000)))
        .await
        .unwrap();
}

#[tokio::test]
async fn data_that_is_not_as_promised_never_becomes_a_blob() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let bytes = data(300_000);
    let options = UploadOptions::default();
    for (promised, size) in [
        (digest(b"other"), 300_000),
        (digest(&bytes), 299_999),
        (digest(&bytes), 300_001),
        (digest(&bytes[..299_999]), 300_000),
    ] {
        for source in [again(&bytes), once(&bytes)] {
            let result = within(repository.upload(&promised, size, &source, &options)).await;
            let error = result.unwrap_err();
            let clear = matches!(
                error,
                RegistryError::DigestMismatch { .. } | RegistryError::SizeMismatch { .. }
            );
            assert!(clear, "{size}: {error:?}");
            assert_eq!(registry.blob(REPO, promised.as_str()), None);
        }
    }
    repository.client().close().await;
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn a_source_that_fails_is_named_and_not_tried_again() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let pieces = || {
        BlobSource::once(futures_util::stream::iter([
            Ok(data(100_000)),
            Err(std::io::Error::other("disk is on fire")),
        ]))
    };
    let options = UploadOptions::default();
    let known = within(repository.upload(&digest(b"x"), 500_000, &pieces(), &options)).await;
    for error in [
        known.unwrap_err(),
        stream(&repository, &pieces()).await.unwrap_err(),
    ] {
        assert!(
            crate::error::chain(&error).contains("disk is on fire"),
            "{error:?}"
        );
        assert!(matches!(error, RegistryError::Source(_)), "{error:?}");
    }
    assert_eq!(registry.count("POST", ""), 2);
}

#[tokio::test]
async fn a_registry_that_does_not_read_fills_no_memory() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("PUT", "/uploads/", (0, 1), Fault::StallInBody(10));
    let repository = pushable(&registry);
    let piece = data(1 << 20);
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    let stream = futures_util::stream::iter((0..200).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(piece.clone())
    }));
    let options = UploadOptions::default();
    let source = BlobSource::once(stream);
    let error = within(repository.upload(&digest(b"x"), 200 << 20, &source, &options)).await;
    assert!(matches!(
        error.unwrap_err().last(),
        RegistryError::Idle { .. }
    ));
    // What the sockets of both sides hold, and little more.
    let megabytes = pulled.load(Ordering::Relaxed);
    assert!((1..24).contains(&megabytes), "{megabytes} MiB were read");
}

#[tokio::test]
async fn a_slow_source_is_not_idle() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let bytes = data(30);
    let pieces = bytes
        .chunks(10)
        .map(Bytes::copy_from_slice)
        .collect::<Vec<_>>();
    let slow = futures_util::stream::unfold(pieces.into_iter(), |mut rest| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok(rest.next()?), rest))
    });
    upload(&repository, &BlobSource::once(slow), &bytes)
        .await
        .unwrap();
}

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

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let registry = ScriptedRegistry::start().await;
    let to = format!("/v2/{REPO}/manifests/t");
    registry.fault(
        "GET",
        "/manifests/",
        (0, 99),
        Fault::Status(302, vec![("location", to)], ""),
    );
    let error = within(pushable(&registry).manifest("t")).await.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert_eq!(registry.seen().len(), 6);
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_a_clear_error() {
    let registry = ScriptedRegistry::start().await;
    let (client, clock) = client_with(&registry, Credential::Anonymous);
    drop(registry);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let repository = client.repository(REPO, Access::Pull).unwrap();
    let error = within(repository.manifest("t")).await.unwrap_err();
    assert!(
        matches!(error.last(), RegistryError::Connect { .. }),
        "{error:?}"
    );
    assert!(crate::error::chain(&error).contains("refused"), "{error}");
    assert_eq!(clock.sleeps().len(), 7);
}

#[tokio::test]
async fn a_registry_that_is_started_again_gets_the_blob() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("PUT", "/uploads/", (0, 1), Fault::StallInBody(1000));
    let mut host = HostConfig::new(registry.host());
    host.transport = Transport::Http;
    let address = registry.host();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let client =
        RegistryClient::new(host, Arc::new(Anonymous), RetryPolicy::default(), clock).unwrap();
    let repository = client.repository(REPO, Access::Push).unwrap();
    let bytes = data(400_000);
    let source = again(&bytes);
    let restart = async {
        while registry.count("PUT", "") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(registry);
        // Long enough for an attempt that finds nobody.
        tokio::time::sleep(Duration::from_millis(500)).await;
        ScriptedRegistry::start_at(&address).await
    };
    let (result, registry) = tokio::join!(upload(&repository, &source, &bytes), restart);
    let uploaded = result.unwrap();
    assert!(registry.blob(REPO, uploaded.digest.as_str()).unwrap() == bytes);
}

#[tokio::test]
async fn permits_come_back_and_overload_halves_them() {
    let registry = ScriptedRegistry::start().await;
    let bytes = data(400_000);
    registry.put_blob(REPO, &bytes);
    let mut host = HostConfig::new(registry.host());
    host.transport = Transport::Http;
    host.concurrency = Concurrency {
        start: 1,
        min: 1,
        max: 1,
    };
    let clock: Arc<dyn Clock> = TestClock::new();
    let client =
        RegistryClient::new(host, Arc::new(Anonymous), RetryPolicy::default(), clock).unwrap();
    let repository = client.repository(REPO, Access::Push).unwrap();
    let digest = digest(&bytes);
    let first = repository.download(&digest, None).await.unwrap();
    // The only permit for downloads is with the body of the first one.
    let second = repository.download(&digest, None);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), second)
            .await
            .is_err()
    );
    // A copy inside the host does not wait for itself.
    let other = client.repository("team/copy", Access::Push).unwrap();
    let source = BlobSource::once(futures_util::StreamExt::map(first.into_stream(), |piece| {
        piece.map_err(std::io::Error::other)
    }));
    upload(&other, &source, &bytes).await.unwrap();
    within(read(repository.download(&digest, None).await.unwrap()))
        .await
        .unwrap();
}
