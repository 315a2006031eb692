//! The caches that a build reads: what BuildKit is told, and the stores that serve those which it
//! does not read by itself. A cache never fails a build.
//!
//! # Who reads
//!
//! BuildKit reads a registry's cache itself wherever it can, because only so are layers pulled when they
//! are needed, and not before: a `type=local` import, which the session serves, is pulled as soon as a
//! step hits it (BuildKit `cache/remotecache/local`, `worker/base`). There is no third way to offer a
//! changed cache: BuildKit's registry importer reads manifest, config and layers from the repository that
//! the reference names, so a smaller or joined cache would have to be pushed there. So this program only
//! looks at what each reference holds (`probe`), and BuildKit gets the reference as the user wrote it,
//! except where that is of no use:
//!
//! - its manifest or config is larger than BuildKit reads: it is made smaller and served,
//! - the registry takes connections but is silent: left out. BuildKit would wait for it without end, and in its
//!   scheduler (`solver/llbsolver/bridge.go`, `lazyCacheManager`), so that breaking the build off and beginning
//!   it again does not help; that was tried. So the answers are waited for before the solve,
//! - it must be signed: it is read as the digest that was verified, and left out where it is not signed as it must be,
//!   or nobody here can tell,
//! - its config comes slowly or never: left out, for the same reason. So it is read here first,
//! - the reference before it holds the very same cache: left out.
//!
//! Everything else stays with BuildKit, also what cannot be read or found from here: the builder may be in
//! another network, with other certificates and mirrors. It resolves all references at the same time, so
//! several of them cost no more time than one, and joining them would save nothing.
//!
//! # What shows later
//!
//! Whether the registry still has every layer is not asked: that is a request a layer in each build, for
//! something that hardly ever happens. BuildKit notices when it reads a blob, and then the build dies. Then
//! the caches that list the blob are looked at closely, and the build is run again with them served
//! without what is lost, or without them (`recover`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::missing::MISSING;
use super::probe::{self, ProbeResult, Probes, no_answer, not_read};
use super::sources::{CacheImport, LayoutImport, RegistrySource};
use crate::build::cache::store_id::StoreId;
use crate::build::cache::tools::CacheTools;
use crate::build::cache::unsupported::UnsupportedBackends;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::Entry;
use crate::cache::import::{
    CONFIG_PATIENCE, Large, RegistryImport, TooSlow, Wanted, config_in_time, is_too_large,
};
use crate::cache::layout::{Layout, LayoutError, LayoutStore};
use crate::cache::manifest::CacheManifest;
use crate::cache::sign::verdict::Signed;
use crate::digest::Digest;
use crate::registry::{RawManifest, Repository};

/// The caches of a build.
#[derive(Debug)]
pub struct Imports {
    pub(super) slots: Vec<Slot>,
    pub(super) tools: CacheTools,
    pub(super) stores: ContentStores,
    pub(super) warnings: Vec<String>,
}

/// One `--cache-from`.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// What BuildKit is told; `None` if the cache is left out.
    pub(super) entry: Option<Entry>,
    pub(super) registry: Option<Remote>,
    pub(super) folder: Option<Folder>,
}

/// A cache in a layout folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    /// The folder as the user wrote it.
    pub(super) src: String,
    /// The folder, the manifest in it, or what is said of a cache that is not there, or cannot be read.
    pub(super) found: Result<(Layout, Digest), Option<String>>,
}

/// A cache in a registry.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) source: RegistrySource,
    /// What the registry said.
    pub(super) answer: Option<Arc<ProbeResult>>,
    /// Its config, where it was read, as it is served.
    pub(super) config: Option<Bytes>,
    /// The config as the registry has it, where it is larger than BuildKit reads.
    pub(super) whole: Option<Bytes>,
    /// What the build can use of such a cache, where that is known.
    pub(super) wanted: Option<Arc<Wanted>>,
    /// What was left out of it, until that is shown.
    pub(super) remark: Option<String>,
    /// Why it was left out, where that is an error.
    pub(super) unread: Option<String>,
    /// It is served without layers that could not be read.
    pub(super) healed: bool,
    /// Those layers.
    pub(super) lost: Vec<Digest>,
    /// It must be signed.
    verifies: bool,
}

