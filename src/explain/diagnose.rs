//! Which steps ran for a cause of their own, and which only followed from others.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb::op;

use super::{Build, Cache, Cause, Miss, Outcome, Reused, Step, Variable, VariableChange};
use crate::cache::keys::compare::State;
use crate::cache::keys::twins::Twins;
use crate::cache::keys::vary::{self, Extra, Records};
use crate::cache::keys::{Kind, Vertex};
use crate::cache::record::name;
use crate::cache::record::observe::{OPTION_FOLDER, OPTION_NETWORK, OPTION_SECURITY};

/// How the names of vertices begin that are no steps of the Dockerfile.
const INTERNAL: &str = "[internal]";

/// Knows more of what a step was when a cache was written.
pub trait Details {
    /// Returns a cause that says more than `rough`, where it can.
    fn cause(&self, vertex: usize, rough: &Cause) -> Option<Cause>;
}

/// Nothing more is known.
impl Details for () {
    fn cause(&self, _vertex: usize, _rough: &Cause) -> Option<Cause> {
        None
    }
}

/// Why the steps of a build ran.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// How many steps ran.
    pub ran: usize,
    /// Index of the cache that the build was compared with: the one that knows most of it.
    pub compared: Option<usize>,
    /// The causes, in the order of the Dockerfile.
    pub misses: Vec<Miss>,
    /// The steps that a cache served although one before them ran.
    pub reused: Vec<Reused>,
}

/// Finds the causes. Without a cache there are none, but for what the build itself said.
pub fn diagnose(build: &Build<'_>, details: &dyn Details) -> Diagnosis {
    let mut search = Search::new(build, details);
    for vertex in 0..build.plan.vertices().len() {
        search.look_at(vertex);
    }
    search.finish()
}

/// What is known of why a vertex ran.
#[derive(Default)]
struct Why {
    /// It has a cause of its own.
    own: Option<Cause>,
    /// The vertices whose causes it follows from.
    follows: BTreeSet<usize>,
}

struct Search<'a, 'b> {
    build: &'b Build<'a>,
    details: &'b dyn Details,
    /// The cache that knows most.
    cache: Option<(usize, &'b Cache<'a>)>,
    records: Option<Records<'b>>,
    twins: Twins,
    why: BTreeMap<usize, Why>,
    reused: Vec<Reused>,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(build: &'b Build<'a>, details: &'b dyn Details) -> Self {
        let known = |cache: &Cache<'_>| cache.comparison.known(build.plan);
        let caches = build.caches.iter().enumerate();
        // Of those that know as much the first one counts.
        let cache = caches.rev().max_by_key(|(_, cache)| known(cache));
        Self {
            build,
            details,
            cache,
            records: cache.map(|(_, cache)| Records::of(cache.config)),
            twins: Twins::of(build.plan, build.keys),
            why: BTreeMap::new(),
            reused: Vec::new(),
        }
    }

    fn look_at(&mut self, at: usize) {
        let Some(vertex) = self.build.plan.vertices().get(at) else {
            return;
        };
        if !vertex.makes_layers() {
            return;
        }
        if vertex.inputs.is_empty() && self.state(at) == Some(State::NoLayer) {
            // No cache has a layer of it, and it only writes what stands in the Dockerfile.
            return;
        }
        match self.build.outcomes.get(at) {
            Outcome::Ran | Outcome::Unknown | Outcome::Twin => {
                let why = self.why(at, vertex);
                self.why.insert(at, why);
            }
            Outcome::Perhaps => {
                let follows = self.roots(&self.inputs_that_ran(vertex));
                let own = None;
                self.why.insert(at, Why { own, follows });
            }
            Outcome::NotTold => {}
            Outcome::Served if self.is_from_twin(at) => {
                let why = self.why(at, vertex);
                self.why.insert(at, why);
            }
            Outcome::Served => {
                let ran = self.inputs_that_ran(vertex);
                let although = ran.iter().next().and_then(|at| self.step(*at));
                let reused = self.step(at).zip(although);
                let reused = reused.map(|(step, although)| Reused { step, although });
                self.reused
                    .extend(reused.filter(|_| self.is_served_by_files(at)));
            }
        }
    }

