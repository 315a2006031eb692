//! The caches of a build: checked against its outputs, and turned into what BuildKit is told.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::buildkit::solve::Entry;
use crate::digest::Digest;
use crate::options::boolean::parse_bool;
use crate::options::cache::{CacheFrom, CacheTo, Compression, Compressor, RegistryCacheTo, Via};
use crate::options::output::{Output, OutputType};
use crate::options::tag::Tag;
use crate::reference::{DEFAULT_TAG, Reference};

/// Build argument that asks for an inline cache, from before there was `--cache-to`.
const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";

/// Why the caches cannot be served.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CacheError {
    /// The cache would overwrite the image, or the reverse.
    #[error("the cache reference {0:?} is the image's own name; each would overwrite the other")]
    ImageItself(String),
    /// Two exports to one reference.
    #[error("two caches are exported to {0:?}; the second would overwrite the first")]
    Twice(String),
    /// Keys that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A value of a local cache is wrong.
    #[error("invalid value {value:?} for {key:?} of a cache of type=local")]
    Local {
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
    },
}

impl CacheError {
    /// Returns what the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::ImageItself(reference) => {
                format!("give the cache a tag of its own, such as {reference}-cache")
            }
            Self::Twice(_) => "leave out one of them, or give them two tags".to_owned(),
            Self::Local { key: "digest", .. } => "give a digest such as sha256:…".to_owned(),
            Self::Local { key: "tag", .. } => "give a tag, or leave the key out".to_owned(),
            Self::Local { .. } => "give true or false".to_owned(),
            Self::Contradiction(_) => "change one of the keys of --cache-to".to_owned(),
        }
    }
}

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

/// Where one cache is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheImport {
    /// No registry and no folder; BuildKit reads it by itself.
    Builder(Entry),
    /// A layout folder, read through the session.
    Layout(LayoutImport),
    /// A registry, read by BuildKit itself as the entry says.
    Registry(RegistrySource, Entry),
    /// A registry, read by this program and served through the session.
    Client(RegistrySource),
}

/// A registry's cache to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySource {
    /// Where from.
    pub reference: Reference,
    /// The reference as the user wrote it.
    pub raw_ref: String,
    /// Plain HTTP, or HTTPS with any certificate.
    pub insecure: bool,
}

impl RegistrySource {
    /// Returns what the reference names in its repository: the digest, else the tag.
    pub fn named(&self) -> &str {
        let tag = self.reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
        self.reference.digest.as_deref().unwrap_or(tag)
    }
}

/// A cache that is read from a layout folder (`type=local`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutImport {
    /// The folder as the user wrote it.
    pub src: String,
    /// The tag in the folder's index.
    pub tag: String,
    /// The manifest, where the user named it; the tag does not count then.
    pub digest: Option<Digest>,
    /// What BuildKit is told, but for the digest.
    pub attrs: BTreeMap<String, String>,
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

