//! Uploads whose requests fail.

use super::*;

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
async fn what_does_not_pass_is_given_up_in_the_words_of_the_registry() {
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
