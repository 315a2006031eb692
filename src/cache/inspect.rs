//! What is in a cache, counted and put in order. Nothing is read here.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use super::MAX_METADATA;
use super::config::CacheConfig;
use super::descriptor::{CREATED_AT, Descriptor};
use super::extras::mounts::Mount;
use super::media::Form;
use super::media::algorithm_of;
use super::outline::{Outline, OutlineStep};
use super::sign::bundle::{Claims, Opened};
use super::sign::embedded;
use super::source::{CachePart, DESCRIPTION, Loaded};
use crate::compress::Algorithm;
use crate::digest::Digest;

/// Annotation of a layer in eStargz: the digest of its table of contents.
const STARGZ_TOC: &str = "containerd.io/snapshot/stargz/toc.digest";

/// What is in a cache. Sizes are bytes, times RFC 3339. The serialized names are those of
/// `docker cachex cache inspect --format json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The reference or folder as the user wrote it.
    pub name: String,
    /// `image-manifest`, `index`, `manifest-list` or `inline`.
    pub form: &'static str,
    /// Media type of the manifest.
    pub media_type: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Size of the manifest.
    pub manifest_size: u64,
    /// Digests and sizes of the configs; several only where images of several platforms hold the
    /// cache inline.
    pub configs: Vec<Blob>,
    /// Platforms, where known: the records of a cache of its own name none.
    pub platforms: Vec<String>,
    /// Number of records, that is cache keys.
    pub records: usize,
    /// Number of results.
    pub results: usize,
    /// The layers, each blob once, in the order of the manifest.
    pub layers: Vec<Layer>,
    /// Size of all layers.
    pub total_size: u64,
    /// Size of the layers that more than one result uses.
    pub shared_size: u64,
    /// Size of the layers that no result leads to.
    pub unreachable_size: u64,
    /// Time of the oldest result or layer.
    pub oldest: Option<String>,
    /// Time of the youngest result or layer.
    pub newest: Option<String>,
    /// The cache mounts that it brings along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountRow>,
    /// Its signatures, which nobody has verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<SignatureRow>,
    /// What is wrong with the cache.
    pub warnings: Vec<String>,
}

/// A signature, and what it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureRow {
    /// `manifest`, or `referrer` for an object of its own.
    pub form: &'static str,
    /// Which key, where it says so: of this program the fingerprint.
    pub key: Option<String>,
    /// The reference that it is for, where it says so.
    pub reference: Option<String>,
    /// When it was made, where it says so.
    pub signed_at: Option<String>,
    /// The commit, where it says so.
    pub commit: Option<String>,
}

