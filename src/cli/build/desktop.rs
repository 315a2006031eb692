//! The line that leads to a build in Docker Desktop.

use crate::cli::Context;

/// The file that Docker Desktop keeps, in the home folder, where its view of builds is in use.
const LAST_ACCESS: &str = ".docker/desktop-build/.lastaccess";

/// Returns the line about a build, named `BUILDER/NODE/REF`; nothing if Docker Desktop is not in use.
pub(super) fn details(build: &str, ctx: &Context) -> Option<String> {
    let home = ctx.env.home()?;
    if !home.join(LAST_ACCESS).exists() {
        return None;
    }
    let url = format!("docker-desktop://dashboard/build/{build}");
    let url = if ctx.ui.stderr_is_terminal() {
        format!("\u{1b}]8;;{url}\u{1b}\\{url}\u{1b}]8;;\u{1b}\\")
    } else {
        url
    };
    Some(format!("\nView build details: {url}"))
}
