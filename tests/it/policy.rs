//! Policies that buildx enforces are refused by name, wherever they come from.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::support::git::GitServer;
use crate::support::rig::{Client, Rig, context, text};

const DOCKERFILE: &str = "FROM scratch\nCOPY Dockerfile /\n";
const POLICY: &str = "package docker\n\ndecision := {\"allow\": false}\n";

fn build(client: &Client, args: &[&str], env: &[(&str, &str)]) -> Output {
    let all = [&["cachex", "build", "--progress=plain"], args].concat();
    let mut command = client.command(&all);
    command.envs(env.iter().copied());
    command.output().expect("the docker CLI")
}

fn tar_of(folder: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", folder).expect("an archive");
    archive.into_inner().expect("an archive")
}

/// Serves these bytes under every path as long as the test runs.
fn serve(body: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            let is_head = stream.read(&mut head).is_ok() && head.starts_with(b"HEAD");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // A client that goes away is none of the server's business.
            drop(stream.write_all(answer.as_bytes()));
            if !is_head {
                drop(stream.write_all(&body));
            }
        }
    });
    port
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_policy_in_a_remote_context_is_refused() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let plain = context(&[("Dockerfile", DOCKERFILE)]);
    let files = [
        ("Dockerfile", DOCKERFILE),
        ("Dockerfile.rego", POLICY),
        ("other/Dockerfile", DOCKERFILE),
    ];
    let guarded = context(&files);
    let git = GitServer::start(&files);
    let url = |folder: &Path| format!("http://127.0.0.1:{}/context.tar", serve(tar_of(folder)));
    let tar = url(guarded.path());
    let repository = format!("git://127.0.0.1:{}/r.git", git.port);
    let on = ["--builder", builder.name.as_str()];
    for context in [&tar, &repository] {
        let refused = build(&client, &[&on[..], &[context]].concat(), &[]);
        let errors = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{context}: {errors}");
        assert!(
            errors.contains(&format!(
                "the policy Dockerfile.rego of the context {context} is not supported"
            )),
            "{errors}"
        );
        assert!(!errors.contains("[1/1] COPY"), "{errors}");
        let off = ["--policy", "disabled=true", context.as_str()];
        let built = build(&client, &[&on[..], &off].concat(), &[]);
        assert!(built.status.success(), "{context}: {}", text(&built.stderr));
    }
    for context in [url(plain.path()), format!("{repository}#main:other")] {
        let built = build(&client, &[&on[..], &[&context]].concat(), &[]);
        let errors = text(&built.stderr);
        // The file of another folder is not there, which BuildKit says itself.
        assert!(!errors.contains("policy"), "{context}: {errors}");
        assert!(errors.contains("COPY Dockerfile /"), "{context}: {errors}");
    }
    let gone = format!("http://127.0.0.1:{}/gone.git", git.port);
    let failed = build(&client, &[&on[..], &[&gone]].concat(), &[]);
    assert_eq!(failed.status.code(), Some(1));
    let errors = text(&failed.stderr);
    assert!(errors.contains("failed to solve"), "{errors}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_policy_beside_the_dockerfile_and_the_default_one_are_refused() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[
        ("Dockerfile", DOCKERFILE),
        ("App.Dockerfile", DOCKERFILE),
        ("App.Dockerfile.rego", POLICY),
    ]);
    let path = folder.path().to_str().expect("UTF-8");
    let app = folder.path().join("App.Dockerfile");
    let app = app.to_str().expect("UTF-8");
    let on = ["--builder", builder.name.as_str(), path];
    let cases: [(&[&str], &str, Option<&str>); 5] = [
        (&[], "", None),
        (&["-f", app], "", Some("App.Dockerfile.rego")),
        (&["-f", app, "--policy=disabled=true"], "1", None),
        (&[], "1", Some("BUILDX_DEFAULT_POLICY")),
        (&["--policy=strict=true"], "", Some("--policy")),
    ];
    for (args, default, named) in cases {
        let env = [("BUILDX_DEFAULT_POLICY", default)];
        let output = build(&client, &[&on[..], args].concat(), &env);
        let errors = text(&output.stderr);
        assert_eq!(
            output.status.success(),
            named.is_none(),
            "{args:?}: {errors}"
        );
        if let Some(named) = named {
            assert!(errors.contains(named), "{args:?}: {errors}");
            assert!(errors.contains("hint: docker buildx"), "{args:?}: {errors}");
        }
    }
}
