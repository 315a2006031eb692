//! Scopes of branches and pull requests that are no more, by what `git ls-remote` says of the repository.
//!
//! Branches are there or not. Of pull requests the hosts show different things: GitHub and Azure keep `refs/pull/N/head` for
//! good and `refs/pull/N/merge` while it is open and can be merged; GitLab removes all of `refs/merge-requests/N`
//! two weeks after the end (GitLab 16.6); Gitea keeps them all. So where no merge is shown nothing is concluded, and
//! neither of one whose last commit is that of a branch: it may be open and in conflict with its base. What the host says
//! over its API is certain.

use std::collections::{HashMap, HashSet};

use super::slug;

/// What a remote has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// Scopes of its branches.
    branches: HashSet<String>,
    /// The last commits of its branches.
    tips: HashSet<String>,
    /// Pull requests of which it has anything, with the last commit of each where it is shown.
    pulls: HashMap<String, String>,
    /// Those of which it shows how they would be merged.
    merges: HashSet<String>,
    /// Merge requests of GitLab.
    requests: HashSet<String>,
    /// Those that are open, where the host says so.
    open: Option<HashSet<String>>,
}

/// What a remote says of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is still built, or no scope of a branch or a pull request.
    Open,
    /// It is not: for this reason.
    Closed(&'static str),
    /// The remote does not tell.
    Unknown,
}

impl Remote {
    /// Reads what `git ls-remote` writes; `None` if there is no branch, which is that of no repository in use.
    pub fn parse(text: &str) -> Option<Self> {
        let mut remote = Self::default();
        for line in text.lines() {
            let Some((commit, name)) = line.split_once('\t') else {
                continue;
            };
            if let Some(branch) = name.strip_prefix("refs/heads/") {
                remote.branches.insert(slug::branch(branch));
                remote.tips.insert(commit.to_owned());
            } else if let Some((number, part)) = pull(name, "refs/pull/") {
                let known = remote.pulls.entry(slug::pull(number)).or_default();
                match part {
                    "head" => commit.clone_into(known),
                    "merge" => drop(remote.merges.insert(slug::pull(number))),
                    _ => {}
                }
            } else if let Some((number, _)) = pull(name, "refs/merge-requests/") {
                remote.requests.insert(slug::pull(number));
            }
        }
        (!remote.branches.is_empty()).then_some(remote)
    }

    /// Notes the numbers of all pull requests that are open, as the host tells them.
    pub fn tell_open(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.open = Some(numbers.into_iter().map(slug::pull).collect());
    }

    /// Returns what the remote says of a scope.
    pub fn standing(&self, scope: &str) -> Standing {
        match slug::kind(scope) {
            Some(slug::Kind::Branch) if !self.branches.contains(scope) => {
                Standing::Closed("the branch is gone")
            }
            Some(slug::Kind::Pull) => self.pull(scope),
            _ => Standing::Open,
        }
    }

    fn pull(&self, scope: &str) -> Standing {
        const CLOSED: Standing = Standing::Closed("the pull request is closed");
        let head = self.pulls.get(scope);
        if let Some(open) = &self.open {
            return match head {
                _ if open.contains(scope) => Standing::Open,
                Some(_) => CLOSED,
                // The cache may be that of several repositories.
                None => Standing::Unknown,
            };
        }
        if self.merges.contains(scope) || self.requests.contains(scope) {
            return Standing::Open;
        }
        let is_shown = head.is_some_and(|head| !self.tips.contains(head));
        if (!self.merges.is_empty() && is_shown) || !self.requests.is_empty() {
            return CLOSED;
        }
        Standing::Unknown
    }
}

/// Returns number and part of the reference of a pull request.
fn pull<'a>(name: &'a str, prefix: &str) -> Option<(u64, &'a str)> {
    let (number, part) = name.strip_prefix(prefix)?.split_once('/')?;
    Some((number.parse().ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(names: &[&str]) -> Option<Remote> {
        // Each has a commit of its own but for the names with the same number behind `@`.
        let line = |name: &&str| match name.split_once('@') {
            Some((name, commit)) => format!("{commit}\t{name}\n"),
            None => format!("of {name}\t{name}\n"),
        };
        Remote::parse(&names.iter().map(line).collect::<String>())
    }

    const CLOSED: Standing = Standing::Closed("the pull request is closed");

    #[test]
    fn a_branch_is_there_or_gone() {
        let remote = remote(&["HEAD", "refs/heads/main", "refs/heads/feature/login"]).unwrap();
        let gone = Standing::Closed("the branch is gone");
        for (scope, standing) in [
            ("b-main", Standing::Open),
            ("b-feature-login-df7c7aeb", Standing::Open),
            ("b-feature-login", gone),
            ("b-old", gone),
            ("s-front", Standing::Open),
            ("latest", Standing::Open),
            ("pr-1", Standing::Unknown),
        ] {
            assert_eq!(remote.standing(scope), standing, "{scope}");
        }
    }

    #[test]
    fn a_pull_request_is_closed_where_the_host_shows_which_are_open() {
        let github = [
            "refs/heads/main",
            "refs/pull/1/head",
            "refs/pull/2/head",
            "refs/pull/2/merge",
        ];
        let of = |names: &[&str], scope| remote(names).unwrap().standing(scope);
        assert_eq!(of(&github, "pr-1"), CLOSED);
        assert_eq!(of(&github, "pr-2"), Standing::Open);
        assert_eq!(
            of(&github, "pr-3"),
            Standing::Unknown,
            "of another repository"
        );
        assert_eq!(
            of(&github[..3], "pr-1"),
            Standing::Unknown,
            "no merge is shown"
        );
        let gitlab = ["refs/heads/main", "refs/merge-requests/5/head"];
        assert_eq!(of(&gitlab, "pr-5"), Standing::Open);
        assert_eq!(of(&gitlab, "pr-4"), CLOSED);
    }

    #[test]
    fn a_pull_request_in_conflict_is_not_closed() {
        let names = [
            "refs/heads/main@a",
            "refs/heads/fix@b",
            "refs/pull/1/head@b",
            "refs/pull/2/head@c",
            "refs/pull/3/head@d",
            "refs/pull/3/merge@e",
        ];
        let remote = remote(&names).unwrap();
        assert_eq!(
            remote.standing("pr-1"),
            Standing::Unknown,
            "its branch is there"
        );
        assert_eq!(remote.standing("pr-2"), CLOSED);
        assert_eq!(remote.standing("pr-3"), Standing::Open);
    }

    #[test]
    fn what_the_host_says_is_certain() {
        let names = [
            "refs/heads/main@a",
            "refs/pull/1/head@a",
            "refs/pull/2/head@c",
            "refs/pull/3/merge@e",
        ];
        let mut remote = remote(&names).unwrap();
        remote.tell_open([2]);
        assert_eq!(remote.standing("pr-1"), CLOSED);
        assert_eq!(remote.standing("pr-2"), Standing::Open);
        assert_eq!(remote.standing("pr-3"), CLOSED);
        assert_eq!(
            remote.standing("pr-4"),
            Standing::Unknown,
            "of another repository"
        );
        assert_eq!(remote.standing("b-main"), Standing::Open);
    }

    #[test]
    fn what_is_no_repository_says_nothing() {
        for text in [
            "",
            "fatal: x",
            "0000\trefs/tags/v1",
            "\t",
            "x\trefs/pull/a/head",
        ] {
            assert_eq!(Remote::parse(text), None, "{text}");
        }
        assert!(remote(&["refs/heads/main", "refs/pull/x/merge", "refs/pull/1"]).is_some());
    }
}
