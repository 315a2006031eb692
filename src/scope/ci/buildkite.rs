//! Buildkite: <https://buildkite.com/docs/pipelines/configure/environment-variables>. `BUILDKITE_PULL_REQUEST` is `false`
//! where there is none, and `BUILDKITE_BRANCH` is the tag's name in builds of a tag. Merge queues:
//! <https://buildkite.com/docs/pipelines/tutorials/github-merge-queue>.

use crate::scope::address::address;
use crate::scope::facts::{Event, Facts, Vars, queue_base};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Buildkite");
    facts.default = vars.branch("BUILDKITE_PIPELINE_DEFAULT_BRANCH", &mut facts);
    let branch = vars.branch("BUILDKITE_BRANCH", &mut facts);
    let queue = vars.branch("BUILDKITE_MERGE_QUEUE_BASE_BRANCH", &mut facts);
    if let Some(base) = queue.or_else(|| branch.as_deref().and_then(queue_base)) {
        facts.base = Some(base);
        facts.event = Event::Queue;
        return facts;
    }
    let is_pull = vars
        .get("BUILDKITE_PULL_REQUEST")
        .is_some_and(|value| value != "false");
    if is_pull {
        facts.base = vars.branch("BUILDKITE_PULL_REQUEST_BASE_BRANCH", &mut facts);
        let number = vars.number("BUILDKITE_PULL_REQUEST", &mut facts);
        let theirs = vars.get("BUILDKITE_PULL_REQUEST_REPO");
        let ours = vars.get("BUILDKITE_REPO");
        // The two have different forms, such as `git://` and `git@`.
        let is_ours = |theirs: &String| {
            ours.is_some_and(|ours| {
                ours == *theirs || address(&ours).is_some_and(|ours| address(theirs) == Some(ours))
            })
        };
        facts.built_pull(number, theirs.map(|theirs| !is_ours(&theirs)));
    } else if let Some(tag) = vars.get("BUILDKITE_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = branch {
        facts.built_branch(branch, vars.is("BUILDKITE_SOURCE", "schedule"));
    }
    facts
}
