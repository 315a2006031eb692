//! `cache prune`: caches of a repository that nobody needs any more.

mod choose;
mod remote;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::orphans::{self, Orphan};
use crate::cache::removal::Place;
use crate::cache::survey::Survey;
use crate::cli::{Context, table};
use crate::error::CommandError;
use crate::forge::Packages;
use crate::options::duration;
use crate::options::size::human_size;
use crate::scope::Remote;
use crate::text::counted;

use self::choose::{Chosen, closed, old};
use super::ls::ago;
use super::place::Places;
use super::rm::{LOOKED_AT, failed, is_whole, remove};

/// How long nobody has used what is removed where nothing else is asked for.
const OLD: Duration = Duration::from_secs(336 * 3600);
/// How long ago manifests were replaced that no tag has: a build that began before may still read them.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// Remove caches that have not been used for long
///
/// Only scopes of `--cache` count: tags that begin with b-, pr- or s-. Without --yes nothing is removed, and what
/// would be is shown. With --closed or --orphans age does not count unless --older-than is given.
#[derive(Debug, Clone, clap::Args)]
pub struct PruneArgs {
    /// The repository
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Remove scopes of branches and pull requests that the Git remote does not have any more
    #[arg(long)]
    closed: bool,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// Keep so many of the most recently used caches, however old
    #[arg(long, value_name = "number", default_value_t = 0)]
    keep: usize,
    /// Remove what no build has used for longer (default: 336h)
    #[arg(long, value_name = "duration", value_parser = duration::parse)]
    older_than: Option<Duration>,
    /// Remove manifests that tags have held before (clean=DURATION notes them), a day after they were replaced
    #[arg(long)]
    orphans: bool,
    /// The Git remote, by its name in this folder or by URL, that --closed asks
    #[arg(long, value_name = "string", default_value = "origin")]
    remote: String,
    /// Remove what is shown
    #[arg(long)]
    yes: bool,
}

impl PruneArgs {
    /// Returns after which time caches are removed, if that counts.
    fn age(&self) -> Option<Duration> {
        let is_asked_for_else = self.closed || self.orphans;
        self.older_than.or((!is_asked_for_else).then_some(OLD))
    }
}

