//! Docker's client configuration: the folder and `config.json` in it. It is only read here; the one entry that this program
//! writes is in [`alias`](crate::plugin::alias).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::secret::Secret;
use super::{go_json, settings};
use crate::env::{DOCKER_CONFIG, Env};

/// Name of the file in the configuration folder.
pub const CONFIG_FILE_NAME: &str = "config.json";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is neither a flag, nor a variable, nor a home folder.
    #[error("cannot find the docker configuration folder: the user has no home folder")]
    NoHome,
    /// The file is there but cannot be read.
    #[error("cannot read the docker configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no JSON, or a field has the wrong type.
    #[error("the docker configuration file {} is broken", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why; never a value.
        #[source]
        source: serde_json::Error,
    },
}

impl ConfigError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHome => format!("set {DOCKER_CONFIG} or pass --config with a folder"),
            Self::Read { .. } => "check the permissions of the file".to_owned(),
            Self::Parse { path, .. } => format!(
                "correct {} by hand, or move it away and log in again with \"docker login\"",
                path.display()
            ),
        }
    }
}

/// One entry of `auths`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuthEntry {
    /// base64 of `user:password`; wins over the two plain fields.
    pub auth: Secret,
    /// Plain user name.
    pub username: String,
    /// Plain password.
    pub password: Secret,
    /// `OAuth2` refresh token.
    #[serde(rename = "identitytoken")]
    pub identity_token: Secret,
    /// Bearer token that is sent to the registry as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: Secret,
}

/// One entry of `proxies`: what containers of a daemon get as proxy variables. An address may hold a
/// password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "these are the names in the file")]
pub struct ProxyConfig {
    /// `HTTP_PROXY`.
    pub http_proxy: Secret,
    /// `HTTPS_PROXY`.
    pub https_proxy: Secret,
    /// `NO_PROXY`.
    pub no_proxy: Secret,
    /// `FTP_PROXY`.
    pub ftp_proxy: Secret,
    /// `ALL_PROXY`.
    pub all_proxy: Secret,
}

/// The part of `config.json` that a build client uses; other fields are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigFile {
    /// Where the file is, even if it does not exist.
    #[serde(skip)]
    pub path: PathBuf,
    /// The first field of the wrong type, which counts as absent.
    #[serde(skip)]
    pub mismatch: Option<Arc<ConfigError>>,
    /// Credentials by registry address, as `docker login` wrote them.
    pub auths: BTreeMap<String, AuthEntry>,
    /// Name of the credential helper for every registry.
    pub creds_store: String,
    /// Names of credential helpers by registry host.
    pub cred_helpers: BTreeMap<String, String>,
    /// Context chosen with `docker context use`.
    pub current_context: String,
    /// Proxy variables for containers, by daemon address or `default`.
    pub proxies: BTreeMap<String, ProxyConfig>,
    /// Headers added to every request to the daemon; they may log in.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, Secret>,
    /// Filters that every `prune` adds to its own, `name=value`.
    pub prune_filters: Vec<String>,
    /// Folders in which docker looks for plugins before all others.
    pub cli_plugins_extra_dirs: Vec<String>,
}

