//! What `build` makes, and what its flags do: the same as with `docker buildx build` on the same builder.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, Weak};

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, is_cached};
use crate::support::compare::{archive, paths, tree, without_times};
use crate::support::registry::Manifest;
use crate::support::rig::{Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

const TOOLS: [&str; 2] = ["buildx", "cachex"];

/// A Dockerfile with two targets, arguments and most kinds of configuration.
fn rich_context() -> TempDir {
    let busybox = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {busybox} AS base\nARG WHAT=default\nENV WHAT=$WHAT\nRUN echo $WHAT {} > /what\n\
         FROM base AS other\nRUN echo other > /other\n\
         FROM base AS prod\nLABEL from=dockerfile\nCOPY . /app\nWORKDIR /app\nUSER 1000:1000\nEXPOSE 80/tcp\nVOLUME /data\n\
         STOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"/bin/busybox\"]\nCMD [\"echo\", \"hi\"]\n",
        unique("rich")
    );
    context(&[("Dockerfile", &dockerfile), ("src/a", "a"), ("b", "b")])
}

/// Builds the same with both tools, each under a repository of its own.
fn push_both(bench: &Bench, folder: &Path, args: &[&str]) -> [(String, Manifest); 2] {
    TOOLS.map(|tool| {
        let registry = &Rig::get().registry;
        let repository = unique("it/image");
        let name = format!("{}/{repository}:v1", registry.host());
        let mut all = vec!["--push", "-t", &name];
        all.extend(args);
        bench.build(tool, &all, folder);
        let manifest = registry.manifest(&repository, "v1").expect("an image");
        (repository, manifest)
    })
}

#[test]
fn pushed_images_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    for args in [
        &["--provenance=false"][..],
        &[
            "--provenance=false",
            "--target=other",
            "--platform=linux/amd64",
        ],
        &[
            "--provenance=false",
            "--build-arg=WHAT=given",
            "--label=a=b",
            "--label=from=flag",
            "--target=prod",
        ],
        &[
            "--provenance=false",
            "--annotation=k=v,w",
            "--annotation=manifest:x=y",
        ],
        &[
            "--provenance=false",
            "--build-arg=SOURCE_DATE_EPOCH=1700000000",
        ],
        &[
            "--provenance=false",
            "--build-arg=SOURCE_DATE_EPOCH=1700000000",
            "-o",
            "type=image,push=true,rewrite-timestamp=true,compression=zstd,force-compression=true",
        ],
        &[
            "--provenance=false",
            "-o",
            "type=registry,oci-mediatypes=false",
        ],
        &[
            "--attest=type=provenance,disabled=true",
            "-o",
            "type=image,push=true,annotation.z=1",
        ],
    ] {
        let folder = rich_context();
        let [(peers, peer), (ours, our)] = push_both(&bench, folder.path(), args);
        let configs = [registry.config(&peers, &peer), registry.config(&ours, &our)];
        let [peer_config, our_config] = configs.map(without_times);
        assert_eq!(peer_config, our_config, "{args:?}");
        // All is in the cache for the second, so even the times are the same.
        assert_eq!(peer.json, our.json, "{args:?}");
        assert_eq!(peer.digest, our.digest, "{args:?}");
    }
}

#[test]
fn the_epoch_comes_from_the_environment_too() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    let folder = rich_context();
    let created = TOOLS.map(|tool| {
        let repository = unique("it/epoch");
        let name = format!("{}/{repository}:v1", registry.host());
        let output = bench
            .command(
                tool,
                &["--provenance=false", "--push", "-t", &name],
                folder.path(),
            )
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let manifest = registry.manifest(&repository, "v1").expect("an image");
        (
            registry.config(&repository, &manifest)["created"].clone(),
            manifest.digest,
        )
    });
    assert_eq!(created[0].0, "2023-11-14T22:13:20Z");
    assert_eq!(created[0], created[1]);
}

