//! The layers of base images: an image of another digest may have the same ones, and BuildKit takes it for the same
//! image then.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb::{Platform, op};
use serde::Deserialize;

use super::Builder;
use crate::buildkit::ask::{self, Image};
use crate::cache::keys::compare::{Comparison, State};
use crate::cache::keys::{Facts, Kind, Plan, Vertex};
use crate::digest::Digest;

/// Diff IDs by the image's digest and the platform, as [`Facts::images`] has them.
pub(super) type Bases = BTreeMap<(String, String), Vec<Digest>>;

/// Asks the builder for the layers of the images that none of the caches has by their digests, unless they are `known`.
/// It has just resolved these images, so it seldom asks a registry.
pub(super) async fn ask(
    plan: &Plan,
    caches: &[Comparison],
    builder: &Builder,
    known: &Bases,
) -> Bases {
    let mut images: BTreeMap<(String, String), Image> = BTreeMap::new();
    for (at, vertex) in plan.vertices().iter().enumerate() {
        let is_new = |cache: &Comparison| matches!(cache.state(at), State::New);
        if vertex.kind() == Kind::Image
            && caches.iter().all(is_new)
            && let Some((key, image)) = image(vertex)
            && !known.contains_key(&key)
        {
            images.insert(key, image);
        }
    }
    let (keys, images): (Vec<_>, Vec<_>) = images.into_iter().unzip();
    if images.is_empty() {
        return Bases::new();
    }
    match ask::image_configs(&builder.client, &builder.session, &images).await {
        Ok(configs) => {
            let layers = configs.into_iter().map(|config| diff_ids(&config?));
            let known = keys.into_iter().zip(layers);
            known
                .filter_map(|(key, layers)| Some((key, layers?)))
                .collect()
        }
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::debug!(error, "the layers of base images are not known");
            Bases::new()
        }
    }
}

/// Returns an image that is named by digest.
fn image(vertex: &Vertex) -> Option<((String, String), Image)> {
    let Ok(op::Op::Source(source)) = &vertex.op else {
        return None;
    };
    // Only images of registries are resolved so.
    let reference = source.identifier.strip_prefix("docker-image://")?;
    let (_, digest) = reference.split_once('@')?;
    let platform = vertex.platform(&Facts::default()).ok()?;
    let image = Image {
        reference: reference.to_owned(),
        platform: platform.clone(),
    };
    Some(((digest.to_owned(), name(&platform)), image))
}

/// Returns `OS/ARCH[/VARIANT]`.
fn name(platform: &Platform) -> String {
    let parts = [&platform.os, &platform.architecture, &platform.variant];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.cloned().collect::<Vec<_>>().join("/")
}

fn diff_ids(config: &[u8]) -> Option<Vec<Digest>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<Digest>,
    }
    let config = serde_json::from_slice::<Config>(config).ok()?;
    Some(config.rootfs.diff_ids)
}

/// Returns the images that steps which ran lie on, or read.
pub(super) fn of_steps(plan: &Plan, steps: &BTreeSet<usize>) -> BTreeSet<usize> {
    let steps = steps.iter().filter_map(|at| plan.vertices().get(*at));
    let inputs = steps.flat_map(|step| step.inputs.iter().flatten());
    inputs.map(|edge| edge.vertex).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::keys::testing::{BASE, Maker, image as base, run, source};

    #[test]
    fn images_named_by_digest_are_asked_for() {
        let mut maker = Maker::default();
        let first = maker.add("", base(BASE), &[]);
        let other = maker.add("", source("docker-image://docker.io/library/x"), &[]);
        let step = maker.add("", run("x", &[], Vec::new()), &[&first]);
        let plan = Plan::of([&maker.end(&step)]);
        let of = |digest: &str| image(&plan.vertices()[plan.index_of(digest).unwrap()]);
        let (key, asked) = of(&first).unwrap();
        assert_eq!(key, (BASE.to_owned(), "linux/amd64".to_owned()));
        assert_eq!(asked.reference, format!("docker.io/library/debian@{BASE}"));
        assert!(of(&other).is_none() && of(&step).is_none());
        let step = plan.index_of(&step).unwrap();
        let bases = of_steps(&plan, &BTreeSet::from([step]));
        assert_eq!(bases, BTreeSet::from([plan.index_of(&first).unwrap()]));
    }

    #[test]
    fn layers_stand_in_the_config() {
        let layer = Digest::of(b"layer");
        let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [layer]}});
        assert_eq!(diff_ids(config.to_string().as_bytes()), Some(vec![layer]));
        assert_eq!(diff_ids(b"{}"), None);
    }
}
