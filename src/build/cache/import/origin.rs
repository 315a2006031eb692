//! Which cache the result of a cached step came from, as far as BuildKit's reports tell.
//!
//! BuildKit tells that a step was cached, and not by which cache. But it reports each layer that it fetches
//! as a part of the step to whose result the layer belongs (BuildKit `cache/remote.go`, `worker/base`). A
//! result out of the builder's own store is there and is not fetched. So a step with inputs that was
//! cached and whose layers are fetched was loaded from a cache that lists all of them. A step without
//! inputs is a source: what it fetches is an image.
//!
//! Where no layer is fetched nothing can be told: the result may be the builder's own, or nobody needed
//! its layers.

use std::collections::{BTreeMap, HashMap, HashSet};

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, VertexStatus};

use crate::digest::Digest;

/// A cache that the build reads.
#[derive(Debug)]
pub struct OriginCache {
    name: String,
    /// `None` if they are not known here.
    layers: Option<HashSet<Digest>>,
}

impl OriginCache {
    /// Creates a cache of that name for the user.
    pub fn new(name: String, layers: Option<HashSet<Digest>>) -> Self {
        Self { name, layers }
    }

    fn may_have<'a>(&self, mut layers: impl Iterator<Item = &'a Digest>) -> bool {
        match &self.layers {
            Some(own) => layers.all(|layer| own.contains(layer)),
            None => true,
        }
    }
}

/// What is known of a step.
#[derive(Debug, Default)]
struct Step {
    has_inputs: bool,
    cached: bool,
    /// Bytes of the layers fetched so far.
    fetched: BTreeMap<Digest, u64>,
    /// What was said of it.
    told: String,
}

/// Looks at the reports of a solve on their way to the display.
#[derive(Debug, Default)]
pub struct Origins {
    caches: Vec<OriginCache>,
    steps: HashMap<String, Step>,
}

impl Origins {
    /// Begins to look.
    pub fn new(caches: Vec<OriginCache>) -> Self {
        Self {
            caches,
            steps: HashMap::new(),
        }
    }

    /// Takes note of a report, and returns the digests of steps whose origin it tells, with the names of
    /// the caches that it may be.
    pub fn look(&mut self, status: &StatusResponse) -> Vec<(String, String)> {
        if self.caches.is_empty() {
            return Vec::new();
        }
        let mut touched = Vec::new();
        for vertex in &status.vertexes {
            let step = self.steps.entry(vertex.digest.clone()).or_default();
            // A report about a layer repeats neither.
            step.has_inputs |= !vertex.inputs.is_empty();
            step.cached |= vertex.cached;
            touched.push(vertex.digest.as_str());
        }
        for part in &status.statuses {
            if let (Some(step), Some((layer, bytes))) =
                (self.steps.get_mut(&part.vertex), fetched(part))
            {
                let known = step.fetched.entry(layer).or_default();
                *known = bytes.max(*known);
                touched.push(part.vertex.as_str());
            }
        }
        let told = touched.into_iter();
        told.filter_map(|vertex| Some((vertex.to_owned(), self.tell(vertex)?)))
            .collect()
    }

    /// Returns the caches of a step, if it was not said before.
    fn tell(&mut self, vertex: &str) -> Option<String> {
        let step = self.steps.get_mut(vertex)?;
        if !step.is_from_cache() {
            return None;
        }
        let caches = self.caches.iter();
        let caches = caches.filter(|cache| cache.may_have(step.fetched.keys()));
        let names: Vec<_> = caches.map(|cache| cache.name.as_str()).collect();
        let names = names.join(" or ");
        if names.is_empty() || names == step.told {
            return None;
        }
        step.told.clone_from(&names);
        Some(names)
    }

    /// Returns how many bytes came from the caches; `None` if no layer was seen to come.
    pub fn received(&self) -> Option<u64> {
        let mut layers: BTreeMap<&Digest, u64> = BTreeMap::new();
        for (layer, bytes) in self
            .steps
            .values()
            .filter(|step| !step.told.is_empty())
            .flat_map(|step| &step.fetched)
        {
            let known = layers.entry(layer).or_default();
            *known = (*known).max(*bytes);
        }
        (!layers.is_empty()).then(|| layers.values().sum())
    }
}

impl Step {
    fn is_from_cache(&self) -> bool {
        self.cached && self.has_inputs && !self.fetched.is_empty()
    }
}

