//! The help under the name of buildx: in buildx's form, with a word about what goes on to it.

use clap::Command;

/// The order and the words of docker's own help.
const TEMPLATE: &str = "Usage:  {usage}\n\n{about-with-newline}\n{all-args}{after-help}";

/// Commands of buildx that are not here.
const HANDED_ON: &str = "Handed on to the buildx that is installed:
  bake, debug, history, imagetools, policy and every other command of buildx,
  and builders of the docker, kubernetes and cloud drivers

Run 'docker buildx COMMAND --help' for more information on a command.";

/// Gives a tree of commands buildx's form of help.
pub(super) fn dress(root: Command) -> Command {
    // buildx has no such command.
    let root = root.disable_help_subcommand(true);
    template(root)
        .override_usage("docker buildx [OPTIONS] COMMAND")
        .about("Extended build capabilities with BuildKit, by docker-cachex")
        .after_help(HANDED_ON)
}

fn template(mut command: Command) -> Command {
    for inner in command.get_subcommands_mut() {
        let own = std::mem::take(inner);
        *inner = template(own);
    }
    command.help_template(TEMPLATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_begins_as_that_of_buildx() {
        let mut root = dress(crate::cli::command()).bin_name("docker buildx");
        root.build();
        let help = root.render_help().to_string();
        let start =
            "Usage:  docker buildx [OPTIONS] COMMAND\n\nExtended build capabilities with BuildKit";
        assert!(help.starts_with(start), "{help}");
        assert!(help.contains("bake, "), "{help}");
        let build = root.find_subcommand_mut("build").unwrap();
        let help = build.render_help().to_string();
        let start = "Usage:  docker buildx build [OPTIONS] <PATH | URL | ->\n\n";
        assert!(help.starts_with(start), "{help}");
    }
}
