//! `scripts/install.sh`: with `BusyBox` alone, from a server on the loopback that has a release, or a bad one.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use fs_err as fs;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::rig::{Rig, plugin, text};

/// A machine on which there is nothing but `BusyBox`, and a server of releases.
struct Machine {
    folder: TempDir,
    address: SocketAddr,
    name: String,
    _server: Runtime,
}

impl Machine {
    /// The release is good until a test changes its files.
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => panic!("no release for {other}"),
        };
        let name = format!("docker-cachex-v0.0.1-linux-{arch}");
        let server = Runtime::new().expect("a runtime");
        let address = server.block_on(serve(folder.path().join("www")));
        let machine = Self {
            folder,
            address,
            name,
            _server: server,
        };
        let bin = machine.path("bin");
        fs::create_dir_all(&bin).expect("a folder");
        fs::create_dir_all(machine.path("www/latest/download")).expect("a folder");
        fs::create_dir_all(machine.path("tmp")).expect("a folder");
        let busybox = Rig::get().busybox_program();
        for applet in [
            "cat",
            "chmod",
            "cp",
            "cut",
            "grep",
            "head",
            "mkdir",
            "mktemp",
            "mount",
            "mv",
            "rm",
            "sh",
            "sha256sum",
            "uname",
            "wget",
        ] {
            std::os::unix::fs::symlink(&busybox, bin.join(applet)).expect("a link");
        }
        fs::copy(plugin(), machine.program()).expect("the program");
        machine.write_checksums();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program as the release has it.
    fn program(&self) -> PathBuf {
        self.path("www/latest/download").join(&self.name)
    }

    fn checksums(&self) -> PathBuf {
        self.path("www/latest/download/checksums.txt")
    }

    fn write_checksums(&self) {
        let bytes = fs::read(self.program()).expect("the program");
        let sum = hex::encode(Sha256::digest(bytes));
        let mut lines = format!("{sum}  {}\n", self.name);
        // What comes before and behind it must not be taken for it.
        let zeros = "0".repeat(64);
        let _ = write!(
            lines,
            "{zeros}  {}.tar.gz\n{zeros}  x-{}\n",
            self.name, self.name
        );
        fs::write(self.checksums(), lines).expect("the checksums");
    }

    fn shell(&self, args: &[&str]) -> Command {
        self.with_shell(self.path("bin/sh"), args)
    }

    fn with_shell(&self, shell: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(shell);
        command
            .args(args)
            .env_clear()
            .current_dir(self.folder.path());
        command
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("CACHEX_INSTALL_URL", format!("http://{}", self.address));
        command
    }

    fn install(&self, args: &[&str]) -> Command {
        self.shell(&[&[script()], args].concat())
    }

    /// Runs it, which must fail, and gives what it said. Nothing may be left.
    fn refused(&self, command: &mut Command) -> String {
        let output = command.output().expect("a shell");
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(text(&output.stdout).is_empty(), "{output:?}");
        self.nothing_is_left();
        said
    }

    fn nothing_is_left(&self) {
        let temporary = fs::read_dir(self.path("tmp")).expect("a folder").count();
        assert_eq!(temporary, 0);
        let plugins = fs::read_dir(self.path("home/.docker/cli-plugins"));
        let plugins = plugins
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path());
        assert_eq!(plugins.collect::<Vec<_>>(), Vec::<PathBuf>::new());
    }

    fn plugin(&self) -> PathBuf {
        self.path("home/.docker/cli-plugins/docker-cachex")
    }
}

fn script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh")
}

