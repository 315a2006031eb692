//! Azure Pipelines: <https://learn.microsoft.com/en-us/azure/devops/pipelines/build/variables>. The number of a pull request is
//! that of GitHub, the identifier that of Azure Repos; both are there only under a branch policy, the reference always.

use crate::scope::facts::{Event, Facts, Vars, reference};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Azure Pipelines");
    let by_ref = vars
        .get("BUILD_SOURCEBRANCH")
        .as_deref()
        .and_then(reference);
    let is_pull = vars.is("BUILD_REASON", "PullRequest")
        || vars.is_set("SYSTEM_PULLREQUEST_PULLREQUESTID")
        || vars.is_set("SYSTEM_PULLREQUEST_TARGETBRANCH")
        || matches!(by_ref, Some((Event::Pull { .. }, _)));
    if is_pull {
        facts.base = vars.branch("SYSTEM_PULLREQUEST_TARGETBRANCH", &mut facts);
        // Pull requests of GitHub have a number besides Azure's own identifier.
        let number = vars.number("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", &mut facts);
        let number = number.or(match by_ref {
            Some((Event::Pull { number, .. }, _)) => number,
            _ => None,
        });
        let number = number.or_else(|| vars.number("SYSTEM_PULLREQUEST_PULLREQUESTID", &mut facts));
        let fork = vars.get("SYSTEM_PULLREQUEST_ISFORK");
        let is_fork = fork.map(|fork| !fork.eq_ignore_ascii_case("false"));
        facts.built_pull(number, is_fork);
        return facts;
    }
    match by_ref {
        Some((Event::Branch(branch), _)) => {
            let by_schedule = vars.is("BUILD_REASON", "Schedule");
            facts.built_branch(branch, by_schedule);
        }
        Some((event, base)) => (facts.event, facts.base) = (event, base),
        None => {}
    }
    facts
}
