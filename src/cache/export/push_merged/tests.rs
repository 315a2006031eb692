use std::time::Duration;

use super::*;
use crate::cache::config::{CacheLayer, CacheRecord, CacheResult, Parent};
use crate::cache::descriptor::Descriptor;
use crate::cache::export::Others;
use crate::cache::extras::Extras;
use crate::cache::extras::clean::Cleaning;
use crate::cache::media::{DOCKER_LIST, Form, OCI_MANIFEST};
use crate::cache::remote_cache::RemoteCache;
use crate::cache::unknown::Unknown;
use crate::registry::tests::{Fault, ScriptedRegistry, pushable};

const REPO: &str = "team/app";
const TAG: &str = "cache";

/// A cache of one step of its own on one that all have.
fn cache(name: &str) -> Contents {
    let layer = |blob: &str, parent| CacheLayer {
        blob: Digest::of(blob.as_bytes()),
        parent: Parent(parent),
        annotations: None,
        other: Unknown::default(),
    };
    let record = |name: &str, layer| CacheRecord {
        results: vec![CacheResult {
            layer,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            last_used: String::new(),
            other: Unknown::default(),
        }],
        digest: name.to_owned(),
        ..CacheRecord::default()
    };
    let config = CacheConfig {
        layers: vec![layer("base", None), layer(name, Some(0))],
        records: vec![record("base", 0), record(name, 1)],
        ..CacheConfig::default()
    };
    let blob = |layer: &CacheLayer| {
        Descriptor::new(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            layer.blob.clone(),
            4,
        )
    };
    let manifest = CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: None,
        layers: config.layers.iter().map(blob).collect(),
        other: Unknown::default(),
    };
    Contents::new(&manifest, &config).unwrap()
}

fn stored(contents: &Contents) -> HashSet<Digest> {
    contents.blobs().map(|blob| blob.digest.clone()).collect()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

async fn publish_all(repository: &Repository, contents: &Contents) -> Result<Merged, PublishError> {
    let place = Place {
        beside: Beside::default(),
        repository,
        reference: TAG,
        bounds: &Bounds::default(),
        now: now(),
    };
    publish(place, contents, &stored(contents)).await
}

async fn held(repository: &Repository) -> Contents {
    let raw = repository.manifest(TAG).await.unwrap().unwrap();
    read_contents(repository, &raw).await.unwrap().unwrap()
}

fn put_blobs(registry: &ScriptedRegistry, names: &[&str]) {
    for name in ["base"].iter().chain(names) {
        registry.put_blob(REPO, name.as_bytes());
    }
}

async fn put(repository: &Repository, contents: &Contents) {
    let parts = contents.to_parts().unwrap();
    let source = BlobSource::Bytes(parts.config.clone());
    let size = parts.config.len() as u64;
    let options = UploadOptions::default();
    repository
        .upload(&parts.config_digest, size, &source, &options)
        .await
        .unwrap();
    repository
        .put_manifest(TAG, parts.media_type, &parts.manifest)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_there_stays_and_what_is_the_same_is_not_written() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["a", "b"]);
    let first = publish_all(&repository, &cache("a")).await.unwrap();
    assert_eq!(
        (first.results, first.others, first.unchanged),
        (2, 0, false)
    );
    let second = publish_all(&repository, &cache("b")).await.unwrap();
    assert_eq!((second.results, second.others, second.layers), (3, 1, 3));
    let mut both = cache("a");
    both.merge(&cache("b"));
    assert_eq!(held(&repository).await, both);

    let before = registry.seen().len();
    let again = publish_all(&repository, &cache("a")).await.unwrap();
    assert!(again.unchanged);
    assert_eq!(again.manifest, second.manifest);
    assert_eq!(registry.seen().len() - before, 2, "manifest and config");
    // The manifest is there by digest too.
    let staged = repository.manifest(second.manifest.as_str()).await.unwrap();
    assert!(staged.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_the_same_time_keep_all() {
    for round in 0..5 {
        let registry = ScriptedRegistry::start().await;
        let names: Vec<String> = (0..8).map(|writer| format!("{round} {writer}")).collect();
        let mut all = cache(&names[0]);
        let mut writers = Vec::new();
        for name in &names {
            put_blobs(&registry, &[name]);
            let contents = cache(name);
            all.merge(&contents);
            let repository = pushable(&registry);
            writers.push(tokio::spawn(async move {
                publish_all(&repository, &contents).await
            }));
        }
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        assert_eq!(held(&pushable(&registry)).await, all, "round {round}");
    }
}

/// Another writer had read before and writes after; it does not know of this cache.
#[tokio::test]
async fn what_was_overwritten_is_written_again() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["a", "b"]);
    // The look after the write hangs until the client asks again.
    let path = format!("manifests/{TAG}");
    registry.fault("HEAD", &path, (1, 1), Fault::StallBeforeAnswer);
    let other = {
        let repository = pushable(&registry);
        let overwrite = async move { put(&repository, &cache("b")).await };
        async {
            while registry.count("HEAD", &path) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            overwrite.await;
        }
    };
    let ours = cache("a");
    let (published, ()) = tokio::join!(publish_all(&repository, &ours), other);
    assert_eq!(published.unwrap().results, 3);
    let mut both = cache("a");
    both.merge(&cache("b"));
    assert_eq!(held(&repository).await, both);
}

