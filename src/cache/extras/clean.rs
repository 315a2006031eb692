//! Manifests that a tag held before, deleted: without it every build that writes a cache leaves one behind.
//!
//! This goes on beside a build, by what the manifest notes that the tag holds when the build begins; nobody waits for it. What it
//! does not get done the next build does. `DELETE` of a digest removes every tag that has it (distribution,
//! `registry/handlers/manifests.go`), so a manifest goes only if it says itself that it was of this tag, and no tag
//! holds it now.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::notes::Notes;
use crate::cache::manifest::CacheManifest;
use crate::cache::referrers;
use crate::cache::remote_cache::KnownLater;
use crate::cache::removal::deletes_nothing;
use crate::digest::Digest;
use crate::registry::{RegistryError, Repository};

/// Manifests that one build deletes.
const AT_ONCE: usize = 16;
/// With more tags than these nothing is deleted: each must be asked for what it holds.
const TAGS: usize = 300;
/// Tags that are asked at the same time.
const ASKED: usize = 8;

/// What became of the manifests that were due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Those that are no more, or never were this tag's.
    pub gone: Vec<Digest>,
    /// Whether the registry deletes; nothing where it was not asked.
    pub deletes: Option<bool>,
}

/// The cleaning of one tag beside a build. It ends when this is dropped.
#[derive(Debug)]
pub struct Cleaning {
    swept: Arc<OnceLock<Swept>>,
    _task: AbortOnDropHandle<()>,
}

