//! Buildkite: <https://buildkite.com/docs/pipelines/configure/environment-variables>; merge queues:
//! <https://buildkite.com/docs/pipelines/tutorials/github-merge-queue>.

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
        if let Some(number) = vars.number("BUILDKITE_PULL_REQUEST", &mut facts) {
            let theirs = vars.get("BUILDKITE_PULL_REQUEST_REPO");
            let ours = vars.get("BUILDKITE_REPO");
            let is_fork =
                theirs.is_some_and(|theirs| ours.is_none_or(|ours| place(&theirs) != place(&ours)));
            facts.event = Event::Pull { number, is_fork };
        }
    } else if let Some(tag) = vars.get("BUILDKITE_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = branch {
        facts.event = Event::Branch(branch);
    }
    facts
}

/// Host and path of a repository, whatever the form of its URL: the two variables have different ones.
fn place(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_once(['/', ':']).unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    format!("{host}/{path}").to_lowercase()
}
