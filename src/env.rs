//! The environment variables that the program reads, taken once at the start.
//!
//! Rooms below [`cli`](crate::cli) get values, never the environment itself, so a test gives the
//! variables it wants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folder of the docker config file and its neighbours; default `~/.docker`.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// Address of the Docker Engine; wins over the current context.
pub const DOCKER_HOST: &str = "DOCKER_HOST";
/// Name of the docker context to use.
pub const DOCKER_CONTEXT: &str = "DOCKER_CONTEXT";
/// Folder with `ca.pem`, `cert.pem` and `key.pem` for `DOCKER_HOST`.
pub const DOCKER_CERT_PATH: &str = "DOCKER_CERT_PATH";
/// Not empty: the certificate of `DOCKER_HOST` is verified.
pub const DOCKER_TLS_VERIFY: &str = "DOCKER_TLS_VERIFY";
/// JSON in the form of the config file's `auths`, wins over stored credentials.
pub const DOCKER_AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";
/// Socket of the docker command line; its end of file cancels the plugin.
pub const DOCKER_CLI_PLUGIN_SOCKET: &str = "DOCKER_CLI_PLUGIN_SOCKET";
/// Folder of the builder store; default `buildx` beside the docker config file.
pub const BUILDX_CONFIG: &str = "BUILDX_CONFIG";
/// Name of the builder to use.
pub const BUILDX_BUILDER: &str = "BUILDX_BUILDER";
/// True: no default provenance attestation.
pub const BUILDX_NO_DEFAULT_ATTESTATIONS: &str = "BUILDX_NO_DEFAULT_ATTESTATIONS";
/// True: a builder's default-load option is not applied.
pub const BUILDX_NO_DEFAULT_LOAD: &str = "BUILDX_NO_DEFAULT_LOAD";
/// Names a repository for git, wherever it is called.
pub const GIT_DIR: &str = "GIT_DIR";
/// True: Git URLs with a query reach the frontend as definitions made here.
pub const BUILDX_SEND_GIT_QUERY_AS_INPUT: &str = "BUILDX_SEND_GIT_QUERY_AS_INPUT";
/// True: images with attestations are not in the form of OCI artifacts.
pub const BUILDX_NO_DEFAULT_OCI_ARTIFACT: &str = "BUILDX_NO_DEFAULT_OCI_ARTIFACT";
/// File with a policy for the sources of builds.
pub const EXPERIMENTAL_BUILDKIT_SOURCE_POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";
/// True: buildx checks the signatures of Docker's own images, which is refused here.
pub const BUILDX_DEFAULT_POLICY: &str = "BUILDX_DEFAULT_POLICY";
/// Platform to build for where no flag says one.
pub const DOCKER_DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";
/// `min`, `max` or `disabled`: the provenance part of the metadata file.
pub const BUILDX_METADATA_PROVENANCE: &str = "BUILDX_METADATA_PROVENANCE";
/// True: warnings are part of the metadata file.
pub const BUILDX_METADATA_WARNINGS: &str = "BUILDX_METADATA_WARNINGS";
/// False: the commit of the context is not told to BuildKit.
pub const BUILDX_GIT_INFO: &str = "BUILDX_GIT_INFO";
/// True or `full`: the commit of the context becomes labels of the image.
pub const BUILDX_GIT_LABELS: &str = "BUILDX_GIT_LABELS";
/// True: the commit of a changed work tree is marked as dirty.
pub const BUILDX_GIT_CHECK_DIRTY: &str = "BUILDX_GIT_CHECK_DIRTY";
/// Default of `--progress`.
pub const BUILDKIT_PROGRESS: &str = "BUILDKIT_PROGRESS";
/// Colours of the terminal display.
pub const BUILDKIT_COLORS: &str = "BUILDKIT_COLORS";
/// Rows of a log window of the terminal display.
pub const BUILDKIT_TTY_LOG_LINES: &str = "BUILDKIT_TTY_LOG_LINES";
/// `0`: the plain display cuts long names.
pub const PROGRESS_NO_TRUNC: &str = "PROGRESS_NO_TRUNC";
/// True: the builder fetches the tokens of registries itself, with the user's credentials.
pub const BUILDKIT_NO_CLIENT_TOKEN: &str = "BUILDKIT_NO_CLIENT_TOKEN";
/// Address of a BuildKit daemon for a builder of the remote driver.
pub const BUILDKIT_HOST: &str = "BUILDKIT_HOST";
/// Set to anything: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// Unix time stamp for reproducible images; becomes a build argument.
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Socket of the SSH agent.
pub const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
/// False: the container of a builder is reached by the Docker engine only, never past it.
pub const CACHEX_DIRECT: &str = "CACHEX_DIRECT";

/// The environment of the process, the home folder and the working folder.
#[derive(Debug, Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
    home: Option<PathBuf>,
    current_dir: PathBuf,
}

impl Env {
    /// Takes the environment of this process. Variables that are not UTF-8 are left out.
    pub fn from_process() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Self {
            vars,
            home: dirs::home_dir(),
            current_dir,
        }
    }

    /// Makes an environment from pairs, for tests.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        home: impl Into<PathBuf>,
    ) -> Self {
        let vars = pairs
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let home = home.into();
        Self {
            vars,
            current_dir: home.clone(),
            home: Some(home),
        }
    }

    /// Returns the value of a variable, even if it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// Returns the value of a variable that is set and not empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// Returns the folder for temporary files: `TMPDIR`, else `/tmp`.
    pub fn temp_dir(&self) -> PathBuf {
        self.non_empty("TMPDIR").unwrap_or("/tmp").into()
    }

    /// Returns the home folder of the user, if there is one.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the working folder of the process.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// Returns all variables, for child processes and secrets.
    pub fn vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}
