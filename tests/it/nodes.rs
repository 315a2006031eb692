//! A build on several nodes: each platform on the node that has it, one index, one folder.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bench::TOOLS;
use crate::support::caches::reference;
use crate::support::rig::{Client, Rig, context, text, unique};

const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY ${TARGETARCH} /arch\n";

/// A builder of two nodes, one for each platform. The second goes with it.
pub(crate) struct TwoNodes<'a> {
    client: &'a Client,
    pub(crate) name: String,
}

impl<'a> TwoNodes<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        let two = Self {
            client,
            name: unique("nodes"),
        };
        // Two nodes of one builder have two endpoints; a context makes another one of the engine.
        let engine = std::env::var("DOCKER_HOST").expect("the rig's engine");
        let host = format!("host={engine}");
        client.docker_ok(&["context", "create", "second", "--docker", &host]);
        let second: &[&str] = &["--append", "second"];
        for (platform, more) in [("linux/amd64", &[][..]), ("linux/386", second)] {
            let more = [&["--platform", platform, "--bootstrap"][..], more].concat();
            client.create("cachex", &two.name, "network=host", &more);
        }
        two
    }
}

impl Drop for TwoNodes<'_> {
    fn drop(&mut self) {
        // Nothing to do about a failure.
        self.client.docker(&["buildx", "rm", "--force", &self.name]);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn each_platform_is_built_on_its_node_and_all_are_one_image() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = TwoNodes::new(&client);
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6"), ("386", "3")]);
    let path = folder.path().to_str().expect("a path in UTF-8");
    let build = |tool: &str, args: &[&str]| {
        let mut all = vec![
            tool,
            "build",
            "--builder",
            &builder.name,
            "--progress=plain",
        ];
        all.extend(["--platform=linux/amd64,linux/386"]);
        all.extend(args);
        all.push(path);
        client.docker(&all)
    };
    let metadata = folder.path().join("metadata.json");
    let flag = format!("--metadata-file={}", metadata.display());
    let images = ["cachex", "buildx"].map(|tool| {
        let repository = unique("nodes");
        let name = format!("{}/{repository}:1", rig.registry.host());
        let output = build(
            tool,
            &[
                "--push",
                "-t",
                &name,
                &flag,
                "--annotation=index:k=v",
                "--annotation=manifest-descriptor[linux/386]:d=w",
                "--annotation=manifest:m=u",
            ],
        );
        assert!(output.status.success(), "{tool}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(&format!("merging manifest list {name}")));
        let index = rig.registry.manifest(&repository, "1").expect("an index");
        let file: Value =
            serde_json::from_slice(&fs_err::read(&metadata).expect("a file")).expect("JSON");
        assert_eq!(file["containerimage.digest"], index.digest, "{tool}");
        assert_eq!(
            file.as_object().expect("an object").len(),
            1,
            "{tool} {file}"
        );
        let platforms: Vec<String> = index.json["manifests"]
            .as_array()
            .expect("manifests")
            .iter()
            .map(|m| {
                let digest = m["digest"].as_str().expect("a digest");
                let image = rig.registry.manifest(&repository, digest);
                let image = image.expect("a manifest").json;
                // Digests differ by the times in images.
                let mut annotations = m["annotations"].clone();
                if let Some(annotations) = annotations.as_object_mut() {
                    annotations.remove("vnd.docker.reference.digest");
                }
                format!("{} {annotations} {}", m["platform"], image["annotations"])
            })
            .collect();
        let annotation = index.json["annotations"]["k"].clone();
        (index.media_type, platforms, annotation)
    });
    assert_eq!(images[0], images[1]);
    assert_eq!(images[0].2, "v");
    assert_eq!(images[0].1.len(), 4, "two images and their attestations");
    let annotated = images[0].1.iter();
    let annotated = annotated.filter(|m| m.contains("\"d\":\"w\"") && m.contains("\"m\":\"u\""));
    assert_eq!(annotated.count(), 1, "{images:?}");

    let out = folder.path().join("out");
    let output = build("cachex", &["-o", out.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (folder, content) in [("linux_amd64", "6"), ("linux_386", "3")] {
        let file = out.join(folder).join("arch");
        assert_eq!(fs_err::read_to_string(file).expect("a file"), content);
    }

    let local = format!("type=local,dest={}", out.display());
    let refused = build("cachex", &["--cache-to", &local]);
    assert_eq!(refused.status.code(), Some(1));
    let errors = text(&refused.stderr);
    assert!(
        errors.contains("each would overwrite") && errors.contains("hint:"),
        "{errors}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_caches_of_all_nodes_are_in_one_reference() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = TwoNodes::new(&client);
    let seed = unique("seed");
    let files = [("Dockerfile", DOCKERFILE), ("amd64", &seed), ("386", &seed)];
    let folder = context(&files);
    fs_err::write(folder.path().join("386"), format!("3 {seed}")).expect("a file");
    let cache = reference("nodes");
    let to = format!("type=registry,ref={cache},mode=max");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let mut args = vec!["cachex", "build", "--builder", &builder.name];
    args.extend(["--progress=plain", "--platform=linux/amd64,linux/386"]);
    args.extend(["--cache-to", &to, path]);
    client.docker_ok(&args);
    for tool in TOOLS {
        let fresh = client.builder("cachex");
        let args = ["--platform=linux/amd64,linux/386", "--cache-from", &cache];
        let log = fresh.build(tool, &args, folder.path());
        let hits = log.lines().filter(|line| line.ends_with(" CACHED"));
        assert_eq!(hits.count(), 2, "{tool}: {log}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn one_platform_of_another_node_goes_to_that_node() {
    let client = Rig::get().client();
    let builder = TwoNodes::new(&client);
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6"), ("386", "3")]);
    let out = folder.path().join("out");
    let metadata = folder.path().join("metadata.json");
    let flag = format!("--metadata-file={}", metadata.display());
    let args = [
        "cachex",
        "build",
        "--builder",
        &builder.name,
        "--platform=linux/386",
        &flag,
        "-o",
        out.to_str().expect("UTF-8"),
        folder.path().to_str().expect("UTF-8"),
    ];
    client.docker_ok(&args);
    let file = fs_err::read_to_string(out.join("arch")).expect("a file");
    assert_eq!(file, "3");
    let metadata = fs_err::read_to_string(metadata).expect("a metadata file");
    let node = format!("\"{0}/{0}1/", builder.name);
    assert!(metadata.contains(&node), "{metadata}");
}

/// A step that finishes, and one that ends on no node: on one it is `broken`, on the other it takes long.
fn half_broken(seed: &str, mended: bool) -> String {
    let base = &Rig::get().busybox;
    let last = if mended {
        "true"
    } else {
        "[ $TARGETARCH = amd64 ] || { sleep 4; echo broken; exit 7; }; sleep 41"
    };
    format!(
        "FROM --platform=$BUILDPLATFORM {base}\n\
         ARG TARGETARCH\n\
         RUN echo first; echo {seed} $TARGETARCH > /first\n\
         RUN {last}\n"
    )
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn when_one_node_fails_the_others_end_in_order() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = TwoNodes::new(&client);
    let seed = unique("half");
    let folder = context(&[("Dockerfile", &half_broken(&seed, false))]);
    let cache = reference("half");
    let to = format!("type=registry,ref={cache},mode=max,via=client");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let start = Instant::now();
    let output = client.docker(&[
        "cachex",
        "build",
        "--builder",
        &builder.name,
        "--progress=plain",
        "--platform=linux/386,linux/amd64",
        "--cache-to",
        &to,
        path,
    ]);
    let progress = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{progress}");
    assert!(start.elapsed() < Duration::from_secs(35), "{progress}");
    let error = progress.lines().rfind(|line| line.starts_with("ERROR: "));
    assert!(
        error.is_some_and(|e| e.contains("exit code: 7")),
        "{progress}"
    );
    // Both nodes keep what they have finished, and say which is which.
    for node in [0, 1] {
        let name = format!(" [{}{node}] exporting cache to {cache}", builder.name);
        assert!(progress.contains(&name), "{name}\n{progress}");
    }
    let is_kept = |line: &&str| line.contains("kept what has finished") && line.ends_with(" done");
    let kept = progress.lines().filter(is_kept).count();
    assert_eq!(kept, 2, "{progress}");
    let node = format!("buildx_buildkit_{}0", builder.name);
    let (left, _) = client.docker_ok(&["exec", &node, "ps", "-eo", "args"]);
    assert!(!left.contains("sleep 41"), "{left}");

    let folder = context(&[("Dockerfile", &half_broken(&seed, true))]);
    let fresh = client.builder("cachex");
    let args = ["--platform=linux/amd64,linux/386", "--cache-from", &cache];
    let log = fresh.build("cachex", &args, folder.path());
    // A step that runs prints this.
    assert!(!log.lines().any(|line| line.ends_with(" first")), "{log}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_the_nodes_share_is_told_once_and_before_the_display() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = TwoNodes::new(&client);
    let folder = context(&[("Dockerfile", DOCKERFILE), ("amd64", "6"), ("386", "3")]);
    let name = format!("{}/{}:1", rig.registry.host(), unique("once"));
    let output = client
        .command(&[
            "cachex",
            "build",
            "--builder",
            &builder.name,
            "--progress=plain",
        ])
        .args(["--platform=linux/386,linux/amd64", "--push", "-t", &name])
        .arg(folder.path())
        .env("DOCKER_AUTH_CONFIG", "{")
        .output()
        .expect("the docker CLI");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{progress}");
    let warning = "WARNING: DOCKER_AUTH_CONFIG is ignored";
    assert_eq!(progress.matches(warning).count(), 1, "{progress}");
    assert!(
        progress.find(warning) < progress.find("#0 building with"),
        "{progress}"
    );
    for node in [0, 1] {
        let step = format!(" [{}{node} ", builder.name);
        assert!(progress.contains(&step), "{step}\n{progress}");
    }
}
