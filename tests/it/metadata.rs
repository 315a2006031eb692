//! The metadata file: the same keys and the same provenance as buildx writes.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

use crate::support::bench::TOOLS;
use crate::support::compare::paths;
use crate::support::rig::{Rig, context, text};

const DOCKERFILE: &str = "FROM scratch\nCOPY file /\n";

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn provenance_is_that_of_buildx() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("file", "x")]);
    let path = folder.path().to_str().expect("a path in UTF-8");
    let metadata = |tool: &str, mode: &str, args: &[&str]| -> Map<String, Value> {
        let file = folder.path().join("metadata.json");
        let flag = format!("--metadata-file={}", file.display());
        let mut all = vec![
            tool,
            "build",
            "--builder",
            &builder.name,
            "-o=type=image,name=x",
            &flag,
        ];
        all.extend(args);
        all.push(path);
        let mut command = client.command(&all);
        command.env("BUILDX_METADATA_PROVENANCE", mode);
        let output = command.output().expect("the docker CLI");
        assert!(
            output.status.success(),
            "{tool} {mode} {args:?}: {output:?}"
        );
        serde_json::from_slice(&fs_err::read(&file).expect("a file")).expect("JSON")
    };
    let cases: [(&str, &[&str]); 6] = [
        ("", &[]),
        ("max", &[]),
        ("disabled", &[]),
        ("max", &["--provenance=mode=max"]),
        ("min", &["--provenance=mode=max,version=v1"]),
        ("", &["--platform=linux/amd64,linux/386"]),
    ];
    for (mode, args) in cases {
        let ours = metadata("cachex", mode, args);
        let theirs = metadata("buildx", mode, args);
        let keys = |map: &Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
        let mut expected = keys(&theirs);
        if args.contains(&"--platform=linux/amd64,linux/386") {
            // buildx 0.29 returns the map before it is filled.
            for platform in ["linux/amd64", "linux/386"] {
                expected.insert(format!("buildx.build.provenance/{platform}"));
            }
        }
        assert_eq!(keys(&ours), expected, "{mode} {args:?}");
        for (key, value) in &theirs {
            if !key.starts_with("buildx.build.provenance") {
                continue;
            }
            // Times, builds and sessions differ; what was built does not.
            for part in ["buildType", "builder", "materials"] {
                assert_eq!(ours[key].get(part), value.get(part), "{mode} {key} {part}");
            }
            assert_eq!(shape(&ours[key]), shape(value), "{mode} {args:?} {key}");
        }
    }
}

/// The paths of all keys, each once.
fn shape(value: &Value) -> BTreeSet<String> {
    let mut found = Vec::new();
    paths(value, "", &mut found);
    found.into_iter().collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_device_is_never_replaced() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("file", "x")]);
    // One of its own: a fault would destroy that of the machine.
    let device = folder.path().join("null");
    let mut mknod = Command::new("mknod");
    let made = mknod.arg(&device).args(["c", "1", "3"]).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user may not make a device");
        return;
    }
    let is_device = |path: &Path| {
        let kind = std::fs::symlink_metadata(path).expect("it is there");
        kind.file_type().is_char_device()
    };
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&device, &link).expect("a link");
    let path = folder.path().to_str().expect("a path in UTF-8");
    for place in [&device, &link] {
        let place = place.display();
        for flag in [
            format!("--metadata-file={place}"),
            format!("--iidfile={place}"),
        ] {
            let args = ["--builder", &builder.name, "--progress=plain", &flag, path];
            let output = client.docker(&[&["cachex", "build"][..], &args].concat());
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{flag}: {errors}");
            assert!(errors.contains("is a device"), "{flag}: {errors}");
            // It is refused before the build.
            assert!(!errors.contains("COPY"), "{flag}: {errors}");
            assert!(is_device(&device), "{flag}");
        }
        // What an exporter sends may be thrown away, as with buildx.
        for tool in TOOLS {
            let output = format!("-o=type=tar,dest={place}");
            client.docker_ok(&[tool, "build", "--builder", &builder.name, &output, path]);
            assert!(is_device(&device), "{tool} {output}");
        }
    }
    assert!(
        std::fs::symlink_metadata(&link)
            .expect("a link")
            .is_symlink()
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_file_in_a_folder_that_is_missing_is_refused_before_the_build() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("file", "x")]);
    let path = folder.path().to_str().expect("a path in UTF-8");
    let place = folder.path().join("no/file");
    for flag in ["--metadata-file", "--iidfile"] {
        let flag = format!("{flag}={}", place.display());
        let args = ["--builder", &builder.name, "--progress=plain", &flag, path];
        let output = client.docker(&[&["cachex", "build"][..], &args].concat());
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag}: {errors}");
        assert!(errors.contains("there is no folder"), "{flag}: {errors}");
        assert!(!errors.contains("COPY"), "{flag}: {errors}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn characters_of_html_are_written_as_buildx_writes_them() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("file", "x")]);
    let line = |tool: &str| {
        let file = folder.path().join(format!("{tool}.json"));
        let flag = format!("--metadata-file={}", file.display());
        let args = ["--label=a=1 < 2 && 3 > 2", "-o=type=cacheonly", &flag];
        builder.build(tool, &args, folder.path());
        let written = fs_err::read_to_string(&file).expect("a file");
        let mut lines = written.lines().filter(|line| line.contains("label:a"));
        lines.next().map(str::to_owned)
    };
    let ours = line("cachex");
    assert!(
        ours.as_ref()
            .is_some_and(|line| line.contains("1 \\u003c 2 \\u0026")),
        "{ours:?}"
    );
    assert_eq!(ours, line("buildx"));
}
