//! A cache kept under a reference together with what is there.
//!
//! Registries have no compare-and-swap. So: read the tag, merge, write the manifest under its digest,
//! look whether the tag is still what was read, write it, wait, and read it again until it was seen to
//! hold the cache. The wait is longer than others take from their look to their write, as measured by
//! the writer's own; where others were seen to write, the tag is looked at twice. One who is held up
//! between look and write for longer than that may still overwrite what was finished meanwhile.

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;

use super::PublishError;
use super::beside::Beside;
use crate::cache::config::CacheConfig;
use crate::cache::descriptor::Descriptor;
use crate::cache::extras::clean;
use crate::cache::extras::notes::Notes;
use crate::cache::extras::store::{self, OldRecord};
use crate::cache::manifest::CacheManifest;
use crate::cache::merge::{Bounds, Contents, Dropped};
use crate::digest::Digest;
use crate::registry::{BlobSource, RawManifest, RegistryError, Repository, UploadOptions};
use crate::text::counted;

/// How often the tag is written or looked at.
const TRIES: usize = 30;
/// The shortest and the longest wait for others that are between their look and their write.
const WAIT: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(3));
/// A use that was noted is noted again after this time, or a quarter of `max-age`.
const STALE: Duration = Duration::from_secs(6 * 3600);

/// The remark about a registry that does not take the record.
pub const REFUSED: &str = "the registry refuses the record of the build: left out";

/// Where a cache is kept, and how.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The tag.
    pub reference: &'a str,
    /// How much the merged cache may hold.
    pub bounds: &'a Bounds,
    /// The present time.
    pub now: Timestamp,
    /// What goes with it.
    pub beside: Beside<'a>,
}

impl Place<'_> {
    /// Returns the notes of a manifest that is written in place of one. A tag that is not cleaned by this build goes on noting
    /// what it has begun to note.
    fn notes(&self, held: &Notes, replaces: Option<&Digest>) -> Notes {
        match self.beside.cleaning {
            Some(cleaning) => cleaning.notes(self.reference, held, replaces, self.now),
            None if held.tag.is_some() => clean::next(self.reference, held, replaces, self.now),
            None => Notes::default(),
        }
    }

    /// Returns the notes of a manifest that is written in place of the one that the tag holds now.
    pub(super) async fn notes_over_what_is_there(&self) -> Result<Notes, RegistryError> {
        let Some(raw) = self.repository.manifest(self.reference).await? else {
            return Ok(self.notes(&Notes::default(), None));
        };
        let held = CacheManifest::parse(&raw.bytes, &raw.media_type).ok();
        let held = held.map_or_else(Notes::default, |held| held.extras.notes().clone());
        Ok(self.notes(&held, Some(&raw.digest)))
    }
}

/// A cache that the reference holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Everything was there already; nothing was written.
    pub unchanged: bool,
    /// Blobs of the merged cache.
    pub layers: usize,
    /// Results of the merged cache.
    pub results: usize,
    /// How many of them were there before and are not among the new ones.
    pub others: usize,
    /// What the bounds did not leave room for.
    pub dropped: Option<Dropped>,
    /// Results that were there and whose blobs the registry has lost.
    pub lost: usize,
    /// Why what the reference held before was replaced and not merged.
    pub replaced: Option<String>,
    /// The registry refuses the record, and it was left out.
    pub refused: bool,
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.others > 0 {
            let others = counted(self.others, "other result");
            let layers = counted(self.layers, "layer");
            write!(f, "merged with {others}, now {} in {layers}", self.results)?;
        } else {
            let results = counted(self.results, "result");
            write!(f, "{results} in {}", counted(self.layers, "layer"))?;
        }
        if let Some(why) = &self.replaced {
            write!(f, "; replaced what was there: {why}")?;
        }
        if self.lost > 0 {
            let results = counted(self.lost, "result");
            write!(f, "; left out {results} that the registry has lost")?;
        }
        if let Some(dropped) = &self.dropped {
            write!(f, "; {dropped}")?;
        }
        if self.refused {
            write!(f, "; {REFUSED}")?;
        }
        Ok(())
    }
}

/// Keeps a new cache of a build under a reference: as [`merge`], and all that is new counts as used at
/// the present time, so that it is dropped last.
///
/// # Errors
///
/// As [`merge`].
pub async fn publish<S: BuildHasher>(
    place: Place<'_>,
    ours: &Contents,
    stored: &HashSet<Digest, S>,
) -> Result<Merged, PublishError> {
    let mut ours = ours.clone();
    ours.touch(place.now);
    merge(place, &ours, stored).await
}

