//! A build that is looked at, and disturbed, while it runs.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::bench::Bench;
use super::rig::context;

/// How long a step may take to show what is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A folder with this Dockerfile.
pub(crate) fn folder(dockerfile: &str) -> TempDir {
    context(&[("Dockerfile", dockerfile), ("file", "content\n")])
}

/// A build in a process group of its own.
pub(crate) struct Running {
    pub(crate) child: Child,
    progress: PathBuf,
    _folder: TempDir,
}

impl Running {
    /// Starts it and waits for a text in the progress.
    pub(crate) fn start(bench: &Bench, args: &[&str], dockerfile: &str, until: &str) -> Self {
        Self::start_with(bench, &[], args, dockerfile, until)
    }

    /// The same with these variables.
    pub(crate) fn start_with(
        bench: &Bench,
        env: &[(&str, &str)],
        args: &[&str],
        dockerfile: &str,
        until: &str,
    ) -> Self {
        let folder = folder(dockerfile);
        let mut command = bench.command("cachex", args, folder.path());
        command.envs(env.iter().copied());
        Self::spawn(command, folder, until)
    }

    /// The same with a command of its own, which builds this folder.
    pub(crate) fn spawn(mut command: Command, folder: TempDir, until: &str) -> Self {
        use std::os::unix::process::CommandExt as _;
        let progress = folder.path().join("progress");
        let child = command
            .stderr(File::create(&progress).expect("a file"))
            .process_group(0)
            .spawn()
            .expect("the docker CLI");
        let running = Self {
            child,
            progress,
            _folder: folder,
        };
        running.shows(|progress| progress.contains(until));
        running
    }

    /// Waits until the progress shows something.
    pub(crate) fn shows(&self, something: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        while !something(&self.progress()) {
            assert!(Instant::now() < end, "not in time:\n{}", self.progress());
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn progress(&self) -> String {
        fs::read_to_string(&self.progress).expect("the progress")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the end of the whole group: docker and the plugin.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.child.try_wait().expect("a child");
            let group = kill_process_group(self.pid(), Signal::CONT);
            if let (Some(status), Err(_)) = (status, group) {
                return status;
            }
            assert!(Instant::now() < end, "no end:\n{}", self.progress());
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn succeeds(mut self) {
        let status = self.ends();
        assert!(status.success(), "{}", self.progress());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only of use where the test failed.
        let _gone = kill_process_group(self.pid(), Signal::KILL);
        let _status = self.child.wait();
    }
}

/// Returns whether a step has said a word (`#7 0.105 word`): one that was found says nothing.
pub(crate) fn ran(progress: &str, word: &str) -> bool {
    progress.lines().any(|line| {
        let mut parts = line.split(' ');
        parts.next().is_some_and(|number| number.starts_with('#'))
            && parts.next().is_some_and(|time| time.parse::<f64>().is_ok())
            && parts.eq([word])
    })
}
