//! GitLab CI: <https://docs.gitlab.com/ci/variables/predefined_variables/>.

use crate::scope::facts::{Event, Facts, Vars};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("GitLab CI");
    facts.default = vars.branch("CI_DEFAULT_BRANCH", &mut facts);
    let source = vars.get("CI_PIPELINE_SOURCE").unwrap_or_default();
    let is_request = source == "merge_request_event"
        || vars.is_set("CI_MERGE_REQUEST_IID")
        || vars.is_set("CI_MERGE_REQUEST_EVENT_TYPE");
    if is_request {
        facts.base = vars.branch("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", &mut facts);
        if vars.is("CI_MERGE_REQUEST_EVENT_TYPE", "merge_train") {
            facts.event = Event::Queue;
        } else {
            let number = vars.number("CI_MERGE_REQUEST_IID", &mut facts);
            facts.built_pull(number, is_fork(vars));
        }
        return facts;
    }
    // A pull request of GitHub that GitLab builds.
    if source == "external_pull_request_event" || vars.is_set("CI_EXTERNAL_PULL_REQUEST_IID") {
        let base = "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME";
        facts.base = vars.branch(base, &mut facts);
        let number = vars.number("CI_EXTERNAL_PULL_REQUEST_IID", &mut facts);
        let from = vars.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY");
        let into = vars.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY");
        facts.built_pull(number, from.zip(into).map(|(from, into)| from != into));
        return facts;
    }
    if let Some(tag) = vars.get("CI_COMMIT_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = vars.branch("CI_COMMIT_BRANCH", &mut facts) {
        facts.built_branch(branch, source == "schedule");
    }
    facts
}

/// The pipeline of a fork's merge request runs in the fork, whose project `CI_PROJECT_ID` then is; the one that is
/// merged into is `CI_MERGE_REQUEST_PROJECT_ID`.
fn is_fork(vars: Vars<'_>) -> Option<bool> {
    let source = vars.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
    let target = vars.get("CI_MERGE_REQUEST_PROJECT_ID");
    let target = target.or_else(|| vars.get("CI_PROJECT_ID"));
    source.zip(target).map(|(source, target)| source != target)
}
