use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::Vertex;
use bollard_buildkit_proto::pb::{CacheOpt, Definition, ExecOp, Input, Mount, MountType, Op, op};
use prost::Message as _;
use tokio::sync::mpsc;

use super::fake::{Attempt, FakeDaemon};
use super::*;
use crate::build::cache::export::{self, CacheContext};
use crate::build::cache::{CacheImport, CacheObserver};
use crate::buildkit::solve::Entry;
use crate::cache::export::ExportProgress;
use crate::cache::extras::refusals::Refusals;
use crate::cache::registries::{NetworkSettings, Registries};
use crate::compress::Workers;
use crate::digest::Digest;
use crate::docker::token::Tokens;
use crate::options::cache::CacheTo;
use crate::registry::SpoolDir;

/// Takes note of what is told about caches.
#[derive(Debug, Default, Clone)]
struct Told(Arc<Mutex<Vec<String>>>);

impl CacheObserver for Told {
    fn export(&self, _: &str) -> Arc<dyn ExportProgress> {
        Arc::new(self.clone())
    }

    fn import(&self, _: &str) -> Arc<dyn ExportProgress> {
        Arc::new(self.clone())
    }

    fn mount(&self, _: &str) -> Arc<dyn ExportProgress> {
        Arc::new(self.clone())
    }

    fn sent(&self, _: u64) {}
    fn received(&self, _: u64) {}
    fn origin(&self, _: &str, _: &str) {}
}

impl ExportProgress for Told {
    fn part(&self, _: &str, _: u64, _: u64) {}
    fn part_done(&self, _: &str) {}

    fn done(&self, summary: &str) {
        self.0.lock().push(summary.to_owned());
    }

    fn failed(&self, error: &str) {
        self.0.lock().push(error.to_owned());
    }
}

/// No build here loads an image.
struct NoLoader;

impl ImageLoader for NoLoader {
    fn load(
        &self,
        _: String,
        _: mpsc::Receiver<bytes::Bytes>,
    ) -> futures_util::future::BoxFuture<'static, std::io::Result<()>> {
        unreachable!("no image is loaded")
    }
}

/// A definition of one step, and the step's digest.
fn definition() -> (Definition, String) {
    definition_with(&[])
}

/// A definition of one step with more mounts, and the step's digest.
fn definition_with(mounts: &[Mount]) -> (Definition, String) {
    let root = Mount {
        dest: "/".to_owned(),
        input: -1,
        ..Mount::default()
    };
    let step = Op {
        op: Some(op::Op::Exec(ExecOp {
            mounts: std::iter::once(root)
                .chain(mounts.iter().cloned())
                .collect(),
            ..ExecOp::default()
        })),
        ..Op::default()
    };
    let step = step.encode_to_vec();
    let digest = Digest::of(&step).to_string();
    let end = Op {
        inputs: vec![Input {
            digest: digest.clone(),
            index: 0,
        }],
        ..Op::default()
    };
    let definition = Definition {
        def: vec![step, end.encode_to_vec()],
        ..Definition::default()
    };
    (definition, digest)
}

fn report(digest: &str, error: &str, seconds: i64) -> StatusResponse {
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    StatusResponse {
        vertexes: vec![Vertex {
            digest: digest.to_owned(),
            name: "RUN make".to_owned(),
            started: at(100),
            completed: at(100 + seconds),
            error: error.to_owned(),
            ..Vertex::default()
        }],
        ..StatusResponse::default()
    }
}

/// A build that ran, and what was shown of it.
struct Ran {
    result: Result<BuildOutcome, BuildError>,
    shown: Vec<StatusResponse>,
    told: Vec<String>,
}

