//! What the GitHub actions of Docker call, and what they read of it: the same with this program in buildx's place.
//!
//! The calls and the fields are those of docker/actions-toolkit, setup-buildx-action and build-push-action.

use std::collections::BTreeMap;

use fs_err as fs;
use serde_json::Value;

use super::{Said, aliased, text};
use crate::support::rig::{Client, Rig, context, unique};

/// What the toolkit makes of `version`: the first word after a space that looks like a version or a revision.
fn version(text: &str) -> Option<String> {
    let word = text.split_whitespace().nth(1)?;
    let word = word.strip_prefix('v').unwrap_or(word);
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.');
    Some(word[..end.unwrap_or(word.len())].to_owned())
}

/// What the toolkit makes of `inspect`: for the builder and each node the keys that it knows, with their values.
fn inspected(text: &str) -> Vec<BTreeMap<String, String>> {
    const KEYS: [&str; 17] = [
        "name",
        "driver",
        "last activity",
        "endpoint",
        "driver options",
        "status",
        "flags",
        "buildkitd flags",
        "buildkit daemon flags",
        "buildkit",
        "buildkit version",
        "platforms",
        "features",
        "labels",
        "devices",
        "gc policy rule#0",
        "file#buildkitd.toml",
    ];
    let mut parts: Vec<BTreeMap<String, String>> = vec![BTreeMap::new()];
    let mut section = String::new();
    for line in text.lines() {
        if line.starts_with("Nodes:") {
            parts.push(BTreeMap::new());
            continue;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let (key, value) = (key.to_lowercase(), value.trim().to_owned());
        let part = parts.last_mut().expect("a part");
        if line.starts_with([' ', '\t']) {
            part.insert(format!("{section}/{}", key.trim()), value);
        } else {
            assert!(
                KEYS.contains(&&*key) || key.starts_with("gc policy rule#"),
                "{line}"
            );
            section.clone_from(&key);
            part.insert(key, value);
        }
    }
    for part in &mut parts {
        part.remove("last activity");
        // buildx has them in another order each time.
        if let Some(options) = part.get_mut("driver options") {
            let mut words: Vec<&str> = options.split(' ').collect();
            words.sort_unstable();
            *options = words.join(" ");
        }
        // Names are drawn by each.
        part.retain(|_, value| !value.is_empty());
    }
    parts
}

/// The shape of a JSON value, and what of it is no digest, time or name of the run.
fn shape(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                shape(value, &format!("{path}/{key}"), out);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                shape(value, &format!("{path}/{at}"), out);
            }
        }
        other => {
            out.insert(path.to_owned(), other.to_string());
        }
    }
}

fn run(client: &Client, args: &[&str]) -> Said {
    let mut command = client.command(&[&["buildx"], args].concat());
    command.env("BUILDX_METADATA_WARNINGS", "true");
    if args.first() == Some(&"inspect") {
        command.env("DEBUG", "1");
    }
    Said::from(command.output().expect("docker"))
}

