//! What a Git remote has.

use std::path::Path;
use std::process::Stdio;

use crate::child;
use crate::error::CommandError;
use crate::scope::Remote;
use crate::text::foreign;

/// Asks a remote for its branches and pull requests. Git asks nobody for a password.
///
/// # Errors
///
/// Fails if git is not there, cannot reach the remote, or it has no branch.
pub(super) async fn ask(remote: &str, folder: &Path) -> Result<Remote, CommandError> {
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