/// What an answer makes of a cache.
enum Decision {
    /// BuildKit reads it by itself, or looks for it. Here is its config, where it was read.
    AsGiven(Option<Bytes>),
    /// It is served in the session.
    Served(Box<RegistryImport>),
    /// It is left out, with a remark.
    LeftOut(&'static str),
    /// It is left out though it may be there.
    Unreadable(String),
    /// It is left out because it is not signed as it must be.
    Refused(String),
}

impl Slot {
    pub(super) fn plain(entry: Option<Entry>) -> Self {
        Self {
            entry,
            registry: None,
            folder: None,
        }
    }

    /// Returns the name of the cache for the user.
    pub(super) fn name(&self, entry: &Entry) -> String {
        match (&self.registry, entry.attrs.get("src")) {
            (Some(remote), _) => remote.source.raw_ref.clone(),
            (None, Some(folder)) => folder.clone(),
            (None, None) => format!("of type {}", entry.kind),
        }
    }
}

/// Opens the caches, all at the same time, and offers their stores.
pub async fn open(
    probes: &Probes,
    current_dir: &Path,
    tools: &CacheTools,
    stores: &ContentStores,
) -> Imports {
    let opened = probes.iter().map(async |probe| {
        let mut slot = match &probe.import {
            CacheImport::Builder(entry) => Slot::plain(Some(entry.clone())),
            CacheImport::Layout(layout) => {
                return open_layout(layout, current_dir, tools, stores).await;
            }
            CacheImport::Registry(source, entry) => Slot {
                entry: Some(entry.clone()),
                registry: Some(Remote::new(source)),
                folder: None,
            },
            CacheImport::Client(source) => Slot {
                entry: None,
                registry: Some(Remote::new(source)),
                folder: None,
            },
        };
        let Some(remote) = &mut slot.registry else {
            return (slot, None);
        };
        remote.answer = probe.result().await;
        let warning = match &remote.answer {
            Some(answer) => {
                let answer = Arc::clone(answer);
                remote.verifies = tools.keyring.policy(&remote.source.verification).is_some();
                let decision = remote.decide(&answer, slot.entry.is_some()).await;
                remote.follow(decision, &mut slot.entry, tools, stores)
            }
            None => None,
        };
        (slot, warning)
    });
    let opened = futures_util::future::join_all(opened).await;
    let mut all = Imports {
        slots: Vec::new(),
        tools: tools.clone(),
        stores: stores.clone(),
        warnings: Vec::new(),
    };
    for (slot, warning) in opened {
        all.slots.push(slot);
        all.warnings.extend(warning);
    }
    all.drop_twins();
    all.drop_taken_in();
    all
}

impl Imports {
    /// Returns what BuildKit is told, in the order of the flags.
    pub fn entries(&self) -> Vec<Entry> {
        self.slots
            .iter()
            .filter_map(|slot| slot.entry.clone())
            .collect()
    }

    /// Returns the names of the caches that are read and not verified.
    pub fn unverified(&self) -> Vec<String> {
        let read = self.slots.iter().filter_map(|slot| {
            let entry = slot.entry.as_ref()?;
            let is_verified = slot.registry.as_ref().is_some_and(|r| r.signed().is_some());
            (!is_verified).then(|| slot.name(entry))
        });
        read.collect()
    }

    /// Leaves out the caches that the builder does not have.
    pub fn leave_out(&mut self, unsupported: &UnsupportedBackends) {
        for slot in &mut self.slots {
            slot.entry = slot.entry.take().filter(|entry| !unsupported.has(entry));
        }
        self.warnings.extend(unsupported.warnings());
    }

    /// Leaves out a reference that holds the same cache as one before it, in the same repository.
    fn drop_twins(&mut self) {
        let mut seen: Vec<(String, bool, Digest)> = Vec::new();
        for slot in &mut self.slots {
            let Some(remote) = slot.registry.as_ref().filter(|_| slot.entry.is_some()) else {
                continue;
            };
            let Some((_, raw)) = remote.found() else {
                continue;
            };
            let name = remote.source.reference.name();
            let place = (name, remote.source.insecure, raw.digest.clone());
            if seen.contains(&place) {
                slot.entry = None;
                let step = self.tools.observer.import(&remote.source.raw_ref);
                step.done("the same cache as one before it");
            } else {
                seen.push(place);
            }
        }
    }
}

impl Remote {
    pub(super) fn new(source: &RegistrySource) -> Self {
        Self {
            source: source.clone(),
            answer: None,
            config: None,
            whole: None,
            wanted: None,
            remark: None,
            unread: None,
            healed: false,
            lost: Vec::new(),
            verifies: false,
        }
    }