/// All that the actions read of a job, by what it is.
fn job(client: &Client) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut note = |key: &str, value: String| seen.insert(key.to_owned(), value);
    let builder = unique("it-job");
    let ok = |args: &[&str]| {
        let said = run(client, args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:#?}");
        said
    };
    ok(&[]);
    note(
        "version",
        version(&ok(&["version"]).stdout).unwrap_or_default(),
    );
    let image = format!("image={},network=host", Rig::get().builder_image);
    let flags =
        "--allow-insecure-entitlement security.insecure --allow-insecure-entitlement network.host";
    ok(&[
        "create",
        "--name",
        &builder,
        "--driver",
        "docker-container",
        "--driver-opt",
        &image,
        "--buildkitd-flags",
        flags,
        "--use",
    ]);
    ok(&["inspect", "--bootstrap", "--builder", &builder]);
    let _guard = Guard(client, builder.clone());
    for (at, part) in inspected(&ok(&["inspect", &builder]).stdout)
        .into_iter()
        .enumerate()
    {
        for (key, value) in part {
            // The values of labels are a builder's own.
            let value = if key.contains("labels/") {
                String::new()
            } else {
                value
            };
            note(
                &format!("inspect/{at}/{key}"),
                value.replace(&builder, "BUILDER"),
            );
        }
    }
    // Three warnings of the Dockerfile's checks.
    let dockerfile = format!(
        "FROM {} as base\nARG A\nENV SECRET_TOKEN=x\nMAINTAINER me\nFROM base\nCOPY file /\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile), ("file", "x")]);
    let path = folder.path().to_str().expect("UTF-8");
    let (iid, metadata) = (
        folder.path().join("../iid"),
        folder.path().join("meta.json"),
    );
    let (iid, meta) = (
        iid.to_str().expect("UTF-8"),
        metadata.to_str().expect("UTF-8"),
    );
    let tag = format!("{}/{}:1", Rig::get().registry.host(), unique("it/job"));
    let iidfile = format!("{iid}-{builder}");
    ok(&[
        "build",
        "--builder",
        &builder,
        "--add-host",
        "a:127.0.0.1",
        "--allow",
        "network.host",
        "--annotation",
        "manifest:k=v",
        "--attest",
        "type=provenance,mode=max",
        "--build-arg",
        "A=1",
        "--iidfile",
        &iidfile,
        "--label",
        "l=1",
        "--platform",
        "linux/amd64",
        "--shm-size",
        "64m",
        "--tag",
        &tag,
        "--ulimit",
        "nofile=1024",
        "--metadata-file",
        meta,
        "--network",
        "host",
        "--pull",
        "--push",
        path,
    ]);
    let json: Value = serde_json::from_slice(&fs::read(&metadata).expect("a file")).expect("JSON");
    let id = fs::read_to_string(&iidfile).expect("a file");
    fs::remove_file(&iidfile).expect("a file");
    note(
        "iidfile is the digest",
        (json["containerimage.digest"] == id.as_str()).to_string(),
    );
    let mut all = BTreeMap::new();
    // BuildKit reports them in any order.
    let mut warnings = json["buildx.build.warnings"].clone();
    if let Some(list) = warnings.as_array_mut() {
        list.sort_by_key(|warning| warning["short"].to_string());
    }
    shape(&warnings, "warnings", &mut all);
    // Digests of the session and of what names it.
    all.retain(|key, _| !key.contains("/definition/") && !key.ends_with("/vertex"));
    for (key, value) in all {
        note(&key, value);
    }
    note(
        "keys",
        format!(
            "{:?}",
            json.as_object().map(|all| {
                let mut keys: Vec<_> = all.keys().collect();
                keys.sort();
                keys
            })
        ),
    );
    let reference = json["buildx.build.ref"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let parts: Vec<&str> = reference.split('/').collect();
    note("ref", format!("{} {}", parts.len(), parts[0] == builder));
    let refs = client
        .config()
        .join("buildx/refs")
        .join(parts[..2].join("/"))
        .join(parts[2]);
    let kept: Value = serde_json::from_slice(&fs::read(refs).expect("the ref")).expect("JSON");
    note("LocalPath", (kept["LocalPath"] == path).to_string());
    note(
        "DockerfilePath",
        kept["DockerfilePath"].to_string().replace(path, "PATH"),
    );

    let check = run(
        client,
        &["build", "--builder", &builder, "--call", "check", path],
    );
    note(
        "check",
        format!(
            "{:?} {}",
            check.code,
            check.stdout.lines().next().unwrap_or_default()
        ),
    );
    let wrong = run(
        client,
        &["build", "--builder", &builder, "--target", "none", path],
    );
    let last = wrong.stderr.trim_end().lines().last();
    let last = last.unwrap_or_default().to_owned();
    note(
        "failure",
        format!(
            "{:?} {}",
            wrong.code,
            last.split(": ").next().unwrap_or_default()
        ),
    );
    note("failure is about", last.contains("none").to_string());

    // After the job: a summary from the history, which is handed on.
    let history = ok(&[
        "history",
        "inspect",
        "--builder",
        &builder,
        "--format",
        "json",
        parts[2],
    ]);
    let history: Value = serde_json::from_str(&history.stdout).expect("JSON");
    for key in [
        "Status",
        "Platform",
        "NumCompletedSteps",
        "NumTotalSteps",
        "Error",
    ] {
        note(key, history[key].to_string().replace(path, "PATH"));
    }
    let removed = ok(&["rm", "--keep-state", &builder]);
    note("rm", removed.stderr.replace(&builder, "BUILDER"));
    seen
}

struct Guard<'a>(&'a Client, String);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let container = format!("buildx_buildkit_{}0", self.1);
        self.0.docker(&["rm", "--force", "--volumes", &container]);
        self.0
            .docker(&["volume", "rm", "--force", &format!("{container}_state")]);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_job_reads_the_same_of_both() {
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| job(&Rig::get().client()));
        let ours = scope.spawn(|| job(&aliased()));
        (theirs.join().expect("theirs"), ours.join().expect("ours"))
    });
    assert!(theirs.contains_key("warnings/2/short"), "{theirs:#?}");
    assert!(
        theirs["inspect/1/features/cache export"].contains("true"),
        "{theirs:#?}"
    );
    for (key, value) in &theirs {
        assert_eq!(ours.get(key), Some(value), "{key}\n{ours:#?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn versions_are_read_as_the_toolkit_does() {
    for (text, want) in [
        ("github.com/docker/buildx v0.36.1 cachex-0.1.0", "0.36.1"),
        ("github.com/docker/buildx 0.29.1+ds1 0.29.1+ds1-4", "0.29.1"),
    ] {
        assert_eq!(version(text).as_deref(), Some(want));
    }
    let (said, _) = aliased().docker_ok(&["buildx", "version"]);
    assert!(
        version(&said).is_some_and(|found| found.split('.').count() == 3),
        "{said}"
    );
    assert!(text(said.as_bytes()).ends_with('\n'));
}
