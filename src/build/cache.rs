//! The caches of a build: checked against its outputs, and turned into what BuildKit is told.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::buildkit::solve::Entry;
use crate::options::cache::{CacheFrom, CacheTo, Compressor, OnFailure, RegistryCacheTo, Via};
use crate::options::output::Output;
use crate::options::tag::Tag;
use crate::reference::Reference;

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
    /// A key or type that this version does not serve.
    #[error("{0} is not supported by this version of cachex")]
    Unsupported(String),
}

impl CacheError {
    /// Returns what the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::ImageItself(reference) => {
                format!("give the cache a tag of its own, such as {reference}-cache")
            }
            Self::Twice(_) => "leave out one of them, or give them two tags".to_owned(),
            Self::Unsupported(_) => "leave it out, or use docker buildx for it".to_owned(),
        }
    }
}

/// Returns the cache exports for BuildKit.
///
/// # Errors
///
/// Fails where a registry cache has the name of an image that the build makes, where two have one
/// name, or where a key is not served.
pub fn exports(
    caches: &[CacheTo],
    tags: &[Tag],
    outputs: &[Output],
    build_args: &BTreeMap<String, String>,
) -> Result<Vec<Entry>, CacheError> {
    let images = image_names(tags, outputs);
    let mut seen: Vec<&Reference> = Vec::new();
    let mut entries = Vec::new();
    for cache in caches {
        match cache {
            CacheTo::Registry(cache) => {
                if images
                    .iter()
                    .any(|image| image.same_target(&cache.reference))
                {
                    return Err(CacheError::ImageItself(cache.raw_ref.clone()));
                }
                if seen.iter().any(|other| other.same_target(&cache.reference)) {
                    return Err(CacheError::Twice(cache.raw_ref.clone()));
                }
                seen.push(&cache.reference);
                refuse_unserved(cache)?;
            }
            CacheTo::Other { kind, .. } => refuse_local(kind)?,
        }
        entries.push(Entry {
            kind: cache.kind().to_owned(),
            attrs: cache.attrs(),
        });
    }
    let asked = build_args.get(INLINE_CACHE_ARG).map(String::as_str);
    if asked.is_some_and(|v| crate::options::boolean::parse_bool(v) == Some(true)) {
        entries.push(Entry {
            kind: "inline".into(),
            attrs: BTreeMap::new(),
        });
    }
    Ok(entries)
}

/// Returns the cache imports for BuildKit.
///
/// # Errors
///
/// Fails where a key is not served.
pub fn imports(caches: &[CacheFrom]) -> Result<Vec<Entry>, CacheError> {
    caches
        .iter()
        .map(|cache| {
            match cache {
                CacheFrom::Registry {
                    via: Via::Client, ..
                } => {
                    return Err(CacheError::Unsupported("via=client in --cache-from".into()));
                }
                CacheFrom::Registry { .. } => {}
                CacheFrom::Other { kind, .. } => refuse_local(kind)?,
            }
            Ok(Entry {
                kind: cache.kind().to_owned(),
                attrs: cache.attrs(),
            })
        })
        .collect()
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

fn refuse_unserved(cache: &RegistryCacheTo) -> Result<(), CacheError> {
    let keys = [
        ("via=client", cache.via == Via::Client),
        ("compressor=client", cache.compressor == Compressor::Client),
        ("merge=true", cache.merge),
        ("on-failure", cache.on_failure == OnFailure::Skip),
        ("on-failure-timeout", cache.on_failure_timeout.is_some()),
        ("alongside", cache.alongside.is_some()),
        ("max-age", cache.max_age.is_some()),
        ("max-size", cache.max_size.is_some()),
        ("max-records", cache.max_records.is_some()),
    ];
    match keys.into_iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(CacheError::Unsupported(format!("{key} in --cache-to"))),
        None => Ok(()),
    }
}

/// A cache in a local folder goes through a content store of the session.
fn refuse_local(kind: &str) -> Result<(), CacheError> {
    if kind == "local" {
        return Err(CacheError::Unsupported("a cache of type=local".into()));
    }
    Ok(())
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
        exports(&to(values), &tags, &outputs, &BTreeMap::new())
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
    fn keys_of_later_versions_are_refused_by_name() {
        for key in [
            "via=client",
            "compressor=client",
            "merge=true",
            "on-failure=skip",
            "alongside=true",
            "max-age=1h",
            "max-size=1g",
            "max-records=10",
            "on-failure-timeout=10s",
        ] {
            let name = key.split('=').next().unwrap();
            let error = exports_of(&[&format!("type=registry,ref=r.io/a:c,{key}")], &[], &[]);
            assert!(error.unwrap_err().to_string().contains(name), "{key}");
        }
        let from = CacheFrom::parse("type=registry,ref=r.io/a:c,via=client").unwrap();
        assert!(matches!(imports(&from), Err(CacheError::Unsupported(_))));
        assert!(exports_of(&["type=local,dest=x"], &[], &[]).is_err());
    }

    #[test]
    fn inline_cache_by_build_argument() {
        let args = BTreeMap::from([(INLINE_CACHE_ARG.to_owned(), "1".to_owned())]);
        let entries = exports(&[], &[], &[], &args).unwrap();
        assert_eq!(entries[0].kind, "inline");
    }
}
