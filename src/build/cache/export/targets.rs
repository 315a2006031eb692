//! Where the caches of a build are written to. Everything about each cache is decided here, once.

mod check;

use std::collections::BTreeMap;

use crate::build::cache::error::{CacheError, local_tag};
use crate::build::cache::store_id::StoreId;
use crate::buildkit::solve::Entry;
use crate::options::boolean::parse_bool;
use crate::options::cache::{
    CacheTo, Compression, Compressor, Mode, OnFailure, RegistryCacheTo, Told, Via,
};
use crate::options::output::Output;
use crate::options::tag::Tag;
use crate::reference::{DEFAULT_TAG, Reference};

/// Build argument that asks for an inline cache, from before there was `--cache-to`.
pub(super) const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";

/// The attributes of an exporter that say how layers are compressed.
const COMPRESSION_KEYS: [&str; 2] = ["compression", "compression-level"];

/// What a build makes and asks for, as far as its caches depend on it.
#[derive(Debug, Clone, Copy)]
pub struct CacheContext<'a> {
    /// Names of the image.
    pub tags: &'a [Tag],
    /// What becomes of the result.
    pub outputs: &'a [Output],
    /// Build arguments.
    pub build_args: &'a BTreeMap<String, String>,
}

/// A cache that a build writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTarget {
    /// A registry.
    Registry(Box<RegistryTarget>),
    /// A layout folder (`type=local`), which BuildKit writes through the session.
    Layout(LayoutTarget),
    /// Neither; BuildKit writes it without this program.
    Builder(Entry),
}

/// Who stores a registry cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// This program; BuildKit writes it to the session.
    Client,
    /// BuildKit; this program only keeps what is left of a build that fails.
    Builder,
}

/// When the registry is asked what the reference holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// At once, beside the build.
    Now,
    /// When there is something to store.
    WhenNeeded,
}

/// What is done with the layers of a step that has finished while the build runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyExport {
    /// They are sent to the registry by this program.
    Upload,
    /// They are compressed in the builder, which sends them itself at the end.
    Compress,
    /// Nothing, before the end.
    Off,
}

/// A registry cache to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryTarget {
    /// What the user asked for.
    pub cache: RegistryCacheTo,
    /// Who stores it.
    pub via: Carrier,
    /// When the registry is asked what the reference holds.
    pub lookup: Lookup,
    /// What is done while the build runs.
    pub early: EarlyExport,
    /// The store that BuildKit writes to where it goes through the session.
    pub store: StoreId,
    /// A repository of the same registry that the build pushes an image to.
    pub mount_from: Option<String>,
    /// The build pushes an image to the cache's own repository.
    pub shares_repository: bool,
    /// How layers of the result are compressed where it is otherwise than the rest (`compression=auto`): the image's
    /// attributes.
    pub result_layers: Option<BTreeMap<String, String>>,
}

/// A cache to write to a layout folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutTarget {
    /// The folder as the user wrote it.
    pub dest: String,
    /// The tag in the folder's index.
    pub tag: String,
    /// Blobs that no tag leads to are removed afterwards.
    pub reset: bool,
    /// Whether the build succeeds though the folder cannot be written.
    pub ignore_error: bool,
    /// The store that BuildKit writes to. It has a name of its own, so that two exports to one folder are told apart.
    pub store: StoreId,
    /// What the user wrote.
    attrs: BTreeMap<String, String>,
}

/// Resolves the caches to write.
///
/// # Errors
///
/// Fails if a registry cache has the name of an image that the build makes, if two have one name, or if keys
/// contradict each other or are not served.
pub fn targets(
    caches: &[CacheTo],
    build: CacheContext<'_>,
) -> Result<Vec<CacheTarget>, CacheError> {
    let images = check::image_names(build.tags, build.outputs);
    let mut seen: Vec<&Reference> = Vec::new();
    let mut targets = Vec::new();
    for cache in caches {
        targets.push(match cache {
            CacheTo::Registry(cache) => {
                check::reference(cache, &images, &seen)?;
                seen.push(&cache.reference);
                check::keys(cache, build.outputs)?;
                CacheTarget::Registry(Box::new(registry(cache, build)))
            }
            CacheTo::Other { kind, attrs } if kind == "local" => {
                let target = layout(attrs)?;
                check::layout(&target, &targets)?;
                CacheTarget::Layout(target)
            }
            CacheTo::Other { kind, .. } => CacheTarget::Builder(Entry {
                kind: kind.clone(),
                attrs: cache.attrs(),
            }),
        });
    }
    let asked = build.build_args.get(INLINE_CACHE_ARG).map(String::as_str);
    if asked.is_some_and(|v| parse_bool(v) == Some(true)) {
        targets.push(CacheTarget::Builder(Entry {
            kind: "inline".into(),
            attrs: BTreeMap::new(),
        }));
    }
    Ok(targets)
}

impl CacheTarget {
    /// Returns what BuildKit is told of it with the build itself.
    pub fn entry(&self) -> Entry {
        match self {
            Self::Registry(target) => target.entry(),
            Self::Layout(target) => target.entry(),
            Self::Builder(entry) => entry.clone(),
        }
    }

    /// Returns whether layers are made as zstd for it.
    pub fn takes_zstd(&self) -> bool {
        let entry = self.entry();
        entry
            .attrs
            .get("compression")
            .is_some_and(|kind| kind == "zstd")
    }

    /// Returns whether the builder sends it somewhere: a layout goes through the session, and an `inline` cache is part
    /// of the image.
    pub fn is_sent_by_builder(&self) -> bool {
        match self {
            Self::Registry(target) => target.via == Carrier::Builder,
            Self::Layout(_) => false,
            Self::Builder(entry) => entry.kind != "inline",
        }
    }
}

