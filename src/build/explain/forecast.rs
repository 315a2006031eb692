//! What will become of the steps of a build that has not run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bollard_buildkit_proto::pb::Definition;

use super::bases::Bases;
use super::files::Reader;
use super::findings::Findings;
use super::{Builder, caches};
use crate::build::cache::import::found::FoundCache;
use crate::build::context::inputs::Folders;
use crate::build::request::BuildRequest;
use crate::cache::keys::Plan;
use crate::cache::keys::compare::forecast;
use crate::explain::table::{self, Row};
use crate::explain::{Outcomes, render};

/// What will become of the steps of a build.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    /// The steps, in the order of the Dockerfile.
    pub rows: Vec<Row>,
    /// What is said if none of the caches could be read.
    pub no_cache: Option<String>,
    /// How many caches were read.
    pub read: usize,
    /// The caches that could not be read, each with the error, or none where it does not exist.
    pub unread: Vec<(String, Option<String>)>,
    /// The steps as the frontend made them, by platform.
    pub definitions: BTreeMap<String, Definition>,
}

/// Tells what will become of the steps of these definitions, of a build whose contexts are in these folders, on a builder
/// that has nothing of its own.
pub async fn of(
    request: &BuildRequest,
    definitions: &BTreeMap<String, Definition>,
    folders: Folders,
    found: Vec<FoundCache>,
    builder: &Builder,
) -> Forecast {
    let plan = Arc::new(Plan::of(definitions.values()));
    let reader = Reader::new(folders);
    let caches = caches::load(found, Vec::new()).await;
    let mut all: BTreeSet<usize> = (0..plan.vertices().len()).collect();
    if caches.read.is_empty() {
        // Nobody asks what the files are.
        all.clear();
    }
    let bases = (builder, Bases::new());
    let mut findings = Findings::find(Arc::clone(&plan), caches, &all, &reader, bases).await;
    let outcomes = Outcomes::of_forecast(&forecast(&plan, &findings.comparisons));
    let rows = findings.diagnose(request, &outcomes, table::rows);
    let unread = std::mem::take(&mut findings.caches.unread);
    Forecast {
        rows,
        no_cache: if findings.caches.read.is_empty() {
            render::no_cache(&unread)
        } else {
            None
        },
        read: findings.caches.read.len(),
        unread,
        definitions: definitions.clone(),
    }
}
