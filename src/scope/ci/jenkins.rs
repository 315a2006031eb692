//! Jenkins with a multibranch project: its page `/env-vars.html`, of the plug-in
//! <https://plugins.jenkins.io/branch-api/>.

use crate::scope::facts::{Event, Facts, Vars};

pub(super) fn facts(vars: Vars<'_>) -> Facts {
    let mut facts = Facts::of("Jenkins");
    if vars.is_set("CHANGE_ID") || vars.is_set("CHANGE_TARGET") {
        facts.base = vars.branch("CHANGE_TARGET", &mut facts);
        if let Some(number) = vars.number("CHANGE_ID", &mut facts) {
            let is_fork = vars.is_set("CHANGE_FORK");
            facts.event = Event::Pull { number, is_fork };
        }
    } else if let Some(tag) = vars.get("TAG_NAME") {
        facts.event = Event::Tag(tag);
    } else if let Some(branch) = vars.branch("BRANCH_NAME", &mut facts) {
        if vars.is("BRANCH_IS_PRIMARY", "true") {
            facts.default = Some(branch.clone());
        }
        facts.event = Event::Branch(branch);
    }
    facts
}
