//! `cache prune`: caches of a repository that nobody needs any more.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::survey::{Survey, TaggedCache};
use crate::cli::{Context, table};
use crate::error::CommandError;
use crate::options::duration;
use crate::options::size::human_size;
use crate::scope::is_scope;
use crate::text::counted;

use super::ls::ago;
use super::place::Places;
use super::rm::{LOOKED_AT, failed, remove};

/// Remove caches that have not been used for long
///
/// Only scopes of `--cache` count: tags that begin with b-, pr- or s-. Without --yes nothing is removed, and what
/// would be is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct PruneArgs {
    /// The repository
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// Keep so many of the most recently used caches, however old
    #[arg(long, value_name = "number", default_value_t = 0)]
    keep: usize,
    /// Remove what no build has used for longer
    #[arg(long, value_name = "duration", value_parser = duration::parse, default_value = "336h")]
    older_than: Duration,
    /// Remove what is shown
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the registry does not answer, or refuses.
pub async fn run(args: PruneArgs, ctx: &Context) -> Result<(), CommandError> {
    let places = Places::new(ctx);
    let repository = places.whole(&args.repository, args.insecure)?;
    let waiting = format!("reading the tags of {}", args.repository);
    let survey = Survey::of(&repository, LOOKED_AT);
    let survey = ctx.ui.patiently(&waiting, Box::pin(survey)).await;
    let survey = survey.map_err(CommandError::failed)?;
    let now = Timestamp::now();
    let chosen = chosen(&survey, args.older_than, args.keep, now);
    if chosen.is_empty() {
        return Ok(ctx.ui.data("nothing to remove")?);
    }
    ctx.ui.text(&shown(&survey, &chosen, now))?;
    let tags = chosen.iter().map(|cache| cache.tag.as_str()).collect();
    let (count, freed) = (counted(chosen.len(), "cache"), survey.freed_by(&tags));
    let (freed, all) = (human_size(freed), human_size(survey.size()));
    if !args.yes {
        let text = format!("would remove {count} and free {freed} of {all}; --yes does it");
        return Ok(ctx.ui.data(&text)?);
    }
    let mut left = survey.clone();
    for cache in &chosen {
        let removed = remove(&repository, &left, cache).await;
        removed.map_err(|error| failed(&cache.tag, &error))?;
        // The last of several tags with one manifest has it alone.
        left.caches.retain(|other| other.tag != cache.tag);
    }
    Ok(ctx
        .ui
        .data(&format!("removed {count}, freed {freed} of {all}"))?)
}

/// Chooses the scopes that were used longest ago, the oldest first. One whose last use is not known stays.
fn chosen(survey: &Survey, older_than: Duration, keep: usize, now: Timestamp) -> Vec<TaggedCache> {
    let mut scopes: Vec<(Timestamp, &TaggedCache)> = survey
        .caches
        .iter()
        .filter(|cache| is_scope(&cache.tag))
        .filter_map(|cache| Some((cache.last_used?, cache)))
        .collect();
    scopes.sort_by(|(a, one), (b, other)| b.cmp(a).then(one.tag.cmp(&other.tag)));
    let is_old = |used: Timestamp| {
        Duration::try_from(now.duration_since(used)).is_ok_and(|age| age > older_than)
    };
    let old = scopes
        .into_iter()
        .skip(keep)
        .filter(|(used, _)| is_old(*used));
    let mut old: Vec<TaggedCache> = old.map(|(_, cache)| cache.clone()).collect();
    old.reverse();
    old
}

fn shown(survey: &Survey, chosen: &[TaggedCache], now: Timestamp) -> String {
    let mut text = String::from("SCOPE\tLAST USED\tFREES\n");
    let mut tags = HashSet::new();
    let mut freed = 0;
    for cache in chosen {
        tags.insert(cache.tag.as_str());
        let all = survey.freed_by(&tags);
        let used = ago(cache.last_used, now);
        let (tag, size) = (&cache.tag, human_size(all - freed));
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{tag}\t{used}\t{size}");
        freed = all;
    }
    table::columns(&text, 10, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn survey() -> (Survey, Timestamp) {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let cache = |tag: &str, hours: Option<i64>| TaggedCache {
            tag: tag.to_owned(),
            digest: Digest::of(tag.as_bytes()),
            layers: [
                (Digest::of(b"base"), 1000),
                (Digest::of(tag.as_bytes()), 10),
            ]
            .into(),
            results: 1,
            last_used: hours.map(|h| now - jiff::SignedDuration::from_hours(h)),
        };
        let caches = vec![
            cache("b-main", Some(400)),
            cache("pr-1", Some(500)),
            cache("pr-2", Some(2)),
            cache("s-x", None),
            cache("own", Some(9000)),
        ];
        let survey = Survey {
            caches,
            others: Vec::new(),
        };
        (survey, now)
    }

    fn tags(older_than: u64, keep: usize) -> Vec<String> {
        let (survey, now) = survey();
        let age = Duration::from_secs(older_than * 3600);
        let chosen = chosen(&survey, age, keep, now);
        chosen.into_iter().map(|cache| cache.tag).collect()
    }

    #[test]
    fn only_old_scopes_are_chosen() {
        assert_eq!(tags(336, 0), ["pr-1", "b-main"]);
        assert_eq!(tags(450, 0), ["pr-1"]);
        assert_eq!(tags(1, 0), ["pr-1", "b-main", "pr-2"]);
        assert_eq!(tags(336, 2), ["pr-1"]);
        assert!(tags(336, 3).is_empty());
    }

    #[test]
    fn what_each_frees_adds_up() {
        let (survey, now) = survey();
        let chosen = chosen(&survey, Duration::from_secs(3600), 0, now);
        let text = shown(&survey, &chosen, now);
        assert_eq!(
            text,
            "SCOPE     LAST USED     FREES\n\
             pr-1      2 weeks ago   10B\n\
             b-main    2 weeks ago   10B\n\
             pr-2      2 hours ago   10B\n"
        );
    }
}
