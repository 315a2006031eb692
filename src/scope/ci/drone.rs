//! Drone, and Harness and Gitness, which set the same variables:
//! <https://docs.drone.io/pipeline/environment/reference/>. `DRONE_BRANCH` is the base of a pull request. Nothing tells
//! of forks; the token does.

use crate::scope::facts::{Event, Facts, Vars};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Drone");
    facts.default = vars.branch("DRONE_REPO_BRANCH", &mut facts);
    if vars.is("DRONE_BUILD_EVENT", "pull_request") || vars.is_set("DRONE_PULL_REQUEST") {
        facts.base = vars.branch("DRONE_TARGET_BRANCH", &mut facts);
        let (number, is_fork) = (vars.number("DRONE_PULL_REQUEST", &mut facts), false);
        facts.event = Event::Pull { number, is_fork };
    } else if let Some(tag) = vars.get("DRONE_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = vars.branch("DRONE_BRANCH", &mut facts) {
        facts.built_branch(branch, vars.is("DRONE_BUILD_EVENT", "cron"));
    }
    facts
}