#[test]
fn attestations_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    for args in [
        &[][..],
        &["--provenance=mode=max"],
        &[
            "--provenance=true",
            "--platform=linux/amd64,linux/arm64",
            "--target=plain",
        ],
        &["--attest=type=provenance,mode=min,version=v1"],
        &[
            "--annotation=index:k=v",
            "--annotation=manifest-descriptor:d=e",
        ],
    ] {
        let dockerfile = format!(
            "FROM {} AS run\nRUN echo {}\nFROM scratch AS plain\nCOPY b /\nFROM run\n",
            Rig::get().busybox,
            unique("x")
        );
        let folder = context(&[("Dockerfile", &dockerfile), ("b", "b")]);
        let shapes = push_both(&bench, folder.path(), args).map(|(repository, manifest)| {
            let list = manifest.json["manifests"]
                .as_array()
                .expect("an index")
                .clone();
            let mut parts = Vec::new();
            for entry in &list {
                let digest = entry["digest"].as_str().expect("a digest");
                let part = registry.manifest(&repository, digest).expect("a part");
                let platform = entry["platform"].clone();
                let is_image = platform["os"] != "unknown";
                let content = if is_image {
                    without_times(registry.config(&repository, &part))
                } else {
                    attestation(&repository, &part)
                };
                parts.push((platform, content, part.json["annotations"].clone()));
            }
            (
                manifest.media_type.clone(),
                manifest.json["annotations"].clone(),
                parts,
            )
        });
        assert_eq!(shapes[0], shapes[1], "{args:?}");
    }
}

/// The kinds of predicates, and the keys in each, without what differs between two builds.
fn attestation(repository: &str, manifest: &Manifest) -> Value {
    let registry = &Rig::get().registry;
    let layers = manifest.json["layers"].as_array().expect("layers");
    layers
        .iter()
        .map(|layer| {
            let digest = layer["digest"].as_str().expect("a digest");
            let statement: Value =
                serde_json::from_slice(&registry.blob(repository, digest)).expect("JSON");
            let mut keys = Vec::new();
            paths(&statement["predicate"], "", &mut keys);
            keys.sort();
            keys.dedup();
            serde_json::json!([statement["predicateType"], keys])
        })
        .collect()
}

#[test]
fn loaded_images_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    for args in [
        &["--load"][..],
        &[
            "--load",
            "--provenance=false",
            "--label=a=b",
            "--target=other",
        ],
        &["-o", "type=docker"],
    ] {
        let folder = rich_context();
        let images = TOOLS.map(|tool| {
            let name = format!("{}:v1", unique("it-loaded"));
            let mut all = vec!["-t", &name];
            all.extend(args);
            let progress = bench.build(tool, &all, folder.path());
            assert!(progress.contains("importing to docker"), "{progress}");
            let (json, _) = bench.client.docker_ok(&["image", "inspect", &name]);
            let (said, _) = bench.client.docker_ok(&[
                "run",
                "--rm",
                "--entrypoint=/bin/busybox",
                &name,
                "cat",
                "/what",
            ]);
            assert!(said.contains("rich-"), "{said}");
            bench.client.docker_ok(&["rmi", "--force", &name]);
            let list: Value = serde_json::from_str(&json).expect("JSON");
            let keep = ["Architecture", "Os", "Config", "RootFS", "Size", "Created"];
            keep.map(|key| list[0][key].clone())
        });
        assert_eq!(images[0], images[1], "{args:?}");
    }
}

