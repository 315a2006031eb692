//! What the words for inputs mean: folders, repositories, layouts, and nothing at all.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
#[ignore = "needs the test rig: scripts/test"]
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
#[ignore = "needs the test rig: scripts/test"]
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

/// A tar of these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes())
            .expect("an entry");
    }
    tar.into_inner().expect("an archive")
}

/// Packs with a program of the rig's machine.
fn packed(program: &str, data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect(program);
    let mut stdin = child.stdin.take().expect("a pipe");
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().expect("an end");
    writer.join().expect("a thread").expect("written");
    output.stdout
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_archive_on_standard_input_is_unpacked_whatever_packed_it() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = tempfile::tempdir().expect("a folder");
    let tar = archive(&[
        ("Dockerfile", "FROM scratch\nCOPY here /\n"),
        ("here", "of the archive"),
    ]);
    let read = |tool: &str, kind: &str, bytes: &[u8]| {
        let out = folder.path().join(format!("{tool}-{kind}"));
        let dest = out.to_str().expect("UTF-8");
        let args = [tool, "build", "--builder", &builder.name];
        let mut child = client
            .command(&[&args[..], &["--progress=plain", "-o", dest, "-"]].concat())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker CLI");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(bytes).expect("written");
        drop(stdin);
        let output = child.wait_with_output().expect("an end");
        let here = fs_err::read_to_string(out.join("here"));
        here.map_err(|_| text(&output.stderr))
    };
    let zstd = zstd::encode_all(&tar[..], 3).expect("packed");
    for (kind, bytes) in [
        ("tar", tar.clone()),
        ("gzip", packed("gzip", &tar)),
        ("bzip2", packed("bzip2", &tar)),
        ("zstd", zstd),
    ] {
        assert_eq!(
            read("cachex", kind, &bytes).as_deref(),
            Ok("of the archive"),
            "{kind}"
        );
    }
    let zip = read("cachex", "zip", b"PK\x03\x04\x14\x00\x00\x00").expect_err("a zip");
    assert!(
        zip.contains("neither a Dockerfile nor a tar archive"),
        "{zip}"
    );
    // BuildKit needs a program for this one, which not every image of it has.
    let xz = packed("xz", &tar);
    let theirs = read("buildx", "xz", &xz);
    assert_eq!(
        read("cachex", "xz", &xz).is_ok(),
        theirs.is_ok(),
        "{theirs:?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_error_in_a_large_dockerfile_is_shown() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let long = format!("FROM scratch\n{}NOPE\n", "# a line\n".repeat(6000));
    let folder = context(&[("Dockerfile", &long)]);
    let args = ["--builder", &builder.name, "."];
    for tool in ["buildx", "cachex"] {
        let failed = build(&client, tool, &args, folder.path());
        let errors = text(&failed.stderr);
        assert!(
            errors.contains("unknown instruction: NOPE"),
            "{tool}: {errors}"
        );
    }
}