/// What is removed.
struct Choice {
    caches: Vec<Chosen>,
    orphans: Vec<Orphan>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the registry or the Git remote does not answer, or refuses.
pub async fn run(args: PruneArgs, ctx: &Context) -> Result<(), CommandError> {
    let places = Places::new(ctx);
    let repository = places.whole(&args.repository, args.insecure)?;
    let packages = places.packages(&repository).await?;
    let place = Place {
        repository: &repository,
        packages: packages.as_ref().map(|packages| packages as &dyn Packages),
    };
    let waiting = format!("reading the tags of {}", args.repository);
    let survey = Survey::of(&repository, LOOKED_AT);
    let survey = ctx.ui.patiently(&waiting, Box::pin(survey)).await;
    let survey = survey.map_err(CommandError::failed)?;
    let now = Timestamp::now();
    let remote = if args.closed {
        Some(remote::ask(&args.remote, &places, ctx).await?)
    } else {
        None
    };
    let choice = choose(&args, place, &survey, remote.as_ref(), now, ctx).await?;
    if choice.caches.is_empty() && choice.orphans.is_empty() {
        return Ok(ctx.ui.data("nothing to remove")?);
    }
    ctx.ui.text(&shown(&survey, &choice.caches, now))?;
    let tags = choice.caches.iter();
    let tags = tags.map(|chosen| chosen.cache.tag.as_str()).collect();
    let (freed, all) = (survey.freed_by(&tags), human_size(survey.size()));
    let (what, freed) = (choice.in_words(), human_size(freed));
    if !args.yes {
        let text = format!("would remove {what} and free {freed} of {all}; --yes does it");
        return Ok(ctx.ui.data(&text)?);
    }
    remove_all(place, &survey, &choice).await?;
    Ok(ctx
        .ui
        .data(&format!("removed {what}, freed {freed} of {all}"))?)
}

async fn choose(
    args: &PruneArgs,
    place: Place<'_>,
    survey: &Survey,
    remote: Option<&Remote>,
    now: Timestamp,
    ctx: &Context,
) -> Result<Choice, CommandError> {
    let mut caches = Vec::new();
    if let Some(remote) = remote {
        let (chosen, unknown) = closed(survey, remote);
        if unknown > 0 {
            ctx.ui.warning(&format!(
                "{} does not tell which pull requests are open: {} left; --older-than removes them by age",
                args.remote,
                counted(unknown, "scope")
            ));
        }
        caches.extend(chosen);
    }
    if let Some(age) = args.age() {
        let known: HashSet<String> = caches
            .iter()
            .map(|c: &Chosen| c.cache.tag.clone())
            .collect();
        let old = old(survey, age, args.keep, now).into_iter();
        caches.extend(old.filter(|chosen| !known.contains(&chosen.cache.tag)));
    }
    let orphans = if args.orphans && is_whole(survey) {
        let grace = args.older_than.map_or(GRACE, |age| age.min(GRACE));
        let caches = survey.caches.iter();
        let found = orphans::find(place.repository, survey, caches, grace, now).await;
        found.map_err(CommandError::failed)?
    } else {
        Vec::new()
    };
    Ok(Choice { caches, orphans })
}

async fn remove_all(
    place: Place<'_>,
    survey: &Survey,
    choice: &Choice,
) -> Result<(), CommandError> {
    for orphan in &choice.orphans {
        let deleted = place.delete(&orphan.digest).await;
        deleted.map_err(|error| failed(&format!("{} of {}", orphan.digest, orphan.tag), &error))?;
    }
    let mut left = survey.clone();
    for Chosen { cache, .. } in &choice.caches {
        let removed = remove(place, &left, cache).await;
        removed.map_err(|error| failed(&cache.tag, &error))?;
        // The last of several tags with one manifest has it alone.
        left.caches.retain(|other| other.tag != cache.tag);
    }
    Ok(())
}

impl Choice {
    fn in_words(&self) -> String {
        let caches = counted(self.caches.len(), "cache");
        let orphans = counted(self.orphans.len(), "replaced manifest");
        match (self.caches.len(), self.orphans.len()) {
            (_, 0) => caches,
            (0, _) => orphans,
            _ => format!("{caches} and {orphans}"),
        }
    }
}

fn shown(survey: &Survey, chosen: &[Chosen], now: Timestamp) -> String {
    if chosen.is_empty() {
        return String::new();
    }
    let mut text = String::from("SCOPE\tLAST USED\tFREES\tWHY\n");
    let mut tags = HashSet::new();
    let mut freed = 0;
    for Chosen { cache, why } in chosen {
        tags.insert(cache.tag.as_str());
        let all = survey.freed_by(&tags);
        let used = ago(cache.last_used, now);
        let (tag, size) = (&cache.tag, human_size(all - freed));
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{tag}\t{used}\t{size}\t{why}");
        freed = all;
    }
    table::columns(&text, 10, 3)
}

#[cfg(test)]
mod tests {
    use super::choose::testing::survey;
    use super::*;

    #[test]
    fn what_each_frees_adds_up() {
        let (survey, now) = survey();
        let chosen = old(&survey, Duration::from_secs(3600), 0, now);
        let text = shown(&survey, &chosen, now);
        assert_eq!(
            text,
            "SCOPE     LAST USED     FREES     WHY\n\
             pr-1      2 weeks ago   10B       not used for long\n\
             b-main    2 weeks ago   10B       not used for long\n\
             pr-2      2 hours ago   10B       not used for long\n"
        );
        assert_eq!(shown(&survey, &[], now), "");
    }

    #[test]
    fn what_goes_is_said_in_words() {
        let (survey, now) = survey();
        let orphan = || Orphan {
            tag: "b-main".to_owned(),
            digest: survey.caches[0].digest.clone(),
        };
        let caches = old(&survey, Duration::from_secs(3600), 2, now);
        let of = |caches: &[Chosen], orphans: usize| {
            let choice = Choice {
                caches: caches.to_vec(),
                orphans: std::iter::repeat_with(orphan).take(orphans).collect(),
            };
            choice.in_words()
        };
        assert_eq!(of(&caches, 0), "1 cache");
        assert_eq!(of(&[], 2), "2 replaced manifests");
        assert_eq!(of(&caches, 1), "1 cache and 1 replaced manifest");
    }
}
