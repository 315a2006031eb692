//! One registry cache that this program stores: opened before the solve, published after it.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use parking_lot::Mutex;
use thiserror::Error;

use super::before::Before;
use super::targets::{Carrier, Lookup, RegistryTarget};
use crate::build::cache::ends::WriteEnd;
use crate::build::cache::tools::{CacheObserver, CacheTools};
use crate::buildkit::session::content::{ContentStore, ContentStores};
use crate::buildkit::solve::Entry;
use crate::cache::descriptor::Descriptor;
use crate::cache::export::push_merged::REFUSED;
use crate::cache::export::{
    Beside, ExportProgress, ExportSettings, Others, PartExport, PublishError, Published,
    RegistrySink, Rules, Storage, keep, publish,
};
use crate::cache::extras::attach::{self, Attached, New};
use crate::cache::extras::clean::Cleaning;
use crate::cache::extras::mounts::Mounts;
use crate::cache::extras::refusals::Refusals;
use crate::cache::extras::store::{NewRecord, OldRecord};
use crate::cache::merge::{Bounds, oldest};
use crate::cache::record::Detail;
use crate::cache::record::observe::Observed;
use crate::cache::referrers;
use crate::cache::remote_cache::RemoteCache;
use crate::cache::sign::CacheName;
use crate::cache::sign::writer::Signing;
use crate::compress::{Algorithm, Level};
use crate::digest::Digest;
use crate::options::cache::{Compression, Compressor, RegistryCacheTo, SignAs, Told};
use crate::options::size;
use crate::registry::manifest::ManifestDescriptor;
use crate::registry::{Access, RegistryError, Repository};
use crate::text::counted;

/// The remark about a registry that does not take the mounts.
const REFUSED_MOUNTS: &str = "the registry refuses the cache mounts: left out";

/// Why a cache was not exported.
#[derive(Debug, Error)]
#[error("failed to export the cache to {reference}")]
pub struct RegistryExportError {
    /// The cache's reference.
    pub reference: String,
    /// Why.
    #[source]
    pub source: PublishError,
}

/// What became of one cache.
#[derive(Debug)]
pub struct CacheReport {
    /// The outcome; an error where the user said `ignore-error`.
    pub outcome: Result<Option<Published>, RegistryExportError>,
}

/// One cache that is being exported.
pub struct RegistryExport {
    target: RegistryTarget,
    sink: RegistrySink,
    observer: Arc<dyn CacheObserver>,
    /// What is told of the build, once it is known.
    record: OnceLock<NewRecord>,
    /// Other caches of the repository that this one takes in, once they are known.
    others: OnceLock<Others>,
    /// Manifests that the tag held before are deleted beside the build.
    cleaning: Option<Cleaning>,
    /// What the cache tells already, where BuildKit writes it anew.
    before: Option<Before>,
    /// How the cache is signed, unless the build turns out to read what is not verified.
    signing: Option<Arc<Signing>>,
    /// What registries have refused.
    refusals: Refusals,
    /// What became of it, once it is known.
    end: Mutex<Option<WriteEnd>>,
}

