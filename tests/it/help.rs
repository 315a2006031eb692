//! The complete help of every command is a snapshot, so no flag changes unseen.

use docker_cachex::for_tests::cli;

fn help_of(command: &clap::Command, path: &str) -> String {
    let mut shown = command.clone().bin_name(path).term_width(100);
    let help = shown.render_long_help().to_string();
    let mut text = format!("$ {path} --help\n{}\n\n", help.trim_end());
    for inner in command.get_subcommands() {
        if inner.get_name() != "help" {
            text += &help_of(inner, &format!("{path} {}", inner.get_name()));
        }
    }
    text
}

#[test]
fn help_of_every_command() {
    let mut root = cli::command();
    root.build();
    let text = help_of(&root, "docker cachex");
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
