//! The steps of a build looked up in a cache config.
//!
//! A record is that of a step if its digest is, and if for each input one of its links leads to a
//! record of that input: with the step's selector to a record of the input's own step, or without one to
//! the record of the input's files (BuildKit `solver/edge.go`, `solver/cachemanager.go`).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::plan::{Edge, Plan};
use super::{Content, InputRule, Keys, Unknown, record};
use crate::cache::config::{CacheConfig, CacheInput, CacheRecord};
use crate::digest::Digest;

/// What a cache has of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its result.
    Hit,
    /// A record without a result. Steps without inputs never have one: BuildKit does not export it.
    NoLayer,
    /// A record whose layer is lost.
    LayerLost(Digest),
    /// A record that fits if the files of these inputs come out the same.
    Perhaps(Vec<usize>),
    /// The same step on other inputs: those that differ from the record that comes closest.
    OtherInputs(Vec<usize>),
    /// Nothing.
    New,
    /// This cannot be told.
    Unknown(Unknown),
}

impl State {
    /// Returns the rank: the lower, the more of the step the cache has.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Hit => 0,
            Self::NoLayer => 1,
            Self::LayerLost(_) => 2,
            Self::Perhaps(_) => 3,
            Self::Unknown(_) => 4,
            Self::OtherInputs(_) => 5,
            Self::New => 6,
        }
    }
}

/// What will become of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not needed, or a cache serves it.
    Served,
    /// It runs, unless the files of an input come out as they were.
    Perhaps,
    /// It runs.
    Runs,
    /// This cannot be told.
    Unknown,
}

/// The steps of a plan in one cache.
#[derive(Debug)]
pub struct Comparison {
    states: Vec<State>,
    records: BTreeSet<usize>,
    unsure: BTreeSet<usize>,
}

impl Comparison {
    /// Looks up all steps. `lost` holds the blobs that the registry does not have.
    pub fn new(plan: &Plan, keys: &Keys, config: &CacheConfig, lost: &HashSet<Digest>) -> Self {
        let mut search = Search::new(plan, keys, config, lost);
        let states = (0..plan.vertices().len())
            .map(|vertex| search.vertex(vertex))
            .collect();
        let found = search.found.values();
        let records = found.clone();
        let records = records.flat_map(|found| found.records.union(&found.perhaps));
        Self {
            states,
            records: records.copied().collect(),
            unsure: found.flat_map(|found| &found.unsure).copied().collect(),
        }
    }

    /// Returns the records of steps of the plan of which it cannot be told whether they fit.
    pub fn unsure(&self) -> &BTreeSet<usize> {
        &self.unsure
    }

    /// Returns whether everything can be told of all steps.
    pub fn is_known(&self) -> bool {
        let is_unknown = |state: &State| matches!(state, State::Unknown(_));
        self.unsure.is_empty() && !self.states.iter().any(is_unknown)
    }

    /// Returns whether the cache has nothing of a step that makes a layer, and will not turn out to have something.
    pub fn is_useless(&self, plan: &Plan) -> bool {
        let states = plan.vertices().iter().zip(&self.states);
        let mut states = states.filter(|(vertex, _)| vertex.makes_layers());
        states.all(|(_, state)| matches!(state, State::New | State::OtherInputs(_)))
    }

    /// Returns the records that are those of steps of the plan, or may turn out to be: what of a cache is
    /// of use to the build. The contents of files that they lead to are not among them.
    pub fn records(&self) -> &BTreeSet<usize> {
        &self.records
    }

    /// Returns what the cache has of a vertex.
    pub fn state(&self, vertex: usize) -> &State {
        self.states
            .get(vertex)
            .unwrap_or(&State::Unknown(Unknown::MissingInput))
    }

    /// Returns how many steps that make layers the cache knows, and of how many it has the result.
    pub fn known(&self, plan: &Plan) -> (usize, usize) {
        let states = plan.vertices().iter().zip(&self.states);
        let states = states.filter(|(vertex, _)| vertex.makes_layers());
        let hits = states.clone().filter(|(_, state)| **state == State::Hit);
        let bare = states.filter(|(_, state)| **state == State::NoLayer);
        let hits = hits.count();
        (hits + bare.count(), hits)
    }
}

