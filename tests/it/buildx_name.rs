//! Under the name of buildx: what docker, compose and scripts call is answered here or handed on, and nobody sees a
//! difference but in the version's third word.

use std::path::Path;
use std::process::{Command, Output};

use fs_err as fs;
use rustix::process::{Signal, kill_process_group};
use tempfile::TempDir;

use crate::support::rig::{Client, Rig, context, plugin, text, unique};
use crate::support::running::Running;

mod actions;

/// What a program said and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// A docker CLI whose `docker buildx` is this program.
fn aliased() -> Client {
    let client = Rig::get().client();
    let (said, _) = client.docker_ok(&["cachex", "alias", "on"]);
    assert!(said.contains("cli-plugins/docker-buildx ("), "{said}");
    client
}

/// A builder of a driver that is not here, in the store of a client.
fn store_kubernetes(client: &Client) {
    let instances = client.config().join("buildx/instances");
    fs::create_dir_all(&instances).expect("the store");
    let json = r#"{"Name":"kube","Driver":"kubernetes","Nodes":[{"Name":"kube0","Endpoint":"kubernetes:///kube?deployment=&kubeconfig=/nowhere","Platforms":null,"DriverOpts":{"namespace":"n"},"Flags":null,"Files":null}],"Dynamic":true}"#;
    fs::write(instances.join("kube"), json).expect("a file");
}

/// A project for `docker build`, bake and compose. Steps of the engine's own builder have no network in the rig.
fn project(name: &str) -> TempDir {
    let dockerfile = format!("FROM {}\nCOPY file /file\n", Rig::get().busybox);
    let bake = "target \"default\" {\n  tags = [\"NAME\"]\n  network = \"none\"\n  labels = { \"a.b\" = \"c\" }\n}\n";
    let compose =
        "services:\n  app:\n    image: NAME\n    build:\n      context: .\n      network: none\n";
    context(&[
        ("Dockerfile", &dockerfile),
        ("file", name),
        ("docker-bake.hcl", &bake.replace("NAME", name)),
        ("compose.yaml", &compose.replace("NAME", name)),
    ])
}

fn run_in(client: &Client, folder: &Path, args: &[&str]) -> Output {
    let mut command = client.command(args);
    command.current_dir(folder).output().expect("docker")
}

