//! Runs one build on one connected builder: plan, session, solve, publish.

mod attempts;
mod choose;
mod error;
mod forecast;
mod observer;
mod ready;
mod saving;
mod serving;
mod session;
mod status_pipeline;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use parking_lot::Mutex;

use self::attempts::{Attempts, LastAttempt};
use self::ready::ReadyBuild;
use self::status_pipeline::StatusPipeline;
use super::cache::early::Meter;
use super::cache::export::{CacheSet, Pushes};
use super::cache::import::found::FoundCache;
use super::cache::import::{self, Imports, Probes};
use super::cache::{CacheEnds, CacheReport, CacheTarget, CacheTools, Cancellation};
use super::context::inputs::{Folders, Inputs};
use super::context::vcs::Commit;
use super::explain::recorder::Recorder;
use super::explain::{Around, Builder, Explainer, Explanation, Sources};
use super::mounts::beside::{Saved, Saves};
use super::mounts::save::Saver;
use super::mounts::watch::MountWatch;
use super::output::exporters::{self, Export};
use super::output::load::ImageLoader;
use super::plan::NodeFacts;
use super::request::BuildRequest;
use crate::buildkit::Client;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::solve::SolveOutcome;
use crate::docker::token::Tokens;
use crate::env::Env;
use crate::report::Known;

pub use self::error::BuildError;
pub use self::forecast::forecast;

/// What a build runs on and with.
pub struct Runner<'a> {
    /// The connected builder.
    pub client: Client,
    /// Registry credentials, and the tokens got with them.
    pub tokens: Arc<Tokens>,
    /// Takes images that are loaded into an engine.
    pub loader: Arc<dyn ImageLoader>,
    /// Folder of the docker config file.
    pub config_dir: &'a Path,
    /// The caches to write.
    pub targets: &'a [CacheTarget],
    /// What the registries were asked about them.
    pub pushes: Pushes,
    /// What exports of caches through the session need.
    pub caches: CacheTools,
    /// What the registries were asked about the caches to read.
    pub probes: Probes,
    /// What git was asked about the context.
    pub commit: Commit,
    /// Status reports are shown as they are, for tools that parse them.
    pub raw_status: bool,
    /// Tells how busy the builder is, where somebody knows.
    pub meter: Option<Arc<dyn Meter>>,
    /// What is known about the node.
    pub facts: NodeFacts,
    /// Source of secrets from variables and of the agent's socket.
    pub env: &'a Env,
    /// Takes why the steps of a build ran that fails.
    pub failed: &'a Mutex<Vec<Explanation>>,
    /// Gets what a report is told of the steps, also where the build fails.
    pub known: Option<Arc<OnceLock<Arc<Known>>>>,
    /// Takes what became of the caches, also where the build fails.
    pub ends: &'a Mutex<CacheEnds>,
}

/// What a build ended with.
#[derive(Debug, Default)]
pub struct BuildOutcome {
    /// The exporters' and the cache exporters' answers.
    pub response: BTreeMap<String, String>,
    /// What became of the caches that this program stored.
    pub caches: Vec<CacheReport>,
    /// What there is to say about the caches that were read, or not.
    pub warnings: Vec<String>,
    /// A remark about each cache that was not written because the login may not push.
    pub not_written: Vec<String>,
    /// Identifier of the build; not the one that was given where it was run again.
    pub build_ref: String,
    /// What there is to tell of the steps, of each node.
    pub explanations: Vec<Explanation>,
}

/// Runs the build.
///
/// When the user cancels the build is cancelled in the builder and an error of code `Cancelled` comes
/// back.
///
/// # Errors
///
/// See [`BuildError`].
pub async fn run(
    request: &BuildRequest,
    mut inputs: Inputs,
    build_ref: &str,
    runner: &Runner<'_>,
    cancellation: &Cancellation,
    on_status: impl FnMut(StatusResponse),
) -> Result<BuildOutcome, BuildError> {
    let stores = ContentStores::default();
    let observer = Arc::clone(&runner.caches.observer);
    let mut status = StatusPipeline::new(runner.raw_status, on_status, observer);
    let ready = async {
        let ready = ready(request, &mut inputs, runner, &stores, &mut status);
        let (build, mut imports) = Box::pin(ready).await?;
        Box::pin(choose::choose(
            &mut imports,
            request,
            &inputs,
            &build,
            runner,
        ))
        .await;
        Ok::<_, BuildError>((build, imports))
    };
    let (build, mut imports) = tokio::select! {
        ready = Box::pin(ready) => ready?,
        () = cancellation.graceful.cancelled() => return Err(BuildError::cancelled()),
    };
    let recorder = Recorder::new(request, &inputs, runner.targets, build.platform.clone());
    let folders = inputs.folders();
    let explainer = Explainer::new(
        request,
        runner.probes.reads_known(),
        recorder.as_ref().is_some_and(Recorder::tells_files),
        sources(runner, &build, &imports, &folders),
        &cancellation.graceful,
    );
    let mounts = MountWatch::new(request, runner.targets, &imports);
    let saves = mounts.as_ref();
    let saves = saves.and_then(|_| saves_of(runner, &build, &imports));
    let attempts = Attempts {
        build: &build,
        runner,
        stores,
        cancellation,
        explainer: explainer.as_ref(),
        recorder: recorder.as_ref(),
        mounts: mounts.as_ref(),
        saves: saves.as_ref(),
        wishes: request,
        folders: &folders,
    };
    let last = attempts.run(&mut imports, build_ref.to_owned(), &mut status);
    let last = Box::pin(last).await;
    if last.result.is_err() {
        cancellation.failed.cancel();
    }
    let read = imports.ends(status.watch());
    runner.ends.lock().read.extend(read);
    if let Some(recorder) = &recorder {
        let commit = runner.commit.attributes().await;
        let trees = match &explainer {
            Some(explainer) if recorder.tells_files() && last.result.is_ok() => {
                explainer.trees(build.caches.tell_first()).await
            }
            _ => BTreeMap::new(),
        };
        if let Some(observed) = recorder.observed(&commit, trees) {
            build.caches.set_record(&observed);
        }
    }
    let ending = Ending {
        request,
        runner,
        cancellation,
        mounts: mounts.as_ref(),
        saves: saves.as_ref(),
    };
    let kept = Box::pin(ending.keep_mounts(&build, &last));
    let ((), kept) = tokio::join!(last.end_exports(), kept);
    let explaining = explainer.as_ref().map(|explainer| Explaining {
        explainer,
        found: imports.found(status.unread()),
    });
    ending.finish(build, imports, last, kept, explaining).await
}