/// Tells what will become of the steps with these caches. Steps that only others need, which are served,
/// are served too.
pub fn forecast(plan: &Plan, caches: &[Comparison]) -> Vec<Fate> {
    let mut fates = vec![Fate::Served; plan.vertices().len()];
    let mut needed: BTreeSet<usize> = plan.results().iter().map(|edge| edge.vertex).collect();
    for (at, vertex) in plan.vertices().iter().enumerate().rev() {
        if !needed.contains(&at) {
            continue;
        }
        let states = caches.iter().map(|cache| cache.state(at));
        let best = states.min_by_key(|state| state.rank());
        let fate = match best {
            _ if !vertex.makes_layers() => Fate::Served,
            _ if vertex.ignores_cache => Fate::Runs,
            Some(State::Hit) => Fate::Served,
            Some(State::Perhaps(_)) => Fate::Perhaps,
            Some(State::Unknown(_)) => Fate::Unknown,
            _ => Fate::Runs,
        };
        if let Some(place) = fates.get_mut(at) {
            *place = fate;
        }
        if fate != Fate::Served {
            needed.extend(vertex.inputs.iter().flatten().map(|edge| edge.vertex));
        }
    }
    fates
}

/// Whether a link leads to an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Yes,
    Perhaps,
    Unknown,
    No,
}

/// What is found of an edge.
#[derive(Debug, Default)]
struct Found {
    /// Its records.
    records: HashSet<usize>,
    /// Records that may turn out to be its own.
    perhaps: HashSet<usize>,
    /// Records of which this cannot be told.
    unsure: HashSet<usize>,
    /// Whether its key is unknown, so that any record may be its own.
    unknown: Option<Unknown>,
}

struct Search<'a> {
    plan: &'a Plan,
    keys: &'a Keys,
    config: &'a CacheConfig,
    by_digest: HashMap<&'a str, Vec<usize>>,
    found: HashMap<Edge, Found>,
    /// For each layer one that it needs and that is lost.
    lost: Vec<Option<Digest>>,
}

