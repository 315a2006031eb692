//! An export to a registry that does wrong what it is told to. Each ends with a correct cache, or with an error
//! and the old cache intact; none hangs. BuildKit's part is played by [`Exporter`].

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use docker_cachex::for_tests::buildkit::session::content::{NewBlob, Write};
use docker_cachex::for_tests::cache::descriptor::Descriptor;
use docker_cachex::for_tests::cache::export::Storage;
use docker_cachex::for_tests::digest::Digest;
use docker_cachex::for_tests::registry::SpoolDir;

use crate::support::exporter::{
    Exporter, export, manifest, readable, registry_with_cache, repository, sink, storages,
};
use crate::support::noise::noise;
use crate::support::scripted_registry::{Fault, Login, ScriptedRegistry, TokenServer};

const ALWAYS: (usize, usize) = (0, usize::MAX);

fn three_layers() -> Vec<Bytes> {
    vec![noise(1, 200_000), noise(2, 100), noise(3, 700_000)]
}

fn status(status: u16) -> Fault {
    Fault::Status(status, vec![], "")
}

fn spool() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Method, part of the path, which requests, what goes wrong.
type Rule = (&'static str, &'static str, (usize, usize), Fault);

/// Faults that pass.
fn passing() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (method, part) in [
        ("GET", "/manifests/"),
        ("HEAD", "/blobs/"),
        ("POST", "/uploads/"),
        ("PATCH", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        rules.push((method, part, (0, 3), status(500)));
        rules.push((method, part, (0, 3), status(503)));
        rules.push((method, part, (0, 1), Fault::ResetBeforeBody));
        rules.push((method, part, (0, 1), Fault::ResetAfterBody));
        rules.push((method, part, (0, 1), Fault::StallBeforeAnswer));
        let wait = vec![("retry-after", "1".to_owned())];
        rules.push((method, part, (0, 1), Fault::Status(429, wait, "")));
    }
    for method in ["PATCH", "PUT"] {
        rules.push((method, "/uploads/", (0, 1), Fault::ResetInBody(90)));
        rules.push((method, "/uploads/", (0, 1), Fault::StallInBody(90)));
        rules.push((method, "/uploads/", (0, 1), Fault::EarlyStatus(503)));
        rules.push((method, "/uploads/", (0, 2), status(404)));
    }
    rules.push(("PATCH", "/uploads/", ALWAYS, status(404)));
    rules.push(("PATCH", "/uploads/", ALWAYS, status(405)));
    rules.push(("PATCH", "/uploads/", ALWAYS, Fault::Forget(0)));
    rules.push(("HEAD", "/blobs/", ALWAYS, status(405)));
    rules
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_ends_in_a_correct_cache() {
    let layers = three_layers();
    for storage in storages() {
        let cases = passing().into_iter().map(|(method, part, times, fault)| {
            let layers = layers.clone();
            async move {
                let spool = spool();
                let (registry, old) = registry_with_cache(storage, &layers, spool.path()).await;
                let what = format!("{method} {part} {times:?} {fault:?} {storage:?}");
                registry.fault(method, part, times, fault);
                let repository = repository(&registry.host(), 8);
                let sink = sink(&repository, storage, spool.path());
                let exported = export(&Exporter::of(&layers), &sink).await;
                let exported = exported.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(!exported.published.unchanged, "{what}");
                assert_eq!(exported.published.layers, 3, "{what}");
                let new = readable(&registry, &repository).await;
                assert_ne!(new, old, "{what}");
                assert_eq!(new, exported.published.manifest, "{what}");
                assert_eq!(fs_err::read_dir(spool.path()).expect("a folder").count(), 0);
            }
        });
        futures_util::future::join_all(cases).await;
    }
}

/// Faults that stay.
fn lasting() -> Vec<Rule> {
    let wrong = Digest::of(b"wrong").to_string();
    vec![
        ("POST", "/uploads/", ALWAYS, status(500)),
        ("POST", "/uploads/", ALWAYS, status(403)),
        ("POST", "/uploads/", ALWAYS, Fault::StallBeforeAnswer),
        ("PUT", "/uploads/", ALWAYS, status(400)),
        ("PUT", "/uploads/", ALWAYS, Fault::ResetBeforeBody),
        (
            "PUT",
            "/uploads/",
            ALWAYS,
            Fault::SetHeader("docker-content-digest", wrong.clone()),
        ),
        ("HEAD", "/blobs/", ALWAYS, status(500)),
        ("PUT", "/manifests/", ALWAYS, status(400)),
        ("PUT", "/manifests/", ALWAYS, Fault::ResetBeforeBody),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_an_error_and_the_old_cache_is_intact() {
    let layers = three_layers();
    for storage in storages() {
        let cases = lasting().into_iter().map(|(method, part, times, fault)| {
            let layers = layers.clone();
            async move {
                let spool = spool();
                let (registry, old) = registry_with_cache(storage, &layers, spool.path()).await;
                let what = format!("{method} {part} {fault:?} {storage:?}");
                registry.fault(method, part, times, fault);
                let sink = sink(&repository(&registry.host(), 3), storage, spool.path());
                let error = export(&Exporter::of(&layers), &sink).await.err();
                let error = error.unwrap_or_else(|| panic!("{what} went well"));
                assert!(
                    !error.contains("the upload of layer"),
                    "the cause is not told: {error}"
                );
                // A manifest whose answer was lost may have been stored; a HEAD has no rule here.
                let fresh = repository(&registry.host(), 3);
                assert_eq!(readable(&registry, &fresh).await, old, "{what}");
                assert_eq!(fs_err::read_dir(spool.path()).expect("a folder").count(), 0);
            }
        });
        futures_util::future::join_all(cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_may_expire_in_the_middle() {
    let layers = three_layers();
    for storage in storages() {
        let spool = spool();
        let (registry, _) = registry_with_cache(storage, &layers, spool.path()).await;
        // A token is good for two requests.
        let server = TokenServer {
            uses: Some(2),
            ..TokenServer::default()
        };
        registry.login(Login::Token(server));
        let repository = repository(&registry.host(), 8);
        let sink = sink(&repository, storage, spool.path());
        let exported = export(&Exporter::of(&layers), &sink)
            .await
            .expect("an export");
        assert_eq!(
            readable(&registry, &repository).await,
            exported.published.manifest
        );
        assert!(registry.count("GET", "/token") + registry.count("POST", "/token") > 2);
    }
}

/// Exports where the spool folder is of no use: the cache is whole, and one remark names folder and cause.
async fn exports_without_a_spool(folder: &Path, cause: &str) {
    let layers = three_layers();
    for storage in storages() {
        let fine = spool();
        let (registry, old) = registry_with_cache(storage, &layers, fine.path()).await;
        let repository = repository(&registry.host(), 3);
        let spool_dir = SpoolDir::from(folder);
        let sink = sink(&repository, storage, spool_dir.clone());
        let exported = export(&Exporter::of(&layers), &sink)
            .await
            .expect("an export without a spool");
        assert_eq!(exported.published.layers, 3, "{storage:?}");
        let new = readable(&registry, &repository).await;
        assert_ne!(new, old, "{storage:?}");
        assert_eq!(new, exported.published.manifest, "{storage:?}");
        let remark = spool_dir.remark().expect("a remark");
        assert!(
            remark.contains(cause) && remark.contains(&*folder.to_string_lossy()),
            "{remark}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_folder_that_is_gone_costs_one_remark() {
    let dir = spool();
    exports_without_a_spool(&dir.path().join("absent"), "No such file").await;
}

/// A file system of 64 KiB; only root may mount one.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let folder = spool();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _done = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_folder_costs_one_remark() {
    let Some(disk) = TinyDisk::mount() else {
        eprintln!("skipped: this user may not mount a small file system");
        return;
    };
    exports_without_a_spool(disk.0.path(), "No space left").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_what_was_announced_is_not_published() {
    let layers = three_layers();
    for storage in storages() {
        let spool = spool();
        let (registry, old) = registry_with_cache(storage, &layers, spool.path()).await;
        let repository = repository(&registry.host(), 3);
        let sink = sink(&repository, storage, spool.path());
        let exporter = Exporter {
            lies: Some(2),
            ..Exporter::of(&layers)
        };
        let error = export(&exporter, &sink).await.expect_err("a lie");
        assert!(error.contains(Digest::of(&layers[2]).as_str()), "{error}");
        assert_eq!(readable(&registry, &repository).await, old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_breaks_off_leaves_nothing() {
    let layers = three_layers();
    for storage in storages() {
        let spool = spool();
        let (registry, old) = registry_with_cache(storage, &layers, spool.path()).await;
        let repository = repository(&registry.host(), 3);
        let sink = sink(&repository, storage, spool.path());
        let digest = Digest::of(&layers[2]);
        let blob = NewBlob {
            key: format!("layer-{digest}"),
            digest,
            size: Some(700_000),
        };
        let Ok(Write::Open(mut writer)) = sink.store().write(blob).await else {
            panic!("the layer is new");
        };
        writer
            .write(layers[2].slice(..300_000))
            .await
            .expect("a write");
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(writer);
        assert_eq!(sink.failure().await, None, "it is the builder's failure");
        sink.stop().await;
        repository.client().close().await;
        assert_eq!(registry.open_uploads(), 0);
        assert_eq!(readable(&registry, &repository).await, old);
        assert_eq!(fs_err::read_dir(spool.path()).expect("a folder").count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_the_registry_lost_are_sent_again_and_only_those() {
    let layers = three_layers();
    for storage in storages() {
        let spool = spool();
        let (registry, _) = registry_with_cache(storage, &layers, spool.path()).await;
        let repository = repository(&registry.host(), 3);
        let (manifest, _) = manifest(&repository).await;
        let lost = &manifest.layers[0].digest;
        assert!(repository.delete_blob(lost).await.expect("an answer"));

        let sink = sink(&repository, storage, spool.path());
        let exported = export(&Exporter::of(&layers), &sink)
            .await
            .expect("an export");
        // The new layer in the first try, the lost one in the second.
        assert_eq!(exported.read, 2, "{storage:?}");
        assert_eq!(exported.published.sent_layers, 2, "{storage:?}");
        assert_eq!(
            readable(&registry, &repository).await,
            exported.published.manifest
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_another_cache_of_the_repository_are_sent_only_where_they_are_lost() {
    let (layers, spool) = (three_layers(), spool());
    let registry = ScriptedRegistry::start().await;
    let repository = repository(&registry.host(), 3);
    registry.put_blob("team/cache", &layers[0]);
    let sink = sink(&repository, Storage::AsGiven, spool.path());
    // The other one lists two of them, of which the registry has lost one.
    let listed = layers[..2].iter();
    sink.set_neighbours(listed.map(|bytes| Descriptor::of("application/x", bytes)));
    let exported = export(&Exporter::of(&layers), &sink)
        .await
        .expect("an export");
    assert_eq!(exported.read, 2);
    assert_eq!(exported.published.sent_layers, 2);
    let sent: usize = layers[1..].iter().map(Bytes::len).sum();
    assert_eq!(exported.published.sent_bytes, sent as u64);
    let stored = readable(&registry, &repository).await;
    assert_eq!(stored, exported.published.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_adds_nothing_sends_nothing() {
    let layers = three_layers();
    for storage in storages() {
        let spool = spool();
        let (registry, old) = registry_with_cache(storage, &layers, spool.path()).await;
        let repository = repository(&registry.host(), 3);
        let before = registry.seen().len();
        let sink = sink(&repository, storage, spool.path());
        let exported = export(&Exporter::of(&layers[..2]), &sink)
            .await
            .expect("an export");
        assert!(exported.published.unchanged);
        assert_eq!(exported.read, 0);
        assert_eq!(registry.seen().len() - before, 1);
        assert_eq!(readable(&registry, &repository).await, old);
    }
}
