//! GitHub, Gitea, Forgejo and GitLab.

#![allow(
    clippy::too_many_lines,
    reason = "a table has as many lines as it has cases"
)]

use super::{Case, check, facts_of};

const REPOSITORY: &str =
    r#"{"ref":"refs/heads/main","repository":{"full_name":"acme/app","default_branch":"main"}}"#;
const TRUNK: &str = r#"{"repository":{"full_name":"acme/app","default_branch":"develop"}}"#;
const PULL: &str = r#"{"action":"synchronize","number":123,"pull_request":{"number":123,"head":{"ref":"feature/login","repo":{"full_name":"acme/app","fork":false}},"base":{"ref":"release/2","repo":{"full_name":"acme/app"}}},"repository":{"full_name":"acme/app","default_branch":"main"}}"#;
const FORK: &str = r#"{"action":"opened","number":7,"pull_request":{"number":7,"head":{"ref":"main","repo":{"full_name":"someone/app","fork":true}},"base":{"ref":"main","repo":{"full_name":"acme/app"}}},"repository":{"full_name":"acme/app","default_branch":"main"}}"#;
const GONE: &str = r#"{"number":8,"pull_request":{"number":8,"head":{"ref":"x","repo":null},"base":{"ref":"main"}},"repository":{"full_name":"acme/app","default_branch":"main"}}"#;
const QUEUE: &str = r#"{"action":"checks_requested","merge_group":{"head_sha":"2ffea6db","head_ref":"refs/heads/gh-readonly-queue/release/2/pr-123-5b1e","base_ref":"refs/heads/release/2"},"repository":{"full_name":"acme/app","default_branch":"main"}}"#;

const PULL_VARS: &[(&str, &str)] = &[
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_EVENT_NAME", "pull_request"),
    ("GITHUB_REF", "refs/pull/7/merge"),
    ("GITHUB_BASE_REF", "main"),
];