/// Runs a build with this `--cache-to` and `--cache-from` until it ends.
async fn ran(
    daemon: &FakeDaemon,
    cache_to: &str,
    cache_from: &[CacheImport],
    cancellation: &Cancellation,
) -> Ran {
    let request = BuildRequest {
        cache_to: CacheTo::parse(cache_to).unwrap(),
        policy_off: true,
        ..BuildRequest::default()
    };
    let context = CacheContext {
        tags: &[],
        outputs: &[],
        build_args: &request.build_args,
    };
    let targets = export::targets(&request.cache_to, context).unwrap();
    let (told, folder) = (Told::default(), tempfile::tempdir().unwrap());
    let registries = Registries::new(Tokens::anonymous(), NetworkSettings::default());
    let registries = Arc::new(registries);
    let env = Env::from_pairs(std::iter::empty::<(&str, &str)>(), folder.path());
    let runner = Runner {
        pushes: Pushes::default(),
        client: daemon.client().await,
        tokens: Tokens::anonymous(),
        loader: Arc::new(NoLoader),
        config_dir: folder.path(),
        targets: &targets,
        probes: Probes::start(cache_from, &registries, &Arc::default()),
        caches: CacheTools {
            registries,
            workers: Workers::new(std::num::NonZeroUsize::MIN),
            spool_dir: SpoolDir::new([folder.path().to_owned()]),
            keyring: Arc::default(),
            refusals: Refusals::default(),
            observer: Arc::new(told.clone()),
        },
        commit: Commit::none(),
        raw_status: false,
        meter: None,
        facts: NodeFacts::default(),
        env: &env,
        failed: &Mutex::default(),
        known: None,
        ends: &Mutex::default(),
    };
    let mut shown = Vec::new();
    let inputs = Inputs::default();
    let run = run(&request, inputs, "first", &runner, cancellation, |status| {
        shown.push(status);
    });
    let result = tokio::time::timeout(Duration::from_secs(20), Box::pin(run));
    let result = result.await.expect("the build hangs");
    let told = told.0.lock().clone();
    Ran {
        result,
        shown,
        told,
    }
}

/// A cache whose layers are not known here.
fn unknown_cache() -> CacheImport {
    CacheImport::Builder(Entry {
        kind: "azblob".to_owned(),
        attrs: BTreeMap::new(),
    })
}

fn lost_blob() -> String {
    format!("failed to copy: {}: not found", Digest::of(b"lost"))
}

fn fails_with(error: String) -> Attempt {
    Attempt {
        error: Some(error),
        ..Attempt::default()
    }
}

#[tokio::test]
async fn a_build_is_solved_once_and_shown() {
    let (definition, step) = definition();
    let report = report(&step, "", 1);
    let attempt = Attempt {
        reports: vec![report.clone()],
        ..Attempt::default()
    };
    let daemon = FakeDaemon::new(definition, [attempt]);
    let ran = ran(&daemon, "", &[], &Cancellation::default()).await;
    let outcome = ran.result.unwrap();
    assert_eq!(outcome.build_ref, "first");
    assert_eq!(outcome.response["k"], "v");
    assert_eq!(ran.shown, [report]);
    let [build] = &daemon.builds()[..] else {
        panic!("one solve")
    };
    assert!(!build.session.is_empty() && build.frontend_attrs.is_empty());
}

#[tokio::test]
async fn a_failed_step_ends_the_build_at_once() {
    let (definition, step) = definition();
    let message = "process \"/bin/sh -c false\" did not complete successfully: exit code: 1";
    let attempt = Attempt {
        reports: vec![report(&step, message, 1)],
        ..fails_with(message.to_owned())
    };
    let daemon = FakeDaemon::new(definition, [attempt]);
    let ran = ran(&daemon, "", &[unknown_cache()], &Cancellation::default()).await;
    let Err(BuildError::Solve(error)) = ran.result else {
        panic!("{:?}", ran.result)
    };
    assert_eq!(error.message(), message);
    assert_eq!(ran.shown[0].vertexes[0].error, message);
}