/// Returns the layer that a part of a step fetches, and how many bytes of it are there. A layer that was
/// there before ends when it begins.
fn fetched(part: &VertexStatus) -> Option<(Digest, u64)> {
    let layer = part.id.parse().ok()?;
    let bytes = u64::try_from(part.current)
        .ok()
        .filter(|bytes| *bytes > 0)?;
    let was_there = part.completed.is_some() && part.completed == part.started;
    (!was_there).then_some((layer, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Timestamp;
    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

    fn layer(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn cache(name: &str, layers: &[u8]) -> OriginCache {
        OriginCache::new(
            name.to_owned(),
            Some(layers.iter().map(|n| layer(*n)).collect()),
        )
    }

    fn step(digest: &str, inputs: &[&str], cached: bool) -> StatusResponse {
        StatusResponse {
            vertexes: vec![Vertex {
                digest: digest.to_owned(),
                inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
                cached,
                ..Vertex::default()
            }],
            ..StatusResponse::default()
        }
    }

    fn fetch(digest: &str, n: u8, current: i64, seconds: Option<i64>) -> StatusResponse {
        let stamp = |seconds| Timestamp { seconds, nanos: 0 };
        StatusResponse {
            statuses: vec![VertexStatus {
                id: layer(n).to_string(),
                vertex: digest.to_owned(),
                current,
                total: 100,
                started: Some(stamp(10)),
                completed: seconds.map(|seconds| stamp(10 + seconds)),
                ..VertexStatus::default()
            }],
            ..StatusResponse::default()
        }
    }

    fn said(step: &str, caches: &str) -> Vec<(String, String)> {
        vec![(step.to_owned(), caches.to_owned())]
    }

    #[test]
    fn a_cached_step_that_fetches_a_layer_came_from_the_cache_that_lists_it() {
        let mut origins = Origins::new(vec![cache("r.io/a:1", &[1, 2]), cache("r.io/a:2", &[3])]);
        assert!(origins.look(&step("s", &["base"], true)).is_empty());
        assert_eq!(origins.received(), None);
        // BuildKit reports on the step again.
        assert!(origins.look(&step("s", &[], false)).is_empty());
        assert_eq!(
            origins.look(&fetch("s", 1, 40, None)),
            said("s", "r.io/a:1")
        );
        assert!(origins.look(&fetch("s", 1, 100, Some(1))).is_empty());
        assert!(origins.look(&fetch("s", 2, 7, Some(1))).is_empty());
        assert_eq!(origins.received(), Some(107));
    }

    #[test]
    fn the_layer_may_be_reported_before_the_step_is_cached() {
        let mut origins = Origins::new(vec![cache("r.io/a:1", &[1])]);
        assert!(origins.look(&step("s", &["base"], false)).is_empty());
        assert!(origins.look(&fetch("s", 1, 100, Some(1))).is_empty());
        assert_eq!(
            origins.look(&step("s", &["base"], true)),
            said("s", "r.io/a:1")
        );
    }

    #[test]
    fn caches_that_have_the_same_layers_are_told_until_one_is_left() {
        let unknown = OriginCache::new("of type gha".to_owned(), None);
        let caches = vec![cache("r.io/a:1", &[1, 2]), cache("r.io/a:2", &[1]), unknown];
        let mut origins = Origins::new(caches);
        origins.look(&step("s", &["base"], true));
        assert_eq!(
            origins.look(&fetch("s", 1, 1, None)),
            said("s", "r.io/a:1 or r.io/a:2 or of type gha")
        );
        assert_eq!(
            origins.look(&fetch("s", 2, 1, None)),
            said("s", "r.io/a:1 or of type gha")
        );
    }

    #[test]
    fn nothing_is_said_of_images_own_results_and_steps_that_ran() {
        let mut origins = Origins::new(vec![cache("r.io/a:1", &[1])]);
        origins.look(&step("image", &[], true));
        origins.look(&step("ran", &["image"], false));
        origins.look(&step("was there", &["image"], true));
        assert!(origins.look(&fetch("image", 1, 100, Some(1))).is_empty());
        assert!(origins.look(&fetch("ran", 1, 100, Some(1))).is_empty());
        assert!(
            origins
                .look(&fetch("was there", 1, 100, Some(0)))
                .is_empty()
        );
        // A layer that no cache lists.
        origins.look(&step("s", &["image"], true));
        assert!(origins.look(&fetch("s", 9, 100, Some(1))).is_empty());
        assert!(origins.look(&fetch("unknown", 1, 100, Some(1))).is_empty());
    }

    #[test]
    fn a_layer_of_several_steps_is_received_once() {
        let mut origins = Origins::new(vec![cache("r.io/a:1", &[1])]);
        for name in ["s", "t"] {
            origins.look(&step(name, &["base"], true));
            origins.look(&fetch(name, 1, 100, Some(1)));
        }
        assert_eq!(origins.received(), Some(100));
        assert!(
            Origins::new(Vec::new())
                .look(&step("s", &["b"], true))
                .is_empty()
        );
    }
}
