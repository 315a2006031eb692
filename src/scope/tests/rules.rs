//! What git says, and what the user wants otherwise.

use super::*;

fn text(facts: &Facts, git: &GitFacts, wishes: &Wishes) -> String {
    line_of(facts, git, wishes)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is for fields that may be empty"
)]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn git(branch: &str) -> GitFacts {
    GitFacts {
        branch: some(branch),
        default: some("main"),
        ..GitFacts::default()
    }
}

fn pull(is_fork: bool) -> Facts {
    Facts {
        ci: Some("GitHub Actions"),
        event: Event::Pull {
            number: Some(7),
            is_fork,
        },
        base: some("stable"),
        default: some("main"),
        ..Facts::default()
    }
}

fn write(write: Write) -> Wishes {
    Wishes {
        write,
        ..Wishes::default()
    }
}

#[test]
fn outside_of_a_ci_git_says_what_is_read_and_only_the_user_has_it_written() {
    let none = Facts::default();
    assert_eq!(
        text(&none, &git("feature/login"), &Wishes::default()),
        "feature/login on this machine → reads b-feature-login-df7c7aeb, b-main; writes nothing (not in CI; write=true does)"
    );
    assert_eq!(
        text(&none, &git("fix"), &write(Write::Always)),
        "fix on this machine → reads b-fix, b-main; writes b-fix"
    );
    let on_release = GitFacts {
        upstream: some("feature/2"),
        nearest: some("release"),
        ..git("fix")
    };
    assert_eq!(
        text(&none, &on_release, &write(Write::Always)),
        "fix on this machine → reads b-fix, b-feature-2-bffd1e41, b-release, b-main; writes b-fix"
    );
    let detached = GitFacts {
        branch: None,
        upstream: None,
        ..on_release
    };
    assert_eq!(
        text(&none, &detached, &Wishes::default()),
        "a commit on this machine → reads b-release, b-main; writes nothing (not in CI; write=true does)"
    );
    let nothing = GitFacts::default();
    assert_eq!(
        text(&none, &nothing, &write(Write::Always)),
        "a commit on this machine → reads b-main, b-master, b-trunk; writes nothing (it has no scope of its own; scope= names one)"
    );
    let unknown = Facts {
        ci: Some("CI"),
        ..Facts::default()
    };
    assert_eq!(
        text(&unknown, &git("fix"), &Wishes::default()),
        "fix in CI → reads b-fix, b-main; writes nothing (CACHEX_BRANCH is not set)"
    );
}

#[test]
fn the_user_may_write_more_and_less() {
    let nothing = GitFacts::default();
    assert_eq!(
        text(&pull(false), &nothing, &write(Write::Never)),
        "pull request 7 → reads pr-7, b-stable, b-main; writes nothing (write=false)"
    );
    assert_eq!(
        text(&pull(true), &nothing, &write(Write::Always)),
        "pull request 7 of a fork → reads pr-7, b-stable, b-main; writes pr-7"
    );
    let tag = Facts {
        event: Event::Tag("v1".into()),
        ..pull(false)
    };
    assert_eq!(
        text(&tag, &nothing, &write(Write::Always)),
        "tag v1 → reads b-stable, b-main; writes nothing (it has no scope of its own; scope= names one)"
    );
}

#[test]
fn a_named_scope_is_for_merged_code() {
    let nothing = GitFacts::default();
    let scope = |write| Wishes {
        scope: some("front"),
        write,
        ..Wishes::default()
    };
    let branch = Facts {
        event: Event::Branch("fix".into()),
        ..pull(false)
    };
    assert_eq!(
        text(&branch, &nothing, &scope(Write::Auto)),
        "branch fix → reads and writes s-front"
    );
    assert_eq!(
        text(&pull(false), &nothing, &scope(Write::Auto)),
        "pull request 7 → reads s-front; writes nothing (scope= is for all builds, and this code is not merged; write=true does)"
    );
    assert_eq!(
        text(&pull(false), &nothing, &scope(Write::Always)),
        "pull request 7 → reads and writes s-front"
    );
    assert_eq!(
        text(&branch, &nothing, &scope(Write::Never)),
        "branch fix → reads s-front; writes nothing (write=false)"
    );
    let tag = Facts {
        event: Event::Tag("v1".into()),
        ..pull(false)
    };
    assert_eq!(
        text(&tag, &nothing, &scope(Write::Auto)),
        "tag v1 → reads s-front; writes nothing"
    );
}

#[test]
fn more_scopes_are_read_after_the_own_one() {
    let wishes = Wishes {
        also: vec!["b-next".into(), "front".into(), "b-main".into()],
        base: some("next"),
        default: some("develop"),
        ..Wishes::default()
    };
    assert_eq!(
        text(&pull(false), &GitFacts::default(), &wishes),
        "pull request 7 → reads pr-7, s-front, b-main, b-next, b-develop; writes pr-7"
    );
}

#[test]
fn pull_requests_end_soon() {
    let of = |facts: &Facts| plan(facts, &GitFacts::default(), &Wishes::default());
    assert!(of(&pull(false)).is_pull);
    assert!(!of(&pull(true)).is_pull, "nothing of it is written");
    let branch = Facts {
        event: Event::Branch("fix".into()),
        ..pull(false)
    };
    assert!(!of(&branch).is_pull);
}

#[test]
fn what_scopes_hold_is_said() {
    let plan = plan(&pull(false), &GitFacts::default(), &Wishes::default());
    let held = [
        Held::Nothing,
        Held::Cache(some("2 hours old")),
        Held::Unknown,
    ];
    assert_eq!(
        line("ghcr.io/acme/app/cache", &plan, &held),
        "cache ghcr.io/acme/app/cache: pull request 7 → reads pr-7 (none yet), b-stable (2 hours old), b-main; writes pr-7"
    );
    let tag = Plan {
        what: "branch main".into(),
        reads: vec!["b-main".into()],
        writes: some("b-main"),
        why_not: None,
        is_pull: false,
    };
    assert_eq!(
        line("r", &tag, &[Held::Nothing]),
        "cache r: branch main → reads and writes b-main (none yet)"
    );
}
