//! Bitbucket Pipelines: <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>. It does not build
//! the pull requests of forks.

use crate::scope::facts::{Event, Facts, Vars};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Bitbucket Pipelines");
    if vars.is_set("BITBUCKET_PR_ID") {
        facts.base = vars.branch("BITBUCKET_PR_DESTINATION_BRANCH", &mut facts);
        if let Some(number) = vars.number("BITBUCKET_PR_ID", &mut facts) {
            let is_fork = false;
            facts.event = Event::Pull { number, is_fork };
        }
    } else if let Some(tag) = vars.get("BITBUCKET_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = vars.branch("BITBUCKET_BRANCH", &mut facts) {
        facts.event = Event::Branch(branch);
    }
    facts
}
