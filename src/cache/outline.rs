//! The steps in a cache, each under the one that it lies on.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::config::{CacheConfig, CacheRecord};
use super::descriptor::Descriptor;
use super::merge::is_root_record;
use super::record::name::Label;
use super::record::{BuildRecord, Record, StepRecord};
use super::source::Loaded;
use crate::digest::Digest;

/// How deep steps are shown under each other.
const MAX_DEPTH: usize = 400;

/// The steps of a cache. The serialized names are those of `docker cachex cache tree --format json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outline {
    /// The steps, each behind the one that it lies on.
    pub steps: Vec<OutlineStep>,
    /// Steps that lie deeper than is shown.
    pub left_out: usize,
}

/// A step. Sizes are bytes, times RFC 3339.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlineStep {
    /// Digest of its record, which is its cache key.
    pub key: String,
    /// Index of the step that it lies on.
    pub parent: Option<usize>,
    /// Its name, if the cache has a record of the builds; else what is known of it.
    pub name: String,
    /// The stage, where the name tells.
    pub stage: Option<String>,
    /// The platform, where the record tells.
    pub platform: Option<String>,
    /// Size of its own layer; of a base image that of all layers.
    pub size: Option<u64>,
    /// The blob of its own layer.
    pub layer: Option<Digest>,
    /// Digest of what is in that layer, where known.
    pub diff_id: Option<Digest>,
    /// When it was made.
    pub created_at: Option<String>,
    /// When a build used it last, where that is noted.
    pub last_used: Option<String>,
    /// How long it took when it last ran.
    pub milliseconds: Option<u64>,
    /// How many other steps of the cache the same result may lie on.
    pub other_ways: usize,
}

/// What the record tells about steps, by the digests of their records.
#[derive(Debug, Default)]
pub struct Names<'a>(HashMap<&'a str, (&'a BuildRecord, &'a StepRecord)>);

impl<'a> Names<'a> {
    /// Collects the names. Of several builds the youngest counts.
    pub fn of(record: Option<&'a Record>) -> Self {
        let mut names = HashMap::new();
        for (build, step) in record.iter().flat_map(|record| record.steps()) {
            if let Some(key) = &step.key {
                names.entry(key.as_str()).or_insert((build, step));
            }
        }
        Self(names)
    }

    /// Returns the step that has a record of this digest.
    pub fn get(&self, digest: &str) -> Option<(&'a BuildRecord, &'a StepRecord)> {
        self.0.get(digest).copied()
    }
}

impl Outline {
    /// Puts the steps of a cache in order.
    pub fn of(loaded: &Loaded, record: Option<&Record>) -> Self {
        let names = Names::of(record);
        let mut outline = Self::default();
        for part in &loaded.parts {
            let blobs = part.layers.iter().map(|blob| (&blob.digest, blob));
            let view = View {
                config: &part.config,
                blobs: blobs.collect(),
                names: &names,
                platform: part.platform.as_deref(),
            };
            view.add_to(&mut outline);
        }
        outline
    }
}

/// One config with what helps to read it.
struct View<'a> {
    config: &'a CacheConfig,
    blobs: HashMap<&'a Digest, &'a Descriptor>,
    names: &'a Names<'a>,
    platform: Option<&'a str>,
}

