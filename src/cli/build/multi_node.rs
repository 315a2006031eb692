//! One build on several nodes: what each is asked for, and the results joined.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::pin::pin;

use tokio_util::sync::CancellationToken;

use crate::build::BuildRequest;
use crate::build::cache::Cancellation;
use crate::build::cache::export::{self, CacheContext, CacheTarget};
use crate::build::context::inputs::{InputError, Inputs};
use crate::build::context::stdin::Stdin;
use crate::build::output::index::{self, Target};
use crate::build::run::BuildOutcome;
use crate::builder::Node;
use crate::builder::assign::Share;
use crate::error::CommandError;
use crate::options::cache::{CacheTo, Via};
use crate::options::output::{Output, OutputType};
use crate::options::tag;
use crate::platform::files;

use super::job::{Common, Job};
use super::{cache_failure, failed};

/// What the nodes are asked for, and where the image goes that they make together.
#[derive(Debug)]
pub(super) struct Division {
    /// The request of each node.
    pub(super) requests: Vec<BuildRequest>,
    /// The caches to write, which the nodes have in common.
    pub(super) targets: Vec<CacheTarget>,
    /// The name of the image that they make together, if they push one.
    target: Option<Target>,
}

impl Division {
    /// Divides a build. One share is the build as it is.
    ///
    /// # Errors
    ///
    /// Fails if the caches cannot be written so, or if the results of several nodes cannot be put together.
    pub(super) fn new(request: &BuildRequest, shares: &[Share]) -> Result<Self, CommandError> {
        match shares {
            [] | [_] => Self::of_one(request, shares),
            shares => Self::of_several(request, shares),
        }
    }

    fn of_one(request: &BuildRequest, shares: &[Share]) -> Result<Self, CommandError> {
        let mut one = request.clone();
        if let (Some(_), [share]) = (&request.call, shares) {
            one.platforms.clone_from(&share.platforms);
        }
        Ok(Self {
            targets: targets(&request.cache_to, request)?,
            requests: vec![one],
            target: None,
        })
    }

    fn of_several(request: &BuildRequest, shares: &[Share]) -> Result<Self, CommandError> {
        let cache_to = merged(&request.cache_to)?;
        let targets = targets(&cache_to, request)?;
        let mut target = None;
        let mut outputs = Vec::new();
        let tags = tag::attr(&request.tags);
        for output in &request.outputs {
            let mut output = output.clone();
            if output.kind == OutputType::Image
                && let Some(names) = &tags
            {
                output.attrs.insert("name".into(), names.clone());
            }
            let pushed = divide(&mut output, &request.annotations)?;
            outputs.push(output);
            if pushed.is_some() && target.is_some() {
                return Err(CommandError::failed(
                    "failed to build: several nodes push one output only, and there is another",
                )
                .hint("name the image everywhere it goes with --tag, and push once"));
            }
            target = target.or(pushed);
        }
        let one = |share: &Share| BuildRequest {
            platforms: share.platforms.clone(),
            outputs: outputs.clone(),
            cache_to: cache_to.clone(),
            // Each output has its names by now.
            tags: Vec::new(),
            ..request.clone()
        };
        Ok(Self {
            requests: shares.iter().map(one).collect(),
            targets,
            target,
        })
    }

    /// Prepares the inputs, for each node its own. Standard input is kept in a file meanwhile.
    ///
    /// # Errors
    ///
    /// Fails if an input cannot be used.
    pub(super) fn inputs(&self, node_id: &str) -> Result<Vec<Inputs>, InputError> {
        if let [request] = self.requests.as_slice() {
            let inputs = Inputs::resolve(&request.inputs, node_id, Stdin::from_process)?;
            return Ok(vec![inputs]);
        }
        let reads_stdin = |request: &BuildRequest| {
            let inputs = &request.inputs;
            inputs.context == "-" || inputs.dockerfile.as_deref() == Some("-")
        };
        let mut kept = None;
        if self.requests.first().is_some_and(reads_stdin) {
            // Without a name nothing is left if the user ends the program while it reads.
            let mut file = tempfile::tempfile().map_err(InputError::Stdin)?;
            let copied = Stdin::from_process().copy_to(&mut file);
            copied.map_err(InputError::Stdin)?;
            kept = Some(file);
        }
        let one = |request: &BuildRequest| match &kept {
            Some(file) => {
                let file = files::open_again(file).map_err(InputError::Stdin)?;
                Inputs::resolve(&request.inputs, node_id, || Stdin::new(file))
            }
            None => Inputs::resolve(&request.inputs, node_id, Stdin::from_process),
        };
        self.requests.iter().map(one).collect()
    }