impl SignatureRow {
    fn of(form: &'static str, bundle: &str) -> Option<Self> {
        let opened = Opened::parse(bundle).ok()?;
        let says = opened.says();
        let place = |says: &Claims| format!("{}:{}", says.repository, says.tag);
        Some(Self {
            form,
            key: opened.hint().map(str::to_owned),
            reference: says.as_ref().map(place),
            signed_at: says.as_ref().map(|says| says.signed_at.to_string()),
            commit: says.and_then(|says| says.commit),
        })
    }
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountRow {
    /// What names it in the cache.
    pub key: String,
    /// Its id.
    pub id: String,
    /// The platform of the steps that use it.
    pub platform: String,
    /// Bytes of its files, where known.
    pub size: Option<u64>,
    /// Number of its files, where known.
    pub files: Option<u64>,
    /// Bytes of its blobs.
    pub stored_size: u64,
    /// When it was packed, where known.
    pub created_at: Option<String>,
    /// Whether all of its blobs are there, where that was checked.
    pub present: Option<bool>,
}

impl MountRow {
    fn of(mount: &Mount, missing: Option<&HashSet<Digest>>) -> Self {
        Self {
            key: mount.key().to_owned(),
            id: mount.id().to_owned(),
            platform: mount.platform().to_owned(),
            size: mount.size(),
            files: mount.files(),
            stored_size: mount.stored(),
            created_at: mount.created().map(|time| time.to_string()),
            present: missing.map(|missing| !mount.lacks(missing)),
        }
    }
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob.
    pub size: u64,
    /// Media type of the blob.
    pub media_type: String,
    /// `gzip`, `estargz`, `zstd`, `uncompressed` or `unknown`, as the manifest says.
    pub compression: &'static str,
    /// Digest of the uncompressed content, where known.
    pub diff_id: Option<Digest>,
    /// Time it was made, where known.
    pub created_at: Option<String>,
    /// The step that made it, where known.
    pub step: Option<String>,
    /// The stage of that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The platform of that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// How long that step took when it last ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
    /// Number of results that use it.
    pub results: usize,
    /// Whether the blob is there, where that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

impl Inspection {
    /// Counts a cache. `missing` holds the blobs that are not there, where that was checked.
    pub fn new(name: &str, loaded: &Loaded, missing: Option<&HashSet<Digest>>) -> Self {
        let mut layers = Layers::default();
        for part in &loaded.parts {
            layers.add(part);
        }
        let mut list = layers.list;
        for layer in &mut list {
            layer.present = missing.map(|missing| !missing.contains(&layer.digest));
        }
        let size_of = |wanted: fn(&Layer) -> bool| -> u64 {
            let sizes = list.iter().filter(|l| wanted(l)).map(|l| l.size);
            sizes.fold(0, u64::saturating_add)
        };
        let configs = || loaded.parts.iter().map(|part| &part.config);
        let (oldest, newest) = layers.times.range();
        let inline = !loaded.manifest.is_cache();
        let mut inspection = Self {
            name: name.to_owned(),
            form: if inline {
                "inline"
            } else {
                form(loaded.manifest.form)
            },
            media_type: loaded.manifest.form.media_type().to_owned(),
            digest: loaded.raw.digest.clone(),
            manifest_size: loaded.raw.bytes.len() as u64,
            configs: loaded.parts.iter().map(config_blob).collect(),
            platforms: platforms(&loaded.parts),
            records: configs().map(|config| config.records.len()).sum(),
            results: configs().map(results).sum(),
            total_size: size_of(|_| true),
            shared_size: size_of(|layer| layer.results > 1),
            unreachable_size: size_of(|layer| layer.results == 0),
            layers: list,
            oldest,
            newest,
            mounts: loaded
                .manifest
                .extras
                .mounts()
                .iter()
                .map(|mount| MountRow::of(mount, missing))
                .collect(),
            signatures: Vec::new(),
            warnings: Vec::new(),
        };
        if let Ok(Some(parts)) = embedded::take_apart(&loaded.raw.bytes) {
            let row = SignatureRow::of("manifest", &parts.bundle);
            inspection.signatures.extend(row);
        }
        inspection.warnings = inspection.find_faults(inline, layers.unlisted);
        inspection
    }

    /// Adds the signatures that are objects of their own, by their bundles.
    pub fn add_referrers(&mut self, bundles: &[String]) {
        let rows = bundles
            .iter()
            .filter_map(|bundle| SignatureRow::of("referrer", bundle));
        self.signatures.extend(rows);
    }

    /// Names the steps that made the layers, as far as the record of the cache's builds tells them.
    pub fn name_steps(&mut self, outline: &Outline) {
        let named = outline.steps.iter().filter(|step| step.stage.is_some());
        let by_layer: HashMap<&Digest, &OutlineStep> = named
            .clone()
            .filter_map(|step| Some((step.layer.as_ref()?, step)))
            .collect();
        for layer in &mut self.layers {
            if let Some(step) = by_layer.get(&layer.digest) {
                layer.step.get_or_insert_with(|| step.name.clone());
                layer.stage.clone_from(&step.stage);
                layer.platform.clone_from(&step.platform);
                layer.milliseconds = step.milliseconds;
            }
        }
        if self.platforms.is_empty() {
            let platforms: BTreeSet<&String> = named.filter_map(|s| s.platform.as_ref()).collect();
            self.platforms = platforms.into_iter().cloned().collect();
        }
    }

