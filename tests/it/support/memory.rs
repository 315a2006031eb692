//! How much memory the client takes.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use fs_err as fs;

use super::bench::Bench;
use super::rig::plugin;

/// Builds with the plugin alone; gives the progress and the peak of its memory in KiB.
pub(crate) fn build_measured(bench: &Bench, args: &[&str], folder: &Path) -> (String, u64) {
    let mut child = Command::new(plugin())
        .env("DOCKER_CONFIG", bench.client.config())
        .args(["build", "--progress=plain"])
        .args(args)
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
