//! The keys that this program computes, beside those that BuildKit has written into a cache.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;

use bollard_buildkit_proto::pb::Definition;
use docker_cachex::for_tests::buildkit::Client;
use docker_cachex::for_tests::buildkit::session::Session;
use docker_cachex::for_tests::buildkit::session::file_sync::LocalDirs;
use docker_cachex::for_tests::buildkit::session::tunnel;
use docker_cachex::for_tests::buildkit::solve::{self, SolveObserver, SolveRequest};
use docker_cachex::for_tests::cache::config::CacheConfig;
use docker_cachex::for_tests::cache::keys::calibrate::Calibration;
use docker_cachex::for_tests::cache::keys::compare::{Comparison, Fate, State, forecast};
use docker_cachex::for_tests::cache::keys::header::FileHash;
use docker_cachex::for_tests::cache::keys::{Facts, Keys, Kind, Plan, Tree};
use docker_cachex::for_tests::explain::{
    self, Build, Cache, Outcome, Outcomes, OwnFiles, diagnose,
};
use docker_cachex::for_tests::fsutil::Matcher;
use docker_cachex::for_tests::fsutil::wire::{self, Stat};
use fs_err as fs;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::support::bench::Bench;
use crate::support::caches;
use crate::support::rig::{Rig, context};

/// Keeps the definitions of a build.
#[derive(Default)]
struct Keeper(Mutex<Vec<Definition>>);

#[tonic::async_trait]
impl SolveObserver for Keeper {
    fn begin(&self, definitions: &BTreeMap<String, Definition>) {
        let mut kept = self.0.lock();
        kept.extend(definitions.values().cloned());
    }

    async fn built(&self) {}

    async fn broken(&self) {}

    fn is_run_again(&self, _error: &Status) -> bool {
        false
    }
}

/// Builds with the builder's own frontend, and returns what it made of the Dockerfile.
fn solved(bench: &Bench, folder: &Path, attrs: &[(&str, &str)]) -> Vec<Definition> {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut child = tokio::process::Command::new("docker")
            .args(["exec", "-i", &bench.container(), "buildctl", "dial-stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the docker CLI");
        let (output, input) = (child.stdout.take(), child.stdin.take());
        let stream = tokio::io::join(output.expect("a pipe"), input.expect("a pipe"));
        let client = Client::connect(stream).await.expect("a connection");
        let mut dirs = LocalDirs::default();
        dirs.add("context", folder);
        dirs.add("dockerfile", folder);
        let session = Session::builder().file_sync(dirs).build();
        let attrs = attrs.iter().copied().chain([("filename", "Dockerfile")]);
        let request = SolveRequest {
            build_ref: docker_cachex::for_tests::buildkit::new_id(),
            session: session.id().to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            attrs: attrs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..SolveRequest::default()
        };
        let tunnel = tunnel::open(client.channel(), session.metadata());
        let tunnel = tunnel.await.expect("a session");
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(session.serve(tunnel, cancel.clone()));
        let never = CancellationToken::new();
        let keeper = Keeper::default();
        let outcome = solve::solve(&client, &request, Some(&keeper), &never, |_| {}).await;
        cancel.cancel();
        serving.await.expect("no panic").expect("a session");
        outcome.expect("a build");
        keeper.0.into_inner()
    })
}