    /// Returns whether a blob is not there, as far as that was checked.
    pub fn lacks_blobs(&self) -> bool {
        let layers = self.layers.iter().map(|layer| layer.present);
        let mounts = self.mounts.iter().map(|mount| mount.present);
        layers.chain(mounts).any(|present| present == Some(false))
    }

    fn find_faults(&self, inline: bool, unlisted: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        let too_large = |size: u64| size > MAX_METADATA as u64;
        if too_large(self.manifest_size) {
            warnings.push("the manifest is over 1 MiB: BuildKit does not import it".to_owned());
        }
        if !inline && self.configs.iter().any(|config| too_large(config.size)) {
            warnings.push("the config is over 1 MiB: BuildKit does not import it".to_owned());
        }
        let missing = self.layers.iter().filter(|l| l.present == Some(false));
        let unreachable = self.layers.iter().filter(|l| l.results == 0);
        let mounts = self.mounts.iter().filter(|m| m.present == Some(false));
        for (count, one, many) in [
            (
                unlisted,
                "layer of the config is not in the manifest",
                "layers of the config are not in the manifest",
            ),
            (missing.count(), "layer is missing", "layers are missing"),
            (
                mounts.count(),
                "cache mount is not whole",
                "cache mounts are not whole",
            ),
            (
                // An image has layers of its own besides those that its cache needs.
                if inline { 0 } else { unreachable.count() },
                "layer belongs to no result",
                "layers belong to no result",
            ),
        ] {
            match count {
                0 => {}
                1 => warnings.push(format!("1 {one}")),
                count => warnings.push(format!("{count} {many}")),
            }
        }
        if self.results == 0 {
            warnings.push("there is no result in it: no step will be found".to_owned());
        }
        warnings
    }
}

fn form(form: Form) -> &'static str {
    match form {
        Form::OciManifest | Form::DockerManifest => "image-manifest",
        Form::OciIndex => "index",
        Form::DockerList => "manifest-list",
    }
}

fn config_blob(part: &CachePart) -> Blob {
    Blob {
        digest: part.config_blob.digest.clone(),
        size: part.config_blob.size,
    }
}

fn platforms(parts: &[CachePart]) -> Vec<String> {
    let mut platforms: Vec<String> = parts.iter().filter_map(|p| p.platform.clone()).collect();
    platforms.dedup();
    platforms
}

fn results(config: &CacheConfig) -> usize {
    let of = config.records.iter();
    of.map(|record| record.results.len() + record.chains.len())
        .sum()
}

/// The oldest and the youngest time. A time that cannot be read is none.
#[derive(Default)]
struct Times(Option<Timestamp>, Option<Timestamp>);

impl Times {
    fn add(&mut self, text: &str) {
        let Some(time) = parse_time(text) else {
            return;
        };
        self.0 = Some(self.0.map_or(time, |old| old.min(time)));
        self.1 = Some(self.1.map_or(time, |old| old.max(time)));
    }

