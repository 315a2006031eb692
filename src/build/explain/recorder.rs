//! What a build tells about itself in the caches that it writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::pb::{Definition, Platform};
use parking_lot::Mutex;

use super::heard::Heard;
use crate::build::BuildRequest;
use crate::build::cache::CacheTarget;
use crate::build::context::inputs::{InputSpec, Inputs};
use crate::cache::keys::{Tree, plan};
use crate::cache::record::observe::Observed;
use crate::options::cache::Told;

/// Attribute of a build that has the commit of its context.
const COMMIT: &str = "vcs:revision";

/// Notes what there is to tell while a build runs.
#[derive(Debug)]
pub struct Recorder {
    /// What is known before.
    base: Observed,
    /// Lists of files are told.
    tells_files: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    definitions: BTreeMap<String, Definition>,
    /// What was said of the steps of this solve, by digest.
    steps: BTreeMap<String, Heard>,
    /// How long the steps took that ran in earlier solves, in milliseconds.
    ran_before: BTreeMap<String, u64>,
}

impl State {
    /// Returns how long each step took that ran, in milliseconds, by digest.
    fn ran(&self) -> BTreeMap<String, u64> {
        let mut ran = self.ran_before.clone();
        let steps = self.steps.iter();
        ran.extend(steps.filter_map(|(digest, heard)| Some((digest.clone(), heard.ran_for()?))));
        ran
    }
}

impl Recorder {
    /// Makes ready for a build; `None` where none of its caches tells anything. The platform is that of a build which names
    /// none.
    pub fn new(
        request: &BuildRequest,
        inputs: &Inputs,
        targets: &[CacheTarget],
        platform: Option<Platform>,
    ) -> Option<Self> {
        let told = targets.iter().filter_map(|target| match target {
            CacheTarget::Registry(target) => Some(target.cache.told()),
            CacheTarget::Layout(_) | CacheTarget::Builder(_) => None,
        });
        let told: Vec<Told> = told.filter(|told| *told != Told::Off).collect();
        if told.is_empty() || request.call.is_some() {
            return None;
        }
        let file = inputs.attrs.get("filename");
        let base = Observed {
            dockerfile: file.map_or("Dockerfile", String::as_str).to_owned(),
            context: context_name(&request.inputs),
            target: request.target.clone().unwrap_or_default(),
            platform: match request.platforms.as_slice() {
                [named] => Some(plan::to_proto(named)),
                _ => platform,
            },
            ..Observed::default()
        };
        Some(Self {
            base,
            tells_files: told.contains(&Told::Full),
            state: Mutex::default(),
        })
    }

    /// A solve begins; what ran in an earlier one is in the builder by now.
    pub fn solve_begins(&self) {
        let mut state = self.state.lock();
        state.ran_before = state.ran();
        state.steps.clear();
    }

    /// Returns whether the files of contexts are told.
    pub fn tells_files(&self) -> bool {
        self.tells_files
    }

    /// The frontend has made the definitions.
    pub fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        self.state.lock().definitions.clone_from(definitions);
    }

    /// Hears what the build reports.
    pub fn observe(&self, status: &StatusResponse) {
        let mut state = self.state.lock();
        for vertex in &status.vertexes {
            let heard = state.steps.entry(vertex.digest.clone()).or_default();
            heard.hear(vertex);
        }
    }

    /// Returns what there is to tell; `None` where the frontend made nothing.
    pub fn observed(
        &self,
        commit: &BTreeMap<String, String>,
        trees: BTreeMap<String, Arc<Tree>>,
    ) -> Option<Arc<Observed>> {
        let state = self.state.lock();
        if state.definitions.is_empty() {
            return None;
        }
        Some(Arc::new(Observed {
            definitions: state.definitions.clone(),
            commit: commit.get(COMMIT).cloned(),
            ran: state.ran(),
            trees,
            ..self.base.clone()
        }))
    }
}

/// Returns the last part of the context's path or URL, which tells apart the builds of one repository.
pub fn context_name(inputs: &InputSpec) -> String {
    let context = &inputs.context;
    let last = |text: &str| {
        text.rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    if inputs.context_is_remote() {
        // Behind these there may be a token.
        let end = context.find(['?', '#']).unwrap_or(context.len());
        let url = context.get(..end).unwrap_or_default();
        let path = url.split_once("://").map_or(url, |(_, path)| path);
        return path
            .split_once('/')
            .map_or_else(String::new, |(_, path)| last(path));
    }
    let path = inputs.current_dir.join(context);
    let real = fs_err::canonicalize(&path).unwrap_or(path);
    real.file_name()
        .map(Path::new)
        .map_or_else(String::new, |name| name.display().to_string())
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Timestamp;
    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

    use super::*;

    fn name(context: &str) -> String {
        context_name(&InputSpec {
            context: context.to_owned(),
            current_dir: "/home/me/app".into(),
            ..InputSpec::default()
        })
    }

    #[test]
    fn contexts_are_told_apart_by_their_last_part() {
        assert_eq!(name("."), "app");
        assert_eq!(name("services/a/"), "a");
        assert_eq!(
            name("https://u:p@github.com/me/app.git?token=x#main"),
            "app.git"
        );
        assert_eq!(name("https://token@example.com"), "");
    }

    #[test]
    fn what_ran_before_the_build_was_solved_again_keeps_its_time() {
        let recorder = Recorder {
            base: Observed::default(),
            tells_files: true,
            state: Mutex::default(),
        };
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let report = |cached, end| StatusResponse {
            vertexes: vec![Vertex {
                digest: "step".to_owned(),
                cached,
                started: at(1),
                completed: at(end),
                ..Vertex::default()
            }],
            ..StatusResponse::default()
        };
        recorder.solve_begins();
        recorder.observe(&report(false, 3));
        recorder.solve_begins();
        recorder.observe(&report(true, 1));
        // Its layers are loaded.
        recorder.observe(&report(false, 9));
        let commit = BTreeMap::from([(COMMIT.to_owned(), "4f2a91c".to_owned())]);
        assert!(recorder.observed(&commit, BTreeMap::new()).is_none());
        recorder.begin(&BTreeMap::from([(String::new(), Definition::default())]));
        let observed = recorder.observed(&commit, BTreeMap::new()).unwrap();
        assert_eq!(observed.ran, BTreeMap::from([("step".to_owned(), 2000)]));
        assert_eq!(observed.commit.as_deref(), Some("4f2a91c"));
    }
}