impl Cleaning {
    /// Begins, once it is `known` what the tag holds.
    pub fn start(repository: Repository, tag: String, grace: Duration, known: KnownLater) -> Self {
        let swept = Arc::<OnceLock<Swept>>::default();
        let done = Arc::clone(&swept);
        let task = tokio::spawn(async move {
            let notes = known.await.extras().notes().clone();
            let now = Timestamp::now();
            let swept = sweep(&repository, &tag, &notes, grace, now).await;
            tracing::debug!(tag, ?swept, "old manifests");
            // Nobody else sets it.
            let _set = done.set(swept);
        });
        Self {
            swept,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Returns the notes of the manifest that is to be written to a tag in place of another one: what that one notes, and
    /// itself if it is of this tag.
    pub fn notes(
        &self,
        tag: &str,
        held: &Notes,
        replaces: Option<&Digest>,
        now: Timestamp,
    ) -> Notes {
        let mut notes = next(tag, held, replaces, now);
        if let Some(swept) = self.swept.get() {
            notes.forget(&swept.gone);
            if let Some(deletes) = swept.deletes {
                notes.set_deletes(deletes, now);
            }
        }
        notes
    }
}

/// Returns the notes of a manifest that is to be written to a tag in place of one that has notes.
pub fn next(tag: &str, held: &Notes, replaces: Option<&Digest>, now: Timestamp) -> Notes {
    let is_own = held.tag.as_deref() == Some(tag);
    // What was copied here from another tag notes nothing of this one.
    let mut notes = if is_own {
        held.clone()
    } else {
        Notes::default()
    };
    notes.tag = Some(tag.to_owned());
    notes.holds.clear();
    notes.set_written(now);
    if let Some(replaces) = replaces.filter(|_| is_own) {
        notes.note(replaces, now);
    }
    notes
}

/// Deletes the manifests that a tag held before and that were replaced longer ago than `grace`. Whatever does not succeed
/// is left.
pub async fn sweep(
    repository: &Repository,
    tag: &str,
    notes: &Notes,
    grace: Duration,
    now: Timestamp,
) -> Swept {
    let mut swept = Swept::default();
    if notes.tag.as_deref() != Some(tag) || notes.is_refused(now) {
        return swept;
    }
    let due: Vec<&Digest> = notes.due(grace, now).take(AT_ONCE).collect();
    if due.is_empty() {
        return swept;
    }
    if let Err(error) = delete(repository, tag, &due, &mut swept).await {
        tracing::debug!(tag, error = %crate::error::chain(&error), "old manifests stay");
        if deletes_nothing(&error) {
            swept.deletes = Some(false);
        }
    }
    swept
}

async fn delete(
    repository: &Repository,
    tag: &str,
    due: &[&Digest],
    swept: &mut Swept,
) -> Result<(), RegistryError> {
    let mut own = Vec::new();
    for digest in due {
        if is_of(repository, tag, digest).await? {
            own.push(*digest);
        } else {
            swept.gone.push((*digest).clone());
        }
    }
    if own.is_empty() {
        return Ok(());
    }
    // Asked last, so that no tag can have got one of them long before.
    let Some(held) = held(repository, tag).await? else {
        tracing::debug!(tag, "not sure that no tag has an old manifest");
        return Ok(());
    };
    for digest in own.into_iter().filter(|digest| !held.contains(digest)) {
        let left_behind = referrers::left_behind(repository, digest).await?;
        let is_deleted = repository.delete_manifest(digest.as_str()).await?;
        // Some registries answer 404 to what they do not do.
        if !is_deleted
            && repository
                .manifest_descriptor(digest.as_str())
                .await?
                .is_some()
        {
            swept.deletes = Some(false);
            return Ok(());
        }
        swept.deletes = Some(true);
        swept.gone.push(digest.clone());
        for signature in left_behind {
            repository.delete_manifest(signature.as_str()).await?;
        }
    }
    Ok(())
}

/// Returns whether there is a manifest with this digest that says that it was of this tag.
pub async fn is_of(
    repository: &Repository,
    tag: &str,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    let Some(raw) = repository.manifest(digest.as_str()).await? else {
        return Ok(false);
    };
    let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type).ok();
    let notes = manifest.map(|manifest| manifest.extras.notes().clone());
    Ok(notes.is_some_and(|notes| notes.tag.as_deref() == Some(tag)))
}

/// Returns the digests that the tags of a repository hold; `None` if there are too many tags, or the list cannot be
/// right because the tag itself is not in it.
async fn held(
    repository: &Repository,
    own: &str,
) -> Result<Option<HashSet<Digest>>, RegistryError> {
    let tags = repository.tags(TAGS + 1).await?;
    if tags.len() > TAGS || !tags.iter().any(|tag| tag == own) {
        return Ok(None);
    }
    let asked = stream::iter(tags)
        .map(|tag| async move { repository.manifest_descriptor(&tag).await })
        .buffer_unordered(ASKED);
    let asked: Vec<_> = asked.try_collect().await?;
    Ok(Some(
        asked
            .into_iter()
            .flatten()
            .map(|held| held.digest)
            .collect(),
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::cache::media::OCI_MANIFEST;
    use crate::registry::tests::{Fault, ScriptedRegistry, pushable};

    const TAG: &str = "b-main";
    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    /// Writes a cache of a size and with these notes under a tag, and returns its digest.
    async fn write(repository: &Repository, tag: &str, size: u64, notes: &Notes) -> Digest {
        let config = json!({
            "mediaType": crate::cache::config::MEDIA_TYPE,
            "digest": Digest::of(b"{}").as_str(),
            "size": size,
        });
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []});
        let mut manifest = CacheManifest::parse(manifest.to_string().as_bytes(), "").unwrap();
        manifest.extras.set_notes(notes.clone());
        let bytes = Bytes::from(manifest.to_bytes().unwrap());
        // As registries do, under the digest, too.
        let digest = Digest::of(&bytes);
        for reference in [digest.as_str(), tag] {
            let put = repository.put_manifest(reference, OCI_MANIFEST, &bytes);
            put.await.unwrap();
        }
        digest
    }

    fn list_tags(registry: &ScriptedRegistry, tags: &'static str) {
        let answer = Fault::Status(200, Vec::new(), tags);
        registry.fault("GET", "/tags/list", (0, usize::MAX), answer);
    }

    const ONLY: &str = r#"{"name":"team/app","tags":["b-main"]}"#;

    /// Writes three caches one after the other, two hours ago, half an hour ago and now. Returns the digests, and the notes
    /// of the last.
    async fn three(repository: &Repository) -> ([Digest; 3], Notes) {
        let mut notes = next(TAG, &Notes::default(), None, now());
        let first = write(repository, TAG, 1, &notes).await;
        let at = |minutes| now() - SignedDuration::from_mins(minutes);
        notes = next(TAG, &notes, Some(&first), at(120));
        let second = write(repository, TAG, 2, &notes).await;
        notes = next(TAG, &notes, Some(&second), at(30));
        let third = write(repository, TAG, 3, &notes).await;
        ([first, second, third], notes)
    }

    async fn is_there(repository: &Repository, digest: &Digest) -> bool {
        let found = repository.manifest_descriptor(digest.as_str());
        found.await.unwrap().is_some()
    }

    #[tokio::test]
    async fn what_was_replaced_before_the_grace_goes() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        list_tags(&registry, ONLY);
        let ([first, second, third], notes) = three(&repository).await;
        let swept = sweep(&repository, TAG, &notes, HOUR, now()).await;
        assert_eq!(swept.gone, std::slice::from_ref(&first));
        assert_eq!(swept.deletes, Some(true));
        assert!(!is_there(&repository, &first).await);
        assert!(is_there(&repository, &second).await && is_there(&repository, &third).await);
        let again = sweep(&repository, TAG, &notes, HOUR, now()).await;
        assert_eq!((again.gone, again.deletes), (vec![first], None));
    }

