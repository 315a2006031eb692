//! Jenkins with a multibranch project: its page `/env-vars.html`, of the plug-in
//! <https://plugins.jenkins.io/branch-api/>. Of a pull request `BRANCH_NAME` is `PR-N` or `MR-N`, by
//! <https://plugins.jenkins.io/github-branch-source/> and <https://plugins.jenkins.io/gitlab-branch-source/> with `-head` or
//! `-merge` behind it where both are built.

use crate::scope::facts::{Event, Facts, Vars, parse_number};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Jenkins");
    if vars.is_set("CHANGE_ID") || vars.is_set("CHANGE_TARGET") {
        facts.base = vars.branch("CHANGE_TARGET", &mut facts);
        let number = vars.number("CHANGE_ID", &mut facts);
        let is_fork = vars.is_set("CHANGE_FORK");
        facts.event = Event::Pull { number, is_fork };
    } else if let Some(tag) = vars.get("TAG_NAME") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = vars.branch("BRANCH_NAME", &mut facts) {
        if let Some(number) = number_of(&branch) {
            facts.built_pull(Some(number), None);
            return facts;
        }
        if vars.is("BRANCH_IS_PRIMARY", "true") {
            facts.default = Some(branch.clone());
        }
        facts.event = Event::Branch(branch);
    }
    facts
}

/// Returns the number of the pull request that a job is named after, as where a step's container has only some of the
/// variables.
fn number_of(branch: &str) -> Option<u64> {
    let rest = branch.strip_prefix("PR-").or(branch.strip_prefix("MR-"))?;
    let (number, kind) = rest.split_once('-').unwrap_or((rest, ""));
    parse_number(number).filter(|_| matches!(kind, "" | "head" | "merge"))
}