/// Returns what an explanation is drawn from.
fn sources(
    runner: &Runner<'_>,
    build: &ReadyBuild,
    imports: &Imports,
    folders: &Folders,
) -> Sources {
    Sources {
        folders: folders.clone(),
        caches: imports.found(&BTreeMap::new()),
        builder: Builder {
            client: runner.client.clone(),
            session: build.names.id.clone(),
        },
    }
}

/// Returns who saves cache mounts beside the build; `None` where no cache keeps any.
fn saves_of(runner: &Runner<'_>, build: &ReadyBuild, imports: &Imports) -> Option<Saves> {
    let saver = Saver {
        client: runner.client.clone(),
        session: build.names.id.clone(),
        caches: build.caches.registries().to_vec(),
        found: imports.mounts(),
    };
    Saves::new(saver, runner.meter.clone())
}

/// Who explains the build, and the caches that it was to read.
struct Explaining<'a> {
    explainer: &'a Explainer,
    found: Vec<FoundCache>,
}

/// What the end of a build needs.
#[derive(Clone, Copy)]
struct Ending<'a> {
    request: &'a BuildRequest,
    runner: &'a Runner<'a>,
    cancellation: &'a Cancellation,
    mounts: Option<&'a MountWatch>,
    saves: Option<&'a Saves>,
}