    #[tokio::test]
    async fn what_another_tag_holds_or_was_of_another_tag_stays() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        list_tags(&registry, r#"{"tags":["b-main","copy"]}"#);
        let ([first, ..], notes) = three(&repository).await;
        let raw = repository.manifest(first.as_str()).await.unwrap().unwrap();
        let copy = repository.put_manifest("copy", OCI_MANIFEST, &raw.bytes);
        copy.await.unwrap();
        let swept = sweep(&repository, TAG, &notes, HOUR, now()).await;
        assert_eq!(swept, Swept::default());
        // One that says nothing, and one of another tag.
        let other = next("other", &Notes::default(), None, now());
        let mut notes = next(TAG, &Notes::default(), None, now());
        for (size, theirs) in [(8, Notes::default()), (9, other)] {
            let digest = write(&repository, "x", size, &theirs).await;
            notes.note(&digest, now() - SignedDuration::from_hours(9));
        }
        let swept = sweep(&repository, TAG, &notes, HOUR, now()).await;
        assert_eq!((swept.gone.len(), swept.deletes), (2, None));
        assert_eq!(registry.count("DELETE", ""), 0);
        // A manifest that was copied from another tag with its notes.
        let swept = sweep(&repository, "copy", &notes, HOUR, now()).await;
        assert_eq!(swept, Swept::default());
        let copied = next("copy", &notes, Some(&first), now());
        assert!(copied.replaced().is_empty() && copied.tag.as_deref() == Some("copy"));
    }

    #[tokio::test]
    async fn without_a_list_of_tags_nothing_goes() {
        let registry = ScriptedRegistry::start().await;
        let repository = pushable(&registry);
        let (_, notes) = three(&repository).await;
        let swept = sweep(&repository, TAG, &notes, HOUR, now()).await;
        assert_eq!(swept, Swept::default());
        assert_eq!(registry.count("DELETE", ""), 0);
    }

    #[tokio::test]
    async fn a_registry_that_refuses_is_not_asked_again() {
        for (status, body) in [
            (405, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
            (403, "{}"),
            (404, "{}"),
        ] {
            let registry = ScriptedRegistry::start().await;
            let repository = pushable(&registry);
            list_tags(&registry, ONLY);
            let (_, mut notes) = three(&repository).await;
            let refused = Fault::Status(status, Vec::new(), body);
            registry.fault("DELETE", "/manifests/", (0, usize::MAX), refused);
            let swept = sweep(&repository, TAG, &notes, HOUR, now()).await;
            assert_eq!(
                (swept.gone.len(), swept.deletes),
                (0, Some(false)),
                "{status}"
            );
            notes.set_deletes(false, now());
            let asked = registry.seen().len();
            let again = sweep(&repository, TAG, &notes, HOUR, now()).await;
            assert_eq!(again, Swept::default());
            assert_eq!(registry.seen().len(), asked);
        }
    }
}