#[test]
fn files_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {} AS made\nRUN mkdir -p /out/dir && cd /out && echo {} > file && ln -s file link && ln file hard && chmod 4711 file && head -c 300000 /dev/urandom > dir/large\n\
         FROM scratch\nCOPY --from=made /out /\n",
        Rig::get().busybox,
        unique("files")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let out = TempDir::new().expect("a temporary folder");
    let path = |tool: &str, name: &str| format!("{}/{tool}-{name}", out.path().display());
    for tool in TOOLS {
        for (name, args) in [
            ("bare", vec![format!("--output={}", path(tool, "bare"))]),
            (
                "local",
                vec![format!("--output=type=local,dest={}", path(tool, "local"))],
            ),
            (
                "tar",
                vec![format!("--output=type=tar,dest={}", path(tool, "tar"))],
            ),
            (
                "oci",
                vec![format!(
                    "--output=type=oci,dest={},name=it/x:1",
                    path(tool, "oci")
                )],
            ),
            (
                "docker",
                vec![
                    format!("--output=type=docker,dest={}", path(tool, "docker")),
                    "--tag=it/y:2".into(),
                ],
            ),
            (
                "both",
                vec![
                    format!("--output=type=local,dest={}", path(tool, "both")),
                    format!("--output=type=tar,dest={}", path(tool, "both.tar")),
                    "--output=type=cacheonly".into(),
                ],
            ),
        ] {
            let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
            args.push("--provenance=false");
            bench.build(tool, &args, folder.path());
            assert!(Path::new(&path(tool, name)).exists(), "{tool} {name}");
        }
        for kind in ["tar", "oci"] {
            let args = [
                &format!("--output=type={kind},dest=-")[..],
                "--provenance=false",
            ];
            let output = bench.try_build(tool, &args, folder.path());
            assert!(output.status.success(), "{}", text(&output.stderr));
            fs::write(path(tool, &format!("{kind}-stdout")), output.stdout).expect("a file");
        }
    }
    compare_files(out.path());
}

/// Compares what both tools wrote into a folder, each under its name.
fn compare_files(out: &Path) {
    let path = |tool: &str, name: &str| format!("{}/{tool}-{name}", out.display());
    for name in ["bare", "local", "both"] {
        let trees = TOOLS.map(|tool| tree(Path::new(&path(tool, name))));
        assert_eq!(trees[0].len(), 5, "{:?}", trees[0]);
        assert_eq!(trees[0], trees[1], "{name}");
        let linked = |name: &str| {
            fs::metadata(format!("{}/{name}", path("cachex", "local")))
                .expect("a file")
                .ino()
        };
        assert_eq!(linked("file"), linked("hard"));
    }
    for name in [
        "tar",
        "both.tar",
        "tar-stdout",
        "oci",
        "oci-stdout",
        "docker",
    ] {
        let entries = TOOLS.map(|tool| archive(Path::new(&path(tool, name))));
        assert!(entries[0].len() > 3, "{:?}", entries[0]);
        assert_eq!(entries[0], entries[1], "{name}");
    }
    // Nothing but what was asked for.
    let names = tree(out)
        .into_keys()
        .filter(|name| !name.contains('/'))
        .count();
    assert_eq!(names, 18);
}

#[test]
fn the_files_about_the_result_are_the_peers() {
    let bench = Bench::shared(&SHARED);
    let folder = rich_context();
    let out = TempDir::new().expect("a temporary folder");
    let app = format!("{}/{}", Rig::get().registry.host(), unique("it/meta"));
    let cache = format!("type=registry,ref={app}:cache,mode=max");
    for args in [
        &["--push", "-t", &app][..],
        &["--push", "-t", &app, "--provenance=false"],
        &["--push", "-t", &app, "--provenance=mode=max"],
        &["--load", "-t", "it-meta:1"],
        &["-o", "type=cacheonly"],
        &["--push", "-t", &app, "--cache-to", &cache],
    ] {
        let facts = TOOLS.map(|tool| {
            let meta = out.path().join("meta");
            let iid = out.path().join("iid");
            let meta_flag = format!("--metadata-file={}", meta.display());
            let iid_flag = format!("--iidfile={}", iid.display());
            let mut all = vec![&*meta_flag, &iid_flag];
            all.extend(args);
            bench.build(tool, &all, folder.path());
            let data: Value =
                serde_json::from_slice(&fs::read(&meta).expect("metadata")).expect("JSON");
            let mut keys = Vec::new();
            paths(&data, "", &mut keys);
            keys.sort();
            keys.dedup();
            let iid = fs::read_to_string(iid).expect("an identifier");
            let same = data["containerimage.digest"] == *iid;
            let name = data["image.name"].clone();
            (keys, iid.len(), same, name)
        });
        assert_eq!(facts[0], facts[1], "{args:?}");
    }
    bench.client.docker_ok(&["rmi", "--force", "it-meta:1"]);
}