    /// Builds on the nodes, one for each request, and joins the results.
    ///
    /// # Errors
    ///
    /// Fails with the first build that does, or if the results cannot be joined.
    pub(super) async fn run(
        &self,
        nodes: &[&Node],
        inputs: Vec<Inputs>,
        common: &Common<'_>,
    ) -> Result<BuildOutcome, CommandError> {
        let ctx = common.ctx;
        let cancellation = |_| Cancellation {
            graceful: ctx.cancel.child_token(),
            force: ctx.hurry.clone(),
            failed: CancellationToken::new(),
        };
        let cancellations: Vec<_> = nodes.iter().map(cancellation).collect();
        let jobs = self.requests.iter().zip(nodes).enumerate();
        let jobs = jobs.map(|(at, (request, node))| Job {
            request,
            node,
            notes: common.noted.get(at),
            common,
        });
        let jobs: Vec<Job<'_>> = jobs.collect();
        let runs = jobs.iter().zip(inputs).zip(&cancellations);
        let runs = runs.map(|((job, inputs), own)| Box::pin(job.run(inputs, own)));
        let outcomes = all_or_first(runs, &cancellations).await?;
        let responses: Vec<_> = outcomes.iter().map(|o| o.response.clone()).collect();
        let explanations = outcomes.iter().flat_map(|o| o.explanations.clone());
        let first = BuildOutcome {
            explanations: explanations.collect(),
            ..outcomes.into_iter().next().unwrap_or_default()
        };
        let Some(target) = &self.target else {
            return Ok(first);
        };
        let step = format!("merging manifest list {}", target.names);
        let sender = common.progress.sender();
        let sender = match common.noted.first() {
            Some(first) => first.noting(sender),
            None => sender,
        };
        let step = sender.step(&step);
        let pushed = index::push(&responses, target, &common.invocation.registries);
        match super::cancellable(&ctx.cancel, pushed).await? {
            Ok(digest) => {
                step.done();
                let digest = digest.as_str().to_owned();
                Ok(BuildOutcome {
                    response: BTreeMap::from([("containerimage.digest".to_owned(), digest)]),
                    ..first
                })
            }
            Err(error) => {
                step.fail(&crate::error::chain(&error));
                Err(failed(error))
            }
        }
    }
}

/// Waits for the end of every run, also of those that the first failure cancels: they keep what they have finished.
/// Returns the results in the order of the runs, or the error of the run that failed first.
///
/// The others are cancelled when a build fails, and not when what it had finished has been kept.
async fn all_or_first<T, E>(
    runs: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
    cancellations: &[Cancellation],
) -> Result<Vec<T>, E> {
    // The errors of those that are cancelled for it say nothing.
    let first = OnceCell::new();
    let fails = |index: usize| {
        if first.set(index).is_ok() {
            let others = cancellations.iter().enumerate();
            let others = others.filter(|(other, _)| *other != index);
            others.for_each(|(_, other)| other.graceful.cancel());
        }
    };
    let runs = runs.into_iter().zip(cancellations).enumerate();
    let runs = runs.map(async |(index, (run, own))| {
        let mut run = pin!(run);
        let ended = tokio::select! {
            biased;
            ended = &mut run => ended,
            () = own.failed.cancelled() => {
                fails(index);
                run.await
            }
        };
        if ended.is_err() {
            fails(index);
        }
        ended
    });
    let mut ended = futures_util::future::join_all(runs).await;
    match first.get() {
        Some(index) => ended.swap_remove(*index).map(|value| vec![value]),
        None => ended.into_iter().collect(),
    }
}

