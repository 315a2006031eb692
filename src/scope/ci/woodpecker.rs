//! Woodpecker: <https://woodpecker-ci.org/docs/usage/environment>. `CI_COMMIT_BRANCH` is the base of a pull request.
//! Nothing tells of forks; the token does.

use crate::scope::facts::{Event, Facts, Vars};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Woodpecker");
    facts.default = vars.branch("CI_REPO_DEFAULT_BRANCH", &mut facts);
    let event = vars.get("CI_PIPELINE_EVENT").unwrap_or_default();
    if event.starts_with("pull_request") || vars.is_set("CI_COMMIT_PULL_REQUEST") {
        facts.base = vars.branch("CI_COMMIT_TARGET_BRANCH", &mut facts);
        let (number, is_fork) = (vars.number("CI_COMMIT_PULL_REQUEST", &mut facts), false);
        facts.event = Event::Pull { number, is_fork };
    } else if let Some(tag) = vars.get("CI_COMMIT_TAG") {
        facts.event = Event::Tag(tag);
    } else if event != "release"
        && let Some(branch) = vars.branch("CI_COMMIT_BRANCH", &mut facts)
    {
        facts.built_branch(branch, event == "cron");
    }
    facts
}