    fn range(&self) -> (Option<String>, Option<String>) {
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        (text(self.0), text(self.1))
    }
}

/// Go writes the year 1 for a time that is not set.
fn parse_time(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

/// The layers of all parts, each blob once.
#[derive(Default)]
struct Layers {
    list: Vec<Layer>,
    at: HashMap<Digest, usize>,
    times: Times,
    /// Layers of configs that no manifest lists.
    unlisted: usize,
}

impl Layers {
    fn add(&mut self, part: &CachePart) {
        for descriptor in &part.layers {
            if !self.at.contains_key(&descriptor.digest) {
                self.at.insert(descriptor.digest.clone(), self.list.len());
                self.list.push(layer(descriptor));
            }
            if let Some(time) = descriptor.annotation(CREATED_AT) {
                self.times.add(time);
            }
        }
        let uses = uses(&part.config);
        let times = result_times(&part.config);
        for (index, (cached, uses)) in part.config.layers.iter().zip(uses).enumerate() {
            let at = self.at.get(&cached.blob);
            let Some(layer) = at.and_then(|at| self.list.get_mut(*at)) else {
                self.unlisted += 1;
                continue;
            };
            layer.results += uses;
            if layer.created_at.is_none() {
                let annotated = cached.annotations.as_ref().map(|a| a.created_at.as_str());
                let known = annotated.filter(|time| parse_time(time).is_some());
                let known = known.or(times.get(&index).copied());
                layer.created_at = known.map(str::to_owned);
            }
        }
        for record in &part.config.records {
            let results = record.results.iter().map(|result| &result.created_at);
            let chains = record.chains.iter().map(|chain| &chain.created_at);
            results.chain(chains).for_each(|time| self.times.add(time));
        }
    }
}

fn layer(descriptor: &Descriptor) -> Layer {
    let annotation = |key: &str| descriptor.annotation(key).filter(|text| !text.is_empty());
    Layer {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        compression: compression(descriptor),
        diff_id: descriptor.diff_id(),
        created_at: annotation(CREATED_AT)
            .filter(|time| parse_time(time).is_some())
            .map(str::to_owned),
        step: annotation(DESCRIPTION).map(str::to_owned),
        stage: None,
        platform: None,
        milliseconds: None,
        results: 0,
        present: None,
    }
}

fn compression(descriptor: &Descriptor) -> &'static str {
    match algorithm_of(&descriptor.media_type) {
        Some(Algorithm::Gzip) if descriptor.annotation(STARGZ_TOC).is_some() => "estargz",
        Some(Algorithm::Gzip) => "gzip",
        Some(Algorithm::Zstd) => "zstd",
        Some(Algorithm::Uncompressed) => "uncompressed",
        None => "unknown",
    }
}

/// The time of a result that ends at a layer, by the layer's index.
fn result_times(config: &CacheConfig) -> HashMap<usize, &str> {
    let mut times = HashMap::new();
    for record in &config.records {
        for result in &record.results {
            if parse_time(&result.created_at).is_some() {
                times
                    .entry(result.layer)
                    .or_insert(result.created_at.as_str());
            }
        }
        for chain in &record.chains {
            if let Some(last) = chain.layers.last()
                && parse_time(&chain.created_at).is_some()
            {
                times.entry(*last).or_insert(chain.created_at.as_str());
            }
        }
    }
    times
}

/// How many results use each layer: those that end at it or above it. Each layer hands its count
/// down to its parent once all above it have handed theirs.
fn uses(config: &CacheConfig) -> Vec<usize> {
    let count = config.layers.len();
    let mut uses = vec![0; count];
    let mut chained = vec![0; count];
    let mut above = vec![0_usize; count];
    let add = |list: &mut Vec<usize>, index: usize, more: usize| {
        if let Some(slot) = list.get_mut(index) {
            *slot += more;
        }
    };
    for record in &config.records {
        for result in &record.results {
            add(&mut uses, result.layer, 1);
        }
        for layer in record.chains.iter().flat_map(|chain| &chain.layers) {
            add(&mut chained, *layer, 1);
        }
    }
    let parent = |index: usize| config.layers.get(index).and_then(|layer| layer.parent.0);
    for index in 0..count {
        if let Some(parent) = parent(index) {
            add(&mut above, parent, 1);
        }
    }
    let free = |above: &[usize], index: usize| above.get(index) == Some(&0);
    let mut open: Vec<usize> = (0..count).filter(|index| free(&above, *index)).collect();
    while let Some(index) = open.pop() {
        let Some(parent) = parent(index) else {
            continue;
        };
        let own = uses.get(index).copied().unwrap_or_default();
        add(&mut uses, parent, own);
        if let Some(left) = above.get_mut(parent) {
            *left = left.saturating_sub(1);
        }
        if free(&above, parent) {
            open.push(parent);
        }
    }
    uses.iter()
        .zip(chained)
        .map(|(own, chain)| own + chain)
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