#[tokio::test]
async fn lost_blobs_are_not_referred_to() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["a"]);
    put(&repository, &cache("gone")).await;
    let published = publish_all(&repository, &cache("a")).await.unwrap();
    assert_eq!((published.results, published.lost), (2, 1));
    assert!(
        published.to_string().contains("left out 1 result "),
        "{published}"
    );
    assert_eq!(held(&repository).await, cache("a"));

    let bounds = Bounds::default();
    let place = Place {
        beside: Beside::default(),
        repository: &repository,
        reference: TAG,
        bounds: &bounds,
        now: now(),
    };
    let before = registry.count("PUT", "");
    let lost = publish(place, &cache("never sent"), &HashSet::new()).await;
    let Err(PublishError::Lost(lost)) = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(lost, [Digest::of(b"never sent")]);
    assert_eq!(registry.count("PUT", ""), before);
}

#[tokio::test]
async fn what_is_no_cache_is_replaced_and_told() {
    let image = r#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}}"#;
    let gone = cache("gone").to_parts().unwrap().manifest;
    for (bytes, told) in [
        (Bytes::from(image), "image"),
        (Bytes::from_static(b"{"), "JSON"),
        (gone, "404"),
    ] {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        put_blobs(&registry, &["a"]);
        repository
            .put_manifest(TAG, OCI_MANIFEST, &bytes)
            .await
            .unwrap();
        let published = publish_all(&repository, &cache("a")).await.unwrap();
        let text = published.to_string();
        assert!(text.contains("replaced") && text.contains(told), "{text}");
        assert_eq!(held(&repository).await, cache("a"));
    }
}

#[tokio::test]
async fn the_new_form_wins() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["a"]);
    publish_all(&repository, &cache("a")).await.unwrap();
    let mut listed = cache("a");
    listed.set_form(Form::DockerList);
    let published = publish_all(&repository, &listed).await.unwrap();
    assert!(!published.unchanged);
    let raw = repository.manifest(TAG).await.unwrap().unwrap();
    assert_eq!(raw.media_type, DOCKER_LIST);
}

#[tokio::test]
async fn an_unreachable_registry_is_an_error_and_loses_nothing() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["a", "b"]);
    publish_all(&repository, &cache("b")).await.unwrap();
    let refused = Fault::Status(403, Vec::new(), "no");
    registry.fault("GET", "blobs/", (0, 99), refused);
    let published = publish_all(&repository, &cache("a")).await;
    assert!(
        matches!(published, Err(PublishError::Registry(_))),
        "{published:?}"
    );
}