impl std::fmt::Debug for RegistryExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryExport")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl RegistryExport {
    /// Opens a cache: asks the registry beside the build what it holds already. A registry that does
    /// not answer is no reason not to build; its error comes with the export.
    ///
    /// # Errors
    ///
    /// Fails if the reference's registry cannot be addressed at all.
    pub fn open(target: &RegistryTarget, tools: &CacheTools) -> Result<Self, RegistryExportError> {
        let cache = &target.cache;
        let insecure = cache.insecure == Some(true);
        let failed = |source: RegistryError| RegistryExportError {
            reference: cache.raw_ref.clone(),
            source: source.into(),
        };
        let repository = tools
            .registries
            .repository(&cache.reference, insecure, Access::Push)
            .map_err(failed)?;
        let (place, tag) = (repository.clone(), target.tag().to_owned());
        let name = CacheName::of(&cache.reference);
        let signing = tools
            .keyring
            .signing(
                &cache.sign,
                name,
                cache.sign_unverified,
                cache.told() == Told::Full,
            )
            .map(Arc::new);
        let known = match target.lookup {
            Lookup::Now => RemoteCache::ask(place, tag, signing.clone()),
            Lookup::WhenNeeded => RemoteCache::ask_later(place, tag, signing.clone()),
        };
        let cleaning = cache.clean.map(|grace| {
            let repository =
                tools
                    .registries
                    .repository(&cache.reference, insecure, Access::Delete);
            let tag = target.tag().to_owned();
            repository.map(|place| Cleaning::start(place, tag, grace, known.clone()))
        });
        let cleaning = cleaning.transpose().map_err(failed)?;
        // What BuildKit's manifest will not have must be known before that is written.
        let is_continued = cache.told() != Told::Off || cache.kept_mounts().is_some();
        let is_continued = is_continued && target.via == Carrier::Builder;
        let before = is_continued.then(|| Before::ask(known.clone(), repository.clone()));
        let settings = settings(target, tools.observer.export(&cache.raw_ref));
        let (workers, dir) = (tools.workers.clone(), tools.spool_dir.clone());
        let sink = RegistrySink::new(repository, settings, known, workers, dir);
        Ok(Self {
            target: target.clone(),
            sink,
            observer: Arc::clone(&tools.observer),
            record: OnceLock::new(),
            others: OnceLock::new(),
            cleaning,
            before,
            signing,
            refusals: tools.refusals.clone(),
            end: Mutex::default(),
        })
    }

    /// Offers the cache's store in the session.
    pub fn offer(&self, stores: &ContentStores) {
        stores.add(self.target.store.in_session(), self.sink.store());
    }

    /// Returns a store for the export of a part of the build.
    pub fn part(&self) -> (PartExport, Arc<dyn ContentStore>) {
        self.sink.part()
    }

    /// Returns what was asked for.
    pub fn target(&self) -> &RegistryTarget {
        &self.target
    }

    /// Takes what is to be told of the build.
    pub fn set_record(&self, observed: &Arc<Observed>) {
        let detail = match self.target.cache.told() {
            Told::Full => Detail::Full,
            Told::Steps => Detail::Steps,
            Told::Off => return,
        };
        if let (Detail::Full, Some(signing), Some(commit)) =
            (detail, &self.signing, &observed.commit)
        {
            signing.of_commit(commit);
        }
        // The first one stays: a build is published once.
        let _set = self
            .record
            .set(NewRecord::Build(Arc::clone(observed), detail));
    }

    /// Returns whether the cache tells files, and the reference holds nothing that tells of builds.
    pub async fn tells_first(&self) -> bool {
        if self.target.cache.told() != Told::Full {
            return false;
        }
        let known = self.sink.known().await;
        !known.is_unasked() && known.extras().record().is_none()
    }

    /// Takes other caches of the repository that were read, for this one to take in.
    pub fn take_in(&self, others: Others) {
        // The first ones stay: a build reads its caches once.
        let _set = self.others.set(others);
    }

    /// Takes layers that other caches of the repository list, so that they are not sent again.
    pub fn set_neighbours(&self, layers: Vec<Descriptor>) {
        self.sink.set_neighbours(layers);
    }

    /// Learns what the cache tells before BuildKit writes it anew.
    pub async fn hold_record(&self) {
        if let Some(before) = &self.before {
            before.hold().await;
        }
    }

    /// Takes the names of caches that the build reads and that are not verified: then nothing is signed, unless the user
    /// said so.
    pub fn reads_unverified(&self, caches: &[String]) {
        if let Some(signing) = &self.signing {
            signing.reads_unverified(caches);
        }
    }

    /// Returns how the cache is signed, if it is.
    fn signing(&self) -> Option<&Signing> {
        self.signing.as_deref().filter(|signing| signing.is_on())
    }

    /// Returns what became of the signature, where the cache was to have one.
    fn signature(&self) -> Option<String> {
        let signing = self.signing.as_ref()?;
        Some(signing.remark())
    }

    /// Adds record and signature to a cache that BuildKit has written, whose manifest has this digest; `None` where the
    /// builder does not say. Nothing fails here: a cache without a record is as good, and one without a signature is
    /// remarked on. Returns the manifest that the reference holds then.
    pub async fn add_extras(&self, written: Option<&Digest>) -> Option<ManifestDescriptor> {
        let signing = self.signing.as_ref();
        let added = match written {
            Some(written) => self.attach(written).await,
            None => None,
        };
        if let Some(signing) = signing {
            if added.is_none() {
                signing.give_up("the registry cannot be asked from here what the builder has written, or another build has written meanwhile");
            }
            self.sink.settings().progress.done(&signing.remark());
        }
        added
    }

    /// Says that the signature did not come in time, where BuildKit has written the cache and it was to have one.
    pub fn gives_up_signature(&self) {
        if let Some(signing) = self.signing()
            && self.target.via == Carrier::Builder
        {
            signing.give_up("it took too long");
            self.sink.settings().progress.done(&signing.remark());
        }
    }

    async fn attach(&self, written: &Digest) -> Option<ManifestDescriptor> {
        let (name, now) = (self.target.cache.reference.name(), Timestamp::now());
        let record = self.record.get();
        let new = New {
            record: record.filter(|_| !self.refusals.has(&name, now)),
            signing: self.signing(),
        };
        if new.record.is_none() && new.signing.is_none() {
            return None;
        }
        let nothing = OldRecord::default();
        let before = self.before.as_ref().and_then(Before::record);
        let before = match new.signing {
            Some(_) => before.unwrap_or(&nothing),
            // A registry that did not answer when it was asked beside the build is not waited for.
            None => before?,
        };
        let (repository, tag) = (self.sink.repository(), self.target.tag());
        let added = attach::attach(repository, tag, written, before, new).await;
        match added {
            Ok(Some(Attached::With(manifest))) => Some(manifest),
            Ok(Some(Attached::Refused)) => {
                if new.record.is_some() {
                    self.refusals.note(&name, now);
                }
                self.sink.settings().progress.done(REFUSED);
                None
            }
            Ok(None) => None,
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::debug!(error, "nothing is added to the cache");
                None
            }
        }
    }

    fn beside(&self) -> Beside<'_> {
        Beside {
            record: self.record.get(),
            cleaning: self.cleaning.as_ref(),
            others: self.others.get(),
            signing: self.signing(),
        }
    }

    /// Returns what became of it, once it is known.
    pub fn end(&self) -> Option<WriteEnd> {
        self.end.lock().clone()
    }

    /// Returns where it is stored.
    pub fn repository(&self) -> &Repository {
        self.sink.repository()
    }

    /// Returns the cache mounts that the reference had before the build.
    pub async fn mounts_before(&self) -> Mounts {
        self.sink.known().await.extras().mounts().clone()
    }

    /// Begins to show what becomes of a cache mount.
    pub fn shows_mount(&self, what: &str) -> Arc<dyn ExportProgress> {
        self.observer.mount(what)
    }

    /// Tells how many bytes of cache mounts were sent.
    pub fn sent_of_mounts(&self, bytes: u64) {
        self.observer.mounts(Some(bytes), None);
    }

    /// Adds cache mounts to the cache that the reference holds now, with those that it had before and that this build did
    /// not change, and signs it anew if it is signed. Nothing fails here. Returns the manifest that the reference holds then.
    pub async fn add_mounts(&self, new: &Mounts) -> Option<ManifestDescriptor> {
        self.target.cache.kept_mounts()?;
        let mut before = self.mounts_before().await;
        if let Some(age) = self.target.cache.max_age {
            before.drop_older(oldest(age, Timestamp::now()));
        }
        if before.is_empty() && new.is_empty() {
            return None;
        }
        let (repository, tag) = (self.sink.repository(), self.target.tag());
        let added = attach::attach_mounts(repository, tag, &before, new, self.signing());
        match added.await {
            Ok(Some(Attached::With(manifest))) => Some(manifest),
            Ok(Some(Attached::Refused)) => {
                self.sink.settings().progress.done(REFUSED_MOUNTS);
                None
            }
            Ok(None) => None,
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::debug!(error, "the cache has no mounts");
                None
            }
        }
    }

    /// Adds the signature as an object of its own, where that is asked for. Nothing fails here: what is in the manifest
    /// counts.
    pub async fn add_referrer(&self) {
        let cache = &self.target.cache;
        let Some(signing) = self.signing().filter(|_| cache.sign_as == SignAs::Referrer) else {
            return;
        };
        if let Err(why) = self.refer(signing).await {
            let remark = format!("no signature refers to it: {why}");
            self.sink.settings().progress.done(&remark);
        }
    }

    async fn refer(&self, signing: &Signing) -> Result<(), String> {
        let (repository, tag) = (self.sink.repository(), self.target.tag());
        let failed = |error: RegistryError| crate::error::chain(&error);
        let Some(raw) = repository.manifest(tag).await.map_err(failed)? else {
            return Ok(());
        };
        // Perhaps another build has written it meanwhile.
        if let Some(why) = signing.distrusts(&raw.bytes).await {
            return Err(why);
        }
        let bundles = referrers::bundles(repository, &raw.digest).await;
        if signing
            .has_referred(&raw.bytes, bundles.map_err(failed)?)
            .await
        {
            return Ok(());
        }
        let bundle = signing.refer(&raw.bytes).await;
        let bundle = bundle.map_err(|error| crate::error::chain(&error))?;
        let subject = ManifestDescriptor {
            size: raw.bytes.len() as u64,
            media_type: raw.media_type,
            digest: raw.digest,
        };
        let added = referrers::attach(repository, &subject, &bundle, Timestamp::now()).await;
        added.map(drop).map_err(|error| crate::error::chain(&error))
    }

    /// Returns why the export broke, where a solve failed because of it.
    pub async fn failure(&self) -> Option<RegistryExportError> {
        let error = self.sink.failure().await?;
        Some(RegistryExportError {
            reference: self.target.cache.raw_ref.clone(),
            source: PublishError::Layer(error),
        })
    }

    /// Gives up what is still on its way, and waits until it has ended.
    pub async fn stop(&self) {
        self.sink.stop().await;
    }

    /// Publishes the parts of a build that has failed, merged with what the reference holds. Layers that
    /// are still on their way when `enough` ends are left out. A failure is shown and no more: the build
    /// has an error of its own.
    pub async fn keep(&self, parts: Vec<PartExport>, enough: impl Future<Output = ()>) {
        let (tag, bounds) = (self.target.tag(), rules(&self.target.cache).bounds);
        let kept = keep::keep(&self.sink, parts, tag, &bounds, self.beside(), enough).await;
        *self.end.lock() = Some(WriteEnd::of(&kept, WriteEnd::Kept));
        let progress = &self.sink.settings().progress;
        match &kept {
            Ok(kept) => {
                let signature = self.signature().filter(|_| kept.is_some());
                progress.done(&joined(kept_summary(kept.as_ref()), signature));
                self.observer
                    .sent(kept.as_ref().map_or(0, |kept| kept.sent_bytes));
            }
            Err(error) => progress.failed(&crate::error::chain(error)),
        }
    }

    /// Publishes the cache as [`publish`](Self::publish) does, but waits for layers only until `enough` ends:
    /// then what has arrived is kept, and nothing is returned.
    ///
    /// # Errors
    ///
    /// Fails as [`publish`](Self::publish) does.
    pub async fn publish_until<E>(
        &self,
        again: impl AsyncFn(Entry) -> Result<(), E>,
        enough: impl Future<Output = ()>,
    ) -> Result<Option<CacheReport>, RegistryExportError>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut publish = Box::pin(self.publish(again));
        tokio::select! {
            report = &mut publish => return report.map(Some),
            () = enough => {}
        }
        let (whole, is_sending) = self.sink.whole();
        if !is_sending {
            // Only config and manifest are left.
            return publish.await.map(Some);
        }
        drop(publish);
        self.keep(vec![whole], std::future::ready(())).await;
        Ok(None)
    }

    /// Publishes the cache after the solve. With `ignore-error` a failure is part of the report.
    ///
    /// What the registry held before is believed until the end, so that an unchanged cache costs one
    /// request. If it then turns out that the registry has lost some of it, `again` makes BuildKit
    /// export to this cache alone once more.
    ///
    /// # Errors
    ///
    /// Fails if the cache cannot be stored; what the reference held before is intact.
    pub async fn publish<E>(
        &self,
        again: impl AsyncFn(Entry) -> Result<(), E>,
    ) -> Result<CacheReport, RegistryExportError>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let reference = self.target.cache.raw_ref.clone();
        let (tag, rules) = (self.target.tag(), rules(&self.target.cache));
        let beside = self.beside();
        let mut result = Box::pin(publish::publish(&self.sink, tag, &rules, beside)).await;
        if let Err(PublishError::Lost(lost)) = &result {
            tracing::debug!(reference, lost = lost.len(), "the old cache has lost blobs");
            result = match again(self.target.entry()).await {
                Ok(()) => Box::pin(publish::publish(&self.sink, tag, &rules, beside)).await,
                Err(error) => Err(PublishError::NotAgain(Box::new(error))),
            };
        }
        let outcome = result.map_err(|source| RegistryExportError {
            reference: reference.clone(),
            source,
        });
        *self.end.lock() = Some(WriteEnd::of(&outcome, WriteEnd::Stored));
        let progress = &self.sink.settings().progress;
        match &outcome {
            Ok(published) => {
                let is_new = published.as_ref().is_some_and(|cache| !cache.unchanged);
                let signature = self.signature().filter(|_| is_new);
                progress.done(&joined(summary(published.as_ref()), signature));
            }
            Err(error) => progress.failed(&crate::error::chain(error)),
        }
        match outcome {
            Err(error) if !self.target.cache.ignore_error => Err(error),
            outcome => Ok(CacheReport { outcome }),
        }
    }
}

