//! One build on several nodes: what each is asked for, and the results joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::build::BuildSpec;
use crate::build::inputs::{InputError, Inputs};
use crate::build::join::{self, Target};
use crate::build::run::BuildOutcome;
use crate::build::stdin::Stdin;
use crate::builder::assign::Share;
use crate::error::CommandError;
use crate::options::cache::{CacheTo, Via};
use crate::options::output::{Output, OutputType};
use crate::options::tag;
use crate::progress::{Mode, Progress};

use super::{Job, failed};

/// What the nodes are asked for, and where the joined image goes.
#[derive(Debug)]
pub(super) struct Plan {
    /// The request of each node.
    pub(super) specs: Vec<BuildSpec>,
    /// The name of the image that they make together, if they push one.
    target: Option<Target>,
}

impl Plan {
    /// Divides a build. One share is the build as it is.
    ///
    /// # Errors
    ///
    /// Fails where the results of several nodes cannot be put together.
    pub(super) fn new(spec: &BuildSpec, shares: &[Share]) -> Result<Self, CommandError> {
        let [_, _, ..] = shares else {
            let specs = vec![spec.clone()];
            return Ok(Self {
                specs,
                target: None,
            });
        };
        let mut common = spec.clone();
        unite_caches(&mut common)?;
        common.multi_platform = true;
        let mut target = None;
        let tags = tag::attr(&spec.tags);
        for output in &mut common.outputs {
            if output.kind == OutputType::Image
                && let Some(names) = &tags
            {
                output.attrs.insert("name".into(), names.clone());
            }
            let pushed = divide(output)?;
            target = target.or(pushed);
        }
        // Each output has its names by now.
        common.tags.clear();
        let one = |share: &Share| BuildSpec {
            platforms: share.platforms.clone(),
            ..common.clone()
        };
        let specs = shares.iter().map(one).collect();
        Ok(Self { specs, target })
    }

    /// Makes the inputs ready, for each node its own. Standard input is kept in a file meanwhile.
    ///
    /// # Errors
    ///
    /// Fails where an input cannot be used.
    pub(super) fn inputs(&self) -> Result<Vec<Inputs>, InputError> {
        if let [spec] = self.specs.as_slice() {
            return Ok(vec![Inputs::resolve(&spec.inputs, Stdin::from_process)?]);
        }
        let reads_stdin = |spec: &BuildSpec| {
            spec.inputs.context == "-" || spec.inputs.dockerfile.as_deref() == Some("-")
        };
        let mut kept = None;
        if self.specs.first().is_some_and(reads_stdin) {
            let mut file = tempfile::NamedTempFile::new().map_err(InputError::Stdin)?;
            let copied = Stdin::from_process().copy_to(file.as_file_mut());
            copied.map_err(InputError::Stdin)?;
            kept = Some(file);
        }
        let one = |spec: &BuildSpec| match &kept {
            Some(file) => {
                let file = file.reopen().map_err(InputError::Stdin)?;
                Inputs::resolve(&spec.inputs, || Stdin::new(file))
            }
            None => Inputs::resolve(&spec.inputs, Stdin::from_process),
        };
        self.specs.iter().map(one).collect()
    }