fn ok_in(client: &Client, folder: &Path, args: &[&str]) -> Said {
    let said = Said::from(run_in(client, folder, args));
    assert_eq!(said.code, Some(0), "{args:?}: {said:#?}");
    said
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_alias_is_exact_and_can_be_taken_back() {
    let client = Rig::get().client();
    let file = client.config().join("config.json");
    let config = "{\n\t\"unknown\": 12345678901234567890.50,\n\t\"auths\": {},\n  \"z\":[ ]}\n";
    fs::write(&file, config).expect("docker's settings");
    let entries = || fs::read_dir(client.config()).expect("a folder").count();
    let before = entries();
    let version = |client: &Client| client.docker_ok(&["buildx", "version"]).0;
    let theirs = version(&client);
    let off = client.docker(&["cachex", "alias", "status"]);
    assert_eq!(
        (off.status.code(), &*text(&off.stdout)),
        (Some(1), "the alias is off\n")
    );

    client.docker_ok(&["cachex", "alias", "on"]);
    let ours = version(&client);
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&ours)[..2], words(&theirs)[..2]);
    assert_eq!(
        words(&ours)[2],
        format!("cachex-{}", env!("CARGO_PKG_VERSION"))
    );
    let (info, _) = client.docker_ok(&["info", "--format", "{{json .ClientInfo.Plugins}}"]);
    assert!(info.contains("Docker Buildx, by docker-cachex"), "{info}");
    assert!(info.contains("The docker-cachex authors"), "{info}");
    let (status, _) = client.docker_ok(&["buildx", "alias", "status"]);
    assert!(
        status.starts_with("the alias is on: docker buildx is "),
        "{status}"
    );
    // The link leads to what docker calls, not to itself, whoever switches it on.
    client.docker_ok(&["buildx", "alias", "on"]);
    assert_eq!(version(&client), ours);
    let changed = fs::read_to_string(&file).expect("docker's settings");
    assert!(
        changed.contains("\"unknown\": 12345678901234567890.50,"),
        "{changed}"
    );

    client.docker_ok(&["buildx", "alias", "off"]);
    assert_eq!(
        fs::read_to_string(&file).expect("docker's settings"),
        config
    );
    assert_eq!(entries(), before);
    assert_eq!(version(&client), theirs);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_not_here_is_byte_for_byte_the_real_program() {
    let (theirs, ours) = (Rig::get().client(), aliased());
    [&theirs, &ours].into_iter().for_each(store_kubernetes);
    let folder = project("it/unused");
    let calls: [&[&str]; 29] = [
        &["bake", "--print"],
        &[
            "bake",
            "--print",
            "--set",
            "*.platform=linux/arm64",
            "nothing",
        ],
        &["bake", "--list", "targets"],
        &["imagetools", "inspect", &Rig::get().busybox],
        &["imagetools", "inspect", "--raw", &Rig::get().busybox],
        &["imagetools"],
        &["history", "ls", "--builder", "kube"],
        &["history", "--help"],
        &["unknown"],
        &["help"],
        &["--unknown"],
        &["ls", "more"],
        &["build"],
        &["build", "--unknown", "."],
        &["build", "--progress"],
        &["build", "--policy", "reset=true", "."],
        &["build", "--builder", "kube", "."],
        &["build", "--builder", "default", "--target", "unknown", "."],
        &["inspect", "kube"],
        &["inspect", "--bootstrap", "kube"],
        &["inspect", "default"],
        &[
            "create",
            "--name=k",
            "--driver",
            "kubernetes",
            "--driver-opt",
            "unknown=1",
        ],
        &["create", "--driver", "unknown"],
        &[
            "create",
            "--append",
            "--name",
            "kube",
            "--driver",
            "remote",
            "tcp://127.0.0.1:1",
        ],
        &["rm", "default"],
        &["stop", "default"],
        &["use", "--builder", "kube", "--unknown"],
        &["completion", "bash"],
        &["du", "--builder", "kube"],
    ];
    for call in calls {
        let seen = |client: &Client| {
            let mut said = Said::from(run_in(client, folder.path(), &[&["buildx"], call].concat()));
            // How long a step took, and when a builder was used.
            let is_fixed =
                |line: &&str| !line.contains(" DONE ") && !line.contains("Last Activity");
            for text in [&mut said.stdout, &mut said.stderr] {
                *text = text.split_inclusive('\n').filter(is_fixed).collect();
            }
            said
        };
        let (expected, said) = (seen(&theirs), seen(&ours));
        if call.contains(&"target") || call.contains(&"--target") {
            // The progress has times and digests of the run.
            assert_eq!(said.code, expected.code, "{call:?}: {said:#?}");
        } else {
            assert_eq!(said, expected, "{call:?}");
        }
    }
    let kube = |client: &Client| fs::read_to_string(client.config().join("buildx/instances/kube"));
    assert_eq!(kube(&ours).expect("a file"), kube(&theirs).expect("a file"));

    // `docker cachex` does the same where it is asked to, and is itself otherwise.
    let print = |tool: &str, hand_on: &str| {
        let mut command = theirs.command(&[tool, "bake", "--print"]);
        command.env("CACHEX_HAND_ON", hand_on);
        Said::from(command.current_dir(folder.path()).output().expect("docker"))
    };
    assert_eq!(print("cachex", "1"), print("buildx", ""));
    assert!(
        print("cachex", "")
            .stderr
            .contains("unknown command: \"bake\"")
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_people_type_works() {
    let client = aliased();
    let compose = Rig::get().plugin("docker-compose");
    std::os::unix::fs::symlink(compose, client.config().join("cli-plugins/docker-compose"))
        .expect("a link");
    let engine = ["default"].map(str::to_owned);
    let has_image = |name: &str| {
        let found = client.docker(&["image", "inspect", name]).status.success();
        client.docker(&["image", "rm", name]);
        found
    };
    let name = || unique("it/typed");

    // The engine's own builder: handed on.
    for args in [
        &["build"][..],
        &["buildx", "build", "--builder", &engine[0]],
        &["image", "build"],
    ] {
        let (name, folder) = (name(), project("typed"));
        let more = ["--network=none", "--provenance=false", "-t", &name, "."];
        ok_in(&client, folder.path(), &[args, &more].concat());
        assert!(has_image(&name), "{args:?}");
    }
    let image = name();
    let folder = project(&image);
    ok_in(&client, folder.path(), &["compose", "build"]);
    assert!(has_image(&image), "compose");
    ok_in(&client, folder.path(), &["buildx", "bake", "--load"]);
    assert!(has_image(&image), "bake");

    // A builder in a container: this program.
    let builder = client.builder("buildx");
    let ours = [
        "buildx",
        "build",
        "--builder",
        &builder.name,
        "--progress=plain",
        ".",
    ];
    let cache = format!(
        "type=registry,ref={}/{},via=client",
        Rig::get().registry.host(),
        name()
    );
    let said = ok_in(
        &client,
        folder.path(),
        &[&ours[..], &["--cache-to", &cache]].concat(),
    );
    assert!(
        said.stderr.contains("exporting cache to "),
        "{}",
        said.stderr
    );
    // Bake builds on it, too, and finds what this program has built.
    let bake = [
        "buildx",
        "bake",
        "--builder",
        &builder.name,
        "--progress=plain",
    ];
    let said = ok_in(&client, folder.path(), &bake);
    assert!(said.stderr.contains("CACHED"), "{}", said.stderr);
    // What only this program has is not handed on, where it would be left out unseen.
    let refused = [&ours[..3], &["default", "--cache-to", &cache, "."]].concat();
    let refused = Said::from(run_in(&client, folder.path(), &refused));
    assert_eq!(refused.code, Some(1));
    let last = refused.stderr.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "ERROR: the builder is one that only the real buildx serves, which has no key via for caches"
    );
    // The functions of Go's templates are all known to the real one.
    let form = "{{if eq .Name \"default\"}}found {{urlquery .Name}}{{end}}";
    let said = ok_in(&client, folder.path(), &["buildx", "ls", "--format", form]);
    assert!(said.stdout.contains("found default"), "{said:#?}");
}

/// Hints name the command that was typed.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn hints_name_the_command_that_the_user_has_called() {
    let client = aliased();
    for tool in ["buildx", "cachex"] {
        let said = Said::from(client.docker(&[tool, "build", "--builder=nothing", "."]));
        let hint = format!("hint: list the builders with: docker {tool} ls\n");
        assert!(said.stderr.contains(&hint), "{said:#?}");
    }
    let said = Said::from(client.docker(&["cachex", "bake"]));
    let hint = "hint: only buildx has it, and it serves the same builders: docker buildx bake\n";
    assert!(said.stderr.ends_with(hint), "{said:#?}");
}

