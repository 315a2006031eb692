//! Azure Pipelines: <https://learn.microsoft.com/en-us/azure/devops/pipelines/build/variables>.

use crate::scope::facts::{Event, Facts, Vars, reference};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Azure Pipelines");
    let by_ref = vars
        .get("BUILD_SOURCEBRANCH")
        .as_deref()
        .and_then(reference);
    let is_pull = vars.is("BUILD_REASON", "PullRequest")
        || vars.is_set("SYSTEM_PULLREQUEST_PULLREQUESTID")
        || matches!(by_ref, Some((Event::Pull { .. }, _)));
    if is_pull {
        facts.base = vars.branch("SYSTEM_PULLREQUEST_TARGETBRANCH", &mut facts);
        // Pull requests of GitHub have a number besides Azure's own identifier.
        let number = vars.number("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", &mut facts);
        let number = number.or(match by_ref {
            Some((Event::Pull { number, .. }, _)) => Some(number),
            _ => None,
        });
        let number = number.or_else(|| vars.number("SYSTEM_PULLREQUEST_PULLREQUESTID", &mut facts));
        if let Some(number) = number {
            let fork = vars.get("SYSTEM_PULLREQUEST_ISFORK").unwrap_or_default();
            let is_fork = fork.eq_ignore_ascii_case("true");
            facts.event = Event::Pull { number, is_fork };
        }
    } else if let Some((event, base)) = by_ref {
        (facts.event, facts.base) = (event, base);
    }
    facts
}
