use super::*;

async fn run(dir: &Path, args: &[&str]) {
    let name = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let local = ["-c", "protocol.file.allow=always"];
    let args: Vec<&str> = name.iter().chain(&local).chain(args).copied().collect();
    assert!(git(dir, &args).await.is_some(), "git {args:?}");
}

async fn of(dir: &Path) -> GitFacts {
    facts(dir, &Facts::default(), &Wishes::default()).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A repository with the branches `trunk` and `release/2`, which has a commit more, and a full and a shallow clone of it.
async fn clones(dir: &Path) -> [std::path::PathBuf; 2] {
    let source = dir.join("source");
    fs_err::create_dir(&source).unwrap();
    run(&source, &["init", "-q", "-b", "trunk", "."]).await;
    run(&source, &["commit", "-q", "--allow-empty", "-m", "x"]).await;
    run(&source, &["checkout", "-q", "-b", "release/2"]).await;
    run(&source, &["commit", "-q", "--allow-empty", "-m", "y"]).await;
    run(&source, &["checkout", "-q", "trunk"]).await;
    let url = format!("file://{}", text(&source));
    let (full, shallow) = (dir.join("full"), dir.join("shallow"));
    run(dir, &["clone", "-q", &url, text(&full)]).await;
    let depth = ["--depth=1", "--no-single-branch"];
    run(
        dir,
        &["clone", "-q", depth[0], depth[1], &url, text(&shallow)],
    )
    .await;
    [full, shallow]
}

/// Begins the branch `fix` at the remote's `release/2`, without following it.
async fn begin_on_release(clone: &Path) {
    let args = [
        "checkout",
        "-q",
        "--no-track",
        "-b",
        "fix",
        "origin/release/2",
    ];
    run(clone, &args).await;
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is for fields that may be empty"
)]
fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[tokio::test]
async fn git_names_the_branch_and_what_it_has_begun_from() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(of(dir).await, GitFacts::default(), "no repository");
    let [full, _] = clones(dir).await;
    let default = some("trunk");
    let on_trunk = GitFacts {
        branch: some("trunk"),
        upstream: some("trunk"),
        nearest: None,
        default: default.clone(),
    };
    assert_eq!(of(&full).await, on_trunk);

    // A branch of one's own, with a commit that nobody else has, on one that has moved on since.
    begin_on_release(&full).await;
    run(&full, &["commit", "-q", "--allow-empty", "-m", "z"]).await;
    let source = dir.join("source");
    run(&source, &["checkout", "-q", "release/2"]).await;
    run(&source, &["commit", "-q", "--allow-empty", "-m", "later"]).await;
    run(&full, &["fetch", "-q"]).await;
    let on_fix = GitFacts {
        branch: some("fix"),
        upstream: None,
        nearest: some("release/2"),
        default: default.clone(),
    };
    assert_eq!(of(&full).await, on_fix);
    // The branch that it follows has another name.
    run(
        &full,
        &["branch", "-q", "--set-upstream-to=origin/release/2"],
    )
    .await;
    let following = GitFacts {
        upstream: some("release/2"),
        nearest: None,
        ..on_fix
    };
    assert_eq!(of(&full).await, following);

    let tree = dir.join("tree");
    run(
        &full,
        &["worktree", "add", "-q", "-b", "other", text(&tree)],
    )
    .await;
    let in_tree = of(&tree).await;
    assert_eq!(in_tree.branch, some("other"), "a work tree");
    assert_eq!(in_tree.nearest, some("release/2"));
    run(&full, &["checkout", "-q", "--detach"]).await;
    let detached = GitFacts {
        nearest: some("release/2"),
        default,
        ..GitFacts::default()
    };
    assert_eq!(of(&full).await, detached, "a detached commit");
}

#[tokio::test]
async fn a_submodule_is_a_repository_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [full, _] = clones(dir).await;
    let url = format!("file://{}", text(&dir.join("source")));
    run(
        &full,
        &[
            "submodule",
            "--quiet",
            "add",
            "-b",
            "release/2",
            &url,
            "part",
        ],
    )
    .await;
    run(&full.join("part"), &["checkout", "-q", "--detach"]).await;
    let in_part = of(&full.join("part")).await;
    assert_eq!(in_part.branch, None);
    assert_eq!(in_part.nearest, some("release/2"));
    assert_eq!(of(&full).await.branch, some("trunk"));
}

#[tokio::test]
async fn an_older_git_lists_what_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let [full, _] = clones(dir.path()).await;
    begin_on_release(&full).await;
    run(&full, &["commit", "-q", "--allow-empty", "-m", "z"]).await;
    let list = merged(&full, Some("trunk")).await.unwrap();
    assert_eq!(list, "refs/remotes/origin/release/2");
    assert_eq!(nearest(&list, Some("trunk"), &[]), some("release/2"));
    run(&full, &["checkout", "-q", "trunk"]).await;
    assert_eq!(merged(&full, Some("trunk")).await.as_deref(), Some(""));
}

#[tokio::test]
async fn nothing_is_asked_for_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let [full, _] = clones(dir.path()).await;
    let known = Facts {
        ci: Some("CI"),
        event: Event::Branch("x".into()),
        default: some("main"),
        ..Facts::default()
    };
    let asked = facts(&full, &known, &Wishes::default()).await;
    assert_eq!(asked, GitFacts::default());
    let unborn = dir.path().join("unborn");
    run(dir.path(), &["init", "-q", "-b", "new", text(&unborn)]).await;
    let expected = GitFacts {
        branch: some("new"),
        ..GitFacts::default()
    };
    assert_eq!(of(&unborn).await, expected, "no commit yet");
}

#[tokio::test]
async fn a_shallow_clone_has_too_little_of_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let [_, shallow] = clones(dir.path()).await;
    begin_on_release(&shallow).await;
    let in_shallow = GitFacts {
        branch: some("fix"),
        default: some("trunk"),
        ..GitFacts::default()
    };
    assert_eq!(of(&shallow).await, in_shallow, "a shallow clone");
}