    /// Returns who signed it, where it was verified.
    fn signed(&self) -> Option<&Signed> {
        match self.answer.as_deref()? {
            ProbeResult::Found(_, _, signed) => signed.as_ref(),
            _ => None,
        }
    }

    /// Returns what the registry holds, as far as it is known here.
    pub(super) fn found(&self) -> Option<(&Repository, &RawManifest)> {
        match self.answer.as_deref()? {
            ProbeResult::Found(repository, raw, _) => Some((repository, raw)),
            _ => None,
        }
    }

    /// Returns the manifest that the registry holds, where it can be read.
    pub(super) fn manifest(&self) -> Option<CacheManifest> {
        let (_, raw) = self.found()?;
        CacheManifest::parse(&raw.bytes, &raw.media_type).ok()
    }

    /// Decides what becomes of a cache. `builder_reads` is whether BuildKit may read it by itself.
    async fn decide(&self, answer: &ProbeResult, builder_reads: bool) -> Decision {
        // What the builder finds by itself nobody has verified.
        let builder_looks = builder_reads && !self.verifies;
        match answer {
            ProbeResult::Found(repository, raw, _) if builder_reads && !must_be_smaller(raw) => {
                match config_in_time(repository, raw).await {
                    Ok(config) => Decision::AsGiven(config),
                    Err(TooSlow) => Decision::Unreadable(not_read(CONFIG_PATIENCE)),
                }
            }
            ProbeResult::Found(repository, raw, _) => {
                let import = RegistryImport::of(repository.clone(), raw.clone(), Large::default());
                match tokio::time::timeout(probe::DEADLINE, import).await {
                    Ok(Ok(import)) => Decision::Served(Box::new(import)),
                    // BuildKit may say it better.
                    Ok(Err(_)) if builder_reads => Decision::AsGiven(None),
                    Ok(Err(error)) => Decision::Unreadable(crate::error::chain(&error)),
                    Err(_) => Decision::Unreadable(not_read(probe::DEADLINE)),
                }
            }
            ProbeResult::Silent => Decision::Unreadable(no_answer(probe::DEADLINE)),
            ProbeResult::Refused(why) => Decision::Refused(why.clone()),
            // BuildKit looks for itself, and says the same if it is so.
            ProbeResult::Missing if builder_looks => Decision::AsGiven(None),
            ProbeResult::Missing => Decision::LeftOut(MISSING),
            ProbeResult::Unknown(why) if builder_looks => {
                tracing::debug!(cache = self.source.raw_ref, why, "left to the builder");
                Decision::AsGiven(None)
            }
            ProbeResult::Unknown(why) => Decision::Unreadable(why.clone()),
        }
    }

    /// Does what was decided: sets what BuildKit is told, and returns a warning if there is one.
    fn follow(
        &mut self,
        decision: Decision,
        entry: &mut Option<Entry>,
        tools: &CacheTools,
        stores: &ContentStores,
    ) -> Option<String> {
        let step = || tools.observer.import(&self.source.raw_ref);
        match decision {
            Decision::AsGiven(config) => {
                self.config = config;
                if let (Some(signed), Some((_, raw))) = (self.signed(), self.found()) {
                    step().done(&signed.text(Timestamp::now()));
                    pin(entry, &raw.digest);
                }
                None
            }
            Decision::Refused(why) => {
                step().failed(&why);
                *entry = None;
                let warning = format!("the cache {} is passed over: {why}", self.source.raw_ref);
                self.unread = Some(why);
                Some(warning)
            }
            Decision::Served(import) => {
                let signed = self.signed();
                let signed = signed.map(|signed| format!("; {}", signed.text(Timestamp::now())));
                let summary = format!("{}{}", import.summary(), signed.unwrap_or_default());
                if import.whole().is_some() {
                    // Perhaps less is to be left out, once it is known what the build can use.
                    self.remark = Some(summary);
                } else {
                    step().done(&summary);
                }
                *entry = Some(self.served(&import, stores));
                None
            }
            Decision::LeftOut(remark) => {
                step().done(remark);
                *entry = None;
                None
            }
            Decision::Unreadable(why) => {
                step().failed(&why);
                *entry = None;
                self.unread = Some(why.clone());
                Some(unread_warning(&self.source.raw_ref, &why))
            }
        }
    }
}

impl Remote {
    /// Serves a cache in the session and returns what BuildKit is told.
    pub(super) fn served(&mut self, import: &RegistryImport, stores: &ContentStores) -> Entry {
        self.config = import.config().cloned();
        self.whole = import.whole().cloned();
        serve(import, stores)
    }

