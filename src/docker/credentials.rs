//! The credential store: who the user is at a registry.
//!
//! The order is that of docker/cli: `DOCKER_AUTH_CONFIG`, a credential helper (`credHelpers`, then
//! `credsStore`), the `auths` of the configuration file. buildx's scoped configurations
//! (`config/HOST[/REPOSITORY][@SCOPES]/config.json` beside the builder store) come before the file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::config::{AuthEntry, ConfigFile};
use super::go_json;
use super::secret::Secret;
use crate::env::{DOCKER_AUTH_CONFIG, Env};

mod helper;
mod scoped;
pub mod source;

pub use helper::HelperError;
pub use scoped::ScopedError;
pub use source::CredentialSource;

/// The key under which `docker login` keeps Docker Hub.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// How long an answer is kept. Tokens of some helpers live five minutes; as buildx.
const KEEP: Duration = Duration::from_secs(4 * 60 + 50);

/// Registries of Docker that take the credentials of Docker Hub where they have none of their own.
const HUB_BACKED: [&str; 2] = ["dhi.io", "registry.scout.docker.com"];

/// Who the user is at a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credential {
    /// Nobody.
    #[default]
    Anonymous,
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password or access token.
        password: Secret,
    },
    /// `OAuth2` refresh token: exchanged for access tokens at the token server.
    IdentityToken(Secret),
    /// Bearer token, sent to the registry as it is.
    RegistryToken(Secret),
}

impl Credential {
    /// Returns the user and the secret that prove who it is to a token server; the user of an identity
    /// token is empty.
    pub fn secret(&self) -> Option<(&str, &Secret)> {
        match self {
            Self::Basic { username, password } => Some((username.as_str(), password)),
            Self::IdentityToken(token) => Some(("", token)),
            Self::Anonymous | Self::RegistryToken(_) => None,
        }
        .filter(|(_, secret)| !secret.is_empty())
    }
}

/// Why credentials cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// An entry of `auths` is broken.
    #[error("the credentials for {key} in {origin} are broken: {reason}")]
    Entry {
        /// Key of the entry.
        key: String,
        /// File or variable.
        origin: String,
        /// What is wrong; never the value.
        reason: &'static str,
    },
    /// The credential helper failed.
    #[error("cannot get the credentials for {host}")]
    Helper {
        /// The registry.
        host: String,
        /// What happened.
        #[source]
        source: HelperError,
    },
    /// A scoped configuration cannot be used.
    #[error(transparent)]
    Scoped(#[from] ScopedError),
}

impl CredentialError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Entry { key, .. } => {
                format!("log in again: \"docker logout {key}\", then \"docker login {key}\"")
            }
            Self::Helper { source, .. } => source.hint(),
            Self::Scoped(error) => error.hint(),
        }
    }
}