/// One line about the cache of a build that has failed.
fn kept_summary(kept: Option<&Published>) -> String {
    match kept {
        Some(_) => format!("kept what has finished: {}", summary(kept)),
        None => "nothing to keep: no step with a layer has finished".to_owned(),
    }
}

/// Adds a remark to a line.
fn joined(line: String, remark: Option<String>) -> String {
    match remark {
        Some(remark) => format!("{line}; {remark}"),
        None => line,
    }
}

/// One line about a cache that was exported.
fn summary(published: Option<&Published>) -> String {
    let Some(published) = published else {
        return "nothing to export: the build has no layers of its own".to_owned();
    };
    let mut text = if published.unchanged {
        let layers = counted(published.layers, "layer");
        format!("nothing new, the reference holds {layers}")
    } else {
        format!(
            "sent {} of {}, {}",
            published.sent_layers,
            counted(published.layers, "layer"),
            size::human_size(published.sent_bytes)
        )
    };
    let more = published.merged.iter().map(ToString::to_string);
    for more in more.chain(published.dropped.iter().map(ToString::to_string)) {
        text.push_str("; ");
        text.push_str(&more);
    }
    if published.refused && published.merged.is_none() {
        text.push_str("; ");
        text.push_str(REFUSED);
    }
    if published.too_large {
        text.push_str(
            "; WARNING: its manifest or config is over 1 MiB, BuildKit will not import it",
        );
    }
    text
}

