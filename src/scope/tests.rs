//! Environments as the vendors' pages give them, and what a build reads and writes in each.

mod environments;
mod events;
mod more_environments;
mod rules;

use super::*;

/// One environment: variables, the event's file, git's branch, and the line without its head.
struct Case {
    name: &'static str,
    vars: &'static [(&'static str, &'static str)],
    event: Option<&'static str>,
    line: &'static str,
}

fn facts_of(vars: &[(&str, &str)], event: Option<&str>) -> Facts {
    let get = |name: &str| {
        let found = vars.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    facts(&get, event).unwrap()
}

fn line_of(facts: &Facts, git: &GitFacts, wishes: &Wishes) -> String {
    let text = line("r", &plan(facts, git, wishes), &[]);
    text.strip_prefix("cache r: ").unwrap().to_owned()
}

fn check(cases: &[Case]) {
    for case in cases {
        let facts = facts_of(case.vars, case.event);
        let text = line_of(&facts, &GitFacts::default(), &Wishes::default());
        assert_eq!(text, case.line, "{}: {facts:?}", case.name);
    }
}

#[test]
fn a_name_does_not_steer_the_terminal() {
    let name = "x\n::set-output\u{1b}[31m\u{202e}";
    let facts = facts_of(&[("CI", "true"), ("CACHEX_BRANCH", name)], None);
    let text = line_of(&facts, &GitFacts::default(), &Wishes::default());
    let is_bad = |c: char| c.is_control() || c == '\u{202e}';
    assert!(
        text.starts_with("branch x ::set-output") && !text.contains(is_bad),
        "{text:?}"
    );
}
