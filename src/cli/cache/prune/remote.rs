//! What a Git remote has.

use std::path::Path;
use std::process::Stdio;

use crate::build::context::vcs::git;
use crate::child;
use crate::cli::Context;
use crate::cli::cache::place::Places;
use crate::error::{CommandError, chain};
use crate::forge::pulls::open_pulls;
use crate::scope::{Remote, address};
use crate::text::foreign;

/// Asks a remote for its branches and pull requests, and the forge that has it which of these are open, where the
/// environment has a token for it. Git asks nobody for a password.
///
/// # Errors
///
/// Fails if git is not there, cannot reach the remote, or it has no branch. A forge that does not answer is a warning.
pub(super) async fn ask(
    remote: &str,
    places: &Places<'_>,
    ctx: &Context,
) -> Result<Remote, CommandError> {
    let folder = ctx.env.current_dir();
    let mut found = listed(remote, folder).await?;
    let url = git(folder, &["remote", "get-url", "--", remote]).await;
    let Some((host, repository)) = address(url.as_deref().unwrap_or(remote)) else {
        return Ok(found);
    };
    let Some(api) = places.forge(&host)? else {
        return Ok(found);
    };
    match open_pulls(&api, &repository).await {
        Ok(open) => found.tell_open(open),
        Err(error) => ctx.ui.warning(&format!(
            "{host} does not say which pull requests of {repository} are open, so only what Git shows counts: {}",
            chain(&error)
        )),
    }
    Ok(found)
}

async fn listed(remote: &str, folder: &Path) -> Result<Remote, CommandError> {
    let failed = |why: String| {
        CommandError::failed(format!(
            "cannot ask the Git remote {remote} for its branches: {why}"
        ))
        .hint("name it with --remote: a name in this folder, or a URL")
    };
    let output = child::command("git")
        .arg("-C")
        .arg(folder)
        .args(["ls-remote", "--quiet", "--"])
        .arg(remote)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(foreign::excerpt(said.trim(), 300)));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Remote::parse(&names).ok_or_else(|| failed("it has no branch".to_owned()))
}
