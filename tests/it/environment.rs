//! What the environment and rarer flags change, compared with buildx.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::support::bench::TOOLS;
use crate::support::rig::{Client, Rig, context, text, unique};

const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY ${TARGETARCH} /arch\n";

/// Arguments and environment.
type Case = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

fn build(
    client: &Client,
    tool: &str,
    args: &[&str],
    folder: &Path,
    env: &[(&str, &str)],
) -> Output {
    let mut all = vec![tool, "build", "--progress=plain"];
    all.extend(args);
    all.push(folder.to_str().expect("a path in UTF-8"));
    let mut command = client.command(&all);
    command.envs(env.iter().copied());
    command.output().expect("the docker CLI")
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn variables_make_the_same_image_as_with_buildx() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6"), ("386", "3")]);
    let digest = |tool: &str, args: &[&str], env: &[(&str, &str)]| {
        let repository = unique("env");
        let name = format!("{}/{repository}:1", rig.registry.host());
        let mut all = vec![
            "--builder",
            &builder.name,
            "--provenance=false",
            "--push",
            "-t",
            &name,
        ];
        all.extend(args);
        let output = build(&client, tool, &all, folder.path(), env);
        assert!(output.status.success(), "{tool}: {}", text(&output.stderr));
        rig.registry
            .manifest(&repository, "1")
            .expect("a manifest")
            .digest
    };
    let plain = digest("cachex", &[], &[("SOURCE_DATE_EPOCH", "1000")]);
    let cases: [Case; 5] = [
        (&[], &[("SOURCE_DATE_EPOCH", "86400")]),
        (
            &["--build-arg=SOURCE_DATE_EPOCH=5"],
            &[("SOURCE_DATE_EPOCH", "86400")],
        ),
        (
            &["--build-arg=SOURCE_DATE_EPOCH=5"],
            &[("DOCKER_DEFAULT_PLATFORM", "linux/386")],
        ),
        (
            &["--platform=linux/amd64", "--build-arg=SOURCE_DATE_EPOCH=6"],
            &[("DOCKER_DEFAULT_PLATFORM", "linux/386")],
        ),
        (
            &[
                "--build-arg=SOURCE_DATE_EPOCH=7",
                "--build-arg=BUILDKIT_MULTI_PLATFORM=1",
            ],
            &[],
        ),
    ];
    for (args, env) in cases {
        let ours = digest("cachex", args, env);
        assert_eq!(ours, digest("buildx", args, env), "{args:?} {env:?}");
        assert_ne!(ours, plain, "{args:?} {env:?}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_source_policy_denies_as_with_buildx() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let dockerfile = format!("FROM {}\n", rig.busybox);
    let policy = r#"{"rules":[{"action":"DENY","selector":{"identifier":"docker-image://*"}}]}"#;
    let folder = context(&[("Dockerfile", &dockerfile), ("policy.json", policy)]);
    let file = folder.path().join("policy.json");
    let env = [(
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",
        file.to_str().expect("UTF-8"),
    )];
    let args = ["--builder", &builder.name];
    assert!(
        build(&client, "cachex", &args, folder.path(), &[])
            .status
            .success()
    );
    for tool in ["cachex", "buildx"] {
        let output = build(&client, tool, &args, folder.path(), &env);
        assert_eq!(output.status.code(), Some(1), "{tool}");
        let errors = text(&output.stderr);
        assert!(errors.contains("denied by policy"), "{tool}: {errors}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_that_loads_does_so_unless_told_not_to() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let name = unique("loads");
    client.create("cachex", &name, "network=host,default-load=true", &[]);
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6")]);
    let is_loaded = |builder: &str, env: &[(&str, &str)]| {
        let tag = unique("loads");
        let args = ["--builder", builder, "-t", &tag];
        let output = build(&client, "cachex", &args, folder.path(), env);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let loaded = client.docker(&["image", "inspect", &tag]).status.success();
        client.docker(&["image", "rm", &tag]);
        (loaded, errors.contains("No output specified"))
    };
    let loads = is_loaded(&name, &[]);
    let told_not_to = is_loaded(&name, &[("BUILDX_NO_DEFAULT_LOAD", "1")]);
    client.docker_ok(&["cachex", "rm", &name]);
    assert_eq!(loads, (true, false));
    assert_eq!(told_not_to, (false, false));
    assert_eq!(is_loaded(&builder.name, &[]), (false, true));
}

/// The warning comes with every kind of progress, as in buildx, and not where nothing is built.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_result_that_goes_nowhere_is_told_of_with_every_progress() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[
        ("Dockerfile", "FROM scratch\nCOPY amd64 /\n"),
        ("amd64", "6"),
    ]);
    for (args, expected) in [
        (&["-q"][..], true),
        (&["--progress=quiet"], true),
        (&["--progress=rawjson"], true),
        (&["--progress=none"], true),
        (&["--progress=plain"], true),
        (&["-q", "--call=check"], false),
        (&["-q", "-o=type=cacheonly"], false),
    ] {
        for tool in ["cachex", "buildx"] {
            let path = folder.path().to_str().expect("a path in UTF-8");
            let first = [tool, "build", "--builder", &builder.name];
            let output = client.docker(&[&first[..], args, &[path]].concat());
            let errors = text(&output.stderr);
            assert!(output.status.success(), "{tool} {args:?}: {errors}");
            let last = errors.lines().last().unwrap_or_default();
            let warns =
                last.starts_with("WARNING: No output specified with docker-container driver. ");
            assert_eq!(warns, expected, "{tool} {args:?}: {errors}");
        }
    }
}

/// Serves one text under every path, for so many requests.
fn serve(body: &'static str, requests: usize) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            let _read = stream.read(&mut head).expect("a request");
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
    });
    (port, thread)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_dockerfile_comes_from_a_url() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let (port, thread) = serve("FROM scratch\nCOPY file /from-url\n", 1);
    let folder = context(&[("Dockerfile", "FROM nowhere\n"), ("file", "x")]);
    let out = folder.path().join("out");
    let url = format!("http://127.0.0.1:{port}/Dockerfile");
    let dest = out.to_str().expect("UTF-8");
    let args = ["--builder", &builder.name, "-f", &url, "-o", dest];
    let output = build(&client, "cachex", &args, folder.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(out.join("from-url").exists());
    thread.join().expect("the server");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_outside_is_deleted_only_when_allowed() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6"), ("out/old", "o")]);
    let out = folder.path().join("out");
    let output = format!("type=local,mode=delete,dest={}", out.display());
    let args = ["--builder", &builder.name, "-o", &output];
    let refused = build(&client, "cachex", &args, folder.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("requires --allow=buildx.local.delete"));
    assert!(out.join("old").exists());
    let allowed = [&args[..], &["--allow=buildx.local.delete"]].concat();
    let done = build(&client, "cachex", &allowed, folder.path(), &[]);
    let errors = text(&done.stderr);
    assert!(!errors.contains("requires --allow"), "{errors}");
    // A builder that cannot say what to delete must not lose anything either.
    let old = out.join("old").exists();
    assert_eq!(old, !done.status.success(), "{errors}");
    assert!(old == errors.contains("needs a newer BuildKit"), "{errors}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn older_flags_and_resources_are_taken() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6")]);
    let flags: [&[&str]; 4] = [
        &[
            "-m",
            "1g",
            "--memory-swap=-1",
            "-c",
            "5",
            "--cpu-period=1",
            "--cpuset-cpus=0",
        ],
        &[
            "--rm",
            "--force-rm",
            "--compress",
            "--isolation=x",
            "--security-opt=y",
        ],
        &["--call=build", "--network=default", "--shm-size=64m"],
        &[
            "--ulimit=nofile=10:20",
            "--cgroup-parent=/x",
            "--pull",
            "--no-cache",
        ],
    ];
    for args in flags {
        for tool in ["cachex", "buildx"] {
            let all = [&["--builder", &builder.name], args].concat();
            let output = build(&client, tool, &all, folder.path(), &[]);
            assert!(
                output.status.success(),
                "{tool} {args:?} {}",
                text(&output.stderr)
            );
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_oci_layout_is_a_context() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let dockerfile = format!("FROM {}\nRUN echo made > /made\n", rig.busybox);
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let archive = folder.path().join("layout.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let args = [
        "--builder",
        &builder.name,
        "-o",
        &output,
        "-t",
        "r.io/made:v1",
    ];
    let made = build(&client, "buildx", &args, folder.path(), &[]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let layout = folder.path().join("layout");
    let file = fs_err::File::open(&archive).expect("an archive");
    tar::Archive::new(file).unpack(&layout).expect("a layout");

    let user = context(&[("Dockerfile", "FROM scratch\nCOPY --from=base /made /copy\n")]);
    // Its only manifest is found by any tag, and by none.
    for (tool, tag) in [
        ("cachex", ":v1"),
        ("cachex", ""),
        ("buildx", ""),
        ("cachex", ":v2"),
        ("buildx", ":v2"),
    ] {
        let out = user.path().join(format!("{tool}{}", tag.replace(':', "-")));
        let base = format!("base=oci-layout://{}{tag}", layout.display());
        let dest = out.to_str().expect("UTF-8");
        // Another builder, which has nothing of the image yet, for each.
        let fresh = client.builder("cachex");
        let args = [
            "--builder",
            &fresh.name,
            "--build-context",
            &base,
            "-o",
            dest,
        ];
        let done = build(&client, tool, &args, user.path(), &[]);
        assert!(done.status.success(), "{tool}: {}", text(&done.stderr));
        let copy = fs_err::read_to_string(out.join("copy")).expect("a file");
        assert_eq!(copy, "made\n", "{tool}{tag}");
    }
}

/// Bytes that are not text are a secret like others; a variable that is not set is an empty one.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn secrets_of_variables_are_bytes_and_may_be_empty() {
    use std::os::unix::ffi::OsStrExt as _;

    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=secret,id=a,required=true \
         echo SAID $(od -An -tx1 /run/secrets/a) of {}\n",
        rig.busybox,
        unique("secret")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let said = |tool: &str, name: &str| {
        let builder = format!("--builder={}", builder.name);
        let secret = format!("--secret=id=a,env={name}");
        let mut command = client.command(&[
            tool,
            "build",
            "--progress=plain",
            "--no-cache",
            &builder,
            &secret,
            ".",
        ]);
        command.current_dir(folder.path());
        command.env("BYTES", std::ffi::OsStr::from_bytes(b"a\xff\xfe"));
        let output = command.output().expect("the docker CLI");
        let log = text(&output.stderr);
        assert!(output.status.success(), "{tool}: {log}");
        let line = log
            .lines()
            .filter(|line| !line.contains("echo SAID"))
            .find_map(|line| line.split_once(" SAID "));
        let said = line.map(|(_, said)| said.to_owned());
        (said.unwrap_or_else(|| panic!("{log}")), log)
    };
    for name in ["BYTES", "NOT_SET_AT_ALL"] {
        assert_eq!(said("cachex", name).0, said("buildx", name).0, "{name}");
    }
    assert!(said("cachex", "BYTES").0.starts_with("61 ff fe of"));
    let warning = "environment variable NOT_SET_AT_ALL is not set";
    assert_eq!(
        said("cachex", "NOT_SET_AT_ALL").1.matches(warning).count(),
        1
    );
}

/// A name that is no text is not the name of the default builder.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_that_is_no_text_is_not_the_default() {
    use std::os::unix::ffi::OsStrExt as _;

    let client = Rig::get().client();
    let name = std::ffi::OsStr::from_bytes(b"b\xff");
    let output = client
        .command(&["cachex", "inspect"])
        .env("BUILDX_BUILDER", name)
        .output();
    let output = output.expect("the docker CLI");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("no builder \"b\u{fffd}\" found"));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_is_shown_in_docker_desktop_where_that_is_in_use() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let home = tempfile::tempdir().expect("a folder");
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let lines = |tool: &str| {
        let args = ["--builder", &builder.name];
        let home = home.path().to_str().expect("UTF-8");
        let output = build(&client, tool, &args, folder.path(), &[("HOME", home)]);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{tool}: {errors}");
        let lines = errors.lines();
        let lines = lines.filter_map(|line| line.strip_prefix("View build details: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines("cachex"), Vec::<String>::new());
    let desktop = home.path().join(".docker/desktop-build");
    fs_err::create_dir_all(&desktop).expect("a folder");
    fs_err::write(desktop.join(".lastaccess"), "").expect("a file");
    let shown = TOOLS.map(|tool| {
        let [line] = &lines(tool)[..] else {
            panic!("{tool}: one line");
        };
        // The last part names the build.
        let (place, build) = line.rsplit_once('/').expect("an address");
        assert_eq!(build.len(), 25, "{line}");
        place.to_owned()
    });
    assert_eq!(shown[0], shown[1]);
    let expected = format!("docker-desktop://dashboard/build/{0}/{0}0", builder.name);
    assert_eq!(shown[1], expected);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn long_names_are_cut_where_the_user_says_so() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let long = format!("RUN echo {}\n", "long ".repeat(60));
    let dockerfile = format!("FROM {}\n{long}", Rig::get().busybox);
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let name = |tool: &str, value: &str| {
        let (args, env) = (["--builder", &builder.name], ("PROGRESS_NO_TRUNC", value));
        let output = build(&client, tool, &args, folder.path(), &[env]);
        let errors = text(&output.stderr);
        let line = errors.lines().find(|line| line.contains("] RUN echo"));
        let line = line.unwrap_or_else(|| panic!("{tool}: {errors}"));
        let (_number, name) = line.split_once(' ').expect("a name");
        name.to_owned()
    };
    for value in ["0", "1"] {
        let [theirs, ours] = TOOLS.map(|tool| name(tool, value));
        assert_eq!(ours, theirs, "PROGRESS_NO_TRUNC={value}");
        assert_eq!(ours.contains("..."), value == "0", "{ours}");
    }
}
