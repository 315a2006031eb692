//! Data to upload that is wrong, slow or cannot be read.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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
        once_from(futures_util::stream::iter([
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
    let source = once_from(stream);
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
    upload(&repository, &once_from(slow), &bytes).await.unwrap();
}