/// Reads a context as it is sent.
fn tree(folder: &Path) -> Tree {
    let ignored = fs::read_to_string(folder.join(".dockerignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored.lines().collect();
    let ignored = Matcher::new(&ignored).expect("patterns");
    let mut entries = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a folder") {
            let full = entry.expect("an entry").path();
            let path = full.strip_prefix(folder).expect("below it").to_str();
            let path = path.expect("UTF-8").to_owned();
            if ignored.matches(&path).expect("valid patterns") {
                continue;
            }
            let metadata = fs::symlink_metadata(&full).expect("metadata");
            let mut stat = Stat {
                path: path.into_bytes(),
                mode: metadata.permissions().mode() & 0o777,
                ..Stat::default()
            };
            let mut content = Vec::new();
            if metadata.is_dir() {
                stat.mode |= wire::MODE_DIR;
                open.push(full);
            } else if metadata.is_symlink() {
                stat.mode |= wire::MODE_SYMLINK;
                let target = fs::read_link(&full).expect("a link");
                stat.linkname = target.to_str().expect("UTF-8").as_bytes().to_vec();
            } else {
                content = fs::read(&full).expect("a file");
                stat.size = i64::try_from(content.len()).expect("a small file");
            }
            let mut hash = FileHash::new(&stat);
            hash.update(&content);
            let sum = stat.has_data().then(|| hash.finish());
            entries.push((stat, sum));
        }
    }
    Tree::of(entries)
}

/// A context with files of all kinds.
fn project(dockerfile: &str) -> TempDir {
    let folder = context(&[
        ("Dockerfile", dockerfile),
        (".dockerignore", "ignored\n*.log\n"),
        ("a.txt", "a\n"),
        ("b.txt", "b\n"),
        ("ignored/x", "x\n"),
        ("build.log", "y\n"),
        ("src/main.js", "main\n"),
        ("src/deep/er/d.js", "d\n"),
        ("src/deep/e.md", "e\n"),
        ("src-b/f.js", "f\n"),
    ]);
    symlink("src/deep", folder.path().join("link")).expect("a link");
    let tool = folder.path().join("src/tool");
    fs::write(&tool, "#!/bin/sh\n").expect("a file");
    fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    folder
}

/// What is known of a build before it runs.
struct RemoteCache {
    plan: Plan,
    keys: Keys,
}

fn known(bench: &Bench, folder: &Path, attrs: &[(&str, &str)]) -> RemoteCache {
    let tree = tree(folder);
    let plan = Plan::of(&solved(bench, folder, attrs));
    let facts = Facts {
        trees: BTreeMap::from([("context".to_owned(), &tree)]),
        ..Facts::default()
    };
    let keys = Keys::of(&plan, &facts);
    RemoteCache { plan, keys }
}

impl RemoteCache {
    fn compared(&self, config: &CacheConfig) -> Comparison {
        Comparison::new(&self.plan, &self.keys, config, &HashSet::new())
    }

    /// Checks that the steps ran and did not run as was said before.
    fn assert_come_true(&self, what: &str, fates: &[Fate], outcomes: &Outcomes) {
        for (at, (vertex, fate)) in self.plan.vertices().iter().zip(fates).enumerate() {
            let outcome = outcomes.get(at);
            let comes_true = match fate {
                Fate::Served => matches!(outcome, Outcome::Served | Outcome::NotTold),
                Fate::Runs => outcome == Outcome::Ran,
                Fate::Perhaps => true,
                Fate::Unknown => false,
            };
            let is_step = vertex.makes_layers() && !vertex.inputs.is_empty();
            assert!(
                comes_true || !is_step,
                "{what}: {} {fate:?} {outcome:?}",
                vertex.name
            );
        }
    }

    /// Returns the codes of the causes for which steps ran.
    fn causes(
        &self,
        config: &CacheConfig,
        comparison: Comparison,
        outcomes: &Outcomes,
    ) -> Vec<&'static str> {
        let cache = Cache {
            name: String::new(),
            age: None,
            commit: None,
            config,
            comparison,
        };
        let build = Build {
            plan: &self.plan,
            keys: &self.keys,
            facts: &Facts::default(),
            outcomes,
            caches: &[cache],
            asked: None,
            arguments: &[],
            own: &OwnFiles::default(),
        };
        let misses = diagnose(&build, &()).misses;
        misses.iter().map(|miss| miss.cause.code()).collect()
    }
}