impl<'a> Search<'a> {
    fn new(
        plan: &'a Plan,
        keys: &'a Keys,
        config: &'a CacheConfig,
        lost: &HashSet<Digest>,
    ) -> Self {
        let mut by_digest: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, record) in config.records.iter().enumerate() {
            by_digest.entry(&record.digest).or_default().push(at);
        }
        Self {
            plan,
            keys,
            config,
            by_digest,
            found: HashMap::new(),
            lost: lost_below(config, lost),
        }
    }

    /// Looks up all outputs of a vertex, and returns what is worst.
    fn vertex(&mut self, vertex: usize) -> State {
        let mut outputs: Vec<i64> = self.plan.outputs(vertex).collect();
        if outputs.is_empty() {
            outputs.push(0);
        }
        let mut worst = State::Hit;
        for output in outputs {
            let edge = Edge { vertex, output };
            let (found, state) = self.edge(edge);
            self.found.insert(edge, found);
            if state.rank() > worst.rank() {
                worst = state;
            }
        }
        worst
    }

    fn edge(&self, edge: Edge) -> (Found, State) {
        let mut found = Found::default();
        let key = match self.keys.step(edge.vertex) {
            Ok(key) => key,
            Err(unknown) => {
                found.unknown = Some(unknown.clone());
                return (found, State::Unknown(unknown));
            }
        };
        let digests = key.digests.iter().map(|key| record(key, edge.output));
        let candidates = digests.filter_map(|digest| self.by_digest.get(digest.as_str()));
        let candidates: Vec<usize> = candidates.flatten().copied().collect();
        let mut fits = Vec::new();
        for at in &candidates {
            let Some(record) = self.config.records.get(*at) else {
                continue;
            };
            let inputs = self.inputs(edge.vertex, &key.inputs, record);
            match inputs.iter().max().unwrap_or(&Fit::Yes) {
                Fit::Yes => _ = found.records.insert(*at),
                Fit::Perhaps => _ = found.perhaps.insert(*at),
                Fit::Unknown => _ = found.unsure.insert(*at),
                Fit::No => {}
            }
            fits.push(inputs);
        }
        let state = self.state(edge.vertex, &found, &fits);
        if let State::Unknown(unknown) = &state {
            found.unknown = Some(unknown.clone());
        }
        (found, state)
    }

    fn inputs(&self, vertex: usize, rules: &[InputRule], record: &CacheRecord) -> Vec<Fit> {
        if rules.len() != record.inputs.len() {
            return vec![Fit::No; rules.len().max(1)];
        }
        let inputs = rules.iter().zip(&record.inputs).enumerate();
        inputs
            .map(|(input, (rule, links))| {
                let fits = links
                    .iter()
                    .map(|link| self.link(vertex, input, rule, link));
                fits.min().unwrap_or(Fit::No)
            })
            .collect()
    }

    fn link(&self, vertex: usize, input: usize, rule: &InputRule, link: &CacheInput) -> Fit {
        let selector = rule.selector.as_ref().map_or("", Digest::as_str);
        let by_step = if link.selector == selector {
            self.by_step(vertex, input, link.link)
        } else {
            Fit::No
        };
        by_step.min(self.by_files(vertex, input, link))
    }

    fn by_step(&self, vertex: usize, input: usize, record: usize) -> Fit {
        let vertex = self.plan.vertices().get(vertex);
        let edge = vertex.and_then(|vertex| *vertex.inputs.get(input)?);
        match edge.and_then(|edge| self.found.get(&edge)) {
            Some(found) if found.records.contains(&record) => Fit::Yes,
            Some(found) if found.perhaps.contains(&record) => Fit::Perhaps,
            Some(found) if found.unknown.is_some() => Fit::Unknown,
            _ => Fit::No,
        }
    }

    fn by_files(&self, vertex: usize, input: usize, link: &CacheInput) -> Fit {
        let root = self.config.records.get(link.link);
        let root = root.filter(|root| root.inputs.is_empty() && link.selector.is_empty());
        match (root, self.keys.content(vertex, input)) {
            (Some(root), Content::Keys(keys)) => {
                let is_key = |key: &Digest| key.as_str() == root.digest;
                if keys.iter().any(is_key) {
                    Fit::Yes
                } else {
                    Fit::No
                }
            }
            (Some(_), Content::NotBuilt) => Fit::Perhaps,
            (Some(_), Content::Unknown(_)) => Fit::Unknown,
            (None, _) | (_, Content::NotUsed) => Fit::No,
        }
    }

    fn state(&self, vertex: usize, found: &Found, fits: &[Vec<Fit>]) -> State {
        if !found.records.is_empty() {
            let records = found.records.iter();
            let records = records.filter_map(|at| self.config.records.get(*at));
            return records
                .map(|record| self.result(record))
                .min_by_key(State::rank)
                .unwrap_or(State::NoLayer);
        }
        let worst = |inputs: &&Vec<Fit>| inputs.iter().max().copied().unwrap_or(Fit::No);
        let closest = fits.iter().min_by_key(|inputs| {
            let misses = inputs.iter().filter(|fit| **fit == Fit::No).count();
            (worst(inputs), misses)
        });
        let Some(closest) = closest else {
            return State::New;
        };
        let those = |wanted: Fit| -> Vec<usize> {
            let inputs = closest.iter().enumerate();
            inputs
                .filter(|(_, fit)| **fit == wanted)
                .map(|(at, _)| at)
                .collect()
        };
        match worst(&closest) {
            Fit::No => State::OtherInputs(those(Fit::No)),
            Fit::Unknown => State::Unknown(self.why(vertex, &those(Fit::Unknown))),
            Fit::Yes | Fit::Perhaps => State::Perhaps(those(Fit::Perhaps)),
        }
    }

    /// Returns why one of these inputs is unknown.
    fn why(&self, vertex: usize, inputs: &[usize]) -> Unknown {
        let of_input = |input: &usize| {
            if let Content::Unknown(unknown) = self.keys.content(vertex, *input) {
                return Some(unknown.clone());
            }
            let edge = *self.plan.vertices().get(vertex)?.inputs.get(*input)?;
            self.found.get(&edge?)?.unknown.clone()
        };
        let unknown = inputs.iter().find_map(of_input);
        unknown.unwrap_or(Unknown::MissingInput)
    }

    fn result(&self, record: &CacheRecord) -> State {
        let results = record.results.iter().map(|result| vec![result.layer]);
        let chains = record.chains.iter().map(|chain| chain.layers.clone());
        let mut state = State::NoLayer;
        for layers in results.chain(chains) {
            let lost = layers
                .iter()
                .find_map(|layer| self.lost.get(*layer)?.clone());
            match lost {
                None => return State::Hit,
                Some(lost) => state = State::LayerLost(lost),
            }
        }
        state
    }
}

/// Returns for each layer a lost one among it and those below.
fn lost_below(config: &CacheConfig, lost: &HashSet<Digest>) -> Vec<Option<Digest>> {
    if lost.is_empty() {
        return vec![None; config.layers.len()];
    }
    let of_chain = |layer: usize| {
        let blobs = config.chain(layer).into_iter();
        let mut blobs = blobs.filter_map(|at| Some(&config.layers.get(at)?.blob));
        blobs.find(|blob| lost.contains(*blob)).cloned()
    };
    (0..config.layers.len()).map(of_chain).collect()
}