    /// Returns whether a cache has the step for files that come out the same.
    fn is_served_by_files(&self, at: usize) -> bool {
        let mut caches = self.build.caches.iter();
        caches.any(|cache| matches!(cache.comparison.state(at), State::Perhaps(_)))
    }

    /// Returns the steps that ran and may be the same as a step.
    fn twins_that_ran(&self, at: usize) -> impl Iterator<Item = usize> {
        let twins = self.twins.of_vertex(at);
        twins.filter(|twin| self.build.outcomes.get(*twin) == Outcome::Ran)
    }

    /// Returns whether a step came out of the builder itself, which has just made the same for another step: no cache has it.
    fn is_from_twin(&self, at: usize) -> bool {
        let is_there = match self.state(at) {
            None | Some(State::New | State::OtherInputs(_)) => false,
            Some(_) => true,
        };
        !is_there && self.twins_that_ran(at).next().is_some()
    }

    /// Returns whether a step did not run, and no other one ran for it.
    fn was_there(&self, at: usize) -> bool {
        let outcome = self.build.outcomes.get(at);
        matches!(outcome, Outcome::Served | Outcome::NotTold) && !self.why.contains_key(&at)
    }

    /// Returns the step under which a cause is told: the one that ran of several that are the same.
    fn told_with(&self, at: usize) -> usize {
        if self.build.outcomes.get(at) == Outcome::Ran {
            return at;
        }
        let has_cause = |twin: &usize| self.why.get(twin).is_some_and(|why| why.own.is_some());
        let told = self.twins_that_ran(at).find(has_cause);
        told.unwrap_or(at)
    }

    fn why(&mut self, at: usize, vertex: &Vertex) -> Why {
        if is_inline(vertex) {
            // It is told with what reads it.
            return Why::default();
        }
        let mut why = self.own_why(at, vertex);
        if why.own.is_none() && self.reads_inline(vertex) {
            why.own = Some(Cause::Heredoc);
        }
        why
    }

    /// Returns whether a step reads what a heredoc holds that is not in the cache.
    fn reads_inline(&self, vertex: &Vertex) -> bool {
        let ran = self.inputs_that_ran(vertex);
        let mut ran = ran
            .iter()
            .filter_map(|at| self.build.plan.vertices().get(*at));
        ran.any(is_inline)
    }

    fn own_why(&mut self, at: usize, vertex: &Vertex) -> Why {
        let ran = self.inputs_that_ran(vertex);
        let follows = self.roots(&ran);
        let cause = match self.state(at) {
            _ if vertex.ignores_cache => {
                let option = self.build.asked.unwrap_or("--no-cache");
                Some(Cause::Asked(option.to_owned()))
            }
            Some(State::OtherInputs(inputs)) => {
                return self.by_inputs(at, vertex, &inputs, follows);
            }
            Some(State::NoLayer) => Some(Cause::NoLayer),
            Some(State::LayerLost(layer)) => Some(Cause::LayerLost(layer)),
            Some(State::New) => Some(self.of_new(at, vertex)),
            Some(State::Hit) if ran.is_empty() => Some(Cause::ShouldHaveHit),
            Some(State::Unknown(unknown)) if ran.is_empty() => {
                Some(Cause::Unknown(unknown.to_string()))
            }
            Some(State::Perhaps(inputs)) if self.are_downloads(vertex, &inputs) => {
                Some(Cause::Source)
            }
            // All that it is made of was there, and it ran: the cache has it with something else.
            Some(State::Perhaps(inputs)) if ran.is_empty() => {
                return self.by_inputs(at, vertex, &inputs, follows);
            }
            None | Some(State::Hit | State::Perhaps(_) | State::Unknown(_)) => None,
        };
        let own = cause.map(|cause| self.refined(at, cause));
        let own = own.filter(|cause| !self.is_told_already(cause, &follows));
        Why { own, follows }
    }

    /// Returns whether one of these inputs is a Git repository or a web address.
    fn are_downloads(&self, vertex: &Vertex, inputs: &[usize]) -> bool {
        let inputs = inputs
            .iter()
            .filter_map(|input| *vertex.inputs.get(*input)?);
        let mut sources = inputs.filter_map(|edge| self.build.plan.vertices().get(edge.vertex));
        sources.any(|source| matches!(source.kind(), Kind::Git | Kind::Http))
    }