fn rules(cache: &RegistryCacheTo) -> Rules {
    Rules {
        merge: cache.merge,
        bounds: Bounds {
            max_age: cache.max_age,
            max_size: cache.max_size,
            max_records: cache.max_records,
            ..Bounds::default()
        },
    }
}

fn settings(target: &RegistryTarget, progress: Arc<dyn ExportProgress>) -> ExportSettings {
    let cache = &target.cache;
    ExportSettings {
        storage: storage(cache),
        oci_types: cache.oci_mediatypes.unwrap_or(true),
        mount_from: target.mount_from.clone(),
        shares_repository: target.shares_repository,
        progress,
    }
}

fn storage(cache: &RegistryCacheTo) -> Storage {
    if cache.compressor != Compressor::Client {
        return Storage::AsGiven;
    }
    let algorithm = match cache.compression.unwrap_or_default() {
        Compression::Gzip | Compression::Estargz | Compression::Auto => Algorithm::Gzip,
        Compression::Zstd => Algorithm::Zstd,
        Compression::Uncompressed => Algorithm::Uncompressed,
    };
    // The level was checked when the option was read.
    match Level::new(algorithm, cache.compression_level) {
        Ok(level) => Storage::Compress {
            level,
            force: cache.force_compression == Some(true),
        },
        Err(_) => Storage::AsGiven,
    }
}
