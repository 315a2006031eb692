//! What the variables of each CI say.
//!
//! A value that makes no sense is no error: it is noted, and the next rule applies. Where a CI says that the build is
//! of a pull request, no other variable ever makes a branch of it, since many name the base branch then.

mod azure;
mod bitbucket;
mod buildkite;
mod circleci;
mod drone;
mod github;
mod gitlab;
mod jenkins;
mod woodpecker;

use super::facts::{Event, Facts, Vars, parse_number, short_branch, short_tag};

/// Name of a CI that only `CI=true` tells of.
const ANY: &str = "CI";
/// Name of what the user says instead of a CI.
const USER: &str = "CACHEX_*";

/// A variable of the user's makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?} is not {expected}")]
pub struct BadVariable {
    /// Its name.
    name: &'static str,
    /// Its value.
    value: String,
    /// What it must be.
    expected: &'static str,
}

/// Returns the facts of a build. `get` looks up a variable; `event_file` is the text of the file that
/// `GITHUB_EVENT_PATH` names, where there is one.
///
/// # Errors
///
/// Fails for a variable of the user's that makes no sense: what the user says must not turn into something else.
pub fn facts(
    get: &dyn Fn(&str) -> Option<String>,
    event_file: Option<&str>,
) -> Result<Facts, BadVariable> {
    let vars = Vars(get);
    let facts = of_vendor(vars, event_file);
    overridden(facts, vars)
}

/// Variables in which CIs say the commit that they build.
const COMMITS: [&str; 8] = [
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "BUILDKITE_COMMIT",
    "CIRCLE_SHA1",
    "BUILD_SOURCEVERSION",
    "BITBUCKET_COMMIT",
    "DRONE_COMMIT_SHA",
    "GIT_COMMIT",
];

/// Returns the commit that a CI says it builds; `None` outside of one.
pub fn commit(get: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let vars = Vars(get);
    of_vendor(vars, None).ci?;
    let is_commit = |text: &String| {
        (40..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
    };
    let mut said = COMMITS.iter().filter_map(|name| vars.get(name));
    said.find(is_commit)
}

fn of_vendor(vars: Vars<'_>, event_file: Option<&str>) -> Facts {
    // Those that other CIs set besides their own come last.
    if vars.is("GITHUB_ACTIONS", "true") {
        github::facts(vars, event_file)
    } else if vars.is_set("GITLAB_CI") {
        gitlab::facts(vars)
    } else if vars.is_set("BUILDKITE") {
        buildkite::facts(vars)
    } else if vars.is_set("CIRCLECI") {
        circleci::facts(vars)
    } else if vars.is_set("TF_BUILD") {
        azure::facts(vars)
    } else if vars.is_set("BITBUCKET_BUILD_NUMBER") {
        bitbucket::facts(vars)
    } else if vars.is_set("CI_PIPELINE_EVENT") || vars.is("CI", "woodpecker") {
        woodpecker::facts(vars)
    } else if vars.is_set("DRONE") {
        drone::facts(vars)
    } else if vars.is_set("JENKINS_URL") {
        jenkins::facts(vars)
    } else if vars.get("CI").is_some_and(|ci| ci != "false" && ci != "0") {
        Facts::of(ANY)
    } else {
        Facts::default()
    }
}

/// Reads a variable of the user's.
fn said<T>(
    vars: Vars<'_>,
    name: &'static str,
    expected: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, BadVariable> {
    let Some(value) = vars.get(name) else {
        return Ok(None);
    };
    match read(&value) {
        Some(read) => Ok(Some(read)),
        None => Err(BadVariable {
            name,
            value,
            expected,
        }),
    }
}

/// Puts what the user says in the place of what the CI says.
fn overridden(mut facts: Facts, vars: Vars<'_>) -> Result<Facts, BadVariable> {
    let branch_of = |name| said(vars, name, "the name of a branch", short_branch);
    // Some CIs say `false` where there is none.
    let number_of = |text: &str| match text {
        "false" => Some(None),
        text => parse_number(text).map(Some),
    };
    let number = said(vars, "CACHEX_PR", "the number of a pull request", number_of)?.flatten();
    let branch = branch_of("CACHEX_BRANCH")?;
    let base = branch_of("CACHEX_BASE")?;
    let default = branch_of("CACHEX_DEFAULT_BRANCH")?;
    let tag = said(vars, "CACHEX_TAG", "the name of a tag", short_tag)?;
    let event = if let Some(tag) = tag {
        Some(Event::Tag(tag))
    } else if let Some(number) = number {
        let is_fork = matches!(facts.event, Event::Pull { is_fork: true, .. });
        let number = Some(number);
        Some(Event::Pull { number, is_fork })
    } else {
        branch.map(Event::Branch)
    };
    if let Some(event) = event {
        facts.event = event;
        facts.ci.get_or_insert(USER);
    }
    facts.base = base.or(facts.base);
    facts.default = default.or(facts.default);
    Ok(facts)
}