impl Ending<'_> {
    /// Publishes the caches of a build that succeeded, ends its session, and returns what it ended with.
    async fn finish(
        self,
        mut build: ReadyBuild,
        mut imports: Imports,
        mut last: LastAttempt,
        kept: Saved,
        explaining: Option<Explaining<'_>>,
    ) -> Result<BuildOutcome, BuildError> {
        let explainer = explaining.as_ref().map(|explaining| explaining.explainer);
        let saving = self.save_mounts(&last);
        let publishing = self.publish(&build, &last, explaining);
        let (saved, (published, explanation)) = tokio::join!(Box::pin(saving), publishing);
        if let Some(place) = &self.runner.known {
            let known = explanation.as_ref().and_then(|told| told.known.clone());
            let known = known.or_else(|| explainer?.known());
            // A build ends once.
            let _set = known.map(|known| place.set(known));
        }
        if let (Ok(outcome), Ok(_)) = (&mut last.result, &published) {
            let response = &mut outcome.exporter_response;
            build.caches.add_extras(response).await;
            let added = build.caches.add_mounts(&saved.changed, false, response);
            added.await;
            build.caches.add_referrers().await;
        }
        self.add_kept_mounts(&build, &last, &kept).await;
        build.session.end().await;
        self.note_ends(&build, &last);
        let result = match last.result {
            Ok(outcome) => published.map(|caches| {
                let mut warnings = imports.take_warnings();
                let remarks = self.mounts.map(MountWatch::take_remarks);
                warnings.extend(remarks.into_iter().flatten().chain(saved.remarks));
                BuildOutcome {
                    caches,
                    not_written: std::mem::take(&mut build.refused),
                    build_ref: last.request.build_ref,
                    explanations: explanation.into_iter().collect(),
                    ..taken(self.request, &build.plan.exports, outcome, warnings)
                }
            }),
            Err(solve) => {
                let refused = match explanation {
                    Some(explanation) if explanation.refused.is_none() => {
                        self.runner.failed.lock().push(explanation);
                        None
                    }
                    explanation => explanation.and_then(|explanation| explanation.refused),
                };
                let is_cancelled = self.cancellation.graceful.is_cancelled();
                let failure = build.failure(solve, &imports, is_cancelled).await;
                Err(refused.map_or(failure, BuildError::NotCached))
            }
        };
        build.caches.stop().await;
        result
    }

    /// Notes what became of the caches.
    fn note_ends(self, build: &ReadyBuild, last: &LastAttempt) {
        let response = last.result.as_ref().map(|solved| &solved.exporter_response);
        let mut ends = self.runner.ends.lock();
        ends.written.extend(build.caches.ends());
        ends.refused |= !build.refused.is_empty();
        ends.by_builder |= response.is_ok_and(CacheSet::is_written_by_builder);
    }

    /// Publishes the caches of a build that succeeded, and finds out meanwhile why its steps ran.
    async fn publish(
        self,
        build: &ReadyBuild,
        last: &LastAttempt,
        explaining: Option<Explaining<'_>>,
    ) -> (Result<Vec<CacheReport>, BuildError>, Option<Explanation>) {
        let Runner { client, caches, .. } = self.runner;
        let around = Around {
            registries: &caches.registries,
            targets: self.runner.targets,
        };
        let published = async {
            let Ok(outcome) = &last.result else {
                return Ok(Vec::new());
            };
            let written = match &build.layout {
                Some(layout) => layout.publish(&outcome.exporter_response).await,
                None => Ok(()),
            };
            // The caches are published even if the image is not.
            let observer = caches.observer.as_ref();
            let published = &build.caches;
            let published = published.publish(&last.request, client, observer, self.cancellation);
            let published = published.await;
            written
                .map_err(BuildError::from)
                .and(published.map_err(BuildError::from))
        };
        let evidence = async {
            let Explaining { explainer, found } = explaining?;
            // The user wants no more of a build that is cancelled, unless that is for a step that would have run.
            let is_cancelled = self.cancellation.graceful.is_cancelled();
            let is_explained =
                last.result.is_ok() || !is_cancelled || explainer.refused().is_some();
            let evidence = is_explained.then(|| explainer.collect(found));
            Some(Box::pin(evidence?).await)
        };
        let (published, evidence) = tokio::join!(published, evidence);
        let explanation = match evidence {
            Some(evidence) => {
                let is_published = last.result.is_ok() && published.is_ok();
                Some(Box::pin(evidence.explain(around, is_published)).await)
            }
            None => None,
        };
        (published, explanation)
    }
}

/// Gets ready to solve: the registries answer while the builder does.
async fn ready(
    request: &BuildRequest,
    inputs: &mut Inputs,
    runner: &Runner<'_>,
    stores: &ContentStores,
    status: &mut StatusPipeline<impl FnMut(StatusResponse)>,
) -> Result<(ReadyBuild, Imports), BuildError> {
    let current_dir = &request.inputs.current_dir;
    let imports = import::open(&runner.probes, current_dir, &runner.caches, stores);
    let build = async {
        let build = Box::pin(ReadyBuild::set_up(request, inputs, runner, stores)).await?;
        let on_status = |report| status.show(report);
        Box::pin(build.fetch_ahead(request, inputs, runner, on_status)).await?;
        Ok::<_, BuildError>(build)
    };
    let imports = async { Ok(imports.await) };
    let (build, mut imports) = tokio::try_join!(build, imports)?;
    build.caches.take_in(&imports);
    imports.leave_out(&build.unsupported);
    build.caches.reads_unverified(&imports.unverified());
    Ok((build, imports))
}

/// Asks git about the context.
pub fn ask_commit(request: &BuildRequest, inputs: &Inputs) -> Commit {
    let Some(context) = inputs
        .local_dirs
        .get("context")
        .filter(|_| request.inputs.context != "-")
    else {
        return Commit::none();
    };
    let name = inputs.attrs.get("filename");
    let dockerfile = inputs.local_dirs.get("dockerfile").unwrap_or(context);
    let dockerfile = dockerfile.join(name.map_or("Dockerfile", String::as_str));
    // What came by standard input or from a URL lies in a temporary folder.
    let is_users = !inputs.attrs.contains_key("dockerfilekey");
    let dockerfile = is_users.then_some(dockerfile);
    let dirs = inputs.local_dirs.clone();
    Commit::ask(request.vcs, context.clone(), dockerfile, dirs)
}

/// Returns what a solve brought. The answer of a call is among those of the exporters, as in buildx.
fn taken(
    request: &BuildRequest,
    exports: &[Export],
    outcome: SolveOutcome,
    warnings: Vec<String>,
) -> BuildOutcome {
    let broke_off = outcome.status_error.map(|error| {
        let error = crate::error::chain(&error);
        format!("the build succeeded, but its progress broke off and may lack steps: {error}")
    });
    let mut response = outcome.exporter_response;
    if request.call.is_some() {
        let texts = outcome.result_metadata.into_iter();
        response.extend(texts.map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())));
    }
    exporters::drop_config_digest(exports, &mut response);
    BuildOutcome {
        response,
        warnings: broke_off.into_iter().chain(warnings).collect(),
        ..BuildOutcome::default()
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