fn local_tag(attrs: &BTreeMap<String, String>) -> Result<String, CacheError> {
    match attrs.get("tag").map(String::as_str) {
        None => Ok(DEFAULT_TAG.to_owned()),
        Some("") => Err(CacheError::Local {
            key: "tag",
            value: String::new(),
        }),
        Some(tag) => Ok(tag.to_owned()),
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

/// Returns where the caches are read from.
///
/// # Errors
///
/// Fails where a value of a local cache is wrong.
pub fn imports(caches: &[CacheFrom]) -> Result<Vec<CacheImport>, CacheError> {
    caches
        .iter()
        .map(|cache| match cache {
            CacheFrom::Registry {
                reference,
                raw_ref,
                insecure,
                via,
            } => {
                let source = RegistrySource {
                    reference: reference.clone(),
                    raw_ref: raw_ref.clone(),
                    insecure: *insecure == Some(true),
                };
                Ok(match via {
                    Via::Client => CacheImport::Client(source),
                    Via::Auto | Via::Builder => CacheImport::Registry(source, entry_of(cache)),
                })
            }
            CacheFrom::Other { kind, attrs } if kind == "local" => {
                layout_import(attrs).map(CacheImport::Layout)
            }
            CacheFrom::Other { .. } => Ok(CacheImport::Builder(entry_of(cache))),
        })
        .collect()
}

fn entry_of(cache: &CacheFrom) -> Entry {
    Entry {
        kind: cache.kind().to_owned(),
        attrs: cache.attrs(),
    }
}

fn layout_import(attrs: &BTreeMap<String, String>) -> Result<LayoutImport, CacheError> {
    let digest = attrs.get("digest").filter(|digest| !digest.is_empty());
    let digest = digest.map(|text| {
        text.parse().map_err(|_| CacheError::Local {
            key: "digest",
            value: text.clone(),
        })
    });
    Ok(LayoutImport {
        src: attrs.get("src").cloned().unwrap_or_default(),
        tag: local_tag(attrs)?,
        digest: digest.transpose()?,
        attrs: attrs.clone(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn to(values: &[&str]) -> Vec<CacheTo> {
        values
            .iter()
            .flat_map(|v| CacheTo::parse(v).unwrap())
            .collect()
    }

    fn exports_of(
        values: &[&str],
        tags: &[&str],
        outputs: &[&str],
    ) -> Result<Vec<Entry>, CacheError> {
        let tags = Tag::parse_list(tags).unwrap();
        let outputs: Vec<_> = outputs.iter().map(|o| Output::parse(o).unwrap()).collect();
        exports(&to(values), &tags, &outputs, &BTreeMap::new()).map(|exports| exports.entries)
    }

    #[test]
    fn registry_cache_goes_as_the_user_wrote_it() {
        let entries = exports_of(
            &["type=registry,ref=r.io/app:cache,mode=max,compression=zstd,compression-level=3"],
            &["r.io/app"],
            &[],
        )
        .unwrap();
        assert_eq!(entries[0].kind, "registry");
        assert_eq!(entries[0].attrs["ref"], "r.io/app:cache");
        assert_eq!(entries[0].attrs["mode"], "max");
        assert_eq!(entries[0].attrs["compression-level"], "3");
        assert_eq!(entries[0].attrs.len(), 4);
    }

    #[test]
    fn docker_media_types_need_the_list_form() {
        let entries = exports_of(
            &["type=registry,ref=r.io/a:c,oci-mediatypes=false"],
            &[],
            &[],
        );
        assert_eq!(entries.unwrap()[0].attrs["image-manifest"], "false");
    }

    #[test]
    fn the_images_own_name_is_refused_in_every_spelling() {
        for (cache, tag) in [
            ("app", "docker.io/library/app:latest"),
            ("r.io/a:1", "r.io/a:1"),
        ] {
            assert!(
                matches!(
                    exports_of(&[cache], &[tag], &[]),
                    Err(CacheError::ImageItself(_))
                ),
                "{cache}"
            );
        }
        let named = exports_of(
            &["r.io/a:1"],
            &[],
            &["type=registry,\"name=r.io/b,r.io/a:1\""],
        );
        assert!(matches!(named, Err(CacheError::ImageItself(_))));
        assert!(exports_of(&["r.io/a:cache"], &["r.io/a:1"], &[]).is_ok());
    }

    #[test]
    fn two_exports_to_one_reference_are_refused() {
        let twice = exports_of(
            &["r.io/a:c", "type=registry,ref=r.io/a:c,mode=max"],
            &[],
            &[],
        );
        assert!(matches!(twice, Err(CacheError::Twice(_))));
        assert_eq!(
            exports_of(&["r.io/a:c", "r.io/a:d"], &[], &[])
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn local_caches_go_to_stores_of_the_session() {
        let lines = [
            "type=local,dest=d,mode=max,compression=zstd",
            "type=local,dest=d,tag=t,reset=true",
        ];
        let plan = exports(&to(&lines), &[], &[], &BTreeMap::new()).unwrap();
        let [first, second] = &plan.layouts[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(
            (first.dest.as_str(), first.tag.as_str(), first.reset),
            ("d", "latest", false)
        );
        assert_eq!(
            (second.dest.as_str(), second.tag.as_str(), second.reset),
            ("d", "t", true)
        );
        assert_ne!(first.store, second.store);
        let attrs = &plan.entries[0].attrs;
        assert_eq!(first.store, format!("local:{}", attrs["dest"]));
        assert_eq!(
            (attrs["mode"].as_str(), attrs["compression"].as_str()),
            ("max", "zstd")
        );
        for wrong in [
            &["type=local,dest=d,reset=x"][..],
            &["type=local,dest=d,tag="],
            &["type=local,dest=d", "type=local,dest=d"],
        ] {
            assert!(
                exports(&to(wrong), &[], &[], &BTreeMap::new()).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn imports_name_who_reads() {
        let of = |value: &str| imports(&CacheFrom::parse(value).unwrap());
        let [CacheImport::Client(source)] =
            &of("type=registry,ref=r.io/a:c,via=client,registry.insecure=true").unwrap()[..]
        else {
            panic!()
        };
        assert_eq!(
            (source.raw_ref.as_str(), source.insecure, source.named()),
            ("r.io/a:c", true, "c")
        );
        let [CacheImport::Registry(source, entry)] = &of("r.io/a").unwrap()[..] else {
            panic!()
        };
        assert_eq!(entry.attrs["ref"], "r.io/a");
        assert_eq!(source.named(), "latest");
        let [CacheImport::Builder(entry)] = &of("type=gha").unwrap()[..] else {
            panic!()
        };
        assert_eq!(entry.kind, "gha");
        let [CacheImport::Layout(layout)] = &of("type=local,src=d").unwrap()[..] else {
            panic!()
        };
        assert_eq!(
            (layout.src.as_str(), layout.tag.as_str(), &layout.digest),
            ("d", "latest", &None)
        );
        assert!(of("type=local,src=d,digest=sha256:00").is_err());
        assert!(of("type=local,src=d,tag=").is_err());
    }

    #[test]
    fn inline_cache_by_build_argument() {
        let args = BTreeMap::from([(INLINE_CACHE_ARG.to_owned(), "1".to_owned())]);
        let entries = exports(&[], &[], &[], &args).unwrap().entries;
        assert_eq!(entries[0].kind, "inline");
    }

    #[test]
    fn via_client_is_a_local_export_to_a_store_of_the_session() {
        let line = "type=registry,ref=r.io/a:c,mode=max,compression=zstd,compression-level=3";
        let plan = |extra: &str| {
            exports(
                &to(&[&format!("{line},{extra}")]),
                &[],
                &[],
                &BTreeMap::new(),
            )
            .unwrap()
        };
        let given = plan("via=client");
        let attrs = &given.entries[0].attrs;
        assert_eq!(given.entries[0].kind, "local");
        assert_eq!(given.client[0].store, format!("local:{}", attrs["dest"]));
        assert_eq!(attrs["compression"], "zstd");
        assert_eq!(attrs["mode"], "max");
        assert!(!attrs.contains_key("ref"));
        let compressed = plan("compressor=client");
        assert_eq!(compressed.entries[0].attrs["compression"], "uncompressed");
        assert!(
            !compressed.entries[0]
                .attrs
                .contains_key("compression-level")
        );
        assert!(plan("via=builder").client.is_empty());
    }

    #[test]
    fn what_is_united_or_cut_goes_through_the_session() {
        for key in ["merge=true", "max-age=1h", "max-size=1g", "max-records=10"] {
            let line = format!("type=registry,ref=r.io/a:c,{key}");
            let plan = exports(&to(&[&line]), &[], &[], &BTreeMap::new()).unwrap();
            assert_eq!(plan.client.len(), 1, "{key}");
            let contradiction = exports_of(&[&format!("{line},via=builder")], &[], &[]);
            let Err(CacheError::Contradiction(text)) = contradiction else {
                panic!("{key}: {contradiction:?}")
            };
            assert!(text.contains(key.split('=').next().unwrap()), "{text}");
        }
    }

    #[test]
    fn compressing_here_excludes_images_estargz_and_the_builders_upload() {
        let line = "type=registry,ref=r.io/a:c,compressor=client";
        for (extra, outputs) in [
            ("via=builder", &[][..]),
            ("compression=estargz", &[]),
            ("compression=zstd", &["type=docker"]),
        ] {
            let result = exports_of(&[&format!("{line},{extra}")], &[], outputs);
            assert!(
                matches!(result, Err(CacheError::Contradiction(_))),
                "{extra}"
            );
        }
        assert!(exports_of(&[line], &[], &["type=local,dest=x"]).is_ok());
    }
}
