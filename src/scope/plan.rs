//! The rules: from facts to what is read, in which order, and what is written.

use super::facts::{Event, Facts, GitFacts};
use super::slug;

/// How many scopes are read without being asked for.
const READS: usize = 4;
/// The names that a default branch has where nobody says.
const USUAL: [&str; 3] = ["main", "master", "trunk"];

/// What the user wants otherwise than the rules have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// The one scope to read and write.
    pub scope: Option<String>,
    /// Scopes to read, too.
    pub also: Vec<String>,
    /// The branch that a change goes to.
    pub base: Option<String>,
    /// The default branch.
    pub default: Option<String>,
    /// What is written.
    pub write: Write,
}

/// Whether a build writes its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Write {
    /// The rules decide.
    #[default]
    Auto,
    /// It does wherever it has a scope of its own.
    Always,
    /// It does not.
    Never,
}

/// What a build reads and writes, as tags of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is built, in words.
    pub what: String,
    /// What is read, best first.
    pub reads: Vec<String>,
    /// What is written.
    pub writes: Option<String>,
    /// Why nothing is written, where that is to be said.
    pub why_not: Option<&'static str>,
    /// The scope is that of a pull request, which ends soon.
    pub is_pull: bool,
}

/// A situation: what is built, its own scope, and what the rules say against writing it.
struct Case {
    what: String,
    own: Option<String>,
    /// Whether what is built is trusted less than what others read of a scope that the user names.
    is_outside: bool,
    refused: Option<Refused>,
}

/// Why the rules have a build write nothing.
struct Refused {
    why: Option<&'static str>,
    /// The user may want it all the same.
    unless_asked: bool,
}

/// Decides what a build reads and writes.
pub fn plan(facts: &Facts, git: &GitFacts, wishes: &Wishes) -> Plan {
    let base = wishes.base.as_ref().or(facts.base.as_ref());
    let default = wishes.default.as_ref().or(facts.default.as_ref());
    let default = default.or(git.default.as_ref());
    let case = case(facts, git, default);
    let mut plan = if let Some(scope) = &wishes.scope {
        let mut plan = one_scope(case, slug::named(scope));
        decide_one(&mut plan, wishes.write);
        plan
    } else {
        let own = readable(&case, facts);
        let more = [git.upstream.as_ref(), base, git.nearest.as_ref()];
        let reads = reads(own, more.into_iter().flatten(), default);
        let is_pull = matches!(facts.event, Event::Pull { .. });
        writing(case, reads, is_pull, wishes.write)
    };
    let also = wishes.also.iter().map(|name| slug::read(name));
    let own = usize::from(plan.reads.first() == plan.writes.as_ref());
    for scope in also.rev() {
        if !plan.reads.contains(&scope) {
            plan.reads.insert(own.min(plan.reads.len()), scope);
        }
    }
    plan
}

fn case(facts: &Facts, git: &GitFacts, default: Option<&String>) -> Case {
    let in_ci = facts.ci.is_some();
    let refused = |why, unless_asked| Some(Refused { why, unless_asked });
    let base = facts.base.as_deref();
    match &facts.event {
        Event::Branch(name) if in_ci => Case {
            what: format!("branch {name}"),
            own: Some(slug::branch(name)),
            is_outside: false,
            refused: None,
        },
        Event::Schedule(name) => Case {
            what: format!("schedule of {name}"),
            own: Some(slug::branch(name)),
            is_outside: false,
            refused: (!is_default(name, default))
                .then(|| refused(Some("a schedule of another branch; write=true does"), true))
                .flatten(),
        },
        Event::Pull { number, is_fork } => pull(*number, *is_fork, facts.doubt),
        Event::Queue => Case {
            what: base.map_or("merge queue".into(), |base| {
                format!("merge queue of {base}")
            }),
            own: None,
            is_outside: true,
            refused: refused(None, false),
        },
        Event::Tag(name) => Case {
            what: format!("tag {name}"),
            own: None,
            is_outside: false,
            refused: refused(None, false),
        },
        Event::Foreign(what) => Case {
            what: what.clone(),
            own: None,
            is_outside: true,
            refused: refused(Some("what is built need not be the branch's code"), false),
        },
        Event::Branch(_) | Event::Unknown => local(facts, git),
    }
}

/// Returns whether a branch is the default one, or has its usual name where nobody says which it is.
fn is_default(name: &str, default: Option<&String>) -> bool {
    default.map_or_else(|| USUAL.contains(&name), |default| default == name)
}

