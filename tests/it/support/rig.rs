//! The test rig as the tests see it: what `scripts/rig env` exported, a docker CLI with settings of its own, builders
//! that are removed again.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use tempfile::TempDir;

use super::registry::Registry;

/// The running rig.
#[derive(Debug)]
pub(crate) struct Rig {
    /// A realistic Debian image in the rig's registry.
    pub(crate) base: String,
    /// A busybox image of 2 MB in the rig's registry.
    pub(crate) busybox: String,
    /// The image for builder containers.
    pub(crate) builder_image: String,
    /// The rig's registry.
    pub(crate) registry: Registry,
    docker_config: PathBuf,
}

impl Rig {
    /// The rig that the environment names. A test that calls this is ignored where `scripts/test` does not run it.
    pub(crate) fn get() -> &'static Self {
        static RIG: OnceLock<Rig> = OnceLock::new();
        RIG.get_or_init(|| Self {
            base: setting("CACHEX_RIG_BASE"),
            busybox: setting("CACHEX_RIG_BUSYBOX"),
            builder_image: setting("CACHEX_RIG_BUILDER_IMAGE"),
            registry: Registry::new(&setting("CACHEX_RIG_REGISTRY")),
            docker_config: setting("DOCKER_CONFIG").into(),
        })
    }

    /// Runs the docker CLI with the rig's own settings, which all tests share.
    pub(crate) fn docker(&self, args: &[&str]) -> Output {
        run(docker_command(&self.docker_config).args(args))
    }

    /// A program of the packages that the rig is made of.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        let rig = self.docker_config.parent().expect("the rig's folder");
        rig.join("packages/usr/bin").join(name)
    }

    /// The static `BusyBox` of the packages that the rig is made of.
    pub(crate) fn busybox_program(&self) -> PathBuf {
        let rig = self.docker_config.parent().expect("the rig's folder");
        rig.join("packages/bin/busybox")
    }

    /// A plugin of the packages that the rig is made of.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        let rig = self.docker_config.parent().expect("the rig's folder");
        let file = rig
            .join("packages/usr/libexec/docker/cli-plugins")
            .join(name);
        fs::canonicalize(file).expect("a plugin of the rig")
    }

    /// A docker CLI with a settings folder and a builder store of its own.
    pub(crate) fn client(&self) -> Client {
        let config = tempfile::Builder::new()
            .prefix("docker-config-")
            .tempdir()
            .expect("a temporary folder");
        let plugins = config.path().join("cli-plugins");
        fs::create_dir(&plugins).expect("a folder for plugins");
        fs::write(config.path().join("config.json"), "{}").expect("docker's settings");
        let peer = fs::canonicalize(self.docker_config.join("cli-plugins/docker-buildx"))
            .expect("the peer");
        symlink(peer, plugins.join("docker-buildx")).expect("a link to the peer");
        symlink(plugin(), plugins.join("docker-cachex")).expect("a link to the plugin");
        Client { config }
    }
}

/// A docker CLI with both plugins whose settings and builders no other test sees. They go with it.
#[derive(Debug)]
pub(crate) struct Client {
    config: TempDir,
}

impl Client {
    /// The settings folder (`DOCKER_CONFIG`).
    pub(crate) fn config(&self) -> &Path {
        self.config.path()
    }

    /// A command of the docker CLI, to be run by the caller.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = docker_command(self.config());
        command.args(args);
        command
    }

    /// Runs the docker CLI, whatever comes of it.
    pub(crate) fn docker(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// Runs the docker CLI, which must succeed; gives stdout and stderr as text.
    pub(crate) fn docker_ok(&self, args: &[&str]) -> (String, String) {
        let output = self.docker(args);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "docker {args:?}: {}\n{stdout}\n{stderr}",
            output.status
        );
        (stdout, stderr)
    }

    /// Creates a builder with `docker TOOL create`, where TOOL is `buildx` or `cachex`, and boots it.
    pub(crate) fn builder(&self, tool: &str) -> Builder<'_> {
        // The guard comes first: a builder that fails to boot is removed, too.
        let builder = Builder {
            name: unique("it"),
            client: self,
        };
        self.create(tool, &builder.name, "network=host", &["--bootstrap"]);
        builder
    }

    /// Runs `docker TOOL create` for a builder in containers of the rig's image, with options of the driver and more
    /// arguments; gives stdout and stderr as text.
    pub(crate) fn create(
        &self,
        tool: &str,
        name: &str,
        options: &str,
        more: &[&str],
    ) -> (String, String) {
        let driver = "--driver=docker-container";
        let options = format!("--driver-opt=image={},{options}", Rig::get().builder_image);
        let args = [tool, "create", "--name", name, driver, &options];
        self.docker_ok(&[&args[..], more].concat())
    }
}

/// A builder of one container, removed with its state when the test ends.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    /// The builder's name, for `--builder`.
    pub(crate) name: String,
    client: &'a Client,
}

impl Builder<'_> {
    /// Builds the folder with `docker TOOL build`, which must succeed; gives the plain progress.
    pub(crate) fn build(&self, tool: &str, args: &[&str], folder: &Path) -> String {
        let folder = folder.to_str().expect("a path in UTF-8");
        let mut all = vec![tool, "build", "--progress=plain", "--builder", &self.name];
        all.extend(args);
        all.push(folder);
        self.client.docker_ok(&all).1
    }

    /// The name of the builder's container.
    pub(crate) fn container(&self) -> String {
        format!("buildx_buildkit_{}0", self.name)
    }

    /// The name of the volume that holds the builder's state.
    pub(crate) fn volume(&self) -> String {
        format!("{}_state", self.container())
    }
}

impl Drop for Builder<'_> {
    fn drop(&mut self) {
        // Nothing to do about a failure, and the test may have removed both itself.
        self.client
            .docker(&["rm", "--force", "--volumes", &self.container()]);
        self.client
            .docker(&["volume", "rm", "--force", &self.volume()]);
    }
}

/// The plugin under test: the one cargo built with the tests, or the one that `CACHEX_TEST_PLUGIN` names, such as a
/// release build.
pub(crate) fn plugin() -> PathBuf {
    env::var_os("CACHEX_TEST_PLUGIN")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_docker-cachex").into())
        .into()
}

/// A name that no other test of this or another run has: for builders, repositories and containers.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_micros();
    format!("{what}-{:x}-{:x}-{count}", process::id(), now % (1 << 40))
}

/// A build context of the given files, each with its path and text.
pub(crate) fn context(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

/// Bytes of a program's output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn docker_command(config: &Path) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_CONFIG", config);
    for name in [
        "BUILDX_CONFIG",
        "BUILDX_BUILDER",
        "DOCKER_CONTEXT",
        "DOCKER_AUTH_CONFIG",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the docker CLI")
}

fn setting(name: &str) -> String {
    let value = env::var(name).unwrap_or_default();
    assert!(
        !value.is_empty(),
        "{name} is not set: these tests need the test rig. Run `scripts/test`, or `scripts/rig up` and then \
         `eval \"$(scripts/rig env)\"` in the shell that runs `cargo test`."
    );
    value
}