    /// Returns why a step ran that the cache has with other inputs.
    fn by_inputs(
        &mut self,
        at: usize,
        vertex: &Vertex,
        inputs: &[usize],
        mut follows: BTreeSet<usize>,
    ) -> Why {
        let mut own = None;
        for input in inputs {
            let Some(Some(edge)) = vertex.inputs.get(*input) else {
                continue;
            };
            let Some(source) = self.build.plan.vertices().get(edge.vertex) else {
                continue;
            };
            match source.kind() {
                Kind::Local => own = Some(self.refined(at, Cause::SomeFiles)),
                Kind::Image | Kind::Git | Kind::Http => {
                    let cause = self.refined(edge.vertex, self.moved(edge.vertex, source));
                    let why = self.why.entry(edge.vertex).or_default();
                    why.own = Some(cause);
                    follows.insert(edge.vertex);
                }
                _ if self.was_there(edge.vertex) && own.is_none() => {
                    own = Some(Cause::OtherOrder);
                }
                _ => {}
            }
        }
        Why { own, follows }
    }

    /// Returns why the cache has a step with another source.
    fn moved(&self, at: usize, source: &Vertex) -> Cause {
        let Ok(op::Op::Source(image)) = &source.op else {
            return Cause::Source;
        };
        if source.kind() != Kind::Image {
            return Cause::Source;
        }
        let platforms = self.platforms(at);
        if !platforms.is_empty() {
            return Cause::Platforms(platforms);
        }
        let digest = image.identifier.split_once('@').map(|(_, digest)| digest);
        Cause::Base {
            from: None,
            to: digest.and_then(|digest| digest.parse().ok()),
        }
    }

    /// Returns the other platforms for which the cache has a step.
    fn platforms(&self, at: usize) -> Vec<String> {
        let records = self.records.as_ref();
        let found = records
            .map(|records| vary::other_platforms(self.build.plan, self.build.facts, at, records));
        found.unwrap_or_default()
    }

    /// Returns why the cache has nothing like a step.
    fn of_new(&self, at: usize, vertex: &Vertex) -> Cause {
        let Some(records) = &self.records else {
            return Cause::NotThere;
        };
        let (plan, facts) = (self.build.plan, self.build.facts);
        let platforms = self.platforms(at);
        if !platforms.is_empty() {
            return Cause::Platforms(platforms);
        }
        if let Some(name) = vary::added_variable(plan, facts, at, records) {
            return Cause::Variable(Variable {
                is_argument: self.build.is_argument(&name),
                is_named: is_named(vertex, &name),
                name,
                change: VariableChange::New,
            });
        }
        match vary::added_option(plan, facts, at, records) {
            Some(Extra::Mounts) => Cause::Mounts,
            Some(Extra::Network) => Cause::Options(vec![OPTION_NETWORK]),
            Some(Extra::Security) => Cause::Options(vec![OPTION_SECURITY]),
            None if vary::is_there_without_time(plan, facts, at, records) => Cause::Timestamp,
            None => Cause::NotThere,
        }
    }

    /// A variable, another platform, `mode=min` or `--no-cache` reaches all steps below: only the first is
    /// told.
    fn is_told_already(&self, cause: &Cause, roots: &BTreeSet<usize>) -> bool {
        let mut roots = roots
            .iter()
            .filter_map(|root| Some((*root, self.why.get(root)?.own.as_ref()?)));
        roots.any(|(at, root)| match (root, cause) {
            (_, Cause::Context) => self.is_folder_change(at),
            (_, Cause::Options(options)) if options[..] == [OPTION_FOLDER] => {
                self.is_folder_change(at) || root == cause
            }
            (_, Cause::Options(options)) if !options.is_empty() => root == cause,
            (Cause::Variable(root), Cause::Variable(own)) => root.name == own.name,
            // Each of these concerns one step, also where several have it.
            (_, Cause::Command | Cause::Instruction | Cause::Mounts | Cause::Options(_)) => false,
            (root, own) => root == own,
        })
    }

    /// Returns whether a step is a `WORKDIR`, which reaches all steps below.
    fn is_folder_change(&self, at: usize) -> bool {
        let vertex = self.build.plan.vertices().get(at);
        vertex.is_some_and(|vertex| name::word(&vertex.name) == "WORKDIR")
    }

    fn refined(&self, at: usize, rough: Cause) -> Cause {
        self.details.cause(at, &rough).unwrap_or(rough)
    }