/// Merges a cache with what a reference holds, and returns once the reference was seen to hold both.
/// Costs two requests where nothing is new.
///
/// `stored` are blobs known to be in the repository. Of all others the registry is asked before they
/// are referred to.
///
/// What the reference holds and is not a cache, or cannot be read as one, is replaced; the answer says so.
///
/// # Errors
///
/// [`Lost`](PublishError::Lost) where blobs of the new cache are not in the repository: nothing is
/// written then. [`Overwritten`](PublishError::Overwritten) where others write without pause. Else
/// where the registry refuses; what the reference held is intact.
pub async fn merge<S: BuildHasher>(
    place: Place<'_>,
    ours: &Contents,
    stored: &HashSet<Digest, S>,
) -> Result<Merged, PublishError> {
    let mut writer = Writer {
        place,
        ours: ours.clone(),
        there: stored.iter().cloned().collect(),
        lost: HashSet::new(),
        last: None,
        contended: false,
        wait: WAIT.0,
        lost_results: 0,
        dropped: None,
        replaced: None,
        refused: false,
        stored: None,
        untagged: Vec::new(),
    };
    writer.run().await
}

/// Writes a cache in place of what a reference holds. All its blobs must be in the repository.
///
/// # Errors
///
/// Fails if the registry refuses; what the reference held is intact.
pub async fn replace(place: Place<'_>, contents: &Contents) -> Result<Merged, PublishError> {
    let mut contents = contents.clone();
    let dropped = contents.bound(place.bounds, place.now)?;
    let none = OldRecord::default();
    let record = match place.beside.record {
        Some(new) => store::store(place.repository, &none, new, false, contents.form()).await,
        None => None,
    };
    let mut extras = contents.extras().clone();
    extras.set_record(record);
    extras.set_notes(place.notes_over_what_is_there().await?);
    contents.set_extras(extras);
    let parts = contents.to_parts()?;
    put_config(place.repository, &parts.config_digest, &parts.config, true).await?;
    let tag = Some(place.reference);
    let written = parts.written().signed(place.beside.signing).await;
    let (manifest, refused) = store::put(place.repository, tag, &written).await?;
    Ok(Merged {
        manifest,
        unchanged: false,
        layers: contents.blobs().count(),
        results: contents.results(),
        others: 0,
        dropped,
        lost: 0,
        replaced: None,
        refused,
    })
}

/// Stores a config, which is written before the manifest that names it.
pub(super) async fn put_config(
    repository: &Repository,
    digest: &Digest,
    config: &Bytes,
    check_exists: bool,
) -> Result<(), RegistryError> {
    let options = UploadOptions {
        check_exists,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(config.clone());
    let uploaded = repository.upload(digest, config.len() as u64, &source, &options);
    uploaded.await.map(drop)
}

/// What the reference holds.
#[derive(Clone)]
struct RemoteState {
    digest: Option<Digest>,
    contents: Option<Contents>,
}

struct Writer<'a> {
    place: Place<'a>,
    ours: Contents,
    /// Blobs that are there.
    there: HashSet<Digest>,
    /// Blobs of others that are not.
    lost: HashSet<Digest>,
    last: Option<RemoteState>,
    /// Others write at the same time.
    contended: bool,
    wait: Duration,
    lost_results: usize,
    dropped: Option<Dropped>,
    replaced: Option<String>,
    /// The registry refuses the record.
    refused: bool,
    /// The entry of the record that was stored last, with the entry that it follows on.
    stored: Option<(Option<Descriptor>, Option<Descriptor>)>,
    /// Manifests of this writer that another one was quicker than, or has overwritten.
    untagged: Vec<Digest>,
}

