//! The caches that a build reads: what BuildKit is told, and the stores that serve those which it
//! does not read by itself.
//!
//! A cache that is not there is a remark, and one that cannot be read is shown as a failure; the
//! build goes on without either.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cache::{CacheImport, LayoutImport};
use super::client_cache::ClientTools;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::Entry;
use crate::cache::export::ExportProgress;
use crate::cache::import::{ImportError, RegistryImport};
use crate::cache::layout::{Layout, LayoutError, LayoutStore};
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::Access;

/// What is said about a cache that is not there, as
/// [`quiet_import`](super::quiet_import) says it.
const MISSING: &str = "no cache there yet, building without it";

/// How long a registry may take to name what it has. A build does not wait longer for a cache.
const DEADLINE: Duration = Duration::from_secs(30);

/// Opens the caches, all at the same time, offers their stores, and returns what BuildKit is told in
/// the order of the flags.
pub async fn open(
    imports: &[CacheImport],
    current_dir: &Path,
    tools: &ClientTools,
    stores: &mut ContentStores,
) -> Vec<Entry> {
    let opened = imports
        .iter()
        .map(|import| open_one(import, current_dir, tools));
    let opened = futures_util::future::join_all(opened).await;
    let mut entries = Vec::new();
    for opened in opened.into_iter().flatten() {
        if let Some((id, store)) = opened.store {
            stores.add(id, store);
        }
        entries.push(opened.entry);
    }
    entries
}

struct Opened {
    entry: Entry,
    store: Option<(
        String,
        Arc<dyn crate::buildkit::session::content::ContentStore>,
    )>,
}

async fn open_one(import: &CacheImport, current_dir: &Path, tools: &ClientTools) -> Option<Opened> {
    match import {
        CacheImport::Builder(entry) => Some(Opened {
            entry: entry.clone(),
            store: None,
        }),
        CacheImport::Layout(layout) => open_layout(layout, current_dir, tools).await,
        CacheImport::Client {
            reference,
            raw_ref,
            insecure,
        } => open_registry(reference, raw_ref, *insecure, tools).await,
    }
}

async fn open_layout(
    import: &LayoutImport,
    current_dir: &Path,
    tools: &ClientTools,
) -> Option<Opened> {
    let layout = Layout::new(current_dir.join(&import.src));
    let found = {
        let (layout, import) = (layout.clone(), import.clone());
        tokio::task::spawn_blocking(move || find(&layout, &import)).await
    };
    let found = found.map_err(|error| error.to_string());
    let found = found.and_then(|found| found.map_err(|error| crate::error::chain(&error)));
    let digest = or_remark(found, || tools.observer.import(&import.src))?;
    let mut attrs = import.attrs.clone();
    attrs.insert("digest".into(), digest.to_string());
    Some(Opened {
        entry: local(attrs),
        // BuildKit `cache/remotecache/local`: the store of a local cache has this prefix.
        store: Some((
            format!("local:{}", import.src),
            Arc::new(LayoutStore::new(layout)),
        )),
    })
}

fn find(layout: &Layout, import: &LayoutImport) -> Result<Option<Digest>, LayoutError> {
    let digest = match &import.digest {
        Some(digest) => Some(digest.clone()),
        None => layout.tagged(&import.tag)?.map(|entry| entry.digest),
    };
    match digest {
        Some(digest) => Ok(layout.blob_size(&digest)?.map(|_| digest)),
        None => Ok(None),
    }
}

async fn open_registry(
    reference: &Reference,
    raw_ref: &str,
    insecure: bool,
    tools: &ClientTools,
) -> Option<Opened> {
    let opened = async {
        let repository = tools
            .registries
            .repository(reference, insecure, Access::Pull)?;
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let named = reference.digest.as_deref().unwrap_or(tag);
        RegistryImport::open(repository, named).await
    };
    let opened = match tokio::time::timeout(DEADLINE, opened).await {
        Ok(opened) => opened.map_err(|error: ImportError| crate::error::chain(&error)),
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    };
    let import = or_remark(opened, || tools.observer.import(raw_ref))?;
    tools.observer.import(raw_ref).done(&import.summary());
    let id = crate::buildkit::new_id();
    let attrs = BTreeMap::from([
        ("src".to_owned(), id.clone()),
        ("digest".to_owned(), import.manifest().to_string()),
    ]);
    Some(Opened {
        entry: local(attrs),
        store: Some((format!("local:{id}"), import.store())),
    })
}

fn local(attrs: BTreeMap<String, String>) -> Entry {
    Entry {
        kind: "local".into(),
        attrs,
    }
}

/// Says why there is nothing to read.
fn or_remark<T>(
    found: Result<Option<T>, String>,
    progress: impl FnOnce() -> Arc<dyn ExportProgress>,
) -> Option<T> {
    match found {
        Ok(Some(found)) => Some(found),
        Ok(None) => {
            progress().done(MISSING);
            None
        }
        Err(error) => {
            progress().failed(&error);
            None
        }
    }
}