#[test]
fn github() {
    check(&[
        Case {
            name: "push to the default branch",
            vars: &[
                ("CI", "true"),
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_REF_NAME", "main"),
                ("GITHUB_HEAD_REF", ""),
                ("GITHUB_BASE_REF", ""),
            ],
            event: Some(REPOSITORY),
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "push to a branch with a slash",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/feature/login"),
            ],
            event: Some(REPOSITORY),
            line: "branch feature/login → reads b-feature-login-df7c7aeb, b-main; writes b-feature-login-df7c7aeb",
        },
        Case {
            name: "another default branch",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/fix"),
            ],
            event: Some(TRUNK),
            line: "branch fix → reads b-fix, b-develop; writes b-fix",
        },
        Case {
            name: "no event file",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/fix"),
            ],
            event: None,
            line: "branch fix → reads b-fix, b-main, b-master, b-trunk; writes b-fix",
        },
        Case {
            name: "an event file that is none",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_REF", "refs/heads/master"),
            ],
            event: Some("{\"repository\":[]"),
            line: "branch master → reads and writes b-master",
        },
        Case {
            name: "pull request",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/123/merge"),
                ("GITHUB_REF_NAME", "123/merge"),
                ("GITHUB_HEAD_REF", "feature/login"),
                ("GITHUB_BASE_REF", "release/2"),
            ],
            event: Some(PULL),
            line: "pull request 123 → reads pr-123, b-release-2-ad9e2e38, b-main; writes pr-123",
        },
        Case {
            name: "pull request of a fork",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/7/merge"),
                ("GITHUB_HEAD_REF", "main"),
                ("GITHUB_BASE_REF", "main"),
            ],
            event: Some(FORK),
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "pull request of a fork that is gone",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/8/merge"),
                ("GITHUB_BASE_REF", "main"),
            ],
            event: Some(GONE),
            line: "pull request 8 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "pull_request_target runs on the base and is still a pull request",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request_target"),
                ("GITHUB_REF", "refs/heads/release/2"),
                ("GITHUB_HEAD_REF", "feature/login"),
                ("GITHUB_BASE_REF", "release/2"),
            ],
            event: Some(PULL),
            line: "pull request 123 → reads pr-123, b-release-2-ad9e2e38, b-main; writes pr-123",
        },
        Case {
            name: "pull_request_target of a fork: the code may be the fork's, whatever the token may",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request_target"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_HEAD_REF", "main"),
                ("GITHUB_BASE_REF", "main"),
            ],
            event: Some(FORK),
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "pull request without its event file, which alone tells of forks",
            vars: PULL_VARS,
            event: None,
            line: "pull request 7 → reads pr-7, b-main; writes nothing (the file of GITHUB_EVENT_PATH does not tell whether it is a fork's; write=true does)",
        },
        Case {
            name: "a pull request by its reference alone",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "workflow_dispatch"),
                ("GITHUB_REF", "refs/pull/7/merge"),
            ],
            event: Some(REPOSITORY),
            line: "pull request 7 → reads pr-7, b-main; writes nothing (the file of GITHUB_EVENT_PATH does not tell whether it is a fork's; write=true does)",
        },
        Case {
            name: "pull request whose event file is none",
            vars: PULL_VARS,
            event: Some("{\"pull_request\":{"),
            line: "pull request 7 → reads pr-7, b-main; writes nothing (the file of GITHUB_EVENT_PATH does not tell whether it is a fork's; write=true does)",
        },
        Case {
            name: "pull request whose event file does not say whose it is",
            vars: PULL_VARS,
            event: Some(
                r#"{"pull_request":{"number":7,"head":{"ref":"main"}},"repository":{"full_name":"acme/app","default_branch":"main"}}"#,
            ),
            line: "pull request 7 → reads pr-7, b-main; writes nothing (the file of GITHUB_EVENT_PATH does not tell whether it is a fork's; write=true does)",
        },
        Case {
            name: "pull_request_target without its event file is never a branch",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request_target"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_BASE_REF", "main"),
            ],
            event: None,
            line: "a pull request → reads b-main; writes nothing (its number is not known, and CACHEX_PR is not set)",
        },
        Case {
            name: "merge queue",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "merge_group"),
                (
                    "GITHUB_REF",
                    "refs/heads/gh-readonly-queue/release/2/pr-123-5b1e",
                ),
            ],
            event: Some(QUEUE),
            line: "merge queue of release/2 → reads b-release-2-ad9e2e38, b-main; writes nothing",
        },
        Case {
            name: "merge queue by its branch alone",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/gh-readonly-queue/main/pr-9-5b1e"),
            ],
            event: None,
            line: "merge queue of main → reads b-main; writes nothing",
        },
        Case {
            name: "tag",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/tags/v1.4"),
            ],
            event: Some(REPOSITORY),
            line: "tag v1.4 → reads b-main; writes nothing",
        },
        Case {
            name: "release",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "release"),
                ("GITHUB_REF", "refs/tags/v2"),
            ],
            event: Some(REPOSITORY),
            line: "tag v2 → reads b-main; writes nothing",
        },
        Case {
            name: "schedule",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "schedule"),
                ("GITHUB_REF", "refs/heads/main"),
            ],
            event: Some(REPOSITORY),
            line: "schedule of main → reads and writes b-main",
        },
        Case {
            name: "by hand on a branch",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "workflow_dispatch"),
                ("GITHUB_REF", "refs/heads/fix"),
            ],
            event: Some(REPOSITORY),
            line: "branch fix → reads b-fix, b-main; writes b-fix",
        },
        Case {
            name: "a comment on a pull request runs on the default branch",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "issue_comment"),
                ("GITHUB_REF", "refs/heads/main"),
            ],
            event: Some(REPOSITORY),
            line: "issue_comment → reads b-main; writes nothing (what is built need not be the branch's code)",
        },
        Case {
            name: "an event from elsewhere",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "repository_dispatch"),
                ("GITHUB_REF", "refs/heads/main"),
            ],
            event: Some(REPOSITORY),
            line: "repository_dispatch → reads b-main; writes nothing (what is built need not be the branch's code)",
        },
        Case {
            name: "a workflow after another one",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "workflow_run"),
                ("GITHUB_REF", "refs/heads/main"),
            ],
            event: Some(REPOSITORY),
            line: "workflow_run → reads b-main; writes nothing (what is built need not be the branch's code)",
        },
        Case {
            name: "a number that is none",
            vars: &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/x/merge"),
                ("GITHUB_BASE_REF", "main"),
            ],
            event: None,
            line: "a pull request → reads b-main; writes nothing (its number is not known, and CACHEX_PR is not set)",
        },
        Case {
            name: "Gitea: pull request",
            vars: &[
                ("GITEA_ACTIONS", "true"),
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/5/head"),
                ("GITHUB_HEAD_REF", "fix"),
                ("GITHUB_BASE_REF", "main"),
            ],
            event: Some(
                r#"{"action":"synchronized","number":5,"pull_request":{"number":5,"head":{"ref":"fix","repo_id":3,"repo":{"full_name":"acme/app"}},"base":{"ref":"main"}},"repository":{"full_name":"acme/app","default_branch":"main"}}"#,
            ),
            line: "pull request 5 → reads pr-5, b-main; writes pr-5",
        },
        Case {
            name: "Forgejo: push",
            vars: &[
                ("FORGEJO_ACTIONS", "true"),
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/main"),
            ],
            event: Some(REPOSITORY),
            line: "branch main → reads and writes b-main",
        },
    ]);
}

