//! Steps that a build has twice, such as the copy of the same files for two platforms.
//!
//! BuildKit makes such a step once: as soon as it sees that the keys of two steps are the same it drops one of them and
//! says nothing of it any more (`solver/scheduler.go`, `solver/index.go`), and if it sees this only when the first is
//! done, it takes the second out of its own cache. Which of the two is dropped is left to chance.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::op;

use super::plan::{Edge, Kind, Plan, Vertex};
use super::{Content, InputRule, Keys};
use crate::digest::Digest;

/// The steps of a plan that are or may turn out to be the same.
#[derive(Debug, Clone, Default)]
pub struct Twins {
    /// What is not known speaks against two steps being the same.
    only_sure: bool,
    /// For each vertex the first one that may be the same; itself where there is none before it.
    first: Vec<usize>,
}

impl Twins {
    /// Finds them. What is not known of the files and the layers that steps lie on speaks against nothing: two steps may
    /// come out the same.
    pub fn of(plan: &Plan, keys: &Keys) -> Self {
        Self::default().filled(plan, keys)
    }

    /// Finds those that are the same for sure.
    pub fn sure(plan: &Plan, keys: &Keys) -> Self {
        let twins = Self {
            only_sure: true,
            ..Self::default()
        };
        twins.filled(plan, keys)
    }

    fn filled(self, plan: &Plan, keys: &Keys) -> Self {
        let mut twins = self;
        let mut seen: BTreeMap<&[Digest], Vec<usize>> = BTreeMap::new();
        for (at, vertex) in plan.vertices().iter().enumerate() {
            let mut first = at;
            if let Some(digests) = digests(keys, at).filter(|_| vertex.makes_layers()) {
                let known = seen.entry(digests).or_default();
                let twin = known
                    .iter()
                    .find(|known| twins.fit(plan, keys, **known, at));
                match twin {
                    Some(twin) => first = *twin,
                    None => known.push(at),
                }
            }
            twins.first.push(first);
        }
        twins
    }

    /// Returns the first of the steps that may be the same as a vertex: itself where none before it may.
    pub fn first(&self, vertex: usize) -> usize {
        self.first.get(vertex).copied().unwrap_or(vertex)
    }

    /// Returns all steps that may be the same as a vertex, without it.
    pub fn of_vertex(&self, vertex: usize) -> impl Iterator<Item = usize> {
        let first = self.first(vertex);
        let all = self.first.iter().enumerate();
        all.filter(move |(at, own)| **own == first && *at != vertex)
            .map(|(at, _)| at)
    }

    /// Returns whether two steps with the same key may be the same.
    fn fit(&self, plan: &Plan, keys: &Keys, a: usize, b: usize) -> bool {
        let (Some(one), Some(other)) = (plan.vertices().get(a), plan.vertices().get(b)) else {
            return false;
        };
        let (Ok(key), Ok(other_key)) = (keys.step(a), keys.step(b)) else {
            return false;
        };
        one.ignores_cache == other.ignores_cache
            && key.inputs == other_key.inputs
            && plan.outputs(a).eq(plan.outputs(b))
            && key.inputs.iter().enumerate().all(|(input, rule)| {
                let edges = (
                    one.inputs.get(input).copied().flatten(),
                    other.inputs.get(input).copied().flatten(),
                );
                let (Some(edge), Some(other)) = edges else {
                    return false;
                };
                self.fit_as_steps(plan, keys, edge, other)
                    || self.fit_as_files(
                        plan,
                        rule,
                        (edge, keys.content(a, input)),
                        (other, keys.content(b, input)),
                    )
            })
    }

    fn fit_as_steps(&self, plan: &Plan, keys: &Keys, a: Edge, b: Edge) -> bool {
        if a.output != b.output {
            return false;
        }
        if self.first(a.vertex) == self.first(b.vertex) {
            return true;
        }
        let (Some(one), Some(other)) =
            (plan.vertices().get(a.vertex), plan.vertices().get(b.vertex))
        else {
            return false;
        };
        if (one.kind(), other.kind()) != (Kind::Image, Kind::Image) {
            return false;
        }
        let (own, others) = (digests(keys, a.vertex), digests(keys, b.vertex));
        let (own, others) = (own.unwrap_or_default(), others.unwrap_or_default());
        // The second key is that of the layers.
        let are_known = own.len() > 1 && others.len() > 1;
        own.iter().any(|key| others.contains(key))
            || (!self.only_sure && !are_known && identifier(one) == identifier(other))
    }

