//! The other CIs, and what a user says instead.

#![allow(
    clippy::too_many_lines,
    reason = "a table has as many lines as it has cases"
)]

use super::{Case, check, facts};

#[test]
fn buildkite() {
    check(&[
        Case {
            name: "default branch",
            vars: &[
                ("CI", "true"),
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "main"),
                ("BUILDKITE_PULL_REQUEST", "false"),
                ("BUILDKITE_PULL_REQUEST_BASE_BRANCH", ""),
                ("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "main"),
                ("BUILDKITE_TAG", ""),
            ],
            event: None,
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "branch with a slash",
            vars: &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "feature/login"),
                ("BUILDKITE_PULL_REQUEST", "false"),
                ("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "branch feature/login → reads b-feature-login-df7c7aeb, b-main; writes b-feature-login-df7c7aeb",
        },
        Case {
            name: "pull request; its repository has another form",
            vars: &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "fix"),
                ("BUILDKITE_PULL_REQUEST", "123"),
                ("BUILDKITE_PULL_REQUEST_BASE_BRANCH", "main"),
                (
                    "BUILDKITE_PULL_REQUEST_REPO",
                    "git://github.com/acme/app.git",
                ),
                ("BUILDKITE_REPO", "git@github.com:acme/app.git"),
                ("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 123 → reads pr-123, b-main; writes pr-123",
        },
        Case {
            name: "pull request of a fork",
            vars: &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "someone:main"),
                ("BUILDKITE_PULL_REQUEST", "7"),
                ("BUILDKITE_PULL_REQUEST_BASE_BRANCH", "main"),
                (
                    "BUILDKITE_PULL_REQUEST_REPO",
                    "git://github.com/someone/app.git",
                ),
                ("BUILDKITE_REPO", "git@github.com:acme/app.git"),
            ],
            event: None,
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "merge queue",
            vars: &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "gh-readonly-queue/main/pr-42-deadbeef"),
                ("BUILDKITE_MERGE_QUEUE_BASE_BRANCH", "main"),
                ("BUILDKITE_PULL_REQUEST", "false"),
                ("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "merge queue of main → reads b-main; writes nothing",
        },
        Case {
            name: "tag",
            vars: &[
                ("BUILDKITE", "true"),
                ("BUILDKITE_BRANCH", "v1.4"),
                ("BUILDKITE_TAG", "v1.4"),
                ("BUILDKITE_PULL_REQUEST", "false"),
                ("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "tag v1.4 → reads b-main; writes nothing",
        },
    ]);
}

#[test]
fn circleci() {
    check(&[
        Case {
            name: "branch; the default is not told",
            vars: &[
                ("CI", "true"),
                ("CIRCLECI", "true"),
                ("CIRCLE_BRANCH", "fix"),
            ],
            event: None,
            line: "branch fix → reads b-fix, b-main, b-master, b-trunk; writes b-fix",
        },
        Case {
            name: "main",
            vars: &[("CIRCLECI", "true"), ("CIRCLE_BRANCH", "main")],
            event: None,
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "pull request of the same repository",
            vars: &[
                ("CIRCLECI", "true"),
                ("CIRCLE_BRANCH", "fix"),
                (
                    "CIRCLE_PULL_REQUEST",
                    "https://github.com/acme/app/pull/123",
                ),
            ],
            event: None,
            line: "pull request 123 → reads pr-123, b-main, b-master, b-trunk; writes pr-123",
        },
        Case {
            name: "pull request of a fork",
            vars: &[
                ("CIRCLECI", "true"),
                ("CIRCLE_BRANCH", "pull/7"),
                ("CIRCLE_PULL_REQUEST", "https://github.com/acme/app/pull/7"),
                ("CIRCLE_PR_NUMBER", "7"),
                ("CIRCLE_PR_USERNAME", "someone"),
            ],
            event: None,
            line: "pull request 7 of a fork → reads b-main, b-master, b-trunk; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "pull request without a number",
            vars: &[
                ("CIRCLECI", "true"),
                ("CIRCLE_BRANCH", "fix"),
                ("CIRCLE_PULL_REQUEST", "https://github.com/acme/app/pull/x"),
            ],
            event: None,
            line: "a pull request → reads b-main, b-master, b-trunk; writes nothing (its number is not known, and CACHEX_PR is not set)",
        },
        Case {
            name: "tag",
            vars: &[("CIRCLECI", "true"), ("CIRCLE_TAG", "v1.4")],
            event: None,
            line: "tag v1.4 → reads b-main, b-master, b-trunk; writes nothing",
        },
    ]);
}