/// Finds the configuration folder: the `--config` flag, `DOCKER_CONFIG`, or `~/.docker`.
///
/// # Errors
///
/// Fails if there is neither of the first two nor a home folder.
pub fn config_dir(flag: Option<&str>, env: &Env) -> Result<PathBuf, ConfigError> {
    if let Some(dir) = flag.filter(|d| !d.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    if let Some(dir) = env.path(DOCKER_CONFIG) {
        return Ok(PathBuf::from(dir));
    }
    let home = env.home().ok_or(ConfigError::NoHome)?;
    Ok(home.join(".docker"))
}

impl ConfigFile {
    /// Creates the configuration of a folder without a file.
    pub fn empty(dir: &Path) -> Self {
        Self {
            path: dir.join(CONFIG_FILE_NAME),
            ..Self::default()
        }
    }

    /// Reads `config.json` of a folder. A missing or empty file is an empty configuration.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is not what docker writes.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(CONFIG_FILE_NAME);
        let text = match settings::read(&path) {
            Ok(text) => text,
            Err(source) if is_missing(&source) => Vec::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let mut config = if text.iter().all(u8::is_ascii_whitespace) {
            Self::default()
        } else {
            let broken = |source| ConfigError::Parse {
                path: path.clone(),
                source,
            };
            let (config, mismatch) = go_json::from_slice_leniently(&text).map_err(broken)?;
            Self {
                mismatch: mismatch.map(broken).map(Arc::new),
                ..config
            }
        };
        config.path = path;
        Ok(config)
    }

    /// Returns the proxy variables for containers of the daemon at `host`, in both letter cases, as
    /// docker adds them to build arguments.
    pub fn proxy_variables(&self, host: &str) -> BTreeMap<String, String> {
        let Some(proxy) = self.proxies.get(host).or(self.proxies.get("default")) else {
            return BTreeMap::new();
        };
        let pairs = [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ];
        pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .flat_map(|(name, value)| {
                [
                    (name.to_owned(), value.expose().to_owned()),
                    (name.to_lowercase(), value.expose().to_owned()),
                ]
            })
            .collect()
    }
}

/// Returns whether a file is not there: also when a parent of it is a file.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ConfigFile, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join(CONFIG_FILE_NAME), text).unwrap();
        ConfigFile::load(dir.path())
    }

    #[test]
    fn folder_is_flag_then_variable_then_home() {
        let env = Env::from_pairs([(DOCKER_CONFIG, "/var")], "/home/u");
        assert_eq!(config_dir(Some("/f"), &env).unwrap(), Path::new("/f"));
        assert_eq!(config_dir(Some(""), &env).unwrap(), Path::new("/var"));
        assert_eq!(config_dir(None, &env).unwrap(), Path::new("/var"));
        let bare = Env::from_pairs([(DOCKER_CONFIG, "")], "/home/u");
        assert_eq!(
            config_dir(None, &bare).unwrap(),
            Path::new("/home/u/.docker")
        );
        assert!(matches!(
            config_dir(None, &Env::default()),
            Err(ConfigError::NoHome)
        ));
    }

    #[test]
    fn missing_and_empty_files_are_an_empty_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let missing = ConfigFile::load(&dir.path().join("none")).unwrap();
        assert!(missing.auths.is_empty());
        assert_eq!(missing.path, dir.path().join("none").join(CONFIG_FILE_NAME));
        assert!(load(" \n").unwrap().current_context.is_empty());
    }

    #[test]
    fn fields_are_read_and_unknown_ones_ignored() {
        let config = load(
            r#"{"auths":{"r.example":{"auth":"dTpw","email":"x"},"t":{"identitytoken":"i"},"n":{}},
            "credsStore":"pass","credHelpers":{"a.example":"ecr-login"},"currentContext":"remote",
            "HttpHeaders":{"X-A":"b"},"plugins":{"x":{"y":"z"}},"proxies":null,
            "psFormat":"table"}"#,
        )
        .unwrap();
        assert_eq!(config.auths["r.example"].auth.expose(), "dTpw");
        assert_eq!(config.auths["t"].identity_token.expose(), "i");
        assert_eq!(config.auths["n"], AuthEntry::default());
        assert_eq!(config.creds_store, "pass");
        assert_eq!(config.cred_helpers["a.example"], "ecr-login");
        assert_eq!(config.current_context, "remote");
        assert_eq!(config.http_headers["X-A"].expose(), "b");
    }

    #[test]
    fn files_that_go_reads_are_read() {
        let config = load(
            "\u{feff}{\"Auths\":{\"a.example\":null,\"b.example\":{\"Auth\":\"dTpw\",\"IDENTITYTOKEN\":null}},\
             \"CredHelpers\":null,\"credsstore\":\"pass\",\"proxies\":{\"default\":null,\"h\":{\"HTTPProxy\":\"http://p\"}},\
             \"httpheaders\":{\"X-A\":null},\"pruneFilters\":null}",
        )
        .unwrap();
        assert_eq!(config.auths["a.example"], AuthEntry::default());
        assert_eq!(config.auths["b.example"].auth.expose(), "dTpw");
        assert_eq!(config.creds_store, "pass");
        assert_eq!(config.proxy_variables("h")["HTTP_PROXY"], "http://p");
        assert!(config.proxy_variables("other").is_empty());
        assert!(load("null").unwrap().auths.is_empty());
    }

    #[test]
    fn nothing_shows_passwords() {
        let config = load(
            r#"{"proxies":{"default":{"httpProxy":"http://u:hunter2@p"}},"HttpHeaders":{"Authorization":"hunter2"}}"#,
        );
        let shown = format!("{:?}", config.unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn broken_file_names_the_path_and_helps() {
        let of_field = |text: &str| load(text).unwrap().mismatch.unwrap();
        let whole = ["{", "x"].map(|text| Arc::new(load(text).unwrap_err()));
        let fields = ["[]", r#"{"auths": 3}"#].map(of_field);
        for error in whole.into_iter().chain(fields) {
            let message = crate::error::chain(&error);
            assert!(message.contains(CONFIG_FILE_NAME), "{message}");
            assert!(message.contains("is broken: "), "{message}");
            assert!(error.hint().contains("docker login"));
        }
    }

    #[test]
    fn the_rest_of_a_file_with_a_wrong_field_counts() {
        let config = load(
            r#"{"credsStore":5,"auths":{"a":{"auth":5},"b":{"auth":"dTpw"}},"currentContext":"c"} x"#,
        )
        .unwrap();
        assert_eq!(config.auths["b"].auth.expose(), "dTpw");
        assert_eq!(config.current_context, "c");
        assert!(config.creds_store.is_empty());
    }

    #[test]
    fn unreadable_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join(CONFIG_FILE_NAME)).unwrap();
        let error = ConfigFile::load(dir.path()).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    }

    #[test]
    fn proxies_of_the_host_win_over_the_default() {
        let config = load(
            r#"{"proxies":{"default":{"httpProxy":"http://d","noProxy":"x"},"tcp://h:1":{"httpsProxy":"http://h"}}}"#,
        )
        .unwrap();
        let default = config.proxy_variables("unix:///s");
        assert_eq!(default["HTTP_PROXY"], "http://d");
        assert_eq!(default["no_proxy"], "x");
        assert_eq!(default.len(), 4);
        let host = config.proxy_variables("tcp://h:1");
        assert_eq!(host.len(), 2);
        assert_eq!(host["https_proxy"], "http://h");
    }
}
