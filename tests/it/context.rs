//! Large contexts: the client's memory stays small, and what the builder has is not sent again.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use fs_err as fs;

use crate::support::bench::{Bench, is_cached, sent};
use crate::support::rig::{Rig, context, plugin};

const FILES: usize = 20_000;
const LARGE: u64 = 2 << 30;
/// The most memory that the client may have used at any time.
const MEMORY_KB: u64 = 150 * 1024;

/// Builds with the plugin alone; gives the progress and the peak of its memory in KiB.
fn build(bench: &Bench, folder: &Path) -> (String, u64) {
    let mut child = Command::new(plugin())
        .env("DOCKER_CONFIG", bench.client.config())
        .args(["build", "--progress=plain"])
        .arg(folder)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin");
    let mut stderr = child.stderr.take().expect("a pipe");
    let reader = thread::spawn(move || {
        let mut progress = String::new();
        stderr.read_to_string(&mut progress).map(|_| progress)
    });
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        // The figure is gone when the process is; it only grows before.
        peak = peak.max(high_water(&status_file).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let progress = reader.join().expect("a thread").expect("the progress");
    assert!(status.success(), "{progress}");
    (progress, peak)
}

fn high_water(status_file: &str) -> Option<u64> {
    let status = fs::read_to_string(status_file).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn many_files_and_a_large_one() {
    let dockerfile = format!(
        "FROM {}\nCOPY . /ctx\nRUN ls /ctx | wc -l\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let root = folder.path();
    for number in 0..FILES {
        let dir = root.join(format!("dir{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir(&dir).expect("a folder");
        }
        let text = format!("{number:0>200}");
        fs::write(dir.join(format!("file{number}")), text).expect("a file");
    }
    let large = File::create(root.join("large")).expect("a file");
    large.set_len(LARGE).expect("a size");

    let bench = Bench::new();
    let (progress, peak) = build(&bench, root);
    let all = sent(&progress);
    assert!(all >= LARGE, "{progress}");
    assert!(!is_cached(&progress, "COPY . /ctx"), "{progress}");
    assert!(peak > 0 && peak < MEMORY_KB, "{peak} KiB");

    let (progress, peak) = build(&bench, root);
    assert!(sent(&progress) < all / 100, "{progress}");
    assert!(is_cached(&progress, "COPY . /ctx"), "{progress}");
    assert!(peak > 0 && peak < MEMORY_KB, "{peak} KiB");

    // One file of many has changed.
    fs::write(root.join("dir100/file10000"), "changed").expect("a file");
    let (progress, _) = build(&bench, root);
    assert!(sent(&progress) < all / 100, "{progress}");
    assert!(!is_cached(&progress, "COPY . /ctx"), "{progress}");
}
