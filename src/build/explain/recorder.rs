//! What a build tells about itself in the caches that it writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};
use bollard_buildkit_proto::pb::Definition;
use parking_lot::Mutex;

use crate::build::BuildRequest;
use crate::build::cache::CacheTarget;
use crate::build::context::inputs::{InputSpec, Inputs};
use crate::cache::keys::Tree;
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
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    definitions: BTreeMap<String, Definition>,
    /// How long each step took that ran, in milliseconds, by digest.
    ran: BTreeMap<String, u64>,
}

impl Recorder {
    /// Makes ready for a build; `None` where none of its caches tells anything.
    pub fn new(request: &BuildRequest, inputs: &Inputs, targets: &[CacheTarget]) -> Option<Self> {
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
            ..Observed::default()
        };
        Some(Self {
            base,
            tells_files: told.contains(&Told::Full),
            heard: Mutex::default(),
        })
    }

    /// Returns whether the files of contexts are told.
    pub fn tells_files(&self) -> bool {
        self.tells_files
    }

    /// The frontend has made the definitions.
    pub fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        self.heard.lock().definitions.clone_from(definitions);
    }

    /// Hears what the build reports.
    pub fn observe(&self, status: &StatusResponse) {
        let mut heard = self.heard.lock();
        for vertex in &status.vertexes {
            if vertex.cached {
                // Of a step out of a cache the builder tells how long its layers took to load.
                heard.ran.remove(&vertex.digest);
            } else if let Some(milliseconds) = milliseconds(vertex) {
                let took = heard.ran.entry(vertex.digest.clone()).or_default();
                *took = milliseconds.max(*took);
            }
        }
    }

    /// Returns what there is to tell; `None` where the frontend made nothing.
    pub fn observed(
        &self,
        commit: &BTreeMap<String, String>,
        trees: BTreeMap<String, Arc<Tree>>,
    ) -> Option<Arc<Observed>> {
        let heard = self.heard.lock();
        if heard.definitions.is_empty() {
            return None;
        }
        Some(Arc::new(Observed {
            definitions: heard.definitions.clone(),
            commit: commit.get(COMMIT).cloned(),
            ran: heard.ran.clone(),
            trees,
            ..self.base.clone()
        }))
    }
}

/// Returns how long a step ran that has succeeded.
fn milliseconds(vertex: &Vertex) -> Option<u64> {
    let time =
        |time: &Timestamp| i128::from(time.seconds) * 1000 + i128::from(time.nanos) / 1_000_000;
    let (started, completed) = (vertex.started.as_ref()?, vertex.completed.as_ref()?);
    if !vertex.error.is_empty() {
        return None;
    }
    u64::try_from(time(completed) - time(started)).ok()
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
    fn only_steps_that_ran_to_their_end_have_a_time() {
        let recorder = Recorder {
            base: Observed::default(),
            tells_files: true,
            heard: Mutex::default(),
        };
        let at = |seconds| {
            Some(Timestamp {
                seconds,
                nanos: 5_000_000,
            })
        };
        let vertex = |digest: &str, cached, completed, error: &str| Vertex {
            digest: digest.to_owned(),
            cached,
            started: at(1),
            completed,
            error: error.to_owned(),
            ..Vertex::default()
        };
        let vertexes = vec![
            vertex("ran", false, at(3), ""),
            vertex("cached", true, at(3), ""),
            vertex("runs", false, None, ""),
            vertex("failed", false, at(3), "x"),
        ];
        recorder.observe(&StatusResponse {
            vertexes,
            ..StatusResponse::default()
        });
        assert!(
            recorder
                .observed(&BTreeMap::new(), BTreeMap::new())
                .is_none()
        );
        recorder.begin(&BTreeMap::from([(String::new(), Definition::default())]));
        let commit = BTreeMap::from([(COMMIT.to_owned(), "4f2a91c".to_owned())]);
        let observed = recorder.observed(&commit, BTreeMap::new()).unwrap();
        assert_eq!(observed.ran, BTreeMap::from([("ran".to_owned(), 2000)]));
        assert_eq!(observed.commit.as_deref(), Some("4f2a91c"));
    }
}
