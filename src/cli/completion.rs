//! `docker cachex completion`: scripts for the shells. Each asks the program itself for the candidates, so that all of them
//! offer the same.

use super::Context;
use crate::error::CommandError;

/// Generate the autocompletion script for a shell
///
/// The script completes the stand-alone program docker-cachex. "docker cachex" is completed by the script of docker itself,
/// which asks this program: "docker completion bash", "zsh" or "fish" prints it. That of Debian's docker-cli does so for bash
/// alone.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("completion/bash.sh"),
            Self::Zsh => include_str!("completion/zsh.zsh"),
            Self::Fish => include_str!("completion/fish.fish"),
        }
    }
}

/// Prints the script.
///
/// # Errors
///
/// Fails if standard output cannot be written.
pub fn run(args: &CompletionArgs, ctx: &Context) -> Result<(), CommandError> {
    Ok(ctx.ui.data(args.shell.script().trim_end())?)
}
