//! An export whose build has failed: the parts that were exported are published as one
//! cache, merged with what the reference holds, so that a failed build never makes a cache poorer.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use jiff::Timestamp;

use super::beside::Beside;
use super::publish::{PublishError, Published, manifest_of, rewrite};
use super::push_merged::{self, Place};
use super::sink::{Collected, PartExport, RegistrySink};
use crate::cache::manifest::CacheManifest;
use crate::cache::merge::{Bounds, Contents};
use crate::digest::Digest;

/// Publishes the parts; `None` if none of them has a layer. Results whose layers did not arrive until
/// `enough` ended are left out.
///
/// # Errors
///
/// Fails if the registry refuses, or the builder handed over what cannot be read; the reference then
/// holds what it held.
pub async fn keep(
    sink: &RegistrySink,
    parts: Vec<PartExport>,
    reference: &str,
    bounds: &Bounds,
    beside: Beside<'_>,
    enough: impl Future<Output = ()>,
) -> Result<Option<Published>, PublishError> {
    let mut collected = Collected {
        layers: sink.finish_parts(enough).await,
        ..Collected::default()
    };
    let mut kept: Option<Contents> = None;
    for part in parts {
        collected.metadata = part.metadata();
        let Some(contents) = contents(&collected, sink.settings().oci_types)? else {
            continue;
        };
        match &mut kept {
            Some(kept) => kept.merge(&contents),
            None => kept = Some(contents),
        }
    }
    let Some(mut kept) = kept else {
        return Ok(None);
    };
    let sent = collected.layers.values().filter(|layer| layer.sent > 0);
    let stored: HashSet<_> = sent.clone().map(|layer| layer.digest.clone()).collect();
    let place = Place {
        repository: sink.repository(),
        reference,
        bounds,
        now: Timestamp::now(),
        beside,
    };
    let merged = match Box::pin(push_merged::publish(place, &kept, &stored)).await {
        Err(PublishError::Lost(lost)) => {
            // The builder heard that the registry has them. What does not need them is kept.
            kept.drop_layers(&lost.into_iter().collect());
            Box::pin(push_merged::publish(place, &kept, &stored)).await?
        }
        merged => merged?,
    };
    let blobs: HashSet<_> = kept.blobs().map(|blob| &blob.digest).collect();
    let sent = sent.filter(|layer| blobs.contains(&layer.digest));
    Ok(Some(Published {
        manifest: merged.manifest.clone(),
        unchanged: merged.unchanged,
        layers: blobs.len(),
        sent_layers: sent.clone().count(),
        sent_bytes: sent.map(|layer| layer.sent).sum(),
        too_large: false,
        refused: merged.refused,
        merged: Some(merged),
        dropped: None,
    }))
}

/// Returns a part as it is stored, without the results whose layers did not arrive; `None` if it has no
/// layers, or was not handed over.
fn contents(collected: &Collected, oci: bool) -> Result<Option<Contents>, PublishError> {
    let Some(manifest) = manifest_of(collected) else {
        return Ok(None);
    };
    let arrived = match arrived(collected, manifest) {
        Ok(Some(arrived)) => arrived,
        Ok(None) => return Ok(None),
        Err(PublishError::Missing(what)) => {
            tracing::debug!(what, "a part of the build was not handed over");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let manifest = manifest_of(&arrived).ok_or(PublishError::Missing("manifest"))?;
    let made = rewrite(&arrived, manifest, oci)?;
    let contents = Contents::parse(&made.manifest, made.media_type, &made.config)?;
    Ok(Some(contents))
}

/// Returns what was collected of a part without the results whose layers did not arrive; `None` if no
/// layer is left.
fn arrived<'a>(
    collected: &'a Collected,
    manifest: &Bytes,
) -> Result<Option<Cow<'a, Collected>>, PublishError> {
    let parsed = CacheManifest::parse(manifest, "")?;
    let listed = parsed.layers.iter().map(|layer| &layer.digest);
    let missing = listed.filter(|digest| !collected.layers.contains_key(digest));
    let missing: HashSet<Digest> = missing.cloned().collect();
    if missing.is_empty() {
        return Ok(Some(Cow::Borrowed(collected)));
    }
    let config = parsed.config.as_ref();
    let config = config.and_then(|named| collected.metadata.get(&named.digest));
    let config = config.ok_or(PublishError::Missing("config"))?;
    let mut contents = Contents::parse(manifest, parsed.form.media_type(), config)?;
    contents.drop_layers(&missing);
    if contents.blobs().next().is_none() {
        return Ok(None);
    }
    let parts = contents.to_parts()?;
    let metadata = [parts.manifest, parts.config];
    let metadata = metadata.map(|bytes| (Digest::of(&bytes), bytes));
    Ok(Some(Cow::Owned(Collected {
        layers: collected.layers.clone(),
        metadata: metadata.into(),
        broken: Vec::new(),
    })))
}

#[cfg(test)]
mod tests;
