//! A Git repository that is served to builders.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::rig::{context, text};

/// A repository that is served to the builder; it ends with this.
pub(crate) struct GitServer {
    daemon: Child,
    pub(crate) port: u16,
    repositories: TempDir,
}

/// Runs git in a folder, which must succeed; gives what it says.
pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@y", "-C"])
        .arg(folder)
        .args(args)
        .output()
        .expect("git");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout).trim().to_owned()
}

impl GitServer {
    /// Serves `r.git`, whose branch `main` has these files.
    pub(crate) fn start(files: &[(&str, &str)]) -> Self {
        let named: Vec<_> = files
            .iter()
            .map(|(name, text)| (format!("r.git/{name}"), *text))
            .collect();
        let named: Vec<_> = named.iter().map(|(name, text)| (&**name, *text)).collect();
        let repositories = context(&named);
        let folder = repositories.path().join("r.git");
        git(&folder, &["init", "-q", "-b", "main"]);
        git(&folder, &["add", "."]);
        git(&folder, &["commit", "-q", "-m", "first"]);
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let program = Path::new(&git(&folder, &["--exec-path"])).join("git-daemon");
        let daemon = Command::new(program)
            .args(["--listen=127.0.0.1", "--export-all", "--reuseaddr"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", repositories.path().display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("git-daemon");
        let server = Self {
            daemon,
            port,
            repositories,
        };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "git-daemon");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Makes another commit with these files.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) {
        let folder = self.repositories.path().join("r.git");
        for (name, text) in files {
            fs_err::write(folder.join(name), text).expect("a file");
        }
        git(&folder, &["add", "."]);
        git(&folder, &["commit", "-q", "-m", "another"]);
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        // It may have ended on its own.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
