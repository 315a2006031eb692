//! The environment variables that the program reads, taken once at the start.
//!
//! Rooms below [`cli`](crate::cli) get values, never the environment itself, so a test gives the
//! variables it wants.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::platform::names;

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
/// Socket of the SSH agent.
pub const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
/// Default of `--explain`: `auto`, `full` or `off`.
pub const CACHEX_EXPLAIN: &str = "CACHEX_EXPLAIN";
/// False: no report is added to the summary of a job in GitHub Actions.
pub const CACHEX_SUMMARY: &str = "CACHEX_SUMMARY";
/// `true` in a job of GitHub Actions.
pub const GITHUB_ACTIONS: &str = "GITHUB_ACTIONS";
/// File that GitHub Actions shows with a step of a job.
pub const GITHUB_STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// False: the container of a builder is reached by the Docker engine only, never past it.
pub const CACHEX_DIRECT: &str = "CACHEX_DIRECT";
/// Not empty: as `--debug`; docker sets it for its plugins.
pub const DEBUG: &str = "DEBUG";
/// True: `docker cachex` too hands on to buildx what it does not have.
pub const CACHEX_HAND_ON: &str = "CACHEX_HAND_ON";

/// Private key to sign caches with, as PEM or the path of its file.
pub const CACHEX_SIGN_KEY: &str = "CACHEX_SIGN_KEY";
/// Public keys to verify caches with, as PEM or the paths of files, joined by `+`.
pub const CACHEX_VERIFY_KEYS: &str = "CACHEX_VERIFY_KEYS";
/// More arguments of cosign where it signs caches.
pub const CACHEX_COSIGN_ARGS: &str = "CACHEX_COSIGN_ARGS";
/// More arguments of cosign where it verifies caches.
pub const CACHEX_COSIGN_VERIFY_ARGS: &str = "CACHEX_COSIGN_VERIFY_ARGS";
/// Default of `--cache`.
pub const CACHEX_CACHE: &str = "CACHEX_CACHE";
/// File with the event that GitHub Actions runs for.
pub const GITHUB_EVENT_PATH: &str = "GITHUB_EVENT_PATH";
/// Where GitHub's REST API is.
pub const GITHUB_API_URL: &str = "GITHUB_API_URL";
/// Where GitHub itself is, whose API that is.
pub const GITHUB_SERVER_URL: &str = "GITHUB_SERVER_URL";
/// Tokens for that API, the first one that is set, as GitHub's command line takes them.
pub const GITHUB_TOKENS: [&str; 2] = ["GH_TOKEN", "GITHUB_TOKEN"];

/// A variable cannot be sent to a builder, which takes only text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value of the environment variable {name} is not UTF-8")]
pub struct NotUtf8 {
    /// Name of the variable.
    pub name: String,
}

/// The environment of the process, the home folder and the working folder.
///
/// The system gives the values of variables as bytes. Where these are not text, nothing is taken for
/// absent: [`get`](Self::get) shows them with replacement characters, for names and words that are
/// then refused as wrong ones; paths and secrets keep their bytes.
#[derive(Debug, Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, Value>,
    home: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    current_dir: PathBuf,
}

#[derive(Clone)]
struct Value {
    bytes: OsString,
    text: String,
}

// Many variables are secrets.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<OsString> for Value {
    fn from(bytes: OsString) -> Self {
        let text = bytes.to_string_lossy().into_owned();
        Self { bytes, text }
    }
}

impl Env {
    /// Takes the environment of this process. No variable is asked for by a name that is not UTF-8.
    pub fn from_process() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into())))
            .collect();
        let current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Self {
            vars,
            home: dirs::home_dir(),
            cache_dir: dirs::cache_dir(),
            current_dir,
        }
    }

    /// Creates an environment from pairs.
    #[cfg(test)]
    pub fn from_pairs<'a, V: AsRef<std::ffi::OsStr>>(
        pairs: impl IntoIterator<Item = (&'a str, V)>,
        home: impl Into<PathBuf>,
    ) -> Self {
        let vars = pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.as_ref().to_owned().into()))
            .collect();
        let home = home.into();
        Self {
            vars,
            current_dir: home.clone(),
            cache_dir: None,
            home: Some(home),
        }
    }

    /// Returns the value of a variable, even if it is empty. Bytes that are not text are replaced.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(|value| value.text.as_str())
    }

    /// Returns the value of a variable that is set and not empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// Returns the value of a variable byte by byte, even if it is empty.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.vars.get(name).map(|value| names::bytes(&value.bytes))
    }

    /// Returns the path that a variable names; none if it is empty.
    pub fn path(&self, name: &str) -> Option<&Path> {
        let value = self.vars.get(name)?;
        (!value.bytes.is_empty()).then(|| Path::new(&value.bytes))
    }

    /// Returns the value of a variable, even if it is empty, for a builder.
    ///
    /// # Errors
    ///
    /// Fails if the value is not UTF-8, since then another one would be sent.
    pub fn exact(&self, name: &str) -> Result<Option<&str>, NotUtf8> {
        let Some(value) = self.vars.get(name) else {
            return Ok(None);
        };
        let text = value.bytes.to_str();
        text.map(Some).ok_or_else(|| NotUtf8 {
            name: name.to_owned(),
        })
    }

    /// Returns the folders for large temporary files, best first: `TMPDIR` alone if it is set, else the
    /// user's cache folder and `/var/tmp`. `/tmp` is memory on many machines.
    pub fn spool_dirs(&self) -> Vec<PathBuf> {
        if let Some(named) = self.path("TMPDIR") {
            return vec![named.into()];
        }
        let own = self.cache_dir.clone();
        own.into_iter().chain([PathBuf::from("/var/tmp")]).collect()
    }

    /// Returns the user's folder for what can be made again, if there is one.
    pub fn cache_dir(&self) -> Option<&Path> {
        self.cache_dir.as_deref()
    }

    /// Returns the home folder of the user, if there is one.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the working folder of the process.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_never_absent() {
        let value = names::path(b"/a\xff").as_os_str();
        let env = Env::from_pairs([("A", value), ("TMPDIR", value)], "/");
        assert_eq!(env.get("A"), Some("/a\u{fffd}"));
        assert_eq!(env.non_empty("A"), env.get("A"));
        assert_eq!(env.bytes("A"), Some(&b"/a\xff"[..]));
        assert_eq!(env.path("A"), Some(Path::new(value)));
        assert_eq!(env.spool_dirs(), [Path::new(value)]);
        let env = Env::from_pairs([("A", value)], "/");
        assert_eq!(env.spool_dirs(), [Path::new("/var/tmp")]);
        assert_eq!(
            env.exact("A").unwrap_err().to_string(),
            "the value of the environment variable A is not UTF-8"
        );
    }

    #[test]
    fn empty_values_name_no_path() {
        let env = Env::from_pairs([("A", ""), ("B", "b")], "/");
        assert_eq!((env.get("A"), env.bytes("A")), (Some(""), Some(&[][..])));
        assert_eq!((env.non_empty("A"), env.path("A")), (None, None));
        assert_eq!(env.exact("A"), Ok(Some("")));
        assert_eq!(env.exact("B"), Ok(Some("b")));
        assert_eq!(
            (env.get("C"), env.bytes("C"), env.path("C")),
            (None, None, None)
        );
        assert_eq!(env.exact("C"), Ok(None));
    }
}
