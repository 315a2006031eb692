//! The commit that a local context stands at, told to BuildKit for the provenance of the image.
//!
//! The attributes (`vcs:revision`, `vcs:source`, `vcs:localdir:NAME`) are not part of any cache
//! key; which are sent follows buildx.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use futures_util::FutureExt as _;

use crate::child;
use crate::later::{Later, later};

/// Which facts are wanted (`BUILDX_GIT_INFO`, `BUILDX_GIT_LABELS`, `BUILDX_GIT_CHECK_DIRTY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcsOptions {
    /// Tell the commit and the remote for provenance; on by default.
    pub info: bool,
    /// Put them into image labels; off by default.
    pub labels: bool,
    /// Mark the commit of a changed work tree as dirty; off by default.
    pub check_dirty: bool,
    /// The environment names a repository, which need not lie around the context.
    pub names_repository: bool,
}

impl Default for VcsOptions {
    fn default() -> Self {
        Self {
            info: true,
            labels: false,
            check_dirty: false,
            names_repository: false,
        }
    }
}

/// The attributes for a context folder, asked for while other things are got ready: git is a process for
/// each question.
#[derive(Debug, Clone)]
pub struct Commit(Later<BTreeMap<String, String>>);

impl Commit {
    /// Asks for what [`attributes`] returns. The questions end with this.
    pub fn ask(
        options: VcsOptions,
        context: PathBuf,
        dockerfile: Option<PathBuf>,
        local_dirs: BTreeMap<String, PathBuf>,
    ) -> Self {
        let asked =
            async move { attributes(options, &context, dockerfile.as_deref(), &local_dirs).await };
        Self(later(asked, |_died| BTreeMap::new()))
    }

    /// For a build without a context folder.
    pub fn none() -> Self {
        Self(
            futures_util::future::ready(BTreeMap::new())
                .boxed()
                .shared(),
        )
    }

    /// Waits for the attributes.
    pub async fn attributes(&self) -> BTreeMap<String, String> {
        self.0.clone().await
    }
}

/// Returns the attributes for a context folder; none where it is not inside a Git work tree or
/// there is no git. A Dockerfile that is no file of the user's has no path.
pub async fn attributes(
    options: VcsOptions,
    context: &Path,
    dockerfile: Option<&Path>,
    local_dirs: &BTreeMap<String, PathBuf>,
) -> BTreeMap<String, String> {
    let mut attrs = BTreeMap::new();
    let is_wanted = options.info || options.labels;
    if !is_wanted || !(options.names_repository || may_be_in_work_tree(context)) {
        return attrs;
    }
    // All questions at once: each costs the start of a process.
    let (root, sha, remote, dirty) = tokio::join!(
        git(context, &["rev-parse", "--show-toplevel"]),
        git(context, &["rev-parse", "HEAD"]),
        remote_url(context),
        async {
            if !options.check_dirty {
                return false;
            }
            git(context, &["status", "--porcelain", "--ignored=no"])
                .await
                .is_some_and(|out| !out.is_empty())
        },
    );
    let Some(root) = root.filter(|r| !r.is_empty()).map(PathBuf::from) else {
        return attrs;
    };
    if let Some(mut sha) = sha.filter(|s| !s.is_empty()) {
        if dirty {
            sha.push_str("-dirty");
        }
        insert(
            &mut attrs,
            options,
            "vcs:revision",
            "org.opencontainers.image.revision",
            sha,
        );
    }
    if let Some(url) = remote.filter(|u| !u.is_empty()) {
        let url = without_credentials(&url);
        insert(
            &mut attrs,
            options,
            "vcs:source",
            "org.opencontainers.image.source",
            url,
        );
    }
    if options.labels
        && let Some(path) = dockerfile.and_then(|file| relative(&root, &cleaned(file)))
    {
        attrs.insert("label:com.docker.image.source.entrypoint".into(), path);
    }
    if options.info {
        for (name, dir) in local_dirs {
            if let Some(path) = dir
                .canonicalize()
                .ok()
                .and_then(|dir| relative(&root, &dir))
            {
                attrs.insert(format!("vcs:localdir:{name}"), path);
            }
        }
    }
    attrs
}