/// Serves a folder.
async fn serve(folder: PathBuf) -> SocketAddr {
    let app = Router::new().fallback(file).with_state(folder);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn file(State(folder): State<PathBuf>, request: Request) -> Result<Vec<u8>, StatusCode> {
    let file = folder.join(request.uri().path().trim_start_matches('/'));
    fs::read(file).map_err(|_| StatusCode::NOT_FOUND)
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_release_is_installed_with_busybox_alone() {
    let machine = Machine::new();
    let said = succeeds(&machine.install(&[]).output().expect("a shell"));
    assert!(
        said.starts_with("installed docker-cachex-v0.0.1-linux-"),
        "{said}"
    );
    let version = Command::new(machine.plugin()).arg("version").output();
    let version = succeeds(&version.expect("the plugin"));
    assert!(version.starts_with("docker-cachex v"), "{version}");
    // In the place of the old one, which another shell pipes in, and with the alias.
    let piped = format!("cat {} | sh -s -- --alias", script());
    let said = succeeds(&machine.shell(&["-c", &piped]).output().expect("a shell"));
    assert!(
        said.contains("the alias is on: docker buildx is "),
        "{said}"
    );
    let folder = machine.path("home/.docker");
    assert!(folder.join("cachex/cli-plugins/docker-buildx").is_symlink());
    let config = fs::read_to_string(folder.join("config.json")).expect("docker's settings");
    assert!(config.contains("cachex/cli-plugins"), "{config}");

    // By version, and elsewhere.
    fs::create_dir_all(machine.path("www/download")).expect("a folder");
    std::os::unix::fs::symlink("../latest/download", machine.path("www/download/v0.0.1"))
        .expect("a link");
    for version in ["0.0.1", "v0.0.1"] {
        let to = machine.path(version);
        let args = ["--version", version, "--dir", to.to_str().expect("a path")];
        succeeds(&machine.install(&args).output().expect("a shell"));
        assert!(to.join("docker-cachex").is_file());
    }
    let entries = |path: PathBuf| fs::read_dir(path).expect("a folder").count();
    assert_eq!(entries(machine.path("tmp")), 0);
    assert_eq!(entries(folder.join("cli-plugins")), 1);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_bad_release_is_refused_and_leaves_nothing() {
    let machine = Machine::new();
    let said = machine.refused(&mut machine.install(&["--version", "9.9.9"]));
    assert!(said.contains("cannot fetch http://"), "{said}");
    assert!(said.contains("/download/v9.9.9/checksums.txt"), "{said}");

    let checksums = fs::read_to_string(machine.checksums()).expect("the checksums");
    let wrong = format!("{}{}", "0".repeat(8), &checksums[8..]);
    fs::write(machine.checksums(), wrong).expect("the checksums");
    let said = machine.refused(&mut machine.install(&[]));
    assert!(said.contains("has the checksum"), "{said}");

    // No program for this machine, or a name that leads elsewhere.
    let (zeros, arch) = (
        "0".repeat(64),
        &machine.name["docker-cachex-v0.0.1".len()..],
    );
    for line in [
        String::new(),
        format!("{zeros}  {}.tar.gz\n", machine.name),
        format!("{zeros}  docker-cachex-v/../../x{arch}\n"),
    ] {
        fs::write(machine.checksums(), line).expect("the checksums");
        let said = machine.refused(&mut machine.install(&[]));
        assert!(said.contains("has no program for linux on "), "{said}");
    }

    // The list names a program that is not there.
    fs::write(machine.checksums(), &checksums).expect("the checksums");
    let kept = machine.path("kept");
    fs::rename(machine.program(), &kept).expect("the program");
    let said = machine.refused(&mut machine.install(&[]));
    assert!(
        said.contains(&format!("cannot fetch http://{}/latest/", machine.address)),
        "{said}"
    );

    // One that does not run here.
    fs::write(machine.program(), "#!/not-there\n").expect("a program");
    machine.write_checksums();
    let said = machine.refused(&mut machine.install(&[]));
    assert!(said.contains("does not run in "), "{said}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_machine_that_cannot_take_it_is_told_so() {
    let machine = Machine::new();
    let said = machine.refused(machine.install(&[]).env_remove("HOME"));
    assert!(
        said.contains("HOME is not set: name a folder with --dir"),
        "{said}"
    );
    let said = machine.refused(&mut machine.install(&["--dir"]));
    assert!(said.contains("--dir needs a value"), "{said}");
    let said = machine.refused(&mut machine.install(&["--unknown"]));
    assert!(said.contains("Usage: install.sh"), "{said}");

    // A file in the folder's place, and a folder in the file's.
    fs::write(machine.path("taken"), "").expect("a file");
    let said = machine.refused(&mut machine.install(&["--dir=taken/plugins"]));
    assert!(
        said.contains("cannot make the folder taken/plugins"),
        "{said}"
    );
    fs::create_dir_all(machine.path("other/docker-cachex")).expect("a folder");
    let said = machine.refused(&mut machine.install(&["--dir=other"]));
    assert!(said.contains("is a folder: nothing is installed"), "{said}");

    // Without checksums of any kind, and without a way to fetch. BusyBox's own shell has all of them.
    for (applet, says) in [
        ("sha256sum", "neither sha256sum"),
        ("wget", "neither curl nor wget"),
    ] {
        fs::remove_file(machine.path("bin").join(applet)).expect("an applet");
        let said = machine.refused(&mut machine.with_shell("/bin/sh", &[script()]));
        assert!(said.contains(says), "{said}");
    }
}

/// A file system that is full, and one from which nothing is run, in a name space of their own.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_folder_that_is_full_or_runs_nothing_is_left_as_it_was() {
    for (options, says) in [
        ("noexec", "mounted with noexec?"),
        ("size=64k", "cannot write to "),
    ] {
        let machine = Machine::new();
        let plugins = machine.path("home/.docker/cli-plugins");
        fs::create_dir_all(&plugins).expect("a folder");
        let script = format!(
            "mount -t tmpfs -o {options} none {0} && sh {1}; code=$?
             for file in {0}/.[!.]* {0}/*; do [ ! -e $file ] || echo left behind: $file >&2; done; exit $code",
            plugins.display(),
            script()
        );
        let shell = machine.shell(&["-c", &script]);
        let mut command = Command::new("/usr/bin/unshare");
        command
            .arg("--mount")
            .arg(shell.get_program())
            .args(shell.get_args());
        command.env_clear().current_dir(Path::new("/"));
        command.envs(
            shell
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        let said = machine.refused(&mut command);
        assert!(said.contains(says), "{options}: {said}");
        assert!(!said.contains("left behind"), "{options}: {said}");
    }
}
