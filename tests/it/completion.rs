//! Completion: what the program answers, and the scripts that ask it.

use std::process::Command;

use fs_err as fs;

use crate::support::rig::{Client, Rig, context, plugin, text};

/// Asks as docker does for the words behind `docker cachex`.
fn complete(client: &Client, words: &[&str]) -> Vec<String> {
    let output = Command::new(plugin())
        .args(["__completeNoDesc", "cachex"])
        .args(words)
        .env("DOCKER_CONFIG", client.config())
        .output()
        .expect("the plugin");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn values_are_offered_where_they_are_known() {
    let client = Rig::get().client();
    for (words, expected) in [
        (
            &["create", "--driver", ""][..],
            &["docker-container", "remote", ":4"][..],
        ),
        (
            &["create", "--driver-opt", "network=h"],
            &["network=host", ":6"],
        ),
        (&["create", "--driver-opt", "cacert"], &["cacert=", ":6"]),
        (&["create", "--platform", "linux/s"], &["linux/s390x", ":6"]),
        (&["create", "def"], &["default", ":4"]),
        (&["create", "--buildkitd-config", ""], &[":0"]),
        (&["build", "--output", "type=t"], &["type=tar", ":6"]),
        (&["build", "--cache-to=type=reg"], &["type=registry", ":6"]),
        (&["build", "--progress", "ra"], &["rawjson", ":4"]),
        (&["build", "--file", ""], &[":0"]),
        (&["build", ""], &[":16"]),
        (&["ls", "--format", "j"], &["json", ":4"]),
        (&["completion", "f"], &["fish", ":4"]),
    ] {
        assert_eq!(complete(&client, words), expected, "{words:?}");
    }
}

/// What bash puts on the line: it keeps what stands before the last equals sign or colon.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn bash_completes_the_program_on_its_own() {
    let client = Rig::get().client();
    let program = plugin();
    let script = Command::new(&program).args(["completion", "bash"]).output();
    let script = text(&script.expect("the plugin").stdout);
    let folder = context(&[("script", &script)]);
    let linked = folder.path().join("docker-cachex");
    std::os::unix::fs::symlink(&program, &linked).expect("a link");
    let ask = "source ./script
        COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'
        COMP_LINE=$1 COMP_POINT=${#1}
        compopt() { echo \"compopt $*\"; }
        _docker_cachex_complete
        printf '%s\\n' \"${COMPREPLY[@]}\"
        complete -p docker-cachex";
    for (line, expected) in [
        ("docker-cachex vers", "version"),
        ("docker-cachex build --progress ra", "rawjson"),
        ("docker-cachex build --progress=ra", "rawjson"),
        ("docker-cachex build --progr", "--progress"),
        ("docker-cachex build -o type=ta", "compopt -o nospace\ntar"),
        (
            "docker-cachex build --cache-to=type=registry,mode=ma",
            "compopt -o nospace\nmax",
        ),
        ("docker-cachex build -f ", "compopt -o default"),
        ("docker-cachex build ", "compopt -o dirnames"),
        ("docker-cachex --builder defa", "default"),
    ] {
        let mut command = Command::new("bash");
        command
            .args(["-c", ask, "bash", line])
            .current_dir(folder.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
        let output = command
            .env("DOCKER_CONFIG", client.config())
            .output()
            .expect("bash");
        let registered = "complete -F _docker_cachex_complete docker-cachex";
        let said = text(&output.stdout);
        let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines.join("\n"),
            format!("{expected}\n{registered}"),
            "{line}: {output:?}"
        );
    }
    fs::remove_file(linked).expect("the link");
}
