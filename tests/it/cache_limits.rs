//! What an export costs: requests, bytes on the wire, memory, files.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::support::recorder::{Recorder, Request};
use crate::support::rig::{Client, Rig, context, text, unique};

/// The bound of the program's memory while it exports, in KiB.
const MEMORY: u64 = 150_000;

/// Bytes that were sent to upload sessions, and how many sessions were opened.
fn uploads(requests: &[Request]) -> (u64, usize) {
    let uploads = requests.iter().filter(|r| r.target.contains("/uploads/"));
    let opened = uploads.clone().filter(|r| r.method == "POST").count();
    (uploads.map(|r| r.body).sum(), opened)
}

fn steps(seed: &str, last: &str) -> String {
    format!(
        "FROM {}\n\
         RUN echo {seed} && head -c 3000000 /dev/urandom > /one\n\
         RUN head -c 2000000 /dev/urandom > /two\n\
         RUN echo {last} && head -c 500000 /dev/urandom > /three\n",
        Rig::get().busybox
    )
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn only_what_is_new_moves() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    for compressor in ["builder", "client"] {
        let recorder = Recorder::start(rig.registry.host());
        let (repository, seed) = (unique("it/moves"), unique("seed"));
        let to = format!(
            "type=registry,ref={}/{repository}:c,mode=max,via=client,compressor={compressor},compression=zstd",
            recorder.host()
        );
        let export = |dockerfile: &str| {
            let folder = context(&[("Dockerfile", dockerfile)]);
            let log = builder.build("cachex", &["--cache-to", &to], folder.path());
            (recorder.take(), log)
        };

        // Random content does not compress: every layer moves once, and little else.
        let (first, log) = export(&steps(&seed, "a"));
        let (bytes, opened) = uploads(&first);
        assert!(
            (6_500_000..8_000_000).contains(&bytes),
            "{bytes}: {first:?}"
        );
        // The base's layer, three own ones, the record and the config.
        assert_eq!(opened, 6, "{first:?}");
        assert!(log.contains("sent 4 of 4 layers"), "{log}");

        let (second, log) = export(&steps(&seed, "a"));
        assert!(second.len() <= 4, "{second:?}");
        assert_eq!(uploads(&second), (0, 0), "{second:?}");
        assert!(log.contains("nothing new"), "{log}");

        let (third, log) = export(&steps(&seed, "b"));
        let (bytes, opened) = uploads(&third);
        assert!((500_000..530_000).contains(&bytes), "{bytes}: {third:?}");
        assert_eq!(opened, 3, "the last layer, record and config: {third:?}");
        assert!(log.contains("sent 1 of 4 layers"), "{log}");
        // Old manifest, three layers asked for, layer, config asked for and sent, the old record, the new one asked for
        // and sent, manifest.
        assert!(third.len() <= 15, "{} requests: {third:?}", third.len());
    }
}

/// Runs the plugin itself, as the docker CLI does, and returns its peak memory in KiB.
fn peak(client: &Client, spool: &Path, args: &[&str]) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_docker-cachex"))
        .arg("cachex")
        .args(args)
        .env("DOCKER_CONFIG", client.config())
        .env("TMPDIR", spool)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin");
    let status = format!("/proc/{}/status", child.id());
    let limit = Instant::now() + Duration::from_secs(400);
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let high = high.and_then(|v| v.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(high.unwrap_or(0));
        let named = fs::read_dir(spool).expect("the spool folder").count();
        assert_eq!(named, 0, "a spool file with a name");
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        assert!(Instant::now() < limit, "the export takes too long");
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", text(&output.stderr));
    peak
}

/// Four layers of `size` at the same time: none is ever held whole, in memory or under a name.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn memory_stays_bounded_however_large_the_layers_are() {
    let size = std::env::var("CACHEX_TEST_LAYER").unwrap_or_else(|_| "134217728".into());
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let spool = tempfile::tempdir().expect("a folder");
    for compressor in ["builder", "client"] {
        let mut dockerfile = format!("FROM {}\n", rig.busybox);
        for n in 0..4 {
            let step = format!(
                "RUN echo {n}{} && head -c {size} /dev/urandom > /data{n}\n",
                unique("s")
            );
            dockerfile.push_str(&step);
        }
        let folder = context(&[("Dockerfile", &dockerfile)]);
        let to = format!(
            "type=registry,ref={}/{}:c,mode=max,via=client,compressor={compressor},compression=zstd",
            rig.registry.host(),
            unique("it/memory")
        );
        let folder = folder.path().to_str().expect("a path");
        let args = [
            "build",
            "--progress=plain",
            "--builder",
            &builder.name,
            "--cache-to",
            &to,
            folder,
        ];
        let start = Instant::now();
        let peak = peak(&client, spool.path(), &args);
        let seconds = start.elapsed().as_secs();
        eprintln!("compressor={compressor}: four layers of {size}, peak {peak} KiB, {seconds} s");
        assert!(peak > 1000, "no figure");
        assert!(peak < MEMORY, "compressor={compressor}: {peak} KiB");
    }
}
