//! What the flags for the steps of a build do: the same as with `docker buildx build` on the same builder.

use std::path::{Path, PathBuf};
use std::sync::Weak;

use parking_lot::Mutex;

use crate::support::bench::{Bench, Shared, TOOLS, is_cached};
use crate::support::rig::{Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

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
#[ignore = "needs the test rig: scripts/test"]
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
    // Not how many interfaces there are: the host's come and go with the builders of other tests.
    let network = "FROM BUSYBOX\nRUN cd /sys/class/net; for i in *; do [ $i = lo ] || more=yes; done; \
         echo SAID ${more:-none} $(hostname)\n";
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
fn more_folder() -> PathBuf {
    context(&[("file", "of more")]).keep()
}

fn other_dockerfile() -> PathBuf {
    let text = format!(
        "FROM {}\nCOPY in-context /\nRUN echo SAID $(cat /in-context)\n",
        Rig::get().busybox
    );
    context(&[("Other.Dockerfile", &text)])
        .keep()
        .join("Other.Dockerfile")
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
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
#[ignore = "needs the test rig: scripts/test"]
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
#[ignore = "needs the test rig: scripts/test"]
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
#[ignore = "needs the test rig: scripts/test"]
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
