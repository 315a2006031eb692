//! What a build that has not run can use of its caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bollard_buildkit_proto::pb::Definition;

use super::bases::Bases;
use super::files::Reader;
use super::findings::Findings;
use super::{Builder, caches};
use crate::build::cache::import::choose::Usable;
use crate::build::cache::import::found::FoundCache;
use crate::build::context::inputs::Folders;
use crate::cache::import::Wanted;
use crate::cache::keys::Plan;
use crate::cache::keys::calibrate::are_proven;

/// Tells what a build of these definitions can use of each cache. Its contexts are in these folders.
pub async fn of(
    definitions: &BTreeMap<String, Definition>,
    folders: Folders,
    found: Vec<FoundCache>,
    builder: &Builder,
) -> Vec<Usable> {
    let plan = Arc::new(Plan::of(definitions.values()));
    let all: BTreeSet<usize> = (0..plan.vertices().len()).collect();
    let reader = Reader::new(folders);
    let caches = caches::load(found, Vec::new()).await;
    let bases = (builder, Bases::new());
    let findings = Findings::find(plan, caches, &all, &reader, bases).await;
    let proven = are_proven(&findings.plan, &findings.keys, &findings.comparisons);
    let caches = findings.caches.read.iter().zip(&findings.comparisons);
    let mut usable: Vec<Usable> = Vec::new();
    for (cache, comparison) in caches {
        let is_sure = proven && comparison.is_known();
        let is_useless = is_sure && comparison.is_useless(&findings.plan);
        match usable.iter_mut().find(|known| known.cache == cache.name) {
            // An inline cache of several images is one cache.
            Some(known) => known.is_useless &= is_useless,
            None => usable.push(Usable {
                cache: cache.name.clone(),
                wanted: Wanted {
                    records: comparison.records() | comparison.unsure(),
                    is_sure,
                },
                is_useless,
            }),
        }
    }
    usable
}
