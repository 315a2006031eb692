//! Refuses caches that would overwrite something, and keys that exclude each other.

use super::{CacheTarget, LayoutTarget};
use crate::build::cache::error::CacheError;
use crate::options::cache::{Compression, Compressor, RegistryCacheTo, Via};
use crate::options::output::Output;
use crate::options::tag::Tag;
use crate::reference::Reference;

/// Returns whether the cache is cut to a size.
pub(super) fn is_bounded(cache: &RegistryCacheTo) -> bool {
    cache.max_age.is_some() || cache.max_size.is_some() || cache.max_records.is_some()
}

/// Fails if a cache has the name of an image, or of a cache before it.
pub(super) fn reference(
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

/// Fails if a cache before it goes to the same tag of the same folder.
pub(super) fn layout(target: &LayoutTarget, before: &[CacheTarget]) -> Result<(), CacheError> {
    let is_same = |other: &CacheTarget| match other {
        CacheTarget::Layout(other) => other.dest == target.dest && other.tag == target.tag,
        CacheTarget::Registry(_) | CacheTarget::Builder(_) => false,
    };
    if before.iter().any(is_same) {
        let (dest, tag) = (&target.dest, &target.tag);
        return Err(CacheError::Twice(format!("{dest}:{tag}")));
    }
    Ok(())
}

/// Fails if keys of a cache contradict each other, or the outputs.
pub(super) fn keys(cache: &RegistryCacheTo, outputs: &[Output]) -> Result<(), CacheError> {
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
    if cache.clean.is_some() {
        if cache.via == Via::Builder {
            return Err(CacheError::Contradiction(
                "clean needs via=client: the builder notes nothing of what it replaces",
            ));
        }
        if cache.oci_mediatypes == Some(false) {
            return Err(CacheError::Contradiction(
                "clean needs OCI media types: a manifest list of Docker has no place for what is to be noted",
            ));
        }
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
    if outputs.iter().any(Output::is_image) {
        return Err(CacheError::Contradiction(
            "compressor=client cannot be used in a build that makes an image: its layers would be \
             taken uncompressed and pushed so",
        ));
    }
    Ok(())
}

/// Returns the names of every image that the build makes. A name that is not a valid reference is refused elsewhere.
pub(super) fn image_names(tags: &[Tag], outputs: &[Output]) -> Vec<Reference> {
    let named = outputs.iter().filter_map(|output| output.attrs.get("name"));
    let named = named
        .flat_map(|names| names.split(','))
        .filter_map(|name| Reference::parse_normalized(name).ok());
    tags.iter()
        .map(|tag| tag.reference.clone())
        .chain(named)
        .collect()
}