/// A pull request. Without a number it has no scope, and never gets the one of a branch: others read that.
fn pull(number: Option<u64>, is_fork: bool, doubt: Option<&'static str>) -> Case {
    let of_fork = if is_fork { " of a fork" } else { "" };
    let why = match number {
        _ if is_fork => Some("anybody may have written it; write=true does"),
        None => Some("its number is not known, and CACHEX_PR is not set"),
        Some(_) => doubt,
    };
    Case {
        what: match number {
            Some(number) => format!("pull request {number}{of_fork}"),
            None => format!("a pull request{of_fork}"),
        },
        own: number.map(slug::pull),
        is_outside: true,
        refused: why.map(|why| Refused {
            why: Some(why),
            unless_asked: true,
        }),
    }
}

/// Outside of a CI, and in one that says nothing.
fn local(facts: &Facts, git: &GitFacts) -> Case {
    let place = facts
        .ci
        .map_or("on this machine".to_owned(), |name| format!("in {name}"));
    let why = match facts.ci {
        None => "not in CI; write=true does",
        Some(_) => "CACHEX_BRANCH is not set",
    };
    let branch = match &facts.event {
        Event::Branch(name) => Some(name),
        _ => git.branch.as_ref(),
    };
    Case {
        what: match branch {
            Some(name) => format!("{name} {place}"),
            None => format!("a commit {place}"),
        },
        own: branch.map(|name| slug::branch(name)),
        is_outside: false,
        refused: Some(Refused {
            why: Some(why),
            unless_asked: true,
        }),
    }
}

/// The scope that the build reads as its own. A fork's pull request has none: nobody writes it.
fn readable(case: &Case, facts: &Facts) -> Option<String> {
    match facts.event {
        Event::Pull { is_fork: true, .. } => None,
        _ => case.own.clone(),
    }
}

fn reads<'a>(
    own: Option<String>,
    more: impl Iterator<Item = &'a String>,
    default: Option<&String>,
) -> Vec<String> {
    let mut reads: Vec<String> = Vec::new();
    let mut add = |scope: String| {
        if reads.len() < READS && !reads.contains(&scope) {
            reads.push(scope);
        }
    };
    let usual = USUAL.map(slug::branch);
    let mut found = default.is_some();
    for scope in own.into_iter().chain(more.map(|name| slug::branch(name))) {
        found |= usual.contains(&scope);
        add(scope);
    }
    match default {
        Some(name) => add(slug::branch(name)),
        // Of the usual ones there is hardly more than one.
        None if !found => usual.into_iter().for_each(add),
        None => {}
    }
    reads
}

fn writing(case: Case, reads: Vec<String>, is_pull: bool, wish: Write) -> Plan {
    let (writes, why_not) = match (wish, case.refused) {
        (Write::Never, _) => (None, Some("write=false")),
        (_, None) => (case.own, None),
        (Write::Always, Some(refused)) if refused.unless_asked && case.own.is_some() => {
            (case.own, None)
        }
        (Write::Always, Some(_)) => (None, Some("it has no scope of its own; scope= names one")),
        (Write::Auto, Some(refused)) => (None, refused.why),
    };
    let mut reads = reads;
    if let Some(scope) = &writes
        && !reads.contains(scope)
    {
        reads.insert(0, scope.clone());
    }
    Plan {
        what: case.what,
        reads,
        is_pull: is_pull && writes.is_some(),
        writes,
        why_not,
    }
}

/// A scope that the user names is that of all builds, also of those whose code nobody has looked at: these only read
/// it.
fn one_scope(case: Case, scope: String) -> Plan {
    let is_refused = case.is_outside || case.refused.is_some();
    let why_not = if case.is_outside {
        Some("scope= is for all builds, and this code is not merged; write=true does")
    } else {
        case.refused.and_then(|refused| refused.why)
    };
    Plan {
        what: case.what,
        reads: vec![scope.clone()],
        writes: (!is_refused).then_some(scope),
        why_not,
        is_pull: false,
    }
}

fn decide_one(plan: &mut Plan, wish: Write) {
    match wish {
        Write::Auto => {}
        Write::Never => (plan.writes, plan.why_not) = (None, Some("write=false")),
        Write::Always => (plan.writes, plan.why_not) = (plan.reads.first().cloned(), None),
    }
}