#[tokio::test]
async fn what_a_cleaned_tag_held_is_noted_by_every_writer() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["base", "a", "b", "c"]);
    let notes = async || held(&repository).await.extras().notes().clone();
    let digest = async || {
        let held = repository.manifest_descriptor(TAG).await.unwrap();
        held.unwrap().digest
    };
    let known = RemoteCache::ask_later(repository.clone(), TAG.to_owned(), None);
    let hour = Duration::from_secs(3600);
    let cleaning = Cleaning::start(repository.clone(), TAG.to_owned(), hour, known);
    let cleaned = async |contents: &Contents| {
        let place = Place {
            beside: Beside {
                cleaning: Some(&cleaning),
                ..Beside::default()
            },
            repository: &repository,
            reference: TAG,
            bounds: &Bounds::default(),
            now: now(),
        };
        publish(place, contents, &stored(contents)).await.unwrap()
    };

    // A cache that says of no tag that it is its own is not noted: it is never deleted.
    publish_all(&repository, &cache("a")).await.unwrap();
    assert!(notes().await.is_empty());
    cleaned(&cache("b")).await;
    let (first, of_first) = (digest().await, notes().await);
    assert!(of_first.tag.as_deref() == Some(TAG) && of_first.replaced().is_empty());
    assert!(cleaned(&cache("b")).await.unchanged);
    assert_eq!(digest().await, first);

    // Who does not clean notes it, too.
    let bounds = Bounds::default();
    publish_all(&repository, &cache("c")).await.unwrap();
    let second = digest().await;
    assert_eq!(notes().await.replaced()[0].digest, first);
    let place = Place {
        beside: Beside::default(),
        repository: &repository,
        reference: TAG,
        bounds: &bounds,
        now: now(),
    };
    replace(place, &cache("a")).await.unwrap();
    let last = notes().await;
    let replaced: Vec<_> = last.replaced().iter().map(|old| &old.digest).collect();
    assert_eq!(replaced, [&first, &second]);
}

#[tokio::test]
async fn other_caches_are_taken_in_while_they_are_there_and_fit() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["base", "a", "b"]);
    let main = Digest::of(b"the manifest of b");
    let others = Others::of(cache("b"), main.clone());
    let publish_beside = async |others: &Others, bounds: Bounds| {
        let place = Place {
            beside: Beside {
                others: Some(others),
                ..Beside::default()
            },
            repository: &repository,
            reference: TAG,
            bounds: &bounds,
            now: now(),
        };
        let ours = cache("a");
        publish(place, &ours, &stored(&ours)).await.unwrap()
    };
    let holds = async || held(&repository).await.extras().notes().holds.clone();
    let published = Box::pin(publish_beside(&others, Bounds::default())).await;
    assert_eq!(published.results, 3);
    assert_eq!(holds().await, std::slice::from_ref(&main));
    assert!(
        Box::pin(publish_beside(&others, Bounds::default()))
            .await
            .unchanged
    );

    // Another manifest of it is noted, too.
    let newer = Digest::of(b"another manifest of b");
    let same = Others::of(cache("b"), newer.clone());
    let published = Box::pin(publish_beside(&same, Bounds::default())).await;
    assert!(!published.unchanged);
    assert_eq!(holds().await, [newer]);

    // Where a bound leaves no room for all of it the cache stays as it is, and says that it has it not.
    let bounds = Bounds {
        max_records: Some(2),
        ..Bounds::default()
    };
    Box::pin(publish_beside(&others, bounds)).await;
    assert!(holds().await.is_empty());

    // What the registry has lost is left out.
    let lost = Others::of(cache("never sent"), main);
    let published = Box::pin(publish_beside(&lost, Bounds::default())).await;
    assert!(published.dropped.is_none());
    assert!(
        held(&repository)
            .await
            .blobs()
            .all(|blob| blob.digest != Digest::of(b"never sent"))
    );
}

#[tokio::test]
async fn what_is_taken_in_again_was_not_dropped() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put_blobs(&registry, &["base", "a", "b"]);
    let day = Duration::from_secs(24 * 3600);
    let publish_after = async |days: u32| {
        let others = Others::of(cache("b"), Digest::of(&days.to_be_bytes()));
        let bounds = Bounds {
            max_age: Some(day),
            ..Bounds::default()
        };
        let place = Place {
            beside: Beside {
                others: Some(&others),
                ..Beside::default()
            },
            repository: &repository,
            reference: TAG,
            bounds: &bounds,
            now: now() + day * days,
        };
        let ours = cache("a");
        publish(place, &ours, &stored(&ours)).await.unwrap()
    };
    for days in [0, 10] {
        let published = Box::pin(publish_after(days)).await;
        assert_eq!((published.results, published.dropped), (3, None));
    }
}