/// Runs a Dockerfile with both tools, each without the other's cache; the lines that its last step printed.
fn said(bench: &Bench, dockerfile: &str, args: &[&str], files: &[(&str, &str)]) -> Vec<String> {
    let dockerfile = dockerfile.replace("BUSYBOX", &Rig::get().busybox);
    let mut all = vec![("Dockerfile", &*dockerfile)];
    all.extend(files);
    let folder = context(&all);
    let said = TOOLS.map(|tool| {
        let mut args = args.to_vec();
        args.push("--no-cache");
        let progress = bench.build(tool, &args, folder.path());
        // `#5 0.123 SAID …`, unlike the step's name
        let lines = progress
            .lines()
            .filter(|line| !line.contains("] RUN "))
            .filter_map(|line| line.split_once(" SAID "));
        lines.map(|(_, said)| said.to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(said[0], said[1], "{args:?}");
    assert!(!said[1].is_empty(), "{dockerfile}");
    said[1].clone()
}

#[test]
fn flags_of_steps_do_what_the_peers_do() {
    let bench = Bench::shared(&SHARED);
    let limits = said(
        &bench,
        "FROM BUSYBOX\nRUN echo SAID $(ulimit -n) $(df -k /dev/shm | tail -1 | awk '{print $2}') $(grep here /etc/hosts)\n",
        &[
            "--ulimit=nofile=1000:2000",
            "--shm-size=70m",
            "--add-host=here:1.2.3.4",
        ],
        &[],
    );
    assert_eq!(limits, ["1000 71680 1.2.3.4 here"]);
    let network = "FROM BUSYBOX\nRUN echo SAID $(ls /sys/class/net | wc -l) $(hostname)\n";
    let none = said(&bench, network, &["--network=none"], &[]);
    let host = said(&bench, network, &["--network=host"], &[]);
    assert_ne!(none, host);
    let contexts = said(
        &bench,
        "FROM nosuchimage AS x\nRUN echo SAID $(cat /bin/busybox | wc -c)\nFROM BUSYBOX\nCOPY --from=x /bin/busybox /\n\
         COPY --from=more file /\nRUN echo SAID $(cat /file)\n",
        &[
            &format!(
                "--build-context=nosuchimage=docker-image://{}",
                Rig::get().busybox
            ),
            &format!("--build-context=more={}", more_folder().display()),
        ],
        &[],
    );
    assert_eq!(contexts.last().map(String::as_str), Some("of more"));
    let file = said(
        &bench,
        "FROM scratch\nNONSENSE\n",
        &["-f", &other_dockerfile().display().to_string()],
        &[("in-context", "seen")],
    );
    assert_eq!(file, ["seen"]);
}

/// Folders that outlive the call: they are in the folder for temporary files and small.
fn more_folder() -> std::path::PathBuf {
    context(&[("file", "of more")]).keep()
}

fn other_dockerfile() -> std::path::PathBuf {
    let text = format!(
        "FROM {}\nCOPY in-context /\nRUN echo SAID $(cat /in-context)\n",
        Rig::get().busybox
    );
    context(&[("Other.Dockerfile", &text)])
        .keep()
        .join("Other.Dockerfile")
}

#[test]
fn stages_are_left_out_of_the_cache_by_name() {
    let bench = Bench::shared(&SHARED);
    let busybox = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {busybox} AS one\nRUN echo one {0} > /1\nFROM {busybox} AS two\nRUN echo two {0} > /2\nCOPY --from=one /1 /\n",
        unique("x")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    bench.build("cachex", &[], folder.path());
    for tool in TOOLS {
        let progress = bench.build(tool, &["--no-cache-filter=two"], folder.path());
        assert!(is_cached(&progress, "RUN echo one"), "{progress}");
        assert!(!is_cached(&progress, "RUN echo two"), "{progress}");
        let progress = bench.build(tool, &["--no-cache"], folder.path());
        assert!(!is_cached(&progress, "RUN echo one"), "{progress}");
    }
}

#[test]
fn secrets_reach_the_step_and_nothing_else() {
    let bench = Bench::shared(&SHARED);
    let secret = unique("hidden");
    let files = [("token", &*secret)];
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=secret,id=a cat /run/secrets/a | rev > /a\n\
         RUN --mount=type=secret,id=b,env=B echo $B | rev >> /a\nRUN cat /a\n",
        Rig::get().busybox
    );
    let mut all = vec![("Dockerfile", &*dockerfile)];
    all.extend(files);
    let folder = context(&all);
    let reversed: String = secret.chars().rev().collect();
    let token = format!(
        "--secret=id=a,src={}",
        folder.path().join("token").display()
    );
    for tool in TOOLS {
        let output = bench
            .command(
                tool,
                &["--no-cache", &token, "--secret=id=b,env=SECRET_B"],
                folder.path(),
            )
            .env("SECRET_B", &secret)
            .output()
            .expect("the docker CLI");
        let progress = text(&output.stderr);
        assert!(output.status.success(), "{progress}");
        assert_eq!(progress.matches(&reversed).count(), 2, "{progress}");
        assert!(!progress.contains(&secret), "{progress}");
    }
    // A secret is no part of the key.
    let progress = bench
        .command(
            "cachex",
            &[&token, "--secret=id=b,env=SECRET_B"],
            folder.path(),
        )
        .env("SECRET_B", "other")
        .output()
        .expect("the docker CLI");
    assert!(is_cached(&text(&progress.stderr), "id=b"));
}

#[test]
fn an_agent_serves_the_steps() {
    let bench = Bench::shared(&SHARED);
    let folder = context(&[]);
    let socket = folder.path().join("agent");
    let _agent = FakeAgent::start(&socket);
    let ask = "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die; print $s pack(\"NC\", 1, 11); $s->flush; \
               read $s, $b, 9; ($n, $t, $k) = unpack(\"NCN\", $b); read $s, $c, $n - 5; print \"type $t keys $k \", substr($c, -8), \"\\n\"'";
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=ssh,required=true {ask}\n",
        Rig::get().base
    );
    let build = context(&[("Dockerfile", &dockerfile)]);
    let named = format!("--ssh=default={}", socket.display());
    for tool in TOOLS {
        for (flag, variable) in [
            (&*named, "/nowhere"),
            ("--ssh=default", socket.to_str().expect("UTF-8")),
        ] {
            let output = bench
                .command(tool, &["--no-cache", flag], build.path())
                .env("SSH_AUTH_SOCK", variable)
                .output()
                .expect("the docker CLI");
            let progress = text(&output.stderr);
            assert!(output.status.success(), "{progress}");
            assert!(
                progress.contains("type 12 keys 1 the-key!\n"),
                "{tool} {progress}"
            );
        }
    }
}

/// Answers the request for identities with one key, and nothing else.
struct FakeAgent;

impl FakeAgent {
    fn start(socket: &Path) -> Self {
        use std::io::{Read as _, Write as _};
        let listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
        // It ends with the test process; nobody waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut request = [0; 5];
                    while stream.read_exact(&mut request).is_ok() {
                        assert_eq!(request, [0, 0, 0, 1, 11]);
                        let mut answer = vec![12, 0, 0, 0, 1];
                        for part in [&b"\0\0\0\x07ssh-rsa"[..], b"the-key!"] {
                            answer.extend(u32::try_from(part.len()).expect("short").to_be_bytes());
                            answer.extend(part);
                        }
                        let length = u32::try_from(answer.len()).expect("short").to_be_bytes();
                        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self
    }
}

#[test]
fn entitlements_are_asked_as_the_peer_asks() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {}\nRUN --network=host echo {}\n",
        Rig::get().busybox,
        unique("x")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    for args in [
        &[][..],
        &["--allow=network.host"],
        &["--allow=security.insecure"],
        &["--allow=network.host", "--allow=security.insecure"],
    ] {
        let outcomes = TOOLS.map(|tool| {
            let output = bench.try_build(tool, args, folder.path());
            let stderr = text(&output.stderr);
            let error = stderr
                .lines()
                .find(|line| line.starts_with("ERROR: "))
                .map(str::to_owned);
            (output.status.code(), error)
        });
        assert_eq!(outcomes[0], outcomes[1], "{args:?}");
    }
}
