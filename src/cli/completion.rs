//! `docker cachex completion`: scripts for the shells. Each asks the program itself for the candidates, so that all of them
//! offer the same.

use super::Context;
use crate::error::CommandError;

/// The arguments; the text of the help is at the command.
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
