//! `docker cachex completion`: scripts for the shells.

use clap_complete::Shell;

use super::Context;
use crate::error::CommandError;

/// Generate the autocompletion script for a shell
///
/// The script completes the stand-alone program docker-cachex. For "docker cachex" the completion
/// script of docker itself is enough.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: ShellName,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
///
/// # Errors
///
/// Fails if standard output cannot be written.
pub fn run(args: &CompletionArgs, ctx: &Context) -> Result<(), CommandError> {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    let mut command = super::command();
    clap_complete::generate(shell, &mut command, "docker-cachex", &mut script);
    ctx.ui.data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(())
}