impl RegistryTarget {
    /// Returns what BuildKit is told of it with the build itself.
    pub fn entry(&self) -> Entry {
        match self.via {
            Carrier::Client => session_entry(self.session_attrs(), &self.store),
            Carrier::Builder => Entry {
                kind: "registry".into(),
                attrs: self.attrs(),
            },
        }
    }

    fn attrs(&self) -> BTreeMap<String, String> {
        let mut attrs = self.cache.attrs();
        if self.result_layers.is_some() {
            // Layers that the image has by then stay as they are.
            attrs.insert("compression".into(), "zstd".into());
        }
        attrs
    }

    /// Returns the attributes of BuildKit's exporter to a store of the session, without the store: those of the
    /// registry's exporter, but for the reference.
    pub fn session_attrs(&self) -> BTreeMap<String, String> {
        let mut attrs = self.attrs();
        attrs.remove("ref");
        attrs.remove("registry.insecure");
        if self.cache.compressor == Compressor::Client {
            attrs.insert("compression".into(), "uncompressed".into());
            attrs.remove("compression-level");
        }
        attrs
    }

    /// Returns whether the cache has the results of all steps.
    pub fn is_max(&self) -> bool {
        self.cache.mode == Mode::Max
    }

    /// Returns whether the cache is published when the build fails.
    pub fn survives_failure(&self) -> bool {
        self.cache.on_failure == OnFailure::Export
    }

    /// Returns the tag that the cache is stored under.
    pub fn tag(&self) -> &str {
        let tag = self.cache.reference.tag.as_deref();
        tag.unwrap_or(DEFAULT_TAG)
    }
}

impl LayoutTarget {
    fn entry(&self) -> Entry {
        session_entry(self.attrs.clone(), &self.store)
    }
}

/// Returns an export to a store of the session.
pub fn session_entry(mut attrs: BTreeMap<String, String>, store: &StoreId) -> Entry {
    attrs.insert("dest".into(), store.attr());
    Entry {
        kind: "local".into(),
        attrs,
    }
}

fn registry(cache: &RegistryCacheTo, build: CacheContext<'_>) -> RegistryTarget {
    let via = carrier(cache);
    let early = match via {
        _ if cache.alongside == Some(false) => EarlyExport::Off,
        Carrier::Client => EarlyExport::Upload,
        Carrier::Builder => EarlyExport::Compress,
    };
    let any_push = build.outputs.iter().any(Output::pushes);
    let tags = build.tags.iter().filter(|_| any_push);
    let pushed: Vec<&Reference> = tags.map(|tag| &tag.reference).collect();
    let shares_repository = pushed.iter().any(|r| r.same_repository(&cache.reference));
    let mut neighbours = pushed.iter();
    let neighbour = neighbours.find(|r| r.domain == cache.reference.domain);
    RegistryTarget {
        cache: cache.clone(),
        via,
        lookup: match via {
            Carrier::Client => Lookup::Now,
            // What the record of the cache says must be read before BuildKit writes another.
            Carrier::Builder if cache.told() != Told::Off => Lookup::Now,
            // As must its mounts, which BuildKit's manifest will not have.
            Carrier::Builder if cache.kept_mounts().is_some() => Lookup::Now,
            Carrier::Builder => Lookup::WhenNeeded,
        },
        early,
        store: StoreId::random(),
        mount_from: neighbour
            .filter(|_| !shares_repository)
            .map(|r| r.path.clone()),
        shares_repository,
        result_layers: result_layers(cache, build.outputs),
    }
}

/// Decides what `compression=auto` is: with an image, whose layers are made before the cache, the others are zstd. Without
/// one nothing would keep the layers of the result from being zstd, too, and with Docker's media types they must not
/// be: then all is as BuildKit has it, gzip.
fn result_layers(cache: &RegistryCacheTo, outputs: &[Output]) -> Option<BTreeMap<String, String>> {
    let is_auto = cache.compression == Some(Compression::Auto)
        && cache.oci_mediatypes != Some(false)
        && cache.compressor != Compressor::Client;
    let mut images = outputs.iter().filter(|output| output.is_image());
    let image = images.next().filter(|_| is_auto)?;
    let given = image.attrs.iter();
    let given = given.filter(|(key, _)| COMPRESSION_KEYS.contains(&key.as_str()));
    Some(given.map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// This program carries a cache where it is asked to, or must because it compresses, merges, cuts or cleans.
fn carrier(cache: &RegistryCacheTo) -> Carrier {
    let must = cache.compressor == Compressor::Client
        || cache.merge
        || cache.clean.is_some()
        || check::is_bounded(cache);
    match cache.via {
        Via::Client => Carrier::Client,
        Via::Auto if must => Carrier::Client,
        Via::Auto | Via::Builder => Carrier::Builder,
    }
}

fn layout(attrs: &BTreeMap<String, String>) -> Result<LayoutTarget, CacheError> {
    let flag = |key: &'static str| match attrs.get(key) {
        None => Ok(false),
        Some(value) => parse_bool(value).ok_or_else(|| CacheError::Local {
            key,
            value: value.clone(),
        }),
    };
    Ok(LayoutTarget {
        dest: attrs.get("dest").cloned().unwrap_or_default(),
        tag: local_tag(attrs)?,
        reset: flag("reset")?,
        ignore_error: flag("ignore-error")?,
        store: StoreId::random(),
        attrs: attrs.clone(),
    })
}
