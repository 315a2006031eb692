//! `cache rm`: one tag of a cache removed.

use crate::cache::removal;
use crate::cache::survey::{Survey, TaggedCache};
use crate::cli::Context;
use crate::error::CommandError;
use crate::registry::{RegistryError, Repository};

use super::place::Places;

/// Tags that are looked at for one that has the same manifest.
pub(super) const LOOKED_AT: usize = 2000;

/// Remove caches from a registry
///
/// Every REF is a reference with a tag. Another tag with the same manifest stays. What is not a cache is not
/// removed. The registry frees the bytes when it collects its garbage.
#[derive(Debug, Clone, clap::Args)]
pub struct RmArgs {
    /// The caches
    #[arg(value_name = "REF", required = true, num_args = 1..)]
    refs: Vec<String>,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a reference holds no cache, or the registry refuses.
pub async fn run(args: RmArgs, ctx: &Context) -> Result<(), CommandError> {
    let places = Places::new(ctx);
    for text in &args.refs {
        let (repository, tag) = places.tagged(text, args.insecure)?;
        let survey = Survey::of(&repository, LOOKED_AT);
        let survey = Box::pin(survey)
            .await
            .map_err(|error| failed(text, &error))?;
        let cache = survey.caches.iter().find(|cache| cache.tag == tag);
        let Some(cache) = cache else {
            let is_other = survey.others.iter().any(|(other, _)| *other == tag);
            let why = if is_other { "is no cache" } else { "not found" };
            return Err(CommandError::failed(format!("{text}: {why}")));
        };
        let removed = remove(&repository, &survey, cache).await;
        removed.map_err(|error| failed(text, &error))?;
        ctx.ui.data(text)?;
    }
    Ok(())
}

/// Removes a cache of a survey. Where not all tags were looked at, another one may have its manifest.
pub(super) async fn remove(
    repository: &Repository,
    survey: &Survey,
    cache: &TaggedCache,
) -> Result<(), RegistryError> {
    let is_all = survey.caches.len() + survey.others.len() < LOOKED_AT;
    let is_shared = !is_all || survey.is_shared(cache);
    removal::remove(repository, &cache.tag, &cache.digest, is_shared).await
}

/// Turns a registry's refusal into the command's error.
pub(super) fn failed(what: &str, error: &RegistryError) -> CommandError {
    let failed = CommandError::failed(format!("{what}: {}", crate::error::chain(error)));
    if removal::deletes_nothing(error) {
        return failed.hint(
            "the registry deletes no manifests over its API, or not for this login: GHCR has its packages page, \
             distribution needs storage.delete.enabled",
        );
    }
    failed
}
