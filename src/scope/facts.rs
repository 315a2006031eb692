//! What is built, and on whose behalf.

/// What a CI, or the user in its place, says about a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Name of the CI; nothing outside of one.
    pub ci: Option<&'static str>,
    /// What the build is of.
    pub event: Event,
    /// The branch that a change goes to.
    pub base: Option<String>,
    /// The repository's default branch.
    pub default: Option<String>,
    /// Why it is not certain that a pull request is no fork's, where it is not.
    pub doubt: Option<&'static str>,
    /// Variables that make no sense, in words.
    pub notes: Vec<String>,
}

/// What a build is of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Event {
    /// Nothing that is known: a detached commit, or a CI that says nothing.
    #[default]
    Unknown,
    /// A branch.
    Branch(String),
    /// A branch that a schedule has built.
    Schedule(String),
    /// A pull or merge request.
    Pull {
        /// Its number, where the CI says a usable one. Without it is still no branch.
        number: Option<u64>,
        /// It comes from another repository: whoever wrote it need not be trusted.
        is_fork: bool,
    },
    /// A change that waits to be merged, together with others.
    Queue,
    /// A tag.
    Tag(String),
    /// Something that runs in the name of the default branch and may build somebody else's code.
    Foreign(String),
}

/// What git says about the folder that is built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitFacts {
    /// The branch that is checked out; nothing for a detached commit or without git.
    pub branch: Option<String>,
    /// The branch that it follows.
    pub upstream: Option<String>,
    /// The branch of the remote that has most of what is checked out, where it has more than the default one.
    pub nearest: Option<String>,
    /// The default branch of the remote `origin`.
    pub default: Option<String>,
}

/// The variables of a build, of which an empty one counts as not set.
#[derive(Clone, Copy)]
pub(super) struct Vars<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Vars<'_> {
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let value = self.0(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).as_deref() == Some(value)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the number of a pull request. One that is none is noted; `false` is how some say that there is none.
    pub(super) fn number(&self, name: &str, facts: &mut Facts) -> Option<u64> {
        let value = self.get(name).filter(|value| value != "false")?;
        let number = parse_number(&value);
        if number.is_none() {
            facts.note(name, &value, "the number of a pull request");
        }
        number
    }

    /// Returns the name of a branch, short whatever its form.
    pub(super) fn branch(&self, name: &str, facts: &mut Facts) -> Option<String> {
        let value = self.get(name)?;
        let branch = short_branch(&value);
        if branch.is_none() {
            facts.note(name, &value, "the name of a branch");
        }
        branch
    }
}

impl Facts {
    pub(super) fn of(ci: &'static str) -> Self {
        Self {
            ci: Some(ci),
            ..Self::default()
        }
    }

    /// Notes that a branch is built, `by_schedule` or since somebody pushed to it or asked for it.
    pub(super) fn built_branch(&mut self, name: String, by_schedule: bool) {
        self.event = if by_schedule {
            Event::Schedule(name)
        } else {
            Event::Branch(name)
        };
    }

    /// Notes that a pull request is built. `is_fork` is nothing where that is not told.
    pub(super) fn built_pull(&mut self, number: Option<u64>, is_fork: Option<bool>) {
        if is_fork.is_none() {
            self.doubt = Some(UNTOLD);
        }
        let is_fork = is_fork.unwrap_or(false);
        self.event = Event::Pull { number, is_fork };
    }

    pub(super) fn note(&mut self, name: &str, value: &str, expected: &str) {
        self.notes
            .push(format!("{name}={value:?} is not {expected}"));
    }
}

/// What is said where the variable is missing that tells whose a pull request is.
const UNTOLD: &str = "nothing tells whether it is a fork's; write=true does";

/// Reads the number of a pull request.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && *number > 0)
}

/// Takes the name of a branch out of a full or a short form; nothing for what is no branch.
pub(super) fn short_branch(text: &str) -> Option<String> {
    let name = text.strip_prefix("refs/heads/").unwrap_or(text);
    let is_branch = !name.is_empty() && !name.starts_with("refs/");
    is_branch.then(|| name.to_owned())
}

/// Takes the name of a tag out of a full or a short form; nothing for what is no tag.
pub(super) fn short_tag(text: &str) -> Option<String> {
    let name = text.strip_prefix("refs/tags/").unwrap_or(text);
    let is_tag = !name.is_empty() && !name.starts_with("refs/");
    is_tag.then(|| name.to_owned())
}

/// Reads a full reference: a branch, a tag, a pull request (`refs/pull/N/…`, also where N is no number), or the queue of a branch
/// (`refs/heads/gh-readonly-queue/BRANCH/pr-N-COMMIT`), whose branch is the second value.
pub(super) fn reference(text: &str) -> Option<(Event, Option<String>)> {
    if let Some(tag) = text.strip_prefix("refs/tags/") {
        return (!tag.is_empty()).then(|| (Event::Tag(tag.to_owned()), None));
    }
    if let Some(rest) = text.strip_prefix("refs/pull/") {
        let number = rest.split('/').next().and_then(parse_number);
        let is_fork = false;
        return Some((Event::Pull { number, is_fork }, None));
    }
    let branch = text.strip_prefix("refs/heads/").filter(|b| !b.is_empty())?;
    if let Some(base) = queue_base(branch) {
        return Some((Event::Queue, Some(base)));
    }
    Some((Event::Branch(branch.to_owned()), None))
}

/// Returns the branch that a branch of GitHub's merge queue is for.
/// <https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue>
pub(super) fn queue_base(branch: &str) -> Option<String> {
    let rest = branch.strip_prefix("gh-readonly-queue/")?;
    let base = rest.rsplit_once("/pr-").map_or(rest, |(base, _)| base);
    Some(base.to_owned())
}