#[test]
fn jenkins() {
    check(&[
        Case {
            name: "primary branch",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("BRANCH_NAME", "develop"),
                ("BRANCH_IS_PRIMARY", "true"),
            ],
            event: None,
            line: "branch develop → reads and writes b-develop",
        },
        Case {
            name: "branch",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("BRANCH_NAME", "fix"),
            ],
            event: None,
            line: "branch fix → reads b-fix, b-main, b-master, b-trunk; writes b-fix",
        },
        Case {
            name: "pull request",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("BRANCH_NAME", "PR-24"),
                ("CHANGE_ID", "24"),
                ("CHANGE_TARGET", "main"),
                ("CHANGE_BRANCH", "fix"),
            ],
            event: None,
            line: "pull request 24 → reads pr-24, b-main; writes pr-24",
        },
        Case {
            name: "pull request of a fork",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("BRANCH_NAME", "PR-7"),
                ("CHANGE_ID", "7"),
                ("CHANGE_TARGET", "main"),
                ("CHANGE_FORK", "someone"),
            ],
            event: None,
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "tag",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("BRANCH_NAME", "v1.4"),
                ("TAG_NAME", "v1.4"),
            ],
            event: None,
            line: "tag v1.4 → reads b-main, b-master, b-trunk; writes nothing",
        },
        Case {
            name: "no multibranch project",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("GIT_BRANCH", "origin/main"),
            ],
            event: None,
            line: "a commit in Jenkins → reads b-main, b-master, b-trunk; writes nothing (CACHEX_BRANCH is not set)",
        },
    ]);
}

#[test]
fn azure() {
    check(&[
        Case {
            name: "branch with a slash",
            vars: &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "IndividualCI"),
                ("BUILD_SOURCEBRANCH", "refs/heads/feature/login"),
                ("BUILD_SOURCEBRANCHNAME", "login"),
            ],
            event: None,
            line: "branch feature/login → reads b-feature-login-df7c7aeb, b-main, b-master, b-trunk; writes b-feature-login-df7c7aeb",
        },
        Case {
            name: "pull request of Azure Repos",
            vars: &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "PullRequest"),
                ("BUILD_SOURCEBRANCH", "refs/pull/17/merge"),
                ("SYSTEM_PULLREQUEST_PULLREQUESTID", "17"),
                ("SYSTEM_PULLREQUEST_TARGETBRANCH", "refs/heads/main"),
                ("SYSTEM_PULLREQUEST_ISFORK", "False"),
            ],
            event: None,
            line: "pull request 17 → reads pr-17, b-main; writes pr-17",
        },
        Case {
            name: "pull request of GitHub, whose number is not its identifier",
            vars: &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "PullRequest"),
                ("BUILD_SOURCEBRANCH", "refs/pull/524/merge"),
                ("SYSTEM_PULLREQUEST_PULLREQUESTID", "512000"),
                ("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "524"),
                ("SYSTEM_PULLREQUEST_TARGETBRANCH", "main"),
                ("SYSTEM_PULLREQUEST_ISFORK", "False"),
            ],
            event: None,
            line: "pull request 524 → reads pr-524, b-main; writes pr-524",
        },
        Case {
            name: "pull request of a fork",
            vars: &[
                ("TF_BUILD", "True"),
                ("BUILD_REASON", "PullRequest"),
                ("BUILD_SOURCEBRANCH", "refs/pull/7/merge"),
                ("SYSTEM_PULLREQUEST_TARGETBRANCH", "main"),
                ("SYSTEM_PULLREQUEST_ISFORK", "True"),
            ],
            event: None,
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "tag",
            vars: &[
                ("TF_BUILD", "True"),
                ("BUILD_SOURCEBRANCH", "refs/tags/v1.4"),
            ],
            event: None,
            line: "tag v1.4 → reads b-main, b-master, b-trunk; writes nothing",
        },
    ]);
}

