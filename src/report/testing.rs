//! Builds to report on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};
use bollard_buildkit_proto::pb::Platform;

use super::{
    BuildFacts, Ending, Known, KnownCache, NodeFacts, Report, WrittenCache, collect::collect,
};
use crate::cache::keys::Plan;
use crate::cache::keys::testing::{BASE, Maker, amd64, copy, image, run, source};
use crate::explain::{Cause, Miss, Step};
use crate::progress::Traffic;
use crate::progress::model::{LogPolicy, Model};
use crate::progress::time::Time;

/// 24 November 2026, noon, in seconds.
const NOON: i64 = 1_795_521_600;

fn at(ms: i64) -> Timestamp {
    Time::from_nanos(NOON * 1_000_000_000 + ms * 1_000_000).into()
}

/// A build that grows.
pub(super) struct Build {
    maker: Maker,
    digests: Vec<String>,
    pub(super) model: Model,
}

impl Build {
    pub(super) fn new() -> Self {
        Self {
            maker: Maker::default(),
            digests: Vec::new(),
            model: Model::new(LogPolicy::lines(false)),
        }
    }

    /// Adds a step of the Dockerfile on a line; its inputs are numbers of earlier ones.
    pub(super) fn step(&mut self, name: &str, line: i32, inputs: &[usize]) -> usize {
        self.step_for(amd64(), name, line, inputs)
    }

    /// Adds a step for a platform.
    pub(super) fn step_for(
        &mut self,
        platform: Platform,
        name: &str,
        line: i32,
        inputs: &[usize],
    ) -> usize {
        let inputs: Vec<&str> = inputs.iter().map(|at| self.digests[*at].as_str()).collect();
        let op = match inputs.as_slice() {
            [] if name.starts_with("[internal]") => source("local://context"),
            [] => image(BASE),
            [_] => run(name, &[], Vec::new()),
            _ => copy("/", "/"),
        };
        let digest = self.maker.add_op(name, Some(op), &inputs, platform);
        if line > 0 {
            self.maker.at(&digest, line);
        }
        self.digests.push(digest);
        self.digests.len() - 1
    }

    /// Reports on a step.
    pub(super) fn report(&mut self, step: usize, name: &str, span: (i64, i64), more: Vertex) {
        let digest = self.digests[step].clone();
        self.vertex(&digest, name, span, more);
    }

    /// Reports on what is no step of the Dockerfile.
    pub(super) fn vertex(&mut self, digest: &str, name: &str, span: (i64, i64), more: Vertex) {
        let vertex = Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: Some(at(span.0)),
            completed: Some(at(span.1)),
            ..more
        };
        self.apply(&StatusResponse {
            vertexes: vec![vertex],
            ..StatusResponse::default()
        });
    }

    /// Reports on a vertex that has not begun.
    pub(super) fn unbegun(&mut self, vertex: Vertex) {
        self.apply(&StatusResponse {
            vertexes: vec![vertex],
            ..StatusResponse::default()
        });
    }

    /// Reports on a part of a vertex.
    pub(super) fn part(&mut self, digest: &str, id: &str, bytes: i64, span: (i64, i64)) {
        let part = VertexStatus {
            id: id.to_owned(),
            vertex: digest.to_owned(),
            current: bytes,
            total: bytes,
            timestamp: Some(at(span.1)),
            started: Some(at(span.0)),
            completed: Some(at(span.1)),
            ..VertexStatus::default()
        };
        self.apply(&StatusResponse {
            statuses: vec![part],
            ..StatusResponse::default()
        });
    }

    fn apply(&mut self, status: &StatusResponse) {
        self.model.apply(status, Time::default());
    }

    pub(super) fn digest(&self, step: usize) -> String {
        self.digests[step].clone()
    }

    /// Ends the definition with its last step.
    pub(super) fn known(&mut self) -> Known {
        let last = self.digests.last().cloned().unwrap();
        let definition = std::mem::take(&mut self.maker).end(&last);
        let plan = Plan::of([&definition]);
        let vertices = plan.vertices().iter();
        Known {
            names: vertices.map(|vertex| vertex.name.clone()).collect(),
            plan: Arc::new(plan),
            ..Known::default()
        }
    }

    /// Returns the vertex of a step.
    pub(super) fn at(&self, known: &Known, step: usize) -> usize {
        known.plan.index_of(&self.digests[step]).unwrap()
    }

    /// Returns why a step ran.
    pub(super) fn miss(
        &self,
        known: &Known,
        step: usize,
        cause: Cause,
        followers: &[usize],
    ) -> Miss {
        let told = |step: usize| {
            let vertex = self.at(known, step);
            let of_plan = &known.plan.vertices()[vertex];
            Step {
                vertex,
                name: of_plan.name.clone(),
                place: of_plan.place.clone(),
            }
        };
        Miss {
            step: told(step),
            cause,
            followers: followers.iter().map(|at| told(*at)).collect(),
        }
    }
}