#[tokio::test]
async fn a_build_is_run_again_without_a_cache_that_has_lost_a_blob() {
    let (definition, step) = definition();
    let first = Attempt {
        reports: vec![report(&step, &lost_blob(), 1)],
        ..fails_with(lost_blob())
    };
    let daemon = FakeDaemon::new(definition, [first, Attempt::default()]);
    let ran = ran(&daemon, "", &[unknown_cache()], &Cancellation::default()).await;
    let outcome = ran.result.unwrap();
    let [first, second] = &daemon.builds()[..] else {
        panic!("two solves")
    };
    let imports = |build: &bollard_buildkit_proto::moby::buildkit::v1::SolveRequest| {
        build.cache.as_ref().unwrap().imports.len()
    };
    assert_eq!((imports(first), imports(second)), (1, 0));
    assert_eq!(first.session, second.session);
    assert_eq!(
        (first.r#ref.as_str(), &second.r#ref),
        ("first", &outcome.build_ref)
    );
    assert_ne!(first.r#ref, second.r#ref);
    assert!(
        outcome.warnings[0].contains("run again without the cache"),
        "{outcome:?}"
    );
    assert!(ran.told[0].contains("without this cache"), "{:?}", ran.told);
    // It was held back until it was known that the build goes on.
    assert_eq!(
        ran.shown.last().unwrap().vertexes[0].error,
        "context canceled"
    );
}

#[tokio::test]
async fn what_fails_without_any_cache_is_not_run_again() {
    let (definition, _) = definition();
    let attempts = [fails_with(lost_blob()), fails_with(lost_blob())];
    let daemon = FakeDaemon::new(definition, attempts);
    let ran = ran(&daemon, "", &[unknown_cache()], &Cancellation::default()).await;
    assert!(
        matches!(ran.result, Err(BuildError::Solve(_))),
        "{:?}",
        ran.result
    );
    assert_eq!(daemon.builds().len(), 2);
}

#[tokio::test]
async fn a_finished_step_is_exported_beside_the_build() {
    let (definition, step) = definition();
    let attempt = Attempt {
        reports: vec![report(&step, "", 5)],
        waits_for_part: true,
        ..Attempt::default()
    };
    let daemon = FakeDaemon::new(definition.clone(), [attempt]);
    let cache = "type=registry,ref=127.0.0.1:1/a:c,mode=max,on-failure=skip";
    let ran = ran(&daemon, cache, &[], &Cancellation::default()).await;
    ran.result.unwrap();
    let parts = daemon.parts();
    let part = &parts[0];
    assert!(part.internal && part.definition.is_some());
    let exported = &part.cache.as_ref().unwrap().exports[0];
    assert_eq!(
        (exported.r#type.as_str(), exported.attrs["mode"].as_str()),
        ("local", "max")
    );
    let builds = daemon.builds();
    assert_eq!(part.session, builds[0].session);
    let exported = &builds[0].cache.as_ref().unwrap().exports[0];
    assert_eq!(
        exported.r#type, "registry",
        "the builder sends the whole cache itself"
    );
}

#[tokio::test]
async fn only_a_build_with_cache_mounts_asks_the_builder_for_them() {
    let mount = Mount {
        dest: "/c".to_owned(),
        input: -1,
        mount_type: MountType::Cache.into(),
        cache_opt: Some(CacheOpt::default()),
        ..Mount::default()
    };
    for (mounts, asked) in [(&[][..], 0), (&[mount], 1)] {
        let (definition, step) = definition_with(mounts);
        let attempt = Attempt {
            reports: vec![report(&step, "", 5)],
            ..Attempt::default()
        };
        let daemon = FakeDaemon::new(definition, [attempt]);
        let cache = "type=registry,ref=127.0.0.1:1/a:c,alongside=false,on-failure=skip,mounts=all";
        let ran = ran(&daemon, cache, &[], &Cancellation::default()).await;
        ran.result.unwrap();
        assert_eq!((daemon.builds().len(), daemon.parts().len()), (1, 0));
        assert_eq!(daemon.disk_asked(), asked);
    }
}

#[tokio::test]
async fn nothing_is_exported_early_where_the_user_says_so() {
    let (definition, step) = definition();
    let attempt = Attempt {
        reports: vec![report(&step, "", 5)],
        ..Attempt::default()
    };
    let daemon = FakeDaemon::new(definition, [attempt]);
    let cache = "type=registry,ref=127.0.0.1:1/a:c,alongside=false,on-failure=skip";
    let ran = ran(&daemon, cache, &[], &Cancellation::default()).await;
    ran.result.unwrap();
    assert!(daemon.parts().is_empty());
}

#[tokio::test]
async fn a_cancelled_build_ends_as_cancelled() {
    let (definition, step) = definition();
    for cache in ["", "type=registry,ref=127.0.0.1:1/a:c,on-failure=skip"] {
        let attempt = Attempt {
            reports: vec![report(&step, "", 1)],
            hangs: true,
            ..Attempt::default()
        };
        let daemon = FakeDaemon::new(definition.clone(), [attempt]);
        let cancellation = Cancellation::default();
        let cancel = async {
            while daemon.builds().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancellation.graceful.cancel();
        };
        let (ran, ()) = tokio::join!(ran(&daemon, cache, &[], &cancellation), cancel);
        let Err(error) = ran.result else {
            panic!("{cache}: it ended well")
        };
        assert!(
            error
                .rpc()
                .is_some_and(crate::buildkit::RpcError::is_cancelled),
            "{error:?}"
        );
    }
}

#[test]
fn a_progress_that_broke_off_is_a_warning() {
    let broken = tonic::Status::unavailable("the stream broke").into();
    let outcome = SolveOutcome {
        status_error: Some(broken),
        ..SolveOutcome::default()
    };
    let [warning] = &taken(&BuildRequest::default(), &[], outcome, Vec::new()).warnings[..] else {
        panic!("one warning");
    };
    assert!(warning.contains("the stream broke"), "{warning}");
}