impl Writer<'_> {
    async fn run(&mut self) -> Result<Merged, PublishError> {
        let mut written = None;
        let mut seen = 0;
        for attempt in 0..TRIES {
            let held = self.read().await?;
            let is_ours = written.is_some() && held.digest == written;
            let merged = if is_ours {
                None
            } else {
                // Where others write in another form, theirs is as good.
                self.merge(&held, written.is_some()).await?
            };
            if let Some(merged) = merged {
                self.contended |= written.is_some();
                seen = 0;
                if let Some(digest) = self.write(&merged, &held).await? {
                    written = Some(digest);
                }
            } else {
                seen += 1;
                let enough = written.is_none() || seen > usize::from(self.contended);
                if let (true, Some(digest), Some(contents)) = (enough, held.digest, held.contents) {
                    return Ok(self.report(digest, &contents, written.is_none()));
                }
            }
            self.pause(attempt).await;
        }
        Err(PublishError::Overwritten(TRIES))
    }

    /// Reads what the reference holds. What was read last is not read again.
    async fn read(&mut self) -> Result<RemoteState, PublishError> {
        let (repository, reference) = (self.place.repository, self.place.reference);
        if let Some(last) = &self.last {
            let now = repository.manifest_descriptor(reference).await?;
            if now.map(|now| now.digest) == last.digest {
                return Ok(last.clone());
            }
        }
        let held = match repository.manifest(reference).await? {
            None => RemoteState {
                digest: None,
                contents: None,
            },
            Some(raw) => {
                let contents = match self.read_trusted(&raw).await? {
                    Ok(contents) => Some(contents),
                    Err(why) => {
                        self.replaced.get_or_insert(why);
                        None
                    }
                };
                RemoteState {
                    digest: Some(raw.digest),
                    contents,
                }
            }
        };
        self.last = Some(held.clone());
        Ok(held)
    }

    /// Reads a cache; the inner error says why it is not merged.
    async fn read_trusted(
        &self,
        raw: &RawManifest,
    ) -> Result<Result<Contents, String>, RegistryError> {
        let signing = self.place.beside.signing;
        let distrusted = match signing {
            Some(signing) => signing.distrusts(&raw.bytes).await,
            None => None,
        };
        match distrusted {
            Some(why) => Ok(Err(why)),
            None => read_contents(self.place.repository, raw).await,
        }
    }

    /// Builds the union; `None` if it is what is there.
    async fn merge(
        &mut self,
        held: &RemoteState,
        any_form: bool,
    ) -> Result<Option<Contents>, PublishError> {
        loop {
            let mut merged = self.ours.clone();
            if let Some(contents) = &held.contents {
                let mut contents = contents.clone();
                if !self.lost.is_empty() {
                    self.lost_results = contents.drop_layers(&self.lost);
                }
                merged.merge(&contents);
            }
            self.note(&mut merged, held);
            let before = merged.results();
            let dropped = merged.bound(self.place.bounds, self.place.now)?;
            self.take_in_others(&mut merged)?;
            // What is too old for this cache may be young enough for one that it takes in.
            let dropped = dropped.filter(|_| merged.results() < before);
            if let Some(contents) = &held.contents
                && contents.is_still(&merged, self.stale())
                && contents.extras().notes().holds == merged.extras().notes().holds
                && (any_form || contents.form() == merged.form())
            {
                return Ok(None);
            }
            let lost = self.missing(&merged).await?;
            if lost.is_empty() {
                if dropped.is_some() {
                    self.dropped = dropped;
                }
                return Ok(Some(merged));
            }
            let ours: Vec<Digest> = self.ours.blobs().map(|b| b.digest.clone()).collect();
            let ours: Vec<Digest> = ours.into_iter().filter(|b| lost.contains(b)).collect();
            if !ours.is_empty() {
                return Err(PublishError::Lost(ours));
            }
            self.lost.extend(lost);
        }
    }

    /// Notes what the new manifest replaces.
    fn note(&self, merged: &mut Contents, held: &RemoteState) {
        let before = held.contents.as_ref();
        let before = before.map(|contents| contents.extras().notes().clone());
        let before = before.unwrap_or_default();
        let mut notes = self.place.notes(&before, held.digest.as_ref());
        if notes.tag.is_some() {
            for digest in &self.untagged {
                notes.note(digest, self.place.now);
            }
        }
        let mut extras = merged.extras().clone();
        extras.set_notes(notes);
        merged.set_extras(extras);
    }

    /// Adds the other caches, without what the registry has lost of them.
    fn take_in_others(&self, merged: &mut Contents) -> Result<(), serde_json::Error> {
        let Some(others) = self.place.beside.others else {
            return Ok(());
        };
        let mut others = others.clone();
        if !self.lost.is_empty() {
            others.contents.drop_layers(&self.lost);
        }
        if let Some(both) = others.add_to(merged, self.place.bounds, self.place.now)? {
            *merged = both;
        }
        Ok(())
    }

    fn stale(&self) -> Duration {
        let age = self.place.bounds.max_age;
        age.map_or(STALE, |age| STALE.min(age / 4))
    }

    /// Returns the blobs that are not in the repository. One that is there is asked for once.
    async fn missing(&mut self, contents: &Contents) -> Result<HashSet<Digest>, RegistryError> {
        let unknown = contents.blobs().map(|blob| blob.digest.clone());
        let unknown: Vec<Digest> = unknown.filter(|b| !self.there.contains(b)).collect();
        let asked = self.place.repository.missing_blobs(unknown.iter().cloned());
        let missing = asked.await?;
        let there = unknown.into_iter().filter(|b| !missing.contains(b));
        self.there.extend(there);
        Ok(missing)
    }

    /// Writes the union, unless the reference holds something else by now. Returns the manifest's
    /// digest if it was written.
    async fn write(
        &mut self,
        merged: &Contents,
        held: &RemoteState,
    ) -> Result<Option<Digest>, PublishError> {
        let (repository, reference) = (self.place.repository, self.place.reference);
        let mut merged = merged.clone();
        self.add_record(&mut merged).await;
        let parts = merged.to_parts()?;
        let known = held.digest.is_some();
        put_config(repository, &parts.config_digest, &parts.config, known).await?;
        let begun = Instant::now();
        let mut written = parts.written().signed(self.place.beside.signing).await;
        let (digest, refused) = store::put(repository, None, &written).await?;
        if let (true, Some(plain)) = (refused, written.without.take()) {
            self.refused = true;
            merged.set_extras(merged.extras().without_entries());
            written.with = plain;
        }
        self.untagged.push(digest.clone());
        let now = repository.manifest_descriptor(reference).await?;
        if now.map(|now| now.digest) != held.digest {
            tracing::debug!(reference, "another build was quicker");
            self.contended = true;
            return Ok(None);
        }
        repository
            .put_manifest(reference, written.media_type, &written.with)
            .await?;
        self.wait = (begun.elapsed() * 2).clamp(WAIT.0, WAIT.1);
        self.last = Some(RemoteState {
            digest: Some(digest.clone()),
            contents: Some(merged),
        });
        Ok(Some(digest))
    }

    /// Adds the record, merged with the one that is there.
    async fn add_record(&mut self, merged: &mut Contents) {
        let mut extras = merged.extras().clone();
        if self.refused {
            extras = extras.without_entries();
        } else if let Some(new) = self.place.beside.record {
            let old = extras.record().cloned();
            let entry = match &self.stored {
                Some((after, entry)) if *after == old => entry.clone(),
                _ => {
                    let (repository, form) = (self.place.repository, merged.form());
                    store::store(repository, &OldRecord::at(old.as_ref()), new, true, form).await
                }
            };
            self.stored = Some((old.clone(), entry.clone()));
            extras.set_record(entry.or(old));
        }
        merged.set_extras(extras);
    }

    /// Waits for others; longer, and by chance, where there are some.
    async fn pause(&self, attempt: usize) {
        let spread = if self.contended {
            f64::from(u32::try_from(attempt.min(4)).unwrap_or(4))
        } else {
            0.2
        };
        let factor = 1.0 + rand::random::<f64>() * spread;
        tokio::time::sleep(self.wait.mul_f64(factor).min(WAIT.1)).await;
    }

    fn report(&mut self, manifest: Digest, held: &Contents, unchanged: bool) -> Merged {
        Merged {
            manifest,
            unchanged,
            layers: held.blobs().count(),
            results: held.results(),
            others: held.results().saturating_sub(self.ours.results()),
            dropped: self.dropped.take(),
            lost: self.lost_results,
            replaced: self.replaced.take(),
            refused: self.refused,
        }
    }
}