    /// Runs the jobs, one for each request, and joins their results. Where one fails the others are
    /// cancelled.
    ///
    /// # Errors
    ///
    /// Fails with the first job that does, or where the results cannot be joined.
    pub(super) async fn run(
        &self,
        jobs: &[Job<'_>],
        inputs: Vec<Inputs>,
        progress: &Progress,
        mode: Mode,
    ) -> Result<BuildOutcome, CommandError> {
        let runs = jobs.iter().zip(inputs);
        let runs = runs.map(|(job, inputs)| Box::pin(job.run(inputs, progress, mode)));
        let outcomes = futures_util::future::try_join_all(runs).await?;
        let responses: Vec<_> = outcomes.iter().map(|o| o.response.clone()).collect();
        let first = outcomes.into_iter().next().unwrap_or_default();
        let (Some(target), Some(job)) = (&self.target, jobs.first()) else {
            return Ok(first);
        };
        let step = progress
            .sender()
            .step(&format!("merging manifest list {}", target.names));
        let tools = job.cache_tools(progress, Arc::new(job.credentials()?));
        let pushed = super::cancellable(job.ctx, join::push(&responses, target, &tools.registries));
        match pushed.await? {
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

/// Puts an output into the form for one node of several. Returns where the joined image goes.
fn divide(output: &mut Output) -> Result<Option<Target>, CommandError> {
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
            let target = Target {
                names,
                insecure: output.is_on("registry.insecure"),
                attrs: output.attrs.clone(),
            };
            let repositories = target.repositories().map_err(failed)?;
            output.attrs.insert("name".into(), repositories);
            output.attrs.insert("push-by-digest".into(), "true".into());
            Ok(Some(target))
        }
        OutputType::Image | OutputType::Local | OutputType::CacheOnly => Ok(None),
    }
}

/// Each node would overwrite what the others exported: registry caches are united, and there is nothing
/// that unites the others.
fn unite_caches(spec: &mut BuildSpec) -> Result<(), CommandError> {
    for cache in &mut spec.cache_to {
        match cache {
            CacheTo::Registry(cache) if cache.via == Via::Builder => {
                return Err(CommandError::failed(format!(
                    "failed to build: several nodes export their cache to {:?}, and with via=builder each would \
                     overwrite the others'",
                    cache.raw_ref
                ))
                .hint("leave out via=builder: what the nodes export is united then"));
            }
            CacheTo::Registry(cache) => cache.merge = true,
            CacheTo::Other { kind, .. } if kind == "inline" => {}
            CacheTo::Other { kind, .. } => {
                return Err(CommandError::failed(format!(
                    "failed to build: several nodes export their cache to one of type {kind:?}, and each would \
                     overwrite the others'"
                ))
                .hint("export to a registry, or build each platform by itself with a cache of its own"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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

    fn plan(output: &str, cache: &str) -> Result<Plan, CommandError> {
        let spec = BuildSpec {
            outputs: Output::parse_list(&[output]).unwrap(),
            cache_to: CacheTo::parse(cache).unwrap(),
            tags: Tag::parse_list(&["r.io/a:1", "r.io/a:2"]).unwrap(),
            ..Default::default()
        };
        Plan::new(&spec, &shares())
    }

    #[test]
    fn each_node_pushes_its_platforms_by_digest() {
        let plan = plan("type=registry,registry.insecure=true", "type=inline").unwrap();
        let target = plan.target.unwrap();
        assert_eq!(
            (target.names.as_str(), target.insecure),
            ("r.io/a:1,r.io/a:2", true)
        );
        assert_eq!(plan.specs.len(), 2);
        for (spec, platform) in plan.specs.iter().zip(["linux/amd64", "linux/arm64"]) {
            assert!(spec.multi_platform && spec.tags.is_empty());
            assert_eq!(spec.platforms[0].format(), platform);
            assert_eq!(spec.outputs[0].attrs["name"], "r.io/a");
            assert_eq!(spec.outputs[0].attrs["push-by-digest"], "true");
        }
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
        for spec in &plan.specs {
            let [CacheTo::Registry(cache)] = &spec.cache_to[..] else {
                panic!("{:?}", spec.cache_to)
            };
            assert!(cache.merge);
        }
    }

    #[test]
    fn one_node_gets_the_build_as_it_is() {
        let spec = BuildSpec {
            outputs: Output::parse_list(&["type=oci,dest=x"]).unwrap(),
            tags: Tag::parse_list(&["a"]).unwrap(),
            ..Default::default()
        };
        let plan = Plan::new(&spec, &shares()[..1]).unwrap();
        assert_eq!(plan.specs[0].tags.len(), 1);
        assert!(!plan.specs[0].multi_platform && plan.target.is_none());
    }
}
