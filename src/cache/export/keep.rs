//! What becomes of an export whose build has failed: the parts that were exported are published as one
//! cache, united with what the reference holds, so that a failed build never makes a cache poorer.

use std::collections::HashSet;

use jiff::Timestamp;

use super::publish::{PublishError, Published, manifest_of, rewrite};
use super::sink::{Collected, PartExport, RegistrySink};
use super::united::{self, Place};
use crate::cache::merge::{Bounds, Contents};

/// Publishes the parts; `None` where none of them has a layer. Parts that lack layers which did not
/// arrive until `enough` ended are left out.
///
/// # Errors
///
/// Fails where the registry refuses, or the builder handed over what cannot be read; the reference then
/// holds what it held.
pub async fn keep(
    sink: &RegistrySink,
    parts: Vec<PartExport>,
    reference: &str,
    bounds: &Bounds,
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
            Some(kept) => kept.unite(&contents),
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
    };
    let united = match united::publish(place, &kept, &stored).await {
        Err(PublishError::Lost(lost)) => {
            // The builder heard that the registry has them. What does not need them is kept.
            kept.drop_layers(&lost.into_iter().collect());
            united::publish(place, &kept, &stored).await?
        }
        united => united?,
    };
    let blobs: HashSet<_> = kept.blobs().map(|blob| &blob.digest).collect();
    let sent = sent.filter(|layer| blobs.contains(&layer.digest));
    Ok(Some(Published {
        manifest: united.manifest.clone(),
        unchanged: united.unchanged,
        layers: blobs.len(),
        sent_layers: sent.clone().count(),
        sent_bytes: sent.map(|layer| layer.sent).sum(),
        too_large: false,
        united: Some(united),
        dropped: None,
    }))
}

/// Returns a part as it is stored; `None` where it has no layers, or not all of them.
fn contents(collected: &Collected, oci: bool) -> Result<Option<Contents>, PublishError> {
    let Some(manifest) = manifest_of(collected) else {
        return Ok(None);
    };
    match rewrite(collected, manifest, oci) {
        Ok(made) => Ok(Some(Contents::parse(
            &made.manifest,
            made.media_type,
            &made.config,
        )?)),
        Err(PublishError::Missing(what)) => {
            tracing::debug!(what, "a part of the build is not complete");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
