//! Where the caches of a build are written to.

use std::collections::BTreeMap;

use super::{CacheError, local_tag};
use crate::buildkit::solve::Entry;
use crate::options::boolean::parse_bool;
use crate::options::cache::{CacheTo, Compression, Compressor, RegistryCacheTo, Via};
use crate::options::output::{Output, OutputType};
use crate::options::tag::Tag;
use crate::reference::Reference;

/// Build argument that asks for an inline cache, from before there was `--cache-to`.
pub(super) const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";

/// The cache exports of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheExports {
    /// What BuildKit is told, exports through the session included.
    pub entries: Vec<Entry>,
    /// The exports that go through the session.
    pub client: Vec<ClientExport>,
    /// The exports to registries that the builder makes, as they would go through the session.
    pub builder: Vec<ClientExport>,
    /// The exports to layout folders.
    pub layouts: Vec<LayoutExport>,
}

/// A cache that is written to a layout folder (`type=local`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutExport {
    /// The folder as the user wrote it.
    pub dest: String,
    /// The tag in the folder's index.
    pub tag: String,
    /// Blobs that no tag leads to are removed afterwards.
    pub reset: bool,
    /// Whether the build succeeds though the folder cannot be written.
    pub ignore_error: bool,
    /// Identifier of the content store that BuildKit writes to.
    pub store: String,
}

/// A registry cache that BuildKit hands to the session's content store and this program stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientExport {
    /// What the user asked for.
    pub cache: RegistryCacheTo,
    /// What BuildKit is told of it.
    pub entry: Entry,
    /// Identifier of the content store that BuildKit writes to.
    pub store: String,
}

/// Returns the cache exports for BuildKit.
///
/// # Errors
///
/// Fails where a registry cache has the name of an image that the build makes, where two have one
/// name, or where keys contradict each other or are not served.
pub fn exports(
    caches: &[CacheTo],
    tags: &[Tag],
    outputs: &[Output],
    build_args: &BTreeMap<String, String>,
) -> Result<CacheExports, CacheError> {
    let images = image_names(tags, outputs);
    let mut seen: Vec<&Reference> = Vec::new();
    let mut exports = CacheExports::default();
    for cache in caches {
        match cache {
            CacheTo::Registry(cache) => {
                check_reference(cache, &images, &seen)?;
                seen.push(&cache.reference);
                check_keys(cache, outputs)?;
                exports.add(cache);
            }
            CacheTo::Other { kind, attrs } if kind == "local" => exports.add_local(attrs)?,
            CacheTo::Other { kind, .. } => {
                exports.entries.push(Entry {
                    kind: kind.clone(),
                    attrs: cache.attrs(),
                });
            }
        }
    }
    let asked = build_args.get(INLINE_CACHE_ARG).map(String::as_str);
    if asked.is_some_and(|v| parse_bool(v) == Some(true)) {
        exports.entries.push(Entry {
            kind: "inline".into(),
            attrs: BTreeMap::new(),
        });
    }
    Ok(exports)
}

impl CacheExports {
    fn add(&mut self, cache: &RegistryCacheTo) {
        let id = crate::buildkit::new_id();
        let export = ClientExport {
            cache: cache.clone(),
            entry: Entry {
                kind: "local".into(),
                attrs: session_attrs(cache, &id),
            },
            // BuildKit `cache/remotecache/local`: the store of a local cache has this prefix.
            store: format!("local:{id}"),
        };
        if goes_through_session(cache) {
            self.entries.push(export.entry.clone());
            self.client.push(export);
        } else {
            self.entries.push(Entry {
                kind: "registry".into(),
                attrs: cache.attrs(),
            });
            self.builder.push(export);
        }
    }

