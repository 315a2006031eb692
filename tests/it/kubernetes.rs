//! Builders of the kubernetes driver: shown, and left alone.

use std::process::{Command, Output};

use fs_err as fs;

use crate::support::rig::{Client, Rig, context, text};

/// Puts a builder into the store as buildx writes it.
fn stored(client: &Client) {
    let instances = client.config().join("buildx/instances");
    fs::create_dir_all(&instances).expect("the store");
    let json = r#"{"Name":"kube","Driver":"kubernetes","Nodes":[{"Name":"kube0","Endpoint":"kubernetes:///kube?deployment=&kubeconfig=","Platforms":null,"DriverOpts":{"namespace":"n"},"Flags":null,"Files":null}],"Dynamic":true}"#;
    fs::write(instances.join("kube"), json).expect("a file");
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn they_are_listed_and_refused_by_name() {
    let client = Rig::get().client();
    stored(&client);
    let before = fs::read_to_string(client.config().join("buildx/instances/kube")).expect("a file");
    let list = client.docker(&["cachex", "ls"]);
    assert!(list.status.success());
    assert!(said(&list).contains("kubernetes"), "{}", said(&list));
    let inspect = client.docker(&["cachex", "inspect", "kube"]);
    assert!(inspect.status.success());
    assert!(
        said(&inspect).contains("kubernetes:///kube"),
        "{}",
        said(&inspect)
    );

    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    for args in [
        &["inspect", "--bootstrap", "kube"][..],
        &["build", "--builder", "kube", folder],
        &["du", "--builder", "kube"],
        &["prune", "--force", "--builder", "kube"],
        &["dial-stdio", "--builder", "kube"],
        &["stop", "kube"],
        &["rm", "kube"],
        &["create", "--append", "--name", "kube"],
        &["create", "--driver", "kubernetes"],
    ] {
        let mut all = vec!["cachex"];
        all.extend(args);
        let output = client.docker(&all);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains("kubernetes"), "{args:?}: {error}");
        assert!(error.contains("not supported yet"), "{args:?}: {error}");
        assert!(error.contains("docker buildx"), "{args:?}: {error}");
    }
    client.docker_ok(&["cachex", "rm", "--all-inactive", "--force"]);
    // Nothing of all that has touched it.
    let after = fs::read_to_string(client.config().join("buildx/instances/kube")).expect("a file");
    assert_eq!(before, after);

    let (_, warning) = client.docker_ok(&["cachex", "use", "kube"]);
    assert!(warning.contains("only docker buildx"), "{warning}");
    client.docker_ok(&["cachex", "rm", "--keep-daemon", "kube"]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn completion_offers_builders_where_they_can_stand() {
    let client = Rig::get().client();
    stored(&client);
    // docker hands a request on in this form.
    let complete = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_docker-cachex"))
            .args(["__completeNoDesc", "cachex"])
            .args(words)
            .env("DOCKER_CONFIG", client.config())
            .output()
            .expect("the plugin");
        text(&output.stdout)
    };
    for words in [
        &["inspect", ""][..],
        &["use", "ku"],
        &["stop", ""],
        &["rm", "x", ""],
        &["du", "--builder", ""],
        &["build", "--builder", "k"],
    ] {
        let offered = complete(words);
        assert!(
            offered.lines().any(|line| line == "kube"),
            "{words:?}: {offered}"
        );
    }
    assert!(complete(&["use", ""]).lines().any(|line| line == "default"));
    assert!(!complete(&["rm", ""]).lines().any(|line| line == "default"));
    assert!(!complete(&["create", "--name", ""]).contains("kube"));
}