/// Returns whether git can find a work tree: where not, its processes need not be started.
fn may_be_in_work_tree(dir: &Path) -> bool {
    let dir = fs_err::canonicalize(dir);
    dir.is_ok_and(|dir| dir.ancestors().any(|dir| dir.join(".git").exists()))
}

fn insert(
    attrs: &mut BTreeMap<String, String>,
    options: VcsOptions,
    info: &str,
    label: &str,
    value: String,
) {
    if options.labels {
        attrs.insert(format!("label:{label}"), value.clone());
    }
    if options.info {
        attrs.insert(info.to_owned(), value);
    }
}

fn relative(root: &Path, path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root).ok()?;
    let text = relative.to_string_lossy().into_owned();
    Some(if text.is_empty() {
        ".".to_owned()
    } else {
        text
    })
}

/// Takes away `.` and `..`, as Go's `filepath.Clean`: `repo/../Dockerfile` is not in the repository.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

/// The URL of the branch's own remote, else of `origin`.
async fn remote_url(dir: &Path) -> Option<String> {
    let upstream = git(
        dir,
        &[
            "rev-parse",
            "--abbrev-ref",
            "--symbolic-full-name",
            "@{upstream}",
        ],
    );
    let name = match upstream.await {
        Some(upstream) => upstream.split('/').next().unwrap_or("origin").to_owned(),
        None => "origin".to_owned(),
    };
    git(dir, &["remote", "get-url", &name]).await
}

/// A remote may hold a token; provenance is public.
fn without_credentials(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            let cleared = parsed.set_password(None).and_then(|()| {
                if parsed.scheme().starts_with("http") {
                    parsed.set_username("")
                } else {
                    Ok(())
                }
            });
            // Only URLs without a host refuse this, and those have no credentials.
            if cleared.is_ok() {
                parsed.to_string()
            } else {
                String::new()
            }
        }
        _ => url.to_owned(),
    }
}

/// Asks git about a folder; nothing where it fails, or where there is none.
pub async fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let output = child::command("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_a_remote_are_left_out() {
        assert_eq!(
            without_credentials("https://user:token@example.com/a.git"),
            "https://example.com/a.git"
        );
        assert_eq!(
            without_credentials("git@example.com:a.git"),
            "git@example.com:a.git"
        );
        assert_eq!(
            without_credentials("ssh://git@example.com/a.git"),
            "ssh://git@example.com/a.git"
        );
    }

    #[tokio::test]
    async fn outside_a_work_tree_there_is_nothing_to_tell() {
        let dir = tempfile::tempdir().unwrap();
        let attrs = attributes(VcsOptions::default(), dir.path(), None, &BTreeMap::new()).await;
        assert!(attrs.is_empty());
    }

    #[tokio::test]
    async fn commit_and_folders_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let run = |args: &'static [&'static str]| {
            let root = root.clone();
            async move { git(&root, args).await.expect("git works") }
        };
        run(&["init", "-q", "."]).await;
        run(&[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ])
        .await;
        run(&["remote", "add", "origin", "https://t:s@example.com/r.git"]).await;
        let sub = root.join("sub");
        fs_err::create_dir(&sub).unwrap();
        let dirs = BTreeMap::from([("context".to_owned(), sub.clone())]);
        let options = VcsOptions {
            labels: true,
            ..Default::default()
        };
        let dockerfile = sub.join("Dockerfile");
        let attrs = attributes(options, &sub, Some(&dockerfile), &dirs).await;
        assert_eq!(attrs["vcs:revision"].len(), 40);
        assert_eq!(attrs["vcs:source"], "https://example.com/r.git");
        assert_eq!(attrs["vcs:localdir:context"], "sub");
        assert_eq!(
            attrs["label:com.docker.image.source.entrypoint"],
            "sub/Dockerfile"
        );
        let label = "label:com.docker.image.source.entrypoint";
        for (file, want) in [
            ("sub/../other/Dockerfile", Some("other/Dockerfile")),
            ("sub/../../outside/Dockerfile", None),
        ] {
            let attrs = attributes(options, &sub, Some(&root.join(file)), &dirs).await;
            assert_eq!(attrs.get(label).map(String::as_str), want, "{file}");
        }
    }
}