    /// Returns the best that one of the caches has of a step.
    fn state(&self, at: usize) -> Option<State> {
        let of_best = self.cache.map(|(_, cache)| cache.comparison.state(at));
        let states = self.build.caches.iter();
        let states = states.map(|cache| cache.comparison.state(at));
        let best = of_best.into_iter().chain(states);
        best.min_by_key(|state| state.rank()).cloned()
    }

    /// Returns the steps that a step lies on or reads, and that ran.
    fn inputs_that_ran(&self, vertex: &Vertex) -> BTreeSet<usize> {
        let inputs = vertex.inputs.iter().flatten().map(|edge| edge.vertex);
        inputs
            .filter(|input| self.why.contains_key(input))
            .collect()
    }

    /// Returns the causes that these steps have or follow from.
    fn roots(&self, ran: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut roots = BTreeSet::new();
        for at in ran {
            match self.why.get(at) {
                Some(Why { own: Some(_), .. }) => _ = roots.insert(*at),
                Some(why) => roots.extend(&why.follows),
                None => {}
            }
        }
        roots
    }

    fn step(&self, at: usize) -> Option<Step> {
        let vertex = self.build.plan.vertices().get(at)?;
        Some(Step {
            vertex: at,
            name: vertex.name.clone(),
            place: vertex.place.clone(),
        })
    }

    fn finish(self) -> Diagnosis {
        let mut followers: BTreeMap<usize, Vec<Step>> = BTreeMap::new();
        let mut ran = BTreeSet::new();
        let in_order = |step: &Step| (step.place.clone(), step.vertex);
        for (at, why) in &self.why {
            let Some(step) = self.step(*at) else { continue };
            let makes_layers = self.build.plan.vertices().get(*at);
            let is_run = self.build.outcomes.get(*at) == Outcome::Ran;
            // What the frontend does besides is no step of the Dockerfile, and what it does to a context has no name.
            let is_named = !step.name.is_empty() && !step.name.starts_with(INTERNAL);
            if is_named && is_run && makes_layers.is_some_and(Vertex::makes_layers) {
                ran.insert(step.name.clone());
            }
            let is_from_twin = !is_run && self.twins_that_ran(*at).next().is_some();
            // A step that follows from several is told with the first of them.
            if let (None, Some(root), false) = (&why.own, why.follows.first(), is_from_twin) {
                let root = self.told_with(*root);
                followers.entry(root).or_default().push(step);
            }
        }
        let mut misses: Vec<Miss> = Vec::new();
        for (at, why) in &self.why {
            let (Some(cause), Some(step)) = (why.own.clone(), self.step(*at)) else {
                continue;
            };
            if self.told_with(*at) != *at {
                continue;
            }
            let mut followers = followers.remove(at).unwrap_or_default();
            followers.sort_by_key(in_order);
            // `COPY --link` is two vertices of one name.
            followers.dedup_by(|a, b| a.name == b.name);
            followers.retain(|other| other.name != step.name && !other.name.is_empty());
            let same = |miss: &Miss| miss.step.name == step.name && miss.cause == cause;
            if !misses.iter().any(same) {
                misses.push(Miss {
                    step,
                    cause,
                    followers,
                });
            }
        }
        misses.sort_by_key(|miss| in_order(&miss.step));
        let mut reused = self.reused;
        reused.sort_by_key(|reused| in_order(&reused.step));
        reused.dedup_by(|a, b| a.step.name == b.step.name);
        Diagnosis {
            ran: ran.len(),
            compared: self.cache.map(|(at, _)| at),
            misses,
            reused,
        }
    }
}

/// Returns whether a vertex is what a heredoc holds: it stands in no line, and what reads it does.
pub(super) fn is_inline(vertex: &Vertex) -> bool {
    vertex.kind() == Kind::File && vertex.inputs.is_empty() && vertex.name.starts_with(INTERNAL)
}

/// Returns whether the text of a command has the name of a variable.
pub(super) fn is_named(vertex: &Vertex, name: &str) -> bool {
    let Ok(op::Op::Exec(exec)) = &vertex.op else {
        return false;
    };
    let mut args = exec.meta.iter().flat_map(|meta| &meta.args);
    args.any(|arg| arg.contains(name))
}
