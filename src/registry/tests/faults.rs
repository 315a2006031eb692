//! Everything that goes wrong between a client and a registry: it ends in success or in a clear
//! error, and never in a hang.

mod downloads;
mod locations;
mod small;
mod sources;
mod uploads;

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
    BlobSource::spooled(
        futures_util::stream::iter(pieces),
        &dir.path().into(),
        u64::MAX,
    )
}

fn busy(status: u16) -> Fault {
    Fault::Status(status, vec![], "")
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
    assert_eq!(clock.sleeps().len(), 3);
    // It was never there: who asks next does not wait for it again.
    let error = within(repository.manifest("t")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Connect { .. }), "{error:?}");
    assert_eq!(clock.sleeps().len(), 3);
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
        RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::default(), clock).unwrap();
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
        RegistryClient::new(host, Tokens::anonymous(), RetryPolicy::default(), clock).unwrap();
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
    let source = once_from(futures_util::StreamExt::map(first.into_stream(), |piece| {
        piece.map_err(std::io::Error::other)
    }));
    upload(&other, &source, &bytes).await.unwrap();
    drop(source);
    within(read(repository.download(&digest, None).await.unwrap()))
        .await
        .unwrap();
}
