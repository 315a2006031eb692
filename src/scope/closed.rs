//! Scopes of branches and pull requests that are no more, by what `git ls-remote` says of the repository.
//!
//! Branches are there or not. Of pull requests the hosts show different things: GitHub and Azure keep `refs/pull/N/head` for
//! good and `refs/pull/N/merge` while it is open and can be merged; GitLab removes all of `refs/merge-requests/N`
//! two weeks after the end (GitLab 16.6); Gitea keeps them all. So where no merge is shown nothing is concluded.

use std::collections::HashSet;

use super::slug;

/// What a remote has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// Scopes of its branches.
    branches: HashSet<String>,
    /// Pull requests of which it has anything.
    pulls: HashSet<String>,
    /// Those of which it shows how they would be merged.
    merges: HashSet<String>,
    /// Merge requests of GitLab.
    requests: HashSet<String>,
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
            let Some((_, name)) = line.split_once('\t') else {
                continue;
            };
            if let Some(branch) = name.strip_prefix("refs/heads/") {
                remote.branches.insert(slug::branch(branch));
            } else if let Some((number, part)) = pull(name, "refs/pull/") {
                remote.pulls.insert(slug::pull(number));
                if part == "merge" {
                    remote.merges.insert(slug::pull(number));
                }
            } else if let Some((number, _)) = pull(name, "refs/merge-requests/") {
                remote.requests.insert(slug::pull(number));
            }
        }
        (!remote.branches.is_empty()).then_some(remote)
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
        if self.merges.contains(scope) || self.requests.contains(scope) {
            return Standing::Open;
        }
        let shows_open = !self.merges.is_empty() && self.pulls.contains(scope);
        if shows_open || !self.requests.is_empty() {
            return Standing::Closed("the pull request is closed");
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
        let line = |name: &&str| format!("{}\t{name}\n", "0".repeat(40));
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
