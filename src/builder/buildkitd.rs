//! What a new node's buildkitd is given: its configuration file with certificates, and its flags.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

use super::group::FileContent;
use super::text::{self, TextError};

/// Folder of buildkitd's configuration in the container.
pub const CONFIG_DIR: &str = "/etc/buildkit";
/// Name of the configuration file in [`CONFIG_DIR`] and in a node's files.
pub const CONFIG_FILE: &str = "buildkitd.toml";
/// No file that is copied into a builder is larger; the rest is cut off by buildx, refused here.
const MAX_FILE: u64 = 1024 * 1024;

/// Files of a node below [`CONFIG_DIR`], by relative path.
pub type Files = BTreeMap<String, FileContent>;

/// Why a buildkitd configuration or flag line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildkitdError {
    /// The file, or one that it names, cannot be read.
    #[error("cannot read the {what} {path}", path = path.display())]
    Read {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file is too large to be copied into a builder.
    #[error("{path} is larger than 1 MiB", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The configuration is no TOML.
    #[error("failed to parse buildkit configuration file {path}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<toml_edit::TomlError>,
    },
    /// A key of the configuration has a value of the wrong kind.
    #[error("buildkit configuration file {path}: {key} must be {expected}", path = path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The flag line cannot be split into words.
    #[error("failed to parse buildkit flags")]
    Flags(#[from] TextError),
}

/// A parsed buildkitd configuration file.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    document: DocumentMut,
}

impl Config {
    /// Reads and parses a configuration file.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, is larger than 1 MiB or is no TOML.
    pub fn read(path: &Path) -> Result<Self, BuildkitdError> {
        let content = read_file("buildkit configuration file", path)?;
        let document = String::from_utf8_lossy(&content)
            .parse()
            .map_err(|source| BuildkitdError::Parse {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
        Ok(Self {
            path: path.to_owned(),
            document,
        })
    }

    /// Returns whether the configuration allows builds to use the host's network.
    ///
    /// # Errors
    ///
    /// Fails if `insecure-entitlements` is not a list of texts.
    pub fn allows_host_network(&self) -> Result<bool, BuildkitdError> {
        let Some(item) = self.document.get("insecure-entitlements") else {
            return Ok(false);
        };
        Ok(self
            .strings("insecure-entitlements", item)?
            .iter()
            .any(|entitlement| entitlement == "network.host"))
    }

    /// Returns the files for the container: the configuration, and the certificates and keys that it
    /// names under `registry`, whose paths in it are changed to those in the container.
    ///
    /// # Errors
    ///
    /// Fails if a certificate or key cannot be read or the `registry` part has another form.
    pub fn into_files(mut self) -> Result<Files, BuildkitdError> {
        let mut files = Files::new();
        if let Some(mut registries) = self.document.remove("registry") {
            let table = registries
                .as_table_like_mut()
                .ok_or_else(|| self.kind("registry", "a table"))?;
            for (host, item) in table.iter_mut() {
                let key = format!("registry.{:?}", host.get());
                let registry = item
                    .as_table_like_mut()
                    .ok_or_else(|| self.kind(&key, "a table"))?;
                let prefix = format!("certs/{}", certs_dir(host.get()));
                self.take_cas(&key, &prefix, registry, &mut files)?;
                self.take_pairs(&key, &prefix, registry, &mut files)?;
            }
            self.document.insert("registry", registries);
        }
        let text = self.document.to_string().into_bytes();
        files.insert(CONFIG_FILE.to_owned(), FileContent(text));
        Ok(files)
    }

    fn take_cas(
        &self,
        key: &str,
        prefix: &str,
        registry: &mut dyn TableLike,
        files: &mut Files,
    ) -> Result<(), BuildkitdError> {
        let Some(item) = registry.get("ca") else {
            return Ok(());
        };
        let mut paths = Array::new();
        for ca in self.strings(&format!("{key}.ca"), item)? {
            paths.push(take_file("CA file", prefix, &ca, files)?);
        }
        registry.insert("ca", Item::Value(Value::Array(paths)));
        Ok(())
    }

    fn take_pairs(
        &self,
        key: &str,
        prefix: &str,
        registry: &mut dyn TableLike,
        files: &mut Files,
    ) -> Result<(), BuildkitdError> {
        let Some(item) = registry.get_mut("keypair") else {
            return Ok(());
        };
        let key = format!("{key}.keypair");
        let pairs: Vec<&mut dyn TableLike> = match item {
            Item::ArrayOfTables(tables) => {
                tables.iter_mut().map(|t| t as &mut dyn TableLike).collect()
            }
            Item::Value(Value::Array(values)) => values
                .iter_mut()
                .filter_map(Value::as_inline_table_mut)
                .map(|t| t as &mut dyn TableLike)
                .collect(),
            _ => return Err(self.kind(&key, "a list of tables")),
        };
        for pair in pairs {
            for (name, what) in [("key", "key file"), ("cert", "cert file")] {
                let Some(item) = pair.get(name) else { continue };
                let path = item
                    .as_str()
                    .ok_or_else(|| self.kind(&format!("{key}.{name}"), "a text"))?
                    .to_owned();
                if !path.is_empty() {
                    let inside = take_file(what, prefix, &path, files)?;
                    pair.insert(name, Item::Value(Value::from(inside)));
                }
            }
        }
        Ok(())
    }

    fn strings(&self, key: &str, item: &Item) -> Result<Vec<String>, BuildkitdError> {
        let array = item.as_array();
        array
            .and_then(|array| {
                array
                    .iter()
                    .map(|v| v.as_str().map(str::to_owned))
                    .collect()
            })
            .ok_or_else(|| self.kind(key, "a list of texts"))
    }

    fn kind(&self, key: &str, expected: &'static str) -> BuildkitdError {
        BuildkitdError::Kind {
            path: self.path.clone(),
            key: key.to_owned(),
            expected,
        }
    }
}

/// Replaces each run of characters other than letters, digits, `.` and `-` by one `_`.
fn certs_dir(host: &str) -> String {
    let mut dir = String::new();
    for c in host.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            dir.push(c);
        } else if !dir.ends_with('_') {
            dir.push('_');
        }
    }
    dir
}