/// Reads a cache; the inner error says why what is there is none.
async fn read_contents(
    repository: &Repository,
    raw: &RawManifest,
) -> Result<Result<Contents, String>, RegistryError> {
    let manifest = match CacheManifest::parse(&raw.bytes, &raw.media_type) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(crate::error::chain(&error))),
    };
    let Some(config) = manifest.config.as_ref().filter(|_| manifest.is_cache()) else {
        return Ok(Err("it is an image or an index of images".to_owned()));
    };
    if config.size > CacheConfig::MAX_BYTES as u64 {
        let limit = CacheConfig::MAX_BYTES;
        let size = config.size;
        return Ok(Err(format!(
            "its config has {size} bytes, more than the {limit} that are read"
        )));
    }
    let bytes = match repository.read_blob(&config.digest, config.size).await {
        Ok(bytes) => bytes,
        Err(error)
            if error.is_not_found() || matches!(error, RegistryError::DigestMismatch { .. }) =>
        {
            return Ok(Err(crate::error::chain(&error)));
        }
        Err(error) => return Err(error),
    };
    let config = CacheConfig::parse(&bytes);
    let contents = config.and_then(|config| Contents::new(&manifest, &config));
    Ok(contents.map_err(|error| crate::error::chain(&error)))
}

#[cfg(test)]
mod tests;
