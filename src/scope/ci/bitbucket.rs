//! Bitbucket Pipelines: <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>. `BITBUCKET_BRANCH` is set for
//! builds of branches and of pull requests, whose source it is then, not for those of tags. Pull requests of forks are
//! not built, and no variable of that page tells of a schedule.

use crate::scope::facts::{Event, Facts, Vars};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Bitbucket Pipelines");
    if vars.is_set("BITBUCKET_PR_ID") || vars.is_set("BITBUCKET_PR_DESTINATION_BRANCH") {
        facts.base = vars.branch("BITBUCKET_PR_DESTINATION_BRANCH", &mut facts);
        let (number, is_fork) = (vars.number("BITBUCKET_PR_ID", &mut facts), false);
        facts.event = Event::Pull { number, is_fork };
    } else if let Some(tag) = vars.get("BITBUCKET_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = vars.branch("BITBUCKET_BRANCH", &mut facts) {
        facts.event = Event::Branch(branch);
    }
    facts
}