#[test]
fn bitbucket() {
    check(&[
        Case {
            name: "branch",
            vars: &[
                ("CI", "true"),
                ("BITBUCKET_BUILD_NUMBER", "5"),
                ("BITBUCKET_BRANCH", "main"),
            ],
            event: None,
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "pull request",
            vars: &[
                ("BITBUCKET_BUILD_NUMBER", "5"),
                ("BITBUCKET_BRANCH", "fix"),
                ("BITBUCKET_PR_ID", "12"),
                ("BITBUCKET_PR_DESTINATION_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 12 → reads pr-12, b-main; writes pr-12",
        },
        Case {
            name: "tag",
            vars: &[("BITBUCKET_BUILD_NUMBER", "5"), ("BITBUCKET_TAG", "v1.4")],
            event: None,
            line: "tag v1.4 → reads b-main, b-master, b-trunk; writes nothing",
        },
    ]);
}

#[test]
fn woodpecker() {
    check(&[
        Case {
            name: "push",
            vars: &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "push"),
                ("CI_COMMIT_BRANCH", "fix"),
                ("CI_REPO_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "branch fix → reads b-fix, b-main; writes b-fix",
        },
        Case {
            name: "pull request, whose branch is the base",
            vars: &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "pull_request"),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_COMMIT_SOURCE_BRANCH", "fix"),
                ("CI_COMMIT_TARGET_BRANCH", "main"),
                ("CI_COMMIT_PULL_REQUEST", "12"),
                ("CI_REPO_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 12 → reads pr-12, b-main; writes pr-12",
        },
        Case {
            name: "pull request without a number is not its base",
            vars: &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "pull_request"),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_REPO_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "a pull request → reads b-main; writes nothing (its number is not known, and CACHEX_PR is not set)",
        },
        Case {
            name: "tag",
            vars: &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "tag"),
                ("CI_COMMIT_TAG", "v1.4"),
                ("CI_REPO_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "tag v1.4 → reads b-main; writes nothing",
        },
        Case {
            name: "cron",
            vars: &[
                ("CI", "woodpecker"),
                ("CI_PIPELINE_EVENT", "cron"),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_REPO_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "schedule of main → reads and writes b-main",
        },
    ]);
}

#[test]
fn drone() {
    check(&[
        Case {
            name: "push",
            vars: &[
                ("CI", "true"),
                ("DRONE", "true"),
                ("DRONE_BUILD_EVENT", "push"),
                ("DRONE_BRANCH", "feature/login"),
                ("DRONE_REPO_BRANCH", "main"),
            ],
            event: None,
            line: "branch feature/login → reads b-feature-login-df7c7aeb, b-main; writes b-feature-login-df7c7aeb",
        },
        Case {
            name: "pull request, whose branch is the base",
            vars: &[
                ("DRONE", "true"),
                ("DRONE_BUILD_EVENT", "pull_request"),
                ("DRONE_BRANCH", "main"),
                ("DRONE_SOURCE_BRANCH", "fix"),
                ("DRONE_TARGET_BRANCH", "main"),
                ("DRONE_PULL_REQUEST", "42"),
                ("DRONE_REPO_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 42 → reads pr-42, b-main; writes pr-42",
        },
        Case {
            name: "tag",
            vars: &[
                ("DRONE", "true"),
                ("DRONE_BUILD_EVENT", "tag"),
                ("DRONE_TAG", "v1.4"),
                ("DRONE_REPO_BRANCH", "main"),
            ],
            event: None,
            line: "tag v1.4 → reads b-main; writes nothing",
        },
    ]);
}

#[test]
fn what_the_user_says_wins() {
    check(&[
        Case {
            name: "a branch where nothing is known",
            vars: &[("CACHEX_BRANCH", "main")],
            event: None,
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "a pull request in a container of a job",
            vars: &[
                ("CACHEX_PR", "12"),
                ("CACHEX_BASE", "stable"),
                ("CACHEX_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 12 → reads pr-12, b-stable, b-main; writes pr-12",
        },
        Case {
            name: "a tag",
            vars: &[
                ("CACHEX_TAG", "refs/tags/v1"),
                ("CACHEX_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "tag v1 → reads b-main; writes nothing",
        },
        Case {
            name: "another branch than the CI says",
            vars: &[
                ("CIRCLECI", "true"),
                ("CIRCLE_BRANCH", "fix"),
                ("CACHEX_BRANCH", "refs/heads/other"),
                ("CACHEX_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "branch other → reads b-other, b-main; writes b-other",
        },
        Case {
            name: "the base alone",
            vars: &[
                ("CIRCLECI", "true"),
                ("CIRCLE_PULL_REQUEST", "https://github.com/acme/app/pull/12"),
                ("CACHEX_BASE", "main"),
            ],
            event: None,
            line: "pull request 12 → reads pr-12, b-main; writes pr-12",
        },
        Case {
            name: "no pull request, as Buildkite says it",
            vars: &[
                ("DRONE", "true"),
                ("DRONE_BRANCH", "main"),
                ("CACHEX_PR", "false"),
            ],
            event: None,
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "a fork's pull request stays one",
            vars: &[
                ("JENKINS_URL", "https://ci.example.com/"),
                ("CHANGE_ID", "7"),
                ("CHANGE_FORK", "someone"),
                ("CACHEX_PR", "8"),
                ("CACHEX_BASE", "main"),
            ],
            event: None,
            line: "pull request 8 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "a CI that says nothing",
            vars: &[("CI", "true")],
            event: None,
            line: "a commit in CI → reads b-main, b-master, b-trunk; writes nothing (CACHEX_BRANCH is not set)",
        },
        Case {
            name: "no CI",
            vars: &[("CI", "false")],
            event: None,
            line: "a commit on this machine → reads b-main, b-master, b-trunk; writes nothing (not in CI; write=true does)",
        },
    ]);
}

#[test]
fn what_the_user_says_and_makes_no_sense_is_an_error() {
    for (name, value, expected) in [
        ("CACHEX_PR", "12/merge", "the number of a pull request"),
        ("CACHEX_PR", "0", "the number of a pull request"),
        ("CACHEX_PR", "none", "the number of a pull request"),
        ("CACHEX_BRANCH", "refs/tags/v1", "the name of a branch"),
        ("CACHEX_BASE", "refs/pull/1/merge", "the name of a branch"),
        (
            "CACHEX_DEFAULT_BRANCH",
            "refs/heads/",
            "the name of a branch",
        ),
        ("CACHEX_TAG", "refs/heads/main", "the name of a tag"),
    ] {
        let get = |asked: &str| match asked {
            "CI" => Some("true".to_owned()),
            asked => (asked == name).then(|| value.to_owned()),
        };
        let error = facts(&get, None).unwrap_err().to_string();
        assert_eq!(error, format!("{name}={value:?} is not {expected}"));
    }
}