impl View<'_> {
    fn add_to(&self, outline: &mut Outline) {
        let records = &self.config.records;
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut roots = Vec::new();
        for (at, record) in records
            .iter()
            .enumerate()
            .filter(|(_, r)| !is_root_record(&r.digest))
        {
            match self.below(record) {
                Some(below) => children.entry(below).or_default().push(at),
                None => roots.push(at),
            }
        }
        // The contents of files, which steps only read, are no steps.
        let is_step = |at: &usize| {
            let record = records.get(*at);
            let is_made = record.is_some_and(|r| !r.results.is_empty() || !r.chains.is_empty());
            is_made
                || children.contains_key(at)
                || record.is_some_and(|r| self.names.get(&r.digest).is_some())
        };
        let mut open: Vec<(usize, Option<usize>, usize)> = Vec::new();
        open.extend(
            roots
                .into_iter()
                .filter(is_step)
                .rev()
                .map(|root| (root, None, 0)),
        );
        while let Some((at, parent, depth)) = open.pop() {
            if depth > MAX_DEPTH {
                outline.left_out += 1;
            } else if let Some(step) = self.step(at, parent) {
                outline.steps.push(step);
                let parent = Some(outline.steps.len() - 1);
                let above = children.get(&at).into_iter().flatten().rev();
                open.extend(above.map(|child| (*child, parent, depth + 1)));
                self.measure_base(at, parent, &children, outline);
                continue;
            }
            let above = children.get(&at).into_iter().flatten();
            open.extend(above.map(|child| (*child, parent, depth + 1)));
        }
    }

    /// Returns the record that a record lies on: of several one that has a name, or a result.
    fn below(&self, record: &CacheRecord) -> Option<usize> {
        let links = record.inputs.first()?;
        let best = links.iter().max_by_key(|link| {
            let record = self.config.records.get(link.link);
            let is_named = record.is_some_and(|record| self.names.get(&record.digest).is_some());
            let has_result = record.is_some_and(|record| !record.results.is_empty());
            (is_named, has_result, std::cmp::Reverse(link.link))
        });
        best.map(|link| link.link)
    }

    fn step(&self, at: usize, parent: Option<usize>) -> Option<OutlineStep> {
        let record = self.config.records.get(at)?;
        let known = self.names.get(&record.digest);
        let results = record
            .results
            .iter()
            .map(|r| (r.layer, &r.created_at, &r.last_used));
        let chains = record
            .chains
            .iter()
            .filter_map(|c| Some((*c.layers.last()?, &c.created_at, &c.last_used)));
        let result = results.chain(chains).next();
        let blob = result
            .and_then(|(layer, ..)| self.config.layers.get(layer))
            .map(|l| &l.blob);
        let descriptor = blob.and_then(|blob| self.blobs.get(blob));
        let links: HashSet<usize> = record
            .inputs
            .iter()
            .take(1)
            .flatten()
            .map(|l| l.link)
            .collect();
        let time =
            |text: &String| (!text.is_empty() && !text.starts_with("0001-")).then(|| text.clone());
        let platform = known
            .map(|(build, _)| build.platform.clone())
            .filter(|p| !p.is_empty());
        Some(OutlineStep {
            key: record.digest.clone(),
            parent,
            name: title(record, known.map(|(_, step)| step)),
            stage: known.and_then(|(_, step)| stage(step)),
            platform: platform.or_else(|| self.platform.map(str::to_owned)),
            size: descriptor.map(|blob| blob.size),
            layer: blob.cloned(),
            diff_id: descriptor.and_then(|blob| blob.diff_id()),
            created_at: result.and_then(|(_, created, _)| time(created)),
            last_used: result.and_then(|(.., used)| time(used)),
            milliseconds: known.and_then(|(_, step)| step.milliseconds),
            other_ways: links.len().saturating_sub(1),
        })
    }

    /// A base image has no result of its own: its layers are those below the first step on it.
    fn measure_base(
        &self,
        at: usize,
        place: Option<usize>,
        children: &HashMap<usize, Vec<usize>>,
        outline: &mut Outline,
    ) {
        let step = place.and_then(|place| outline.steps.get_mut(place));
        let Some(step) = step.filter(|step| step.parent.is_none() && step.layer.is_none()) else {
            return;
        };
        let records = children.get(&at).into_iter().flatten();
        let records = records.filter_map(|child| self.config.records.get(*child));
        let mut results = records.flat_map(|record| &record.results);
        let Some(result) = results.next() else { return };
        let below = self
            .config
            .layers
            .get(result.layer)
            .and_then(|layer| layer.parent.0);
        let Some(below) = below else { return };
        let layers = self.config.chain(below).into_iter();
        let blobs = layers.filter_map(|layer| Some(&self.config.layers.get(layer)?.blob));
        let sizes = blobs.filter_map(|blob| Some(self.blobs.get(blob)?.size));
        step.size = Some(sizes.fold(0, u64::saturating_add));
    }
}

/// Returns the stage of a step, where its name tells one.
fn stage(step: &StepRecord) -> Option<String> {
    let stage = Label::of(step.label()?).stage;
    (!stage.is_empty()).then(|| stage.to_owned())
}

/// Returns the name of a step; without one what its record tells.
fn title(record: &CacheRecord, step: Option<&StepRecord>) -> String {
    let digest = record.digest.split_once(':').map_or("", |(_, hex)| hex);
    let short = |hex: &str| hex.chars().take(12).collect::<String>();
    match step {
        Some(step) if step.kind == "image" => {
            let label = step.label().unwrap_or_default().len();
            let name = step.name.get(label..).unwrap_or_default().trim();
            let image = step.digest.as_ref().map(|digest| {
                let hex: String = digest.hex().chars().take(8).collect();
                format!(" ({}:{hex}…)", digest.algorithm())
            });
            format!("{name}{}", image.unwrap_or_default())
        }
        Some(step) => step.name.clone(),
        None if record.inputs.is_empty() => format!("source {}", short(digest)),
        None if record.inputs.len() > 1 => {
            format!("step with {} inputs {}", record.inputs.len(), short(digest))
        }
        None => format!("step {}", short(digest)),
    }
}
