//! `docker cachex completion`: scripts for the shells.

use clap_complete::Shell;

use super::Context;
use crate::error::CommandError;

/// The program where it stands alone.
const PROGRAM: &str = "docker-cachex";

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
    ctx.ui.data(script(shell).trim_end())?;
    Ok(())
}

fn script(shell: Shell) -> String {
    // clap_complete makes of a dash in the name two different words for bash, so that no command would be found.
    let stand_in = PROGRAM.replace('-', "_");
    let name = match shell {
        Shell::Bash => &stand_in,
        _ => PROGRAM,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command_called(name), name, &mut script);
    let script = String::from_utf8_lossy(&script);
    let last = |name: &str| format!(" -o default {name}\n");
    script.replace(&last(&stand_in), &last(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_for_bash_knows_every_command_that_it_goes_to() {
        let script = script(Shell::Bash);
        let named = |line: &str| {
            let name = line.trim().strip_prefix("cmd=\"")?.strip_suffix('"')?;
            Some(name.to_owned()).filter(|name| !name.is_empty())
        };
        let commands: Vec<String> = script.lines().filter_map(named).collect();
        assert!(commands.len() > 20, "{commands:?}");
        assert!(script.contains(" -o default docker-cachex\n"), "{script}");
        for command in commands {
            let label = format!("\n        {command})\n");
            assert!(script.contains(&label), "{command}");
        }
    }
}