pub(super) fn facts(ending: Ending, took: i64) -> BuildFacts {
    BuildFacts {
        version: "0.0.0",
        name: "registry.example/demo/app".to_owned(),
        target: None,
        builder: ("ci".to_owned(), "docker-container".to_owned()),
        platforms: Vec::new(),
        time: (Time::from(at(0)), Time::from(at(took))),
        ending,
        written: vec![WrittenCache {
            name: "registry.example/demo/app:cache".to_owned(),
            is_inline: false,
        }],
    }
}

pub(super) fn cached() -> Vertex {
    Vertex {
        cached: true,
        ..Vertex::default()
    }
}

pub(super) fn failed(error: &str) -> Vertex {
    Vertex {
        error: error.to_owned(),
        ..Vertex::default()
    }
}

/// The steps of [`sample`], as they are reported.
fn reported() -> Build {
    let mut build = Build::new();
    let names = [
        ("[internal] load build context", 0, &[][..]),
        ("[build 1/5] FROM docker.io/library/debian", 1, &[]),
        ("[build 2/5] RUN apt-get update", 2, &[1]),
        ("[build 3/5] RUN cat a | tee b", 3, &[2]),
        ("[build 4/5] COPY . .", 4, &[3, 0]),
        ("[build 5/5] RUN make", 5, &[4]),
        ("[stage-1 2/3] RUN useradd app", 8, &[1]),
        ("[stage-1 3/3] COPY --from=build /out /out", 9, &[6, 5]),
    ];
    for (name, line, inputs) in names {
        build.step(name, line, inputs);
    }
    let spans = [
        ((100, 400), Vertex::default()),
        ((100, 150), Vertex::default()),
        ((200, 200), cached()),
        ((200, 200), cached()),
        ((1_400, 1_650), Vertex::default()),
        ((1_650, 33_000), Vertex::default()),
        ((200, 4_200), Vertex::default()),
        ((33_000, 33_120), Vertex::default()),
    ];
    for (at, (span, more)) in spans.into_iter().enumerate() {
        build.report(at, names[at].0, span, more);
    }
    // A layer is fetched: BuildKit does not say again that the step was cached.
    build.report(3, names[3].0, (400, 1_400), Vertex::default());
    // And one for the export, when all steps have run.
    build.report(2, names[2].0, (33_200, 33_260), Vertex::default());
    let (context, loaded) = (build.digest(0), build.digest(3));
    build.part(&context, "transferring context:", 12_345, (100, 390));
    build.part(
        &loaded,
        &format!("sha256:{}", "ab".repeat(32)),
        41_000_000,
        (410, 1_300),
    );
    build.model.note(
        &loaded,
        "from registry.example/demo/app:cache or registry.example/demo/app:none".to_owned(),
    );
    build.vertex(
        "i",
        "importing cache manifest from registry.example/demo/app:cache",
        (20, 80),
        Vertex::default(),
    );
    build.vertex(
        "e",
        "exporting to image",
        (33_130, 34_000),
        Vertex::default(),
    );
    build.vertex(
        "c",
        "exporting cache to registry.example/demo/app:cache",
        (3_000, 35_220),
        Vertex::default(),
    );
    build.part("c", "layers", 31_200_000, (3_000, 35_000));
    let saved = "saving cache mount /root/.cache";
    build.vertex("m", saved, (33_000, 33_900), Vertex::default());
    build.part("m", "its files", 1_500_000, (33_000, 33_900));
    build.model.add_traffic(Traffic {
        sent: Some(31_200_000),
        received: Some(41_000_000),
        mounts_sent: Some(1_500_000),
        mounts_received: None,
    });
    build
}

/// A build of two stages: one step is cached, one is loaded, and the rest ran because of one.
pub(super) fn sample() -> Report {
    let mut build = reported();
    let mut known = build.known();
    known.misses = vec![
        build.miss(&known, 4, Cause::SomeFiles, &[5, 7]),
        build.miss(&known, 6, Cause::New, &[]),
    ];
    known.times = BTreeMap::from([(build.at(&known, 2), 9_000), (build.at(&known, 3), 184_000)]);
    known.caches = vec![
        KnownCache {
            name: "registry.example/demo/app:cache".to_owned(),
            age: Some("2 hours".to_owned()),
            commit: Some("4f2a91c0".to_owned()),
            has: Some(BTreeSet::from([build.at(&known, 2), build.at(&known, 3)])),
            error: None,
        },
        KnownCache {
            name: "registry.example/demo/app:none".to_owned(),
            ..KnownCache::default()
        },
    ];
    let node = NodeFacts {
        name: None,
        model: &build.model,
        known: Some(&known),
    };
    collect(facts(Ending::Succeeded, 35_400), &[node])
}
