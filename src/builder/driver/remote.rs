//! The remote driver: a BuildKit that runs already, at a socket or TCP address.

use crate::builder::ByteStream;
use crate::builder::error::BuilderError;
use crate::builder::group::StoredNode;

use super::container_options::{OptionError, boolean};

/// A node of the remote driver. TLS, SSH and the other connection helpers are not supported yet.
#[derive(Debug)]
pub struct Remote {
    node: String,
    address: String,
    /// Results are loaded into the Docker engine when the user names no output.
    pub default_load: bool,
    tls: bool,
}

impl Remote {
    /// Takes a node of a builder. Nothing is connected.
    ///
    /// # Errors
    ///
    /// Fails for a bad driver option, and for files or flags, which only a container can be given.
    pub fn new(node: &StoredNode) -> Result<Self, BuilderError> {
        if !node.files.is_empty() {
            return Err(BuilderError::RemoteSetting {
                what: "config file",
            });
        }
        if !node.flags.is_empty() {
            return Err(BuilderError::RemoteSetting {
                what: "buildkit flags",
            });
        }
        let mut remote = Self {
            node: node.name.clone(),
            address: node.endpoint.clone(),
            default_load: false,
            tls: false,
        };
        for (key, value) in &node.driver_opts {
            match key.as_str() {
                "default-load" => remote.default_load = boolean(key, value)?,
                "servername" => remote.tls = true,
                "cacert" | "cert" | "key" if value.starts_with('/') => remote.tls = true,
                "cacert" | "cert" | "key" => {
                    return Err(OptionError::Value {
                        key: key.clone(),
                        value: value.clone(),
                        expected: "an absolute path",
                    }
                    .into());
                }
                _ => {
                    return Err(OptionError::Unknown {
                        key: key.clone(),
                        driver: "remote",
                    }
                    .into());
                }
            }
        }
        Ok(remote)
    }

    /// Connects to BuildKit.
    ///
    /// # Errors
    ///
    /// Fails for an address that cannot be reached, and by name for what is not supported yet.
    pub async fn dial(&self) -> Result<ByteStream, BuilderError> {
        let not_supported = |what: String| BuilderError::RemoteNotSupported {
            node: self.node.clone(),
            what,
        };
        if self.tls {
            return Err(not_supported("TLS".to_owned()));
        }
        let connected = match self.address.split_once("://") {
            #[cfg(unix)]
            Some(("unix", path)) => tokio::net::UnixStream::connect(path)
                .await
                .map(|stream| -> ByteStream { Box::new(stream) }),
            Some(("tcp", address)) => tokio::net::TcpStream::connect(address)
                .await
                .map(|stream| -> ByteStream { Box::new(stream) }),
            Some((scheme, _)) => return Err(not_supported(format!("{scheme}://"))),
            None => return Err(not_supported(format!("the address {}", self.address))),
        };
        connected.map_err(|source| BuilderError::RemoteConnect {
            address: self.address.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(endpoint: &str, options: &[(&str, &str)]) -> StoredNode {
        StoredNode {
            name: "r0".to_owned(),
            endpoint: endpoint.to_owned(),
            driver_opts: options
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..StoredNode::default()
        }
    }

    #[tokio::test]
    async fn sockets_and_tcp_are_connected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _unix = tokio::net::UnixListener::bind(&path).unwrap();
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        for address in [
            format!("unix://{}", path.display()),
            format!("tcp://{}", tcp.local_addr().unwrap()),
        ] {
            let remote = Remote::new(&node(&address, &[("default-load", "true")])).unwrap();
            assert!(remote.default_load);
            assert!(remote.dial().await.is_ok(), "{address}");
        }
    }

    #[tokio::test]
    async fn what_is_not_supported_is_named() {
        for (address, options, text) in [
            (
                "tcp://127.0.0.1:1",
                &[("cacert", "/ca.pem")][..],
                "TLS is not supported yet",
            ),
            ("ssh://h", &[], "ssh:// is not supported yet"),
            (
                "unix:///nonexistent.sock",
                &[],
                "cannot connect to BuildKit at",
            ),
        ] {
            let remote = Remote::new(&node(address, options)).unwrap();
            let error = remote.dial().await.err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn settings_of_containers_are_refused() {
        assert!(Remote::new(&node("tcp://h:1", &[("cacert", "ca.pem")])).is_err());
        assert!(Remote::new(&node("tcp://h:1", &[("image", "x")])).is_err());
        let mut with_flags = node("tcp://h:1", &[]);
        with_flags.flags.push("--debug".to_owned());
        assert!(Remote::new(&with_flags).is_err());
    }
}
