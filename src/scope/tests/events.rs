//! Builds that are not of a push: pull requests whose number nobody tells, schedules, and runs by hand, for each CI.

#![allow(
    clippy::too_many_lines,
    reason = "a table has as many lines as it has cases"
)]

use super::*;

/// What a CI says, and what is read and written by that.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a str);

fn check(rows: &[Row<'_>]) {
    for (vars, expected) in rows {
        let facts = facts_of(vars, None);
        // What is checked out never stands for what the CI does not tell.
        let git = GitFacts {
            branch: Some("checked-out".into()),
            default: Some("main".into()),
            ..GitFacts::default()
        };
        let text = line_of(&facts, &git, &Wishes::default());
        assert_eq!(text, *expected, "{vars:?}");
    }
}

#[test]
fn a_pull_request_without_a_number_is_never_a_branch() {
    let into_next = "a pull request → reads b-next, b-main; \
        writes nothing (its number is not known, and CACHEX_PR is not set)";
    let nowhere = "a pull request → reads b-main; \
        writes nothing (its number is not known, and CACHEX_PR is not set)";
    check(&[
        (
            &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request_target"),
                ("GITHUB_REF", "refs/heads/next"),
                ("GITHUB_BASE_REF", "next"),
            ],
            into_next,
        ),
        (
            &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_REF", "refs/pull/x/merge"),
            ],
            nowhere,
        ),
        (
            &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "merge_request_event"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "next"),
                ("CI_COMMIT_BRANCH", "fix"),
            ],
            into_next,
        ),
        (
            &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "external_pull_request_event"),
                ("CI_COMMIT_BRANCH", "fix"),
            ],
            nowhere,
        ),
        (
            &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "fix"),
                ("BUILDKITE_PULL_REQUEST", "true"),
                ("BUILDKITE_PULL_REQUEST_BASE_BRANCH", "next"),
            ],
            into_next,
        ),
        (
            &[
                ("CIRCLECI", "true"),
                ("CIRCLE_BRANCH", "fix"),
                ("CIRCLE_PULL_REQUEST", "https://github.com/acme/app/pull/"),
            ],
            nowhere,
        ),
        (
            &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "PullRequest"),
                ("BUILD_SOURCEBRANCH", "refs/heads/fix"),
                ("SYSTEM_PULLREQUEST_TARGETBRANCH", "refs/heads/next"),
            ],
            into_next,
        ),
        (
            &[
                ("TF_BUILD", "True"),
                ("BUILD_SOURCEBRANCH", "refs/pull/x/merge"),
            ],
            nowhere,
        ),
        (
            &[
                ("BITBUCKET_BUILD_NUMBER", "5"),
                ("BITBUCKET_BRANCH", "fix"),
                ("BITBUCKET_PR_DESTINATION_BRANCH", "next"),
            ],
            into_next,
        ),
        (
            &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "pull_request"),
                ("CI_COMMIT_BRANCH", "next"),
                ("CI_COMMIT_TARGET_BRANCH", "next"),
            ],
            into_next,
        ),
        (
            &[
                ("DRONE", "true"),
                ("DRONE_BUILD_EVENT", "pull_request"),
                ("DRONE_BRANCH", "next"),
                ("DRONE_TARGET_BRANCH", "next"),
            ],
            into_next,
        ),
        (
            &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("BRANCH_NAME", "fix"),
                ("CHANGE_TARGET", "next"),
            ],
            into_next,
        ),
    ]);
}

#[test]
fn a_pull_request_without_a_number_has_no_scope_to_be_asked_for() {
    let vars = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "merge_request_event"),
    ];
    let facts = facts_of(&vars, None);
    let of = |wishes| line_of(&facts, &GitFacts::default(), &wishes);
    let always = Wishes {
        write: Write::Always,
        ..Wishes::default()
    };
    let reads = "a pull request → reads b-main, b-master, b-trunk";
    assert_eq!(
        of(always),
        format!("{reads}; writes nothing (it has no scope of its own; scope= names one)")
    );
    let own = [
        ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "3"),
        ("CI_PROJECT_ID", "3"),
        ("CACHEX_PR", "12"),
    ];
    let number = [&vars[..], &own].concat();
    let facts = facts_of(&number, None);
    let text = line_of(&facts, &GitFacts::default(), &Wishes::default());
    assert!(text.ends_with("writes pr-12"), "{text}");
}