    /// The store has a name of its own, so that two exports to one folder are told apart.
    fn add_local(&mut self, attrs: &BTreeMap<String, String>) -> Result<(), CacheError> {
        let dest = attrs.get("dest").cloned().unwrap_or_default();
        let tag = local_tag(attrs)?;
        let flag = |key: &'static str| match attrs.get(key) {
            None => Ok(false),
            Some(value) => parse_bool(value).ok_or_else(|| CacheError::Local {
                key,
                value: value.clone(),
            }),
        };
        let (reset, ignore_error) = (flag("reset")?, flag("ignore-error")?);
        let same = |other: &LayoutExport| other.dest == dest && other.tag == tag;
        if self.layouts.iter().any(same) {
            return Err(CacheError::Twice(format!("{dest}:{tag}")));
        }
        let id = crate::buildkit::new_id();
        let mut told = attrs.clone();
        told.insert("dest".into(), id.clone());
        self.entries.push(Entry {
            kind: "local".into(),
            attrs: told,
        });
        self.layouts.push(LayoutExport {
            dest,
            tag,
            reset,
            ignore_error,
            store: format!("local:{id}"),
        });
        Ok(())
    }
}

/// Tells whether this program moves the cache: where it is asked to, or must because it compresses,
/// unites or cuts.
fn goes_through_session(cache: &RegistryCacheTo) -> bool {
    match cache.via {
        Via::Client => true,
        Via::Builder => false,
        Via::Auto => cache.compressor == Compressor::Client || cache.merge || is_bounded(cache),
    }
}

fn is_bounded(cache: &RegistryCacheTo) -> bool {
    cache.max_age.is_some() || cache.max_size.is_some() || cache.max_records.is_some()
}

/// The attributes of BuildKit's exporter to the session's store. It has those of the registry's
/// exporter, but for the reference.
fn session_attrs(cache: &RegistryCacheTo, id: &str) -> BTreeMap<String, String> {
    let mut attrs = cache.attrs();
    attrs.remove("ref");
    attrs.remove("registry.insecure");
    attrs.insert("dest".into(), id.to_owned());
    if cache.compressor == Compressor::Client {
        attrs.insert("compression".into(), "uncompressed".into());
        attrs.remove("compression-level");
    }
    attrs
}

fn check_reference(
    cache: &RegistryCacheTo,
    images: &[Reference],
    seen: &[&Reference],
) -> Result<(), CacheError> {
    if images
        .iter()
        .any(|image| image.same_target(&cache.reference))
    {
        return Err(CacheError::ImageItself(cache.raw_ref.clone()));
    }
    if seen.iter().any(|other| other.same_target(&cache.reference)) {
        return Err(CacheError::Twice(cache.raw_ref.clone()));
    }
    Ok(())
}

fn check_keys(cache: &RegistryCacheTo, outputs: &[Output]) -> Result<(), CacheError> {
    if cache.via == Via::Builder && cache.merge {
        return Err(CacheError::Contradiction(
            "merge=true needs via=client: the builder replaces what the reference holds",
        ));
    }
    if cache.via == Via::Builder && is_bounded(cache) {
        return Err(CacheError::Contradiction(
            "max-age, max-size and max-records need via=client: the builder drops nothing",
        ));
    }
    if cache.compressor != Compressor::Client {
        return Ok(());
    }
    if cache.via == Via::Builder {
        return Err(CacheError::Contradiction(
            "compressor=client needs via=client: the program can only compress what it moves",
        ));
    }
    if cache.compression == Some(Compression::Estargz) {
        return Err(CacheError::Contradiction(
            "compression=estargz is made by the builder only, leave out compressor=client",
        ));
    }
    let image = |output: &Output| {
        matches!(
            output.kind,
            OutputType::Image | OutputType::Oci | OutputType::Docker
        )
    };
    if outputs.iter().any(image) {
        return Err(CacheError::Contradiction(
            "compressor=client cannot be used in a build that makes an image: its layers would be \
             taken uncompressed and pushed so",
        ));
    }
    Ok(())
}

/// The names of every image that the build makes. A name that is no valid reference is refused
/// elsewhere.
fn image_names(tags: &[Tag], outputs: &[Output]) -> Vec<Reference> {
    let named = outputs.iter().filter_map(|output| output.attrs.get("name"));
    let named = named
        .flat_map(|names| names.split(','))
        .filter_map(|name| Reference::parse_normalized(name).ok());
    tags.iter()
        .map(|tag| tag.reference.clone())
        .chain(named)
        .collect()
}
