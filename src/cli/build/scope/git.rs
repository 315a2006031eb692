//! What git says about the folder that is built. Nothing but git is asked, and it reads only what is on this machine.

use std::path::Path;
use std::time::Duration;

use crate::build::context::vcs::git;
use crate::scope::{COUNTED, Event, Facts, GitFacts, MERGED, Wishes, nearest};

/// The remote whose branches a CI builds.
const REMOTE: &str = "refs/remotes/origin/";
/// How long git may look for the nearest branch: in a history of a million commits it takes longer, and the build does
/// without.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many merged branches are listed at most.
const LISTED: &str = "--count=20";

/// Asks git for what neither the CI nor the user says.
pub(super) async fn facts(folder: &Path, facts: &Facts, wishes: &Wishes) -> GitFacts {
    let is_known = facts.ci.is_some() && facts.event != Event::Unknown;
    let asks_for_branch = !is_known && wishes.scope.is_none();
    let told = wishes.default.as_ref().or(facts.default.as_ref());
    let (branch, upstream, default) = tokio::join!(
        asked(
            asks_for_branch,
            folder,
            &["symbolic-ref", "--quiet", "--short", "HEAD"]
        ),
        asked(
            asks_for_branch,
            folder,
            &["rev-parse", "--symbolic-full-name", "@{upstream}"]
        ),
        asked(
            told.is_none(),
            folder,
            &["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]
        ),
    );
    let upstream = upstream.and_then(|name| short(&name));
    let default = default.and_then(|name| Some(name.strip_prefix(REMOTE)?.to_owned()));
    let known = [branch.as_deref(), upstream.as_deref()];
    let known: Vec<&str> = known.into_iter().flatten().collect();
    let nearest = if asks_for_branch {
        let default = told.or(default.as_ref()).map(String::as_str);
        let found = tokio::time::timeout(PATIENCE, found(folder, default, &known)).await;
        found.unwrap_or_else(|_elapsed| {
            tracing::debug!("git takes too long to find the nearest branch, which is passed over");
            None
        })
    } else {
        None
    };
    GitFacts {
        branch,
        upstream,
        nearest,
        default,
    }
}

/// Asks git if there is reason to.
async fn asked(is_wanted: bool, folder: &Path, args: &[&str]) -> Option<String> {
    if !is_wanted {
        return None;
    }
    git(folder, args).await.filter(|text| !text.is_empty())
}

/// The name of a branch of this repository or of a remote.
fn short(reference: &str) -> Option<String> {
    if let Some(name) = reference.strip_prefix("refs/heads/") {
        return Some(name.to_owned());
    }
    let (_, name) = reference.strip_prefix("refs/remotes/")?.split_once('/')?;
    Some(name.to_owned())
}

/// Finds the branch of the remote that is nearest to what is checked out. A shallow clone has too little of the history.
async fn found(folder: &Path, default: Option<&str>, known: &[&str]) -> Option<String> {
    let (is_shallow, list) = tokio::join!(
        git(folder, &["rev-parse", "--is-shallow-repository"]),
        git(folder, &["for-each-ref", COUNTED, REMOTE]),
    );
    if is_shallow? != "false" {
        return None;
    }
    let list = match list {
        Some(list) => list,
        None => merged(folder, default).await?,
    };
    nearest(&list, default, known)
}

/// Lists the branches that are wholly in the history of what is checked out and not in the default one, for a git that does
/// not count commits.
async fn merged(folder: &Path, default: Option<&str>) -> Option<String> {
    let mut args = vec!["for-each-ref", MERGED, LISTED, "--sort=-committerdate"];
    args.push("--merged=HEAD");
    let unwanted = default.map(|name| format!("--no-merged={REMOTE}{name}"));
    args.extend(unwanted.as_deref());
    args.push(REMOTE);
    git(folder, &args).await
}

#[cfg(test)]
mod tests;