#[test]
fn jenkins_names_the_jobs_of_pull_requests() {
    let of = |branch: &str| {
        let vars = [
            ("JENKINS_URL", "https://ci.example.com/"),
            ("BRANCH_NAME", branch),
        ];
        line_of(
            &facts_of(&vars, None),
            &GitFacts::default(),
            &Wishes::default(),
        )
    };
    let reads = "b-main, b-master, b-trunk";
    for branch in ["PR-24", "PR-24-merge", "PR-24-head", "MR-24"] {
        // The variable that tells of a fork is missing, too.
        let expected = format!(
            "pull request 24 → reads pr-24, {reads}; \
             writes nothing (nothing tells whether it is a fork's; write=true does)"
        );
        assert_eq!(of(branch), expected, "{branch}");
    }
    for branch in ["PR-", "PR-x", "PR-24-hotfix", "pr-24", "XPR-24"] {
        let text = of(branch);
        assert!(text.starts_with(&format!("branch {branch} → ")), "{text}");
    }
}

#[test]
fn a_schedule_writes_the_default_branch_alone() {
    let main = "schedule of main → reads and writes b-main";
    let other = "schedule of next → reads b-next, b-main; \
        writes nothing (a schedule of another branch; write=true does)";
    let vendors: [&[(&str, &str)]; 6] = [
        &[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "schedule"),
        ],
        &[("GITLAB_CI", "true"), ("CI_PIPELINE_SOURCE", "schedule")],
        &[("BUILDKITE", "true"), ("BUILDKITE_SOURCE", "schedule")],
        &[("TF_BUILD", "True"), ("BUILD_REASON", "Schedule")],
        &[("CI", "woodpecker"), ("CI_PIPELINE_EVENT", "cron")],
        &[("DRONE", "true"), ("DRONE_BUILD_EVENT", "cron")],
    ];
    let branch = [
        "GITHUB_REF",
        "CI_COMMIT_BRANCH",
        "BUILDKITE_BRANCH",
        "BUILD_SOURCEBRANCH",
        "CI_COMMIT_BRANCH",
        "DRONE_BRANCH",
    ];
    for (vendor, branch) in vendors.into_iter().zip(branch) {
        for (value, expected) in [("refs/heads/main", main), ("refs/heads/next", other)] {
            check(&[(&[vendor, &[(branch, value)]].concat(), expected)]);
        }
    }
    let facts = Facts {
        ci: Some("GitLab CI"),
        event: Event::Schedule("next".into()),
        default: Some("main".into()),
        ..Facts::default()
    };
    let always = Wishes {
        write: Write::Always,
        ..Wishes::default()
    };
    assert_eq!(
        line_of(&facts, &GitFacts::default(), &always),
        "schedule of next → reads b-next, b-main; writes b-next"
    );
    let default = Wishes {
        default: Some("next".into()),
        ..Wishes::default()
    };
    assert_eq!(
        line_of(&facts, &GitFacts::default(), &default),
        "schedule of next → reads and writes b-next"
    );
    // Where nobody says which branch is the default one, its name does.
    let unknown = Facts {
        default: None,
        event: Event::Schedule("master".into()),
        ..facts
    };
    assert_eq!(
        line_of(&unknown, &GitFacts::default(), &Wishes::default()),
        "schedule of master → reads and writes b-master"
    );
}

#[test]
fn runs_by_hand_are_of_their_branch_or_tag() {
    let fix = "branch fix → reads b-fix, b-main; writes b-fix";
    let tag = "tag v1 → reads b-main; writes nothing";
    check(&[
        (
            &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "workflow_dispatch"),
                ("GITHUB_REF", "refs/tags/v1"),
            ],
            tag,
        ),
        (
            &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "web"),
                ("CI_COMMIT_BRANCH", "fix"),
            ],
            fix,
        ),
        (
            &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_SOURCE", "ui"),
                ("BUILDKITE_BRANCH", "fix"),
                ("BUILDKITE_PULL_REQUEST", "false"),
            ],
            fix,
        ),
        (
            &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "Manual"),
                ("BUILD_SOURCEBRANCH", "refs/heads/fix"),
            ],
            fix,
        ),
        (
            &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "Manual"),
                ("BUILD_SOURCEBRANCH", "refs/pull/17/merge"),
            ],
            "pull request 17 → reads pr-17, b-main; \
                writes nothing (nothing tells whether it is a fork's; write=true does)",
        ),
        (
            &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "manual"),
                ("CI_COMMIT_BRANCH", "fix"),
            ],
            fix,
        ),
        (
            &[
                ("DRONE", "true"),
                ("DRONE_BUILD_EVENT", "promote"),
                ("DRONE_BRANCH", "fix"),
            ],
            fix,
        ),
    ]);
}
