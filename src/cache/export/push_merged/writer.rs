//! One writer among others: reads the tag, merges, looks and writes, until the tag was seen to hold its cache.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::merged::Merged;
use super::{Place, put_config, read_contents};
use crate::cache::descriptor::Descriptor;
use crate::cache::export::PublishError;
use crate::cache::extras::store::{self, OldRecord};
use crate::cache::merge::{Contents, Dropped};
use crate::digest::Digest;
use crate::registry::{RawManifest, RegistryError};

/// How often the tag is written or looked at.
const TRIES: usize = 30;
/// The shortest and the longest wait for others that are between their look and their write.
const WAIT: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(3));
/// A use that was noted is noted again after this time, or a quarter of `max-age`.
const STALE: Duration = Duration::from_secs(6 * 3600);

/// Returns after what time a use is noted again.
pub fn stale(max_age: Option<Duration>) -> Duration {
    max_age.map_or(STALE, |age| STALE.min(age / 4))
}

/// What the reference holds.
#[derive(Clone)]
struct RemoteState {
    digest: Option<Digest>,
    contents: Option<Contents>,
}

pub(super) struct Writer<'a> {
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

impl<'a> Writer<'a> {
    /// Prepares to keep a cache; `there` are blobs that are known to be in the repository.
    pub(super) fn new(
        place: Place<'a>,
        ours: &Contents,
        there: impl Iterator<Item = Digest>,
    ) -> Self {
        Self {
            place,
            ours: ours.clone(),
            there: there.collect(),
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
        }
    }

    /// Writes until the tag was seen to hold the cache.
    pub(super) async fn run(&mut self) -> Result<Merged, PublishError> {
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
            let dropped = dropped.filter(|d| d.mounts > 0 || merged.results() < before);
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
        stale(self.place.bounds.max_age)
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
        let signing = self.place.beside.signing;
        let written = parts.written().signed(signing).await;
        let put = store::put(repository, None, &written, signing).await?;
        let digest = put.digest;
        if put.refused {
            self.refused = true;
            merged.set_extras(merged.extras().without_entries());
        }
        self.untagged.push(digest.clone());
        let now = repository.manifest_descriptor(reference).await?;
        if now.map(|now| now.digest) != held.digest {
            tracing::debug!(reference, "another build was quicker");
            self.contended = true;
            return Ok(None);
        }
        repository
            .put_manifest(reference, written.media_type, &put.bytes)
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