/// Looks credentials up and remembers them for a few minutes.
#[derive(Debug)]
pub struct CredentialStore {
    config: ConfigFile,
    from_env: BTreeMap<String, AuthEntry>,
    warnings: Vec<String>,
    // PATH for helpers; the one of the process where it is not known.
    path: Option<PathBuf>,
    scoped: Vec<scoped::ScopedConfig>,
    cache: Mutex<HashMap<String, (Instant, Credential)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvConfig {
    #[serde(default)]
    auths: BTreeMap<String, EnvAuth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvAuth {
    #[serde(default)]
    auth: Secret,
}

impl CredentialStore {
    /// Creates a store from the configuration file and `DOCKER_AUTH_CONFIG`. A variable that cannot be
    /// understood is left out with a [warning](Self::warnings), as docker does.
    pub fn new(config: ConfigFile, env: &Env) -> Self {
        let mut warnings = Vec::new();
        let from_env = match env.non_empty(DOCKER_AUTH_CONFIG).map(parse_env) {
            None => BTreeMap::new(),
            Some(Ok(auths)) => auths,
            Some(Err(reason)) => {
                warnings.push(format!("{DOCKER_AUTH_CONFIG} is ignored: {reason}"));
                BTreeMap::new()
            }
        };
        Self {
            config,
            from_env,
            warnings,
            path: env.path("PATH").map(Path::to_owned),
            scoped: Vec::new(),
            cache: Mutex::default(),
        }
    }

    /// Adds buildx's scoped configurations, found under `config` in the folder of the builder store.
    ///
    /// # Errors
    ///
    /// Fails if a folder cannot be read.
    pub fn with_scoped(mut self, store_dir: &Path) -> Result<Self, CredentialError> {
        self.scoped = scoped::find(&store_dir.join("config"))?;
        Ok(self)
    }

    /// Returns what the user should be told once.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Looks up the credentials for a registry host (`docker.io`, `registry.example:5000`). `scopes`
    /// are those of the token that is wanted (`repository:NAME:pull`); they choose among scoped
    /// configurations only.
    ///
    /// # Errors
    ///
    /// Fails if a helper fails or an entry is broken. Unknown credentials are
    /// [`Credential::Anonymous`].
    pub async fn get(&self, host: &str, scopes: &[String]) -> Result<Credential, CredentialError> {
        let found = self.get_one(host, scopes).await?;
        if found == Credential::Anonymous && HUB_BACKED.contains(&host) {
            return self.get_one("docker.io", scopes).await;
        }
        Ok(found)
    }

    /// Forgets a credential that a registry refused: it may have expired since it was looked up.
    pub async fn forget(&self, refused: &Credential) {
        let mut cache = self.cache.lock().await;
        cache.retain(|_, (_, credential)| credential != refused);
    }

    async fn get_one(&self, host: &str, scopes: &[String]) -> Result<Credential, CredentialError> {
        let chosen = scoped::choose(&self.scoped, host, scopes);
        let key = key_of(host);
        let cache_key = chosen.map_or_else(
            || key.to_owned(),
            |config| format!("{key}|{}", config.dir.display()),
        );
        // Held while a helper runs, so a helper is asked once for requests at the same time.
        let mut cache = self.cache.lock().await;
        if let Some((since, credential)) = cache.get(&cache_key)
            && since.elapsed() < KEEP
        {
            return Ok(credential.clone());
        }
        let credential = match chosen {
            Some(config) => self.look_up(&config.load()?, key).await?,
            None => self.look_up(&self.config, key).await?,
        };
        cache.insert(cache_key, (Instant::now(), credential.clone()));
        Ok(credential)
    }

    async fn look_up(&self, config: &ConfigFile, key: &str) -> Result<Credential, CredentialError> {
        if let Some(entry) = self.from_env.get(key) {
            return credential_of(key, DOCKER_AUTH_CONFIG, entry);
        }
        let helper = config.cred_helpers.get(key).unwrap_or(&config.creds_store);
        if !helper.is_empty() {
            return helper::get(helper, key, self.path.as_deref())
                .await
                .map_err(|source| CredentialError::Helper {
                    host: key.to_owned(),
                    source,
                });
        }
        let exact = config.auths.get_key_value(key);
        let found = exact.or_else(|| config.auths.iter().find(|(k, _)| host_of(k) == key));
        match found {
            Some((found_key, entry)) => {
                credential_of(found_key, &config.path.display().to_string(), entry)
            }
            None => Ok(Credential::Anonymous),
        }
    }
}

fn key_of(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB_KEY,
        _ => host,
    }
}

/// Returns the host of a key of `auths`, which may be an address with scheme and path.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn parse_env(text: &str) -> Result<BTreeMap<String, AuthEntry>, String> {
    let config: EnvConfig = go_json::from_slice(text.as_bytes()).map_err(|error| {
        format!("it is not of the form {{\"auths\":{{HOST:{{\"auth\":BASE64}}}}}}: {error}")
    })?;
    let mut auths = BTreeMap::new();
    for (key, entry) in config.auths {
        if entry.auth.is_empty() {
            return Err(format!("\"auth\" is missing for {key}"));
        }
        decode_basic(&entry.auth).map_err(|reason| format!("{key}: {reason}"))?;
        let auth = AuthEntry {
            auth: entry.auth,
            ..AuthEntry::default()
        };
        auths.insert(key, auth);
    }
    Ok(auths)
}

fn credential_of(
    key: &str,
    origin: &str,
    entry: &AuthEntry,
) -> Result<Credential, CredentialError> {
    if !entry.registry_token.is_empty() {
        return Ok(Credential::RegistryToken(entry.registry_token.clone()));
    }
    if !entry.identity_token.is_empty() {
        return Ok(Credential::IdentityToken(entry.identity_token.clone()));
    }
    if !entry.auth.is_empty() {
        let decoded = decode_basic(&entry.auth).map_err(|reason| CredentialError::Entry {
            key: key.to_owned(),
            origin: origin.to_owned(),
            reason,
        })?;
        return Ok(decoded);
    }
    if entry.username.is_empty() && entry.password.is_empty() {
        return Ok(Credential::Anonymous);
    }
    Ok(Credential::Basic {
        username: entry.username.clone(),
        password: entry.password.clone(),
    })
}

fn decode_basic(auth: &Secret) -> Result<Credential, &'static str> {
    let bytes = go_json::base64(auth.expose()).map_err(|_| "\"auth\" is no base64")?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| "\"auth\" is no text")?;
    match text.split_once(':') {
        Some((username, password)) if !username.is_empty() => Ok(Credential::Basic {
            username: username.to_owned(),
            password: Secret::new(password.trim_matches('\0')),
        }),
        _ => Err("\"auth\" is not of the form user:password"),
    }
}

#[cfg(test)]
mod tests;