/// Adds a file of this machine to the files of the node; returns its path in the container.
fn take_file(
    what: &'static str,
    prefix: &str,
    path: &str,
    files: &mut Files,
) -> Result<String, BuildkitdError> {
    let base = Path::new(path)
        .file_name()
        .map_or_else(|| path.to_owned(), |n| n.to_string_lossy().into_owned());
    let inside = format!("{prefix}/{base}");
    let content = read_file(what, Path::new(path))?;
    let target = format!("{CONFIG_DIR}/{inside}");
    files.insert(inside, FileContent(content));
    Ok(target)
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, BuildkitdError> {
    use io::Read as _;
    let failed = |source| BuildkitdError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
        .map_err(failed)?;
    if content.len() as u64 > MAX_FILE {
        return Err(BuildkitdError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

/// Returns the flags of a new node's buildkitd. A container driver gets the entitlement for the
/// host's network (that is, the builder's own) unless the user chose entitlements; `None` means that
/// the user said nothing and nothing is to be added.
///
/// # Errors
///
/// Fails for a flag line with open quotes, and for a broken configuration.
pub fn flags(
    line: &str,
    driver: &str,
    driver_opts: Option<&BTreeMap<String, String>>,
    config: Option<&Config>,
) -> Result<Option<Vec<String>>, BuildkitdError> {
    const ALLOW: &str = "--allow-insecure-entitlement";
    let mut flags = if line.is_empty() {
        None
    } else {
        Some(text::shell_words(line)?)
    };
    let allowed = entitlements(flags.as_deref().unwrap_or_default(), ALLOW);
    let host_allowed = allowed.iter().any(|a| a == "network.host");
    let config_allows = config.map_or(Ok(false), Config::allows_host_network)?;
    let host_network =
        driver_opts.is_some_and(|opts| opts.get("network").is_some_and(|v| v == "host"));
    let add = match driver {
        "docker-container" if host_network && !host_allowed => true,
        "docker-container" | "kubernetes" => allowed.is_empty() && !config_allows,
        _ => false,
    };
    if add {
        flags
            .get_or_insert_default()
            .push(format!("{ALLOW}=network.host"));
    }
    Ok(flags)
}

/// Returns the values of a flag, up to the first flag of another name: there buildx stops looking.
fn entitlements(words: &[String], flag: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(value) = word.strip_prefix(flag).and_then(|w| w.strip_prefix('=')) {
            values.push(value.to_owned());
        } else if word == flag {
            values.extend(words.next().cloned());
        } else if word.starts_with('-') && word != "-" {
            break;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Result<Config, BuildkitdError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("buildkitd.toml");
        fs_err::write(&path, text).unwrap();
        let config = Config::read(&path);
        (dir, config)
    }

    #[test]
    fn flags_get_the_network_entitlement() {
        const HOST: &str = "--allow-insecure-entitlement=network.host";
        const INSECURE: &str = "--allow-insecure-entitlement=security.insecure";
        let host_network = BTreeMap::from([("network".to_owned(), "host".to_owned())]);
        let both = format!("{HOST} {INSECURE}");
        for (line, driver, opts, expected) in [
            ("", "docker-container", None, Some(vec![HOST])),
            ("", "kubernetes", None, Some(vec![HOST])),
            ("", "remote", None, None),
            (INSECURE, "docker-container", None, Some(vec![INSECURE])),
            (&both, "docker-container", None, Some(vec![HOST, INSECURE])),
            (
                "",
                "docker-container",
                Some(&host_network),
                Some(vec![HOST]),
            ),
            (
                HOST,
                "docker-container",
                Some(&host_network),
                Some(vec![HOST]),
            ),
            (
                &both,
                "docker-container",
                Some(&host_network),
                Some(vec![HOST, INSECURE]),
            ),
            (
                INSECURE,
                "docker-container",
                Some(&host_network),
                Some(vec![INSECURE, HOST]),
            ),
            (
                "--allow-insecure-entitlement security.insecure",
                "docker-container",
                None,
                Some(vec!["--allow-insecure-entitlement", "security.insecure"]),
            ),
            (
                "--debug",
                "docker-container",
                None,
                Some(vec!["--debug", HOST]),
            ),
        ] {
            let flags = flags(line, driver, opts, None).unwrap();
            let expected: Option<Vec<String>> =
                expected.map(|e| e.into_iter().map(str::to_owned).collect());
            assert_eq!(flags, expected, "{line} {driver}");
        }
        assert!(flags("foo'", "docker-container", None, None).is_err());
    }

    #[test]
    fn an_entitlement_in_the_configuration_counts() {
        let (_dir, config) = config(
            "debug = true\ninsecure-entitlements = [ \"network.host\", \"security.insecure\" ]\n",
        );
        let config = config.unwrap();
        assert_eq!(
            flags("", "docker-container", None, Some(&config)).unwrap(),
            None
        );
    }

    #[test]
    fn a_file_without_registries_is_copied_as_it_is() {
        let text = "# comment\ndebug = true\nfoo = \"bar\"\n";
        let (_dir, config) = config(text);
        let files = config.unwrap().into_files().unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[CONFIG_FILE].0, text.as_bytes());
    }

    #[test]
    fn certificates_are_copied_and_their_paths_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for (name, content) in [
            ("myca.pem", "ca"),
            ("mykey.pem", "key"),
            ("mycert.pem", "cert"),
        ] {
            fs_err::write(dir.path().join(name), content).unwrap();
        }
        let text = format!(
            "[registry.\"my_registry.io:5000\"]\nca=['{}']\nmirrors=[\"m\"]\n[[registry.\"my_registry.io:5000\".keypair]]\nkey='{}'\ncert='{}'\n",
            path("myca.pem"),
            path("mykey.pem"),
            path("mycert.pem")
        );
        let file = dir.path().join("b.toml");
        fs_err::write(&file, text).unwrap();
        let files = Config::read(&file).unwrap().into_files().unwrap();
        let content = |name: &str| String::from_utf8(files[name].0.clone()).unwrap();
        assert_eq!(content("certs/my_registry.io_5000/myca.pem"), "ca");
        assert_eq!(content("certs/my_registry.io_5000/mykey.pem"), "key");
        assert_eq!(content("certs/my_registry.io_5000/mycert.pem"), "cert");
        let document: DocumentMut = content(CONFIG_FILE).parse().unwrap();
        let registry = &document["registry"]["my_registry.io:5000"];
        let inside = "/etc/buildkit/certs/my_registry.io_5000";
        assert_eq!(
            registry["ca"][0].as_str().unwrap(),
            format!("{inside}/myca.pem")
        );
        let pair = &registry["keypair"][0];
        assert_eq!(pair["key"].as_str().unwrap(), format!("{inside}/mykey.pem"));
        assert_eq!(
            pair["cert"].as_str().unwrap(),
            format!("{inside}/mycert.pem")
        );
        assert_eq!(registry["mirrors"][0].as_str(), Some("m"));
    }

    #[test]
    fn broken_configurations_are_refused() {
        let (_dir, parsed) = config("[worker\n");
        assert!(matches!(parsed, Err(BuildkitdError::Parse { .. })));
        let missing = Config::read(Path::new("/nonexistent/b.toml"));
        assert!(matches!(missing, Err(BuildkitdError::Read { .. })));
        for text in [
            "registry = 1\n",
            "[registry]\nx = 2\n",
            "[registry.x]\nca = 3\n",
            "[registry.x]\nca = [\"/nonexistent/ca.pem\"]\n",
            "[registry.x]\nkeypair = 4\n",
        ] {
            let (_dir, config) = config(text);
            assert!(config.unwrap().into_files().is_err(), "{text}");
        }
    }
}