/// Puts an output into the form for one node of several. Returns where the joined image goes.
fn divide(
    output: &mut Output,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Target>, CommandError> {
    let kind = output.kind.as_str();
    match output.kind {
        OutputType::Oci | OutputType::Tar | OutputType::Docker => {
            Err(CommandError::failed(format!(
                "failed to build: {kind} for multi-node builds currently not supported"
            ))
            .hint("build one platform, or push the image and pull it from there"))
        }
        OutputType::Local if output.deletes() => Err(CommandError::failed(
            "failed to build: mode=delete is not possible for a build on several nodes, which would delete each \
             other's files",
        )
        .hint("leave out mode=delete, or build one platform after the other")),
        OutputType::Image if output.pushes() => {
            let names = output.attrs.get("name").cloned().unwrap_or_default();
            if names.is_empty() {
                return Err(CommandError::failed(
                    "failed to build: tag is needed when pushing to registry",
                ));
            }
            let mut attrs = output.attrs.clone();
            attrs.extend(annotations.clone());
            let target = Target {
                names,
                insecure: output.is_on("registry.insecure"),
                by_digest: output.is_on("push-by-digest"),
                attrs,
            };
            let repositories = target.repositories().map_err(failed)?;
            output.attrs.insert("name".into(), repositories);
            output.attrs.insert("push-by-digest".into(), "true".into());
            Ok(Some(target))
        }
        OutputType::Image | OutputType::Local | OutputType::CacheOnly => Ok(None),
    }
}

/// Resolves the caches to write of a request.
fn targets(cache_to: &[CacheTo], request: &BuildRequest) -> Result<Vec<CacheTarget>, CommandError> {
    let build = CacheContext {
        tags: &request.tags,
        outputs: &request.outputs,
        build_args: &request.build_args,
    };
    export::targets(cache_to, build).map_err(cache_failure)
}

/// Each node would overwrite what the others exported: registry caches are merged, and there is nothing
/// that merges the others.
fn merged(caches: &[CacheTo]) -> Result<Vec<CacheTo>, CommandError> {
    let one = |cache: &CacheTo| {
        match cache {
        CacheTo::Registry(cache) if cache.via == Via::Builder => {
            Err(CommandError::failed(format!(
                "failed to build: several nodes export their cache to {:?}, and with via=builder each would \
                 overwrite the others'",
                cache.raw_ref
            ))
            .hint("leave out via=builder: what the nodes export is merged then"))
        }
        CacheTo::Registry(cache) => {
            let mut cache = cache.clone();
            cache.merge = true;
            Ok(CacheTo::Registry(cache))
        }
        CacheTo::Other { kind, .. } if kind == "inline" => Ok(cache.clone()),
        CacheTo::Other { kind, .. } => Err(CommandError::failed(format!(
            "failed to build: several nodes export their cache to one of type {kind:?}, and each would \
             overwrite the others'"
        ))
        .hint("export to a registry, or build each platform by itself with a cache of its own")),
    }
    };
    caches.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::builder::platform::Platform;
    use crate::options::tag::Tag;

    fn shares() -> Vec<Share> {
        let platform = |text| Platform::parse_list(&[text]).unwrap();
        ["linux/amd64", "linux/arm64"]
            .into_iter()
            .enumerate()
            .map(|(node, text)| Share {
                node,
                platforms: platform(text),
            })
            .collect()
    }

    fn plan(output: &str, cache: &str) -> Result<Division, CommandError> {
        let request = BuildRequest {
            outputs: Output::parse_list(&[output]).unwrap(),
            cache_to: CacheTo::parse(cache).unwrap(),
            tags: Tag::parse_list(&["r.io/a:1", "r.io/a:2"]).unwrap(),
            ..Default::default()
        };
        Division::new(&request, &shares())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_cancels_the_others_which_end_in_order() {
        let start = tokio::time::Instant::now();
        let cleaned = std::sync::atomic::AtomicBool::new(false);
        let second = Duration::from_secs(1);
        let cancellations = [Cancellation::default(), Cancellation::default()];
        let [cancelled, failing] = &cancellations;
        let run = async |fails: bool| {
            if fails {
                tokio::time::sleep(second).await;
                failing.failed.cancel();
                // It keeps what it has finished.
                tokio::time::sleep(60 * second).await;
                return Err("its own");
            }
            cancelled.graceful.cancelled().await;
            assert_eq!(start.elapsed(), second, "it was cancelled too late");
            tokio::time::sleep(second).await;
            cleaned.store(true, std::sync::atomic::Ordering::Relaxed);
            Err::<(), _>("cancelled")
        };
        let ended = all_or_first([run(false), run(true)], &cancellations).await;
        assert_eq!(ended, Err("its own"));
        assert!(cleaned.into_inner(), "the other was dropped");
        assert!(
            !failing.graceful.is_cancelled(),
            "it is not the user's wish"
        );

        // One that fails before there is a solve.
        let cancellations = [Cancellation::default(), Cancellation::default()];
        let run = async |own: &Cancellation, fails: bool| {
            if fails {
                return Err("unreachable");
            }
            own.graceful.cancelled().await;
            Err::<(), _>("cancelled")
        };
        let [one, two] = &cancellations;
        let ended = all_or_first([run(one, false), run(two, true)], &cancellations).await;
        assert_eq!(ended, Err("unreachable"));

        let cancellations = [Cancellation::default(), Cancellation::default()];
        let ended = all_or_first([1, 2].map(async |n| Ok::<_, ()>(n)), &cancellations).await;
        assert_eq!(ended, Ok(vec![1, 2]));
        assert!(cancellations.iter().all(|one| !one.graceful.is_cancelled()));
    }

    #[test]
    fn each_node_pushes_its_platforms_by_digest() {
        let plan = plan("type=registry,registry.insecure=true", "type=inline").unwrap();
        let target = plan.target.unwrap();
        assert_eq!(
            (target.names.as_str(), target.insecure),
            ("r.io/a:1,r.io/a:2", true)
        );
        assert_eq!(plan.requests.len(), 2);
        for (request, platform) in plan.requests.iter().zip(["linux/amd64", "linux/arm64"]) {
            assert!(request.tags.is_empty());
            assert_eq!(request.platforms[0].format(), platform);
            assert_eq!(request.outputs[0].attrs["name"], "r.io/a");
            assert_eq!(request.outputs[0].attrs["push-by-digest"], "true");
        }
    }

    #[test]
    fn the_joined_index_has_the_annotations_of_flags_and_output() {
        let annotations = ["index:a=1", "manifest-descriptor[linux/amd64]:b=2"];
        let request = BuildRequest {
            outputs: Output::parse_list(&[
                "type=registry,annotation-index.c=3,push-by-digest=true,name=r.io/a",
            ])
            .unwrap(),
            annotations: crate::options::annotation::parse_list(&annotations).unwrap(),
            ..Default::default()
        };
        let target = Division::new(&request, &shares()).unwrap().target.unwrap();
        for (key, value) in [
            ("annotation-index.a", "1"),
            ("annotation-manifest-descriptor[linux/amd64].b", "2"),
            ("annotation-index.c", "3"),
        ] {
            assert_eq!(target.attrs[key], value, "{key}");
        }
        assert!(target.by_digest);
    }

    #[test]
    fn a_second_push_would_have_no_index_and_is_refused() {
        let outputs = ["type=registry,name=r.io/a", "type=registry,name=r.io/b"];
        let request = BuildRequest {
            outputs: Output::parse_list(&outputs).unwrap(),
            ..Default::default()
        };
        let error = Division::new(&request, &shares()).unwrap_err();
        assert!(error.message().contains("one output only"));
    }

    #[test]
    fn what_would_be_overwritten_is_refused() {
        let error = |output: &str, cache: &str| plan(output, cache).unwrap_err();
        for output in [
            "type=oci,dest=x",
            "type=tar,dest=x",
            "type=docker",
            "type=docker,dest=x",
        ] {
            let message = error(output, "").message();
            assert!(message.contains("multi-node"), "{output}: {message}");
        }
        assert!(
            error("type=local,dest=x,mode=delete", "")
                .message()
                .contains("mode=delete")
        );
        let cache = error("type=image", "type=registry,ref=r.io/cache,via=builder");
        assert!(cache.message().contains("\"r.io/cache\"") && !cache.hints.is_empty());
        assert!(
            error("type=image", "type=gha")
                .message()
                .contains("\"gha\"")
        );
        for output in ["type=local,dest=x", "type=image", "type=cacheonly"] {
            assert!(plan(output, "").unwrap().target.is_none(), "{output}");
        }
    }

    #[test]
    fn registry_caches_of_the_nodes_are_united() {
        let plan = plan("type=image", "r.io/cache").unwrap();
        for request in &plan.requests {
            let [CacheTo::Registry(cache)] = &request.cache_to[..] else {
                panic!("{:?}", request.cache_to)
            };
            assert!(cache.merge);
        }
        let [CacheTarget::Registry(target)] = &plan.targets[..] else {
            panic!("{:?}", plan.targets)
        };
        assert!(target.cache.merge && target.via == export::targets::Carrier::Client);
    }

    #[test]
    fn one_node_gets_the_build_as_it_is() {
        let request = BuildRequest {
            outputs: Output::parse_list(&["type=oci,dest=x"]).unwrap(),
            tags: Tag::parse_list(&["a"]).unwrap(),
            ..Default::default()
        };
        let plan = Division::new(&request, &shares()[..1]).unwrap();
        assert_eq!(plan.requests[0].tags.len(), 1);
        assert!(plan.target.is_none());
    }
}