/// A wrapper in buildx's place that waits for something that does not come: what needs it says so, all else works.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_real_program_that_does_not_answer_holds_up_nothing_else() {
    let client = aliased();
    let file = client.config().join("cli-plugins/docker-buildx");
    fs::remove_file(&file).expect("the real one");
    fs::write(&file, "#!/bin/sh\nsleep 600\n").expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&file, mode).expect("a mode");
    let version = client.docker_ok(&["buildx", "version"]).0;
    let covered = docker_cachex::for_tests::plugin::hand_on::COVERED_VERSION;
    assert!(version.contains(covered), "{version}");
    client.docker_ok(&["buildx", "ls"]);
    let said = Said::from(client.docker(&["buildx", "bake", "--print"]));
    let last = said.stderr.lines().last().unwrap_or_default();
    let silent = format!("{} did not say within 5 seconds what it is", file.display());
    assert_eq!(
        last,
        format!("ERROR: cannot hand this on: {silent}"),
        "{said:#?}"
    );
    assert!(
        said.stderr.contains("unknown command: \"bake\""),
        "{said:#?}"
    );
    let said = Said::from(client.docker(&["cachex", "alias", "status"]));
    assert!(said.stdout.contains(&silent), "{said:#?}");
}

/// Ctrl-C in the terminal of a bake that was handed on.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn signals_reach_the_real_program() {
    let codes = [false, true].map(|with_alias| {
        let client = if with_alias {
            aliased()
        } else {
            Rig::get().client()
        };
        let builder = client.builder("buildx");
        let mark = unique("sleeper");
        let dockerfile = format!(
            "FROM {}\nRUN echo {mark} begins; sleep 30\n",
            Rig::get().busybox
        );
        let folder = context(&[
            ("Dockerfile", &dockerfile),
            ("docker-bake.hcl", "target \"default\" {}\n"),
        ]);
        let mut command = client.command(&["buildx", "bake", "--progress=plain"]);
        command
            .args(["--builder", &builder.name])
            .current_dir(folder.path());
        let mut bake = Running::spawn(command, folder, &format!(" {mark} begins\n"));
        kill_process_group(bake.pid(), Signal::INT).expect("a signal");
        (bake.ends().code(), bake.progress().contains("ERROR: "))
    });
    assert_eq!(codes[0], codes[1]);
    assert_ne!(codes[0].0, Some(0));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn no_file_that_leads_back_makes_a_loop() {
    let client = aliased();
    let file = client.config().join("cli-plugins/docker-buildx");
    let bake = || {
        let mut command = client.command(&["buildx", "bake", "--print"]);
        // The folders of the system must not help.
        let said = Said::from(command.output().expect("docker"));
        (said.code, said.stderr)
    };
    let script = |text: &str| {
        fs::remove_file(&file).expect("the file before");
        fs::write(&file, text).expect("a script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, mode).expect("a mode");
    };
    let link = client.config().join("cachex/cli-plugins/docker-buildx");
    // A wrapper that says it is Docker's, and calls this program again.
    let own = plugin();
    for (call, exec) in [(&link, "exec "), (&link, ""), (&own, "exec ")] {
        script(&format!(
            "#!/bin/sh\nif [ \"$1\" = docker-cli-plugin-metadata ]; then\n\
             echo '{{\"SchemaVersion\":\"0.1.0\",\"Vendor\":\"Docker Inc.\",\"Version\":\"v1\"}}'; exit 0; fi\n\
             {exec}{} \"$@\"\n",
            call.display()
        ));
        let (code, stderr) = bake();
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("ERROR: unknown command: \""), "{stderr}");
    }
    // A copy of this program is not the real one.
    fs::remove_file(&file).expect("the script");
    fs::copy(plugin(), &file).expect("a copy");
    let (code, stderr) = bake();
    // On a machine with a buildx of its own that one is found.
    let of_the_system = ["local/lib", "local/libexec", "lib", "libexec"]
        .map(|dir| format!("/usr/{dir}/docker/cli-plugins/docker-buildx"));
    if !of_the_system.iter().any(|file| Path::new(file).exists()) {
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stderr.ends_with("ERROR: unknown command: \"bake\"\n"),
            "{stderr}"
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn it_answers_as_the_stand_alone_program_too() {
    let folder = context(&[("docker-bake.hcl", "target \"default\" {}\n")]);
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    for dir in [&ours, &theirs] {
        fs::create_dir(dir).expect("a folder");
    }
    std::os::unix::fs::symlink(plugin(), ours.join("buildx")).expect("a link");
    std::os::unix::fs::symlink(Rig::get().plugin("docker-buildx"), theirs.join("buildx"))
        .expect("a link");
    let client = Rig::get().client();
    let run = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program.join("buildx"));
        let path = std::env::var("PATH").expect("PATH");
        let path = format!("{}:{}:{path}", ours.display(), theirs.display());
        command
            .env("PATH", path)
            .env("DOCKER_CONFIG", client.config());
        Said::from(
            command
                .args(args)
                .current_dir(folder.path())
                .output()
                .expect("buildx"),
        )
    };
    for args in [&["bake", "--print"][..], &["unknown"], &["build"]] {
        assert_eq!(run(&ours, args), run(&theirs, args), "{args:?}");
    }
    let version = run(&ours, &["version"]).stdout;
    assert!(
        version.starts_with("github.com/docker/buildx 0."),
        "{version}"
    );
}