    /// Returns whether what two steps read of two inputs may be the same files.
    fn fit_as_files(
        &self,
        plan: &Plan,
        rule: &InputRule,
        (a, content): (Edge, &Content),
        (b, other_content): (Edge, &Content),
    ) -> bool {
        if rule.content.is_none() {
            return false;
        }
        let name = |edge: Edge| {
            plan.vertices()
                .get(edge.vertex)
                .and_then(Vertex::local_name)
        };
        match (content, other_content) {
            (Content::Keys(keys), Content::Keys(others)) if self.only_sure => keys == others,
            _ if self.only_sure => false,
            _ if name(a).is_some() && name(a) == name(b) => true,
            (Content::Keys(keys), Content::Keys(others)) => {
                keys.iter().any(|key| others.contains(key))
            }
            _ => true,
        }
    }
}

/// Returns the keys of a step, if it has any.
fn digests(keys: &Keys, at: usize) -> Option<&[Digest]> {
    let digests = keys.step(at).ok()?.digests.as_slice();
    (!digests.is_empty()).then_some(digests)
}

/// Returns what a source is called.
fn identifier(vertex: &Vertex) -> Option<&str> {
    match &vertex.op {
        Ok(op::Op::Source(source)) => Some(&source.identifier),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::Platform;

    use super::*;
    use crate::cache::keys::Facts;
    use crate::cache::keys::testing::{BASE, Maker, amd64, copy, image, run, source, tree};

    fn arm64() -> Platform {
        Platform {
            architecture: "arm64".to_owned(),
            ..amd64()
        }
    }

    /// For each of two platforms a base, copies of a context and of what a command made, and a command.
    fn plan() -> Plan {
        let definitions = [amd64(), arm64()].map(|platform| {
            let mut maker = Maker::default();
            let mut add = |name: &str, op, inputs: &[&str]| {
                let name = format!("{name} {}", platform.architecture);
                maker.add_op(&name, Some(op), inputs, platform.clone())
            };
            let base = add("base", image(BASE), &[]);
            let context = add("context", source("local://context"), &[]);
            let files = add("files", copy("/a", "/"), &[&base, &context]);
            let made = add("made", run("make", &[], Vec::new()), &[&files]);
            let from = add("from", copy("/out", "/"), &[&files, &made]);
            maker.end(&from)
        });
        Plan::of(&definitions)
    }

    #[test]
    fn copies_for_two_platforms_may_be_one_step_and_commands_are_not() {
        let plan = plan();
        let twins = Twins::of(&plan, &Keys::of(&plan, &Facts::default()));
        let at = |name: &str| {
            let mut vertices = plan.vertices().iter();
            vertices.position(|vertex| vertex.name == name).unwrap()
        };
        for name in ["files", "from"] {
            let [one, other] = ["amd64", "arm64"].map(|arch| at(&format!("{name} {arch}")));
            assert_eq!((twins.first(one), twins.first(other)), (one, one), "{name}");
            assert_eq!(twins.of_vertex(one).collect::<Vec<_>>(), [other]);
            assert_eq!(twins.of_vertex(other).collect::<Vec<_>>(), [one]);
        }
        for name in ["made amd64", "made arm64"] {
            assert_eq!(twins.first(at(name)), at(name));
            assert_eq!(twins.of_vertex(at(name)).count(), 0);
        }
    }

    #[test]
    fn only_what_is_known_makes_twins_for_sure() {
        let plan = plan();
        let count = |facts: &Facts<'_>| {
            let twins = Twins::sure(&plan, &Keys::of(&plan, facts));
            (0..plan.vertices().len())
                .filter(|at| twins.first(*at) != *at)
                .count()
        };
        assert_eq!(count(&Facts::default()), 0);
        let layers = |arch: &str| {
            let image = (BASE.to_owned(), format!("linux/{arch}"));
            (image, vec![Digest::of(b"x")])
        };
        let images = [layers("amd64"), layers("arm64")].into();
        let files = tree(&[("a", "a")]);
        let facts = Facts {
            images,
            ..Facts::default()
        };
        assert_eq!(count(&facts), 0);
        let trees = [("context".to_owned(), &files)].into();
        // What the command made may come out otherwise.
        assert_eq!(count(&Facts { trees, ..facts }), 1);
    }

    #[test]
    fn images_with_other_layers_have_no_twins_above_them() {
        let plan = plan();
        let layers = |arch: &str, layer: &str| {
            (
                (BASE.to_owned(), format!("linux/{arch}")),
                vec![Digest::of(layer.as_bytes())],
            )
        };
        let count = |images: [_; 2]| {
            let facts = Facts {
                images: images.into(),
                ..Facts::default()
            };
            let twins = Twins::of(&plan, &Keys::of(&plan, &facts));
            (0..plan.vertices().len())
                .filter(|at| twins.first(*at) != *at)
                .count()
        };
        assert_eq!(count([layers("amd64", "x"), layers("arm64", "x")]), 2);
        assert_eq!(count([layers("amd64", "x"), layers("arm64", "y")]), 0);
    }
}
