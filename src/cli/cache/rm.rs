//! `cache rm`: one tag of a cache removed.

use std::time::Duration;

use jiff::Timestamp;

use crate::cache::orphans;
use crate::cache::removal::{Place, RemovalError};
use crate::cache::survey::{Survey, TaggedCache};
use crate::cli::Context;
use crate::error::CommandError;
use crate::forge::Packages;

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
            .map_err(|error| failed(text, &error.into()))?;
        let cache = survey.caches.iter().find(|cache| cache.tag == tag);
        let Some(cache) = cache else {
            let is_other = survey.others.iter().any(|(other, _)| *other == tag);
            let why = if is_other { "is no cache" } else { "not found" };
            return Err(CommandError::failed(format!("{text}: {why}")));
        };
        let packages = places.packages(&repository).await?;
        let place = Place {
            repository: &repository,
            packages: packages.as_ref().map(|packages| packages as &dyn Packages),
        };
        let removed = remove(place, &survey, cache).await;
        removed.map_err(|error| failed(text, &error))?;
        ctx.ui.data(text)?;
    }
    Ok(())
}

/// Returns whether a survey is of all tags.
pub(super) fn is_whole(survey: &Survey) -> bool {
    survey.caches.len() + survey.others.len() < LOOKED_AT
}

/// Removes a cache of a survey, with the manifests that its tag has held before: nobody else knows of them. Where not all
/// tags were looked at, another one may have its manifest.
pub(super) async fn remove(
    place: Place<'_>,
    survey: &Survey,
    cache: &TaggedCache,
) -> Result<(), RemovalError> {
    let is_shared = !is_whole(survey) || survey.is_shared(cache);
    let old = if is_whole(survey) {
        let (caches, now) = (std::iter::once(cache), Timestamp::now());
        orphans::find(place.repository, survey, caches, Duration::ZERO, now).await?
    } else {
        Vec::new()
    };
    place.remove(&cache.tag, &cache.digest, is_shared).await?;
    for old in old {
        place.delete(&old.digest).await?;
    }
    Ok(())
}

/// Turns a registry's refusal into the command's error.
pub(super) fn failed(what: &str, error: &RemovalError) -> CommandError {
    let failed = CommandError::failed(format!("{what}: {}", crate::error::chain(error)));
    if error.deletes_nothing() {
        return failed.hint(
            "the registry deletes no manifests over its API, or not for this login: GHCR needs a login with the right \
             to delete packages, distribution needs storage.delete.enabled",
        );
    }
    failed
}
