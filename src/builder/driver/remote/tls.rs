//! TLS to a remote BuildKit: the driver options `cacert`, `cert`, `key` and `servername`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::docker::TlsFiles;
use crate::docker::tls::{TlsError, client_config};

use super::super::container_options::OptionError;

/// What gRPC is called in TLS; some servers refuse who does not name it.
const ALPN: &[u8] = b"h2";

/// The options as far as they were given.
#[derive(Debug, Default)]
pub(super) struct Options {
    files: TlsFiles,
    server_name: Option<String>,
}

/// How a remote BuildKit is trusted, and how it knows this side.
#[derive(Debug)]
pub struct RemoteTls {
    files: TlsFiles,
    server_name: ServerName<'static>,
    given_name: Option<String>,
}

impl Options {
    /// Takes an option; returns false for one that is not of TLS.
    ///
    /// # Errors
    ///
    /// Fails for a path that is not absolute: the builder is used from other folders, too.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Result<bool, OptionError> {
        let place = match key {
            "servername" => {
                self.server_name = Some(value.to_owned());
                return Ok(true);
            }
            "cacert" => &mut self.files.ca,
            "cert" => &mut self.files.cert,
            "key" => &mut self.files.key,
            _ => return Ok(false),
        };
        let path = PathBuf::from(value);
        if !path.is_absolute() {
            return Err(OptionError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
                expected: "an absolute path",
            });
        }
        *place = Some(path);
        Ok(true)
    }

    /// Puts the options together; `None` if none was given. `host` is expected in the certificate
    /// where no other name was given.
    ///
    /// # Errors
    ///
    /// Fails if one is missing, or the name is none.
    pub(super) fn finish(self, host: &str) -> Result<Option<RemoteTls>, OptionError> {
        let files = self.files;
        let (ca, cert, key) = (
            files.ca.is_some(),
            files.cert.is_some(),
            files.key.is_some(),
        );
        if !(ca || cert || key || self.server_name.is_some()) {
            return Ok(None);
        }
        let missing = [
            ("cacert", !ca),
            ("key", cert && !key),
            ("cert", key && !cert),
        ];
        let missing: Vec<&str> = missing
            .into_iter()
            .filter_map(|(name, is_missing)| is_missing.then_some(name))
            .collect();
        if !missing.is_empty() {
            return Err(OptionError::MissingTls {
                missing: missing.join(", "),
            });
        }
        let name = self.server_name.filter(|name| !name.is_empty());
        let given_name = name.clone();
        let name = name.unwrap_or_else(|| host.to_owned());
        let server_name = ServerName::try_from(name.clone()).map_err(|_| OptionError::Value {
            key: "servername".to_owned(),
            value: name,
            expected: "a name of a host",
        })?;
        Ok(Some(RemoteTls {
            files,
            server_name,
            given_name,
        }))
    }
}

impl RemoteTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be read or does not hold what it should.
    pub fn connector(&self) -> Result<TlsConnector, TlsError> {
        let mut config = client_config(&self.files, false)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Returns the name that was given as an option.
    pub fn given_name(&self) -> Option<&str> {
        self.given_name.as_deref()
    }

    /// Returns the name that the certificate must have.
    pub fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(options: &[(&str, &str)], host: &str) -> Result<Option<RemoteTls>, OptionError> {
        let mut all = Options::default();
        for (key, value) in options {
            assert!(all.take(key, value)?, "{key}");
        }
        all.finish(host)
    }

    #[test]
    fn the_name_is_the_hosts_unless_it_is_given() {
        assert!(finish(&[], "h").unwrap().is_none());
        let name = |options: &[_], host| {
            let tls = finish(options, host).unwrap().unwrap();
            tls.server_name().to_str().into_owned()
        };
        assert_eq!(name(&[("cacert", "/ca")], "h"), "h");
        assert_eq!(name(&[("cacert", "/ca")], "127.0.0.1"), "127.0.0.1");
        assert_eq!(
            name(&[("cacert", "/ca"), ("servername", "other")], "h"),
            "other"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (options, want) in [
            (&[("servername", "x")][..], "missing keys cacert"),
            (&[("cacert", "/a"), ("cert", "/c")], "missing keys key"),
            (&[("key", "/k")], "missing keys cacert, cert"),
            (&[("cacert", "ca.pem")], "not an absolute path"),
            (
                &[("cacert", "/a"), ("servername", "a b")],
                "not a name of a host",
            ),
        ] {
            let error = finish(options, "h").unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        // A socket has no host to expect in a certificate.
        assert!(finish(&[("cacert", "/a")], "").is_err());
    }
}
