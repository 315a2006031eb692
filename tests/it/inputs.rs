//! What the words for inputs mean: folders, repositories, layouts, and nothing at all.

use std::path::Path;
use std::process::Output;

use crate::support::rig::{Client, Rig, context, text};

fn build(client: &Client, tool: &str, args: &[&str], folder: &Path) -> Output {
    let all = [&[tool, "build", "--progress=plain"], args].concat();
    let mut command = client.command(&all);
    command
        .current_dir(folder)
        .output()
        .expect("the docker CLI")
}

#[test]
fn a_folder_comes_before_a_repository_of_that_name() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[
        (
            "github.com/me/app/Dockerfile",
            "FROM scratch\nCOPY here /\n",
        ),
        ("github.com/me/app/here", "x"),
        ("me@host:r/Dockerfile", "FROM scratch\nCOPY here /\n"),
        ("me@host:r/here", "x"),
    ]);
    // buildx takes the second one for a folder, too, but wants an SSH agent for it.
    for (tool, name) in [
        ("cachex", "github.com/me/app"),
        ("buildx", "github.com/me/app"),
        ("cachex", "me@host:r"),
    ] {
        let out = folder.path().join("out");
        let dest = out.to_str().expect("UTF-8");
        let args = ["--builder", &builder.name, "-o", dest, name];
        let done = build(&client, tool, &args, folder.path());
        let errors = text(&done.stderr);
        assert!(done.status.success(), "{tool} {name}: {errors}");
        assert!(out.join("here").exists(), "{tool} {name}");
        fs_err::remove_dir_all(out).expect("removed");
    }
}

#[test]
fn an_empty_value_is_not_the_working_folder() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY --from=x Dockerfile /\n")]);
    for (tool, value, code) in [
        ("cachex", "x=", 1),
        ("buildx", "x=", 1),
        ("cachex", "x=oci-layout://", 1),
    ] {
        let args = ["--builder", &builder.name, "--build-context", value, "."];
        let failed = build(&client, tool, &args, folder.path());
        let errors = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(code), "{tool} {value}: {errors}");
        let told = tool == "buildx" || errors.contains("empty value, expected a folder");
        assert!(told, "{errors}");
    }
}