    /// Returns what is known of a cache that is larger than BuildKit reads.
    pub(super) fn large(&self) -> Large {
        Large {
            config: self.whole.clone(),
            wanted: self.wanted.clone(),
        }
    }
}

/// Serves a cache in the session and returns what BuildKit is told.
pub(super) fn serve(import: &RegistryImport, stores: &ContentStores) -> Entry {
    let id = StoreId::random();
    stores.add(id.in_session(), import.store());
    local(BTreeMap::from([
        ("src".to_owned(), id.attr()),
        ("digest".to_owned(), import.manifest().to_string()),
    ]))
}

/// Has BuildKit read the manifest that was verified, whatever the tag holds by then.
fn pin(entry: &mut Option<Entry>, digest: &Digest) {
    let attrs = entry.as_mut().map(|entry| &mut entry.attrs);
    if let Some(reference) = attrs.and_then(|attrs| attrs.get_mut("ref"))
        && !reference.contains('@')
    {
        *reference = format!("{reference}@{digest}");
    }
}

pub(super) fn must_be_smaller(raw: &RawManifest) -> bool {
    // What is no manifest BuildKit refuses in words of its own.
    CacheManifest::parse(&raw.bytes, &raw.media_type)
        .is_ok_and(|manifest| is_too_large(raw, &manifest))
}

/// The warning about a cache that is left out because it cannot be read.
pub(super) fn unread_warning(reference: &str, why: &str) -> String {
    format!("cannot read the cache {reference}, built without it: {why}")
}

async fn open_layout(
    import: &LayoutImport,
    current_dir: &Path,
    tools: &CacheTools,
    stores: &ContentStores,
) -> (Slot, Option<String>) {
    let layout = Layout::new(current_dir.join(&import.src));
    let found = {
        let (layout, import) = (layout.clone(), import.clone());
        tokio::task::spawn_blocking(move || find(&layout, &import)).await
    };
    let found = found.map_err(|error| error.to_string());
    let found = found.and_then(|found| found.map_err(|error| crate::error::chain(&error)));
    let slot = |entry, found| Slot {
        entry,
        registry: None,
        folder: Some(Folder {
            src: import.src.clone(),
            found,
        }),
    };
    let digest = match found {
        Ok(Ok(digest)) => digest,
        Ok(Err(remark)) => {
            tools.observer.import(&import.src).done(&remark);
            return (slot(None, Err(None)), None);
        }
        Err(error) => {
            tools.observer.import(&import.src).failed(&error);
            let warning = unread_warning(&import.src, &error);
            return (slot(None, Err(Some(error))), Some(warning));
        }
    };
    let mut attrs = import.attrs.clone();
    attrs.insert("digest".into(), digest.to_string());
    let id = StoreId::of_folder(&import.src);
    stores.add(id.in_session(), Arc::new(LayoutStore::new(layout.clone())));
    (slot(Some(local(attrs)), Ok((layout, digest))), None)
}

/// Finds the cache's manifest in the folder, or returns what is said of a cache that is not there.
fn find(layout: &Layout, import: &LayoutImport) -> Result<Result<Digest, String>, LayoutError> {
    let missing = || Ok(Err(MISSING.to_owned()));
    let digest = match &import.digest {
        Some(digest) => digest.clone(),
        None => match layout.manifest(Some(&import.tag)) {
            Ok(entry) => entry.digest,
            // Another cache is there, which the user may have meant.
            Err(error @ LayoutError::NoTag { .. }) if !layout.entries()?.is_empty() => {
                return Ok(Err(format!("{error}; building without it")));
            }
            Err(error) if error.is_missing() => return missing(),
            Err(error) => return Err(error),
        },
    };
    match layout.blob_size(&digest)? {
        Some(_) => Ok(Ok(digest)),
        None => missing(),
    }
}

fn local(attrs: BTreeMap<String, String>) -> Entry {
    Entry {
        kind: "local".into(),
        attrs,
    }
}