#[test]
fn gitlab() {
    check(&[
        Case {
            name: "default branch",
            vars: &[
                ("CI", "true"),
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "push"),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_COMMIT_REF_NAME", "main"),
                ("CI_DEFAULT_BRANCH", "main"),
                ("CI_PROJECT_ID", "34"),
            ],
            event: None,
            line: "branch main → reads and writes b-main",
        },
        Case {
            name: "branch with a slash",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_COMMIT_BRANCH", "feature/login"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "branch feature/login → reads b-feature-login-df7c7aeb, b-main; writes b-feature-login-df7c7aeb",
        },
        Case {
            name: "tag",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_COMMIT_TAG", "v1.4"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "tag v1.4 → reads b-main; writes nothing",
        },
        Case {
            name: "merge request",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "merge_request_event"),
                ("CI_MERGE_REQUEST_IID", "123"),
                ("CI_MERGE_REQUEST_ID", "99999"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "detached"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "stable"),
                ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "fix"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "34"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "34"),
                ("CI_PROJECT_ID", "34"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 123 → reads pr-123, b-stable, b-main; writes pr-123",
        },
        Case {
            name: "merged result",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_MERGE_REQUEST_IID", "4"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "merged_result"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "34"),
                ("CI_PROJECT_ID", "34"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 4 → reads pr-4, b-main; writes pr-4",
        },
        Case {
            name: "merge request of which nothing tells whose it is",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_MERGE_REQUEST_IID", "4"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 4 → reads pr-4, b-main; writes nothing (nothing tells whether it is a fork's; write=true does)",
        },
        Case {
            name: "merge request of a fork, in the fork's project",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "detached"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "77"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "34"),
                ("CI_PROJECT_ID", "77"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "merge request of a fork, in the parent project",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "77"),
                ("CI_PROJECT_ID", "34"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 7 of a fork → reads b-main; writes nothing (anybody may have written it; write=true does)",
        },
        Case {
            name: "merge train",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_MERGE_REQUEST_IID", "123"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "merge_train"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "stable"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "merge queue of stable → reads b-stable, b-main; writes nothing",
        },
        Case {
            name: "schedule",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "schedule"),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "schedule of main → reads and writes b-main",
        },
        Case {
            name: "pull request of GitHub",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_PIPELINE_SOURCE", "external_pull_request_event"),
                ("CI_EXTERNAL_PULL_REQUEST_IID", "12"),
                ("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "acme/app"),
                ("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY", "acme/app"),
                ("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_COMMIT_BRANCH", "fix"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "pull request 12 → reads pr-12, b-main; writes pr-12",
        },
        Case {
            name: "a number that is none is no branch",
            vars: &[
                ("GITLAB_CI", "true"),
                ("CI_MERGE_REQUEST_IID", "twelve"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_DEFAULT_BRANCH", "main"),
            ],
            event: None,
            line: "a pull request → reads b-main; writes nothing (its number is not known, and CACHEX_PR is not set)",
        },
    ]);
}

#[test]
fn what_makes_no_sense_is_noted() {
    let facts = facts_of(
        &[
            ("GITLAB_CI", "true"),
            ("CI_MERGE_REQUEST_IID", "twelve"),
            ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "refs/tags/x"),
        ],
        None,
    );
    let expected = [
        r#"CI_MERGE_REQUEST_TARGET_BRANCH_NAME="refs/tags/x" is not the name of a branch"#,
        r#"CI_MERGE_REQUEST_IID="twelve" is not the number of a pull request"#,
    ];
    assert_eq!(facts.notes, expected);
}
