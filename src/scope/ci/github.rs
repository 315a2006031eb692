//! GitHub Actions, and Gitea's and Forgejo's, which set the same variables.
//!
//! Variables: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>; events:
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows>. Gitea and
//! Forgejo have `refs/pull/N/head` where GitHub has `refs/pull/N/merge`
//! (<https://docs.gitea.com/usage/actions/comparison>, <https://forgejo.org/docs/latest/user/actions/reference/>).

use serde_json::Value;

use crate::scope::facts::{Event, Facts, Vars, queue_base, reference, short_branch};

/// Events whose reference is that of the code that is built. All others, such as `issue_comment`, `workflow_run` and
/// `repository_dispatch`, run in the name of the default branch, and many build the code of pull requests then.
const OF_THE_REFERENCE: [&str; 6] = [
    "push",
    "create",
    "deployment",
    "release",
    "schedule",
    "workflow_dispatch",
];

pub(super) fn facts(vars: Vars<'_>, event_file: Option<&str>) -> Facts {
    let mut facts = Facts::of("GitHub Actions");
    let file = event_file.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let said = |path: &str| file.as_ref().and_then(|file| file.pointer(path));
    let text = |path: &str| said(path).and_then(Value::as_str);
    facts.default = text("/repository/default_branch").and_then(short_branch);
    let event = vars.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let by_ref = vars.get("GITHUB_REF").as_deref().and_then(reference);
    let is_pull = matches!(by_ref, Some((Event::Pull { .. }, _)));
    if is_pull || event.starts_with("pull_request") || vars.is_set("GITHUB_HEAD_REF") {
        facts.base = vars
            .branch("GITHUB_BASE_REF", &mut facts)
            .or_else(|| text("/pull_request/base/ref").and_then(short_branch));
        let number = match by_ref {
            Some((Event::Pull { number, .. }, _)) => number,
            // `pull_request_target` runs on the base branch.
            _ => None,
        };
        let said_number = || said("/pull_request/number").and_then(Value::as_u64);
        let number = number.or_else(said_number).filter(|number| *number > 0);
        let head = text("/pull_request/head/repo/full_name");
        // A fork that is gone has no repository any more.
        let is_gone = said("/pull_request/head/repo").is_some_and(Value::is_null);
        // Also under `pull_request_target`, whose token may push and which knows the secrets.
        let own = text("/repository/full_name");
        let is_fork = is_gone || matches!((head, own), (Some(head), Some(own)) if head != own);
        if !is_gone && (head.is_none() || own.is_none()) {
            facts.doubt = Some(
                "the file of GITHUB_EVENT_PATH does not tell whether it is a fork's; write=true does",
            );
        }
        if number.is_none() {
            let value = vars.get("GITHUB_REF").unwrap_or_default();
            facts.note("GITHUB_REF", &value, "that of a pull request");
        }
        facts.event = Event::Pull { number, is_fork };
        return facts;
    }
    if event == "merge_group" {
        let name = text("/merge_group/base_ref").and_then(short_branch);
        let branch = vars.get("GITHUB_REF").as_deref().and_then(short_branch);
        facts.base = name.or_else(|| branch.as_deref().and_then(queue_base));
        facts.event = Event::Queue;
        return facts;
    }
    if !event.is_empty() && !OF_THE_REFERENCE.contains(&event.as_str()) {
        facts.event = Event::Foreign(event);
        return facts;
    }
    match by_ref {
        Some((Event::Branch(branch), _)) => facts.built_branch(branch, event == "schedule"),
        Some((event, base)) => (facts.event, facts.base) = (event, base),
        None => {
            let value = vars.get("GITHUB_REF").unwrap_or_default();
            facts.note("GITHUB_REF", &value, "the reference of a branch or a tag");
        }
    }
    facts
}