/// Reads the config of a cache in the rig's registry.
fn config(reference: &str) -> CacheConfig {
    let registry = &Rig::get().registry;
    let (repository, _) = registry.place(reference);
    let config = registry.config(repository, &registry.manifest_of(reference));
    CacheConfig::parse(config.to_string().as_bytes()).expect("a config")
}

/// Reads what became of the steps from a raw progress. What was once said to be cached may be told again
/// while its layers are loaded.
fn outcomes(plan: &Plan, progress: &str) -> Outcomes {
    let mut steps: BTreeMap<String, (String, explain::Status)> = BTreeMap::new();
    let messages = progress.lines().filter(|line| line.starts_with('{'));
    for message in messages {
        let message: Value = serde_json::from_str(message).expect("JSON");
        for vertex in message["vertexes"].as_array().into_iter().flatten() {
            let text = |field: &str| vertex[field].as_str().expect("a text").to_owned();
            let (_, status) = steps
                .entry(text("digest"))
                .or_insert_with(|| (text("name"), explain::Status::default()));
            status.started |= vertex["started"].is_string();
            status.cached |= vertex["cached"] == true;
        }
    }
    Outcomes::of_build(plan, &steps)
}

/// Builds with the peer, and looks up each step in the cache that it wrote.
fn check(dockerfile: &str, args: &[&str], attrs: &[(&str, &str)]) {
    let bench = Bench::new();
    let folder = project(dockerfile);
    let reference = caches::reference("it/keys");
    let to = caches::export(&reference, "mode=max,image-manifest=true");
    let args = [args, &[to.as_str()]].concat();
    bench.build("buildx", &args, folder.path());

    let known = known(&bench, folder.path(), attrs);
    let comparison = known.compared(&config(&reference));
    let RemoteCache { plan, keys } = &known;
    let mut steps = 0;
    for (at, vertex) in plan.vertices().iter().enumerate() {
        if vertex.makes_layers() {
            let state = comparison.state(at);
            // BuildKit does not export the layers of steps on nothing.
            let has_layer = !vertex.inputs.is_empty();
            let expected = if has_layer {
                State::Hit
            } else {
                State::NoLayer
            };
            assert_eq!(state, &expected, "{}\n{:?}", vertex.name, keys.step(at));
            steps += 1;
        }
    }
    assert!(steps > 1);
    let calibration = Calibration::new(plan, keys, &comparison, |_| true);
    for kind in [
        Kind::Exec,
        Kind::File,
        Kind::Merge,
        Kind::Image,
        Kind::Local,
    ] {
        let count = calibration.count(kind);
        assert_eq!(count.found, count.all, "{kind:?}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn commands_have_the_keys_of_the_cache() {
    let base = &Rig::get().busybox;
    check(
        &format!(
            r#"FROM {base} AS tools
RUN mkdir /out && echo tool > /out/tool
FROM {base}
ARG VERSION=1
ENV NAME="a<b>&c" OTHER='ü "q" \\'
WORKDIR /w
RUN echo $VERSION > version
RUN --mount=type=bind,source=src,target=/src ls /src > list
RUN --mount=type=bind,target=/all,rw ls /all > all && touch /all/x
RUN --mount=type=bind,from=tools,source=/out,target=/tools ls /tools > tools
RUN --mount=type=cache,target=/c --mount=type=cache,id=other,target=/d,sharing=locked echo c > /c/x
RUN --mount=type=tmpfs,target=/t,size=4096 --mount=type=secret,id=none,required=false echo t > /t/x
RUN --network=none echo none > none
USER 1000:1000
RUN ["/bin/sh", "-c", "true"]
USER 0
RUN <<EOT
echo heredoc
EOT
"#
        ),
        &[
            "--build-arg=VERSION=7",
            "--add-host=a.example:10.1.2.3",
            "--ulimit=nofile=1024:2048",
        ],
        &[
            ("build-arg:VERSION", "7"),
            ("add-hosts", "a.example=10.1.2.3"),
            ("ulimit", "nofile=1024:2048"),
        ],
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn copies_have_the_keys_of_the_cache() {
    let base = &Rig::get().busybox;
    check(
        &format!(
            r"FROM {base} AS build
WORKDIR /w
COPY . .
RUN mkdir /out && cp a.txt /out/
FROM {base}
RUN echo nobody:x:65534:65534::/:/bin/sh > /etc/passwd && echo nobody:x:65534: > /etc/group
COPY a.txt b.txt /two/
COPY *.txt /wild/
COPY src* /folders/
COPY src/*.js src/deep /mixed/
COPY link /linked/
COPY --exclude=*.md --exclude=deep/er src /excluded/
COPY --chown=1000:1000 --chmod=640 a.txt /owned/
COPY --chown=nobody:nobody src/tool /named/
COPY --chown=0:0 a.txt /root/
COPY --link b.txt /layered/
COPY --from=build /out /from/
COPY --from=build --link /out/a.txt /from-layered/
ADD src/main.js /added/
COPY <<EOT /here
hello
EOT
"
        ),
        &[],
        &[],
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn stages_and_platforms_have_the_keys_of_the_cache() {
    check(
        "FROM scratch AS one\nARG TARGETARCH\nCOPY a.txt /a-${TARGETARCH}\nFROM scratch\n\
         COPY --from=one / /\nCOPY --link src /src\n",
        &["--platform=linux/amd64,linux/arm64/v8"],
        &[("platform", "linux/amd64,linux/arm64/v8")],
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn forecasts_come_true() {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base} AS build\nWORKDIR /w\nCOPY a.txt .\nRUN cp a.txt a.out\nCOPY src src\n\
         RUN cp -r src /out\nFROM {base}\nCOPY b.txt /\nCOPY --from=build /out /out\nRUN ls /out > /list\n"
    );
    let folder = project(&dockerfile);
    let (writer, fresh) = (Bench::new(), Bench::new());
    let [max, min] = ["max", "min"].map(|mode| {
        let reference = caches::reference("it/keys");
        let to = caches::export(&reference, &format!("mode={mode},image-manifest=true"));
        writer.build("buildx", &[&to], folder.path());
        reference
    });
    let with = |from: &str, to: &str| dockerfile.replace(from, to);
    let path = |name: &str| folder.path().join(name);
    let changes: [(&str, &[&str], &dyn Fn()); 6] = [
        ("nothing", &[], &|| {}),
        ("a command", &["new"], &|| {
            fs::write(path("Dockerfile"), with("cp -r src", "cp -a src")).expect("a file");
        }),
        ("a variable", &["arg"], &|| {
            fs::write(path("Dockerfile"), with("COPY src", "ARG X=1\nCOPY src")).expect("a file");
        }),
        ("a file of a folder", &["files"], &|| {
            fs::write(path("Dockerfile"), &dockerfile).expect("a file");
            fs::write(path("src/main.js"), "other\n").expect("a file");
        }),
        ("the first file", &["files", "files"], &|| {
            fs::write(path("a.txt"), "other\n").expect("a file");
        }),
        ("permissions", &["files", "files", "files"], &|| {
            let mode = std::fs::Permissions::from_mode(0o600);
            fs::set_permissions(path("b.txt"), mode).expect("permissions");
        }),
    ];
    for (what, codes, change) in changes {
        change();
        let known = known(&writer, folder.path(), &[]);
        for reference in [&max, &min] {
            let config = config(reference);
            let comparison = known.compared(&config);
            let fates = forecast(&known.plan, std::slice::from_ref(&comparison));
            fresh.prune();
            let import = caches::import(reference);
            let args = ["--progress=rawjson", &import];
            let outcomes = outcomes(&known.plan, &fresh.build("buildx", &args, folder.path()));
            known.assert_come_true(what, &fates, &outcomes);
            if reference == &max {
                assert_eq!(
                    known.causes(&config, comparison, &outcomes),
                    codes,
                    "{what}"
                );
            }
        }
    }
}
