//! `CircleCI`: <https://circleci.com/docs/reference/variables/>.

use crate::scope::facts::{Event, Facts, Vars, parse_number};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("CircleCI");
    let branch = vars.branch("CIRCLE_BRANCH", &mut facts);
    // The branch of a fork's pull request is `pull/N`.
    let by_branch = branch
        .as_deref()
        .and_then(|name| name.strip_prefix("pull/"));
    let by_branch = by_branch.map(|rest| rest.split('/').next().unwrap_or(rest));
    let by_branch = by_branch.and_then(parse_number);
    let by_url = vars
        .get("CIRCLE_PULL_REQUEST")
        .and_then(|url| parse_number(url.rsplit('/').next()?));
    let number = vars.number("CIRCLE_PR_NUMBER", &mut facts);
    let of_fork = vars.is_set("CIRCLE_PR_USERNAME") || vars.is_set("CIRCLE_PR_NUMBER");
    let is_pull = of_fork || vars.is_set("CIRCLE_PULL_REQUEST");
    let number = number.or(by_url).or(by_branch);
    if is_pull || number.is_some() {
        let is_fork = of_fork || by_branch.is_some();
        facts.event = Event::Pull { number, is_fork };
    } else if let Some(tag) = vars.get("CIRCLE_TAG") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = branch {
        facts.event = Event::Branch(branch);
    }
    facts
}
