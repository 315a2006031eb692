//! One registry host: its address, TLS files, proxies and time-outs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Identity, NoProxy, Proxy};
use url::Url;

use super::error::RegistryError;
use super::limit::Concurrency;

/// The name of Docker Hub in references.
pub const DOCKER_HUB: &str = "docker.io";
/// The host that serves Docker Hub's registry.
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS with a verified certificate.
    Https,
    /// TLS with any certificate and, where no TLS answers, plain HTTP; what docker does for a
    /// registry that the user calls insecure.
    Insecure,
    /// The same the other way round, for a registry on loopback.
    Loopback,
    /// Plain HTTP without asking for TLS first.
    Http,
}

/// Hosts that no proxy is asked for, as in Go: `NO_PROXY` need not name them.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// Proxies, as in the variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// Proxy for plain HTTP.
    pub http: Option<String>,
    /// Proxy for HTTPS.
    pub https: Option<String>,
    /// Hosts that are reached directly, comma-separated.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for ProxySettings {
    // A proxy's URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxySettings")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Limits of waiting. None of them bounds a whole transfer of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS handshake together.
    pub connect: Duration,
    /// A transfer in which no byte moves, or an answer that does not begin.
    pub idle: Duration,
    /// A small answer, such as a manifest: until it begins, and then to its end, unless much of it comes.
    pub small: Duration,
    /// The answer to a finished upload: registries copy a large blob inside their storage first.
    pub commit: Duration,
    /// A whole token request.
    pub token: Duration,
    /// A whole request that tidies up.
    pub cancel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            small: Duration::from_secs(20),
            commit: Duration::from_secs(300),
            token: Duration::from_secs(30),
            cancel: Duration::from_secs(5),
        }
    }
}

/// All that a client must know of one registry host.
#[derive(Debug, Clone)]
pub struct HostConfig {
    name: String,
    /// TLS or not.
    pub transport: Transport,
    /// Folders that hold one folder per host with `*.crt`, `*.cert` and `*.key`, for example
    /// `/etc/docker/certs.d`.
    pub cert_dirs: Vec<PathBuf>,
    /// Proxies.
    pub proxy: ProxySettings,
    /// Limits of waiting.
    pub timeouts: Timeouts,
    /// Limits of requests at once, for each class of requests.
    pub concurrency: Concurrency,
}

impl HostConfig {
    /// Describes a host as it is written in references, for example `docker.io` or
    /// `localhost:5000`. A host on loopback is [`Transport::Loopback`], every other is
    /// [`Transport::Https`].
    pub fn new(name: impl Into<String>) -> Self {
        let name = match name.into() {
            hub if hub == "index.docker.io" || hub == DOCKER_HUB_REGISTRY => DOCKER_HUB.to_owned(),
            other => other.to_ascii_lowercase(),
        };
        let transport = if is_loopback(&name) {
            Transport::Loopback
        } else {
            Transport::Https
        };
        Self {
            name,
            transport,
            cert_dirs: Vec::new(),
            proxy: ProxySettings::default(),
            timeouts: Timeouts::default(),
            concurrency: Concurrency::default(),
        }
    }

    /// Sets what `registry.insecure=true` means.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        if insecure && self.transport == Transport::Https {
            self.transport = Transport::Insecure;
        }
        self
    }

    /// Returns the name of the host in references; also the one that credentials are stored for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the root URL of the host under a scheme.
    pub(super) fn root(&self, scheme: &str) -> Result<Url, RegistryError> {
        let authority = if self.name == DOCKER_HUB {
            DOCKER_HUB_REGISTRY
        } else {
            &self.name
        };
        let url: Option<Url> = format!("{scheme}://{authority}/").parse().ok();
        url.filter(|url| {
            url.path() == "/"
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        })
        .ok_or_else(|| RegistryError::Name {
            kind: "registry host",
            value: self.name.clone(),
        })
    }

    /// Creates the HTTP client of the host. It follows no redirect, reads no environment variable
    /// and speaks HTTP/1.1: the flow control of HTTP/2 slows uploads down, which is why BuildKit
    /// turns it off too (BuildKit util/resolver).
    ///
    /// `verify` is whether certificates are verified although the host itself may have any.
    ///
    /// # Errors
    ///
    /// Fails if its certificates or proxies cannot be used.
    pub fn http(&self, verify: bool) -> Result<reqwest::Client, RegistryError> {
        // The only provider of this program. An error says that it is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let certs = HostCerts::load(&self.cert_dirs, &self.name)?;
        let verify = verify || !self.takes_any_certificate();
        let builder = self.builder(&certs, verify)?;
        match builder.build() {
            Ok(client) => Ok(client),
            // A machine without any root certificate can still speak plain HTTP.
            Err(_) if self.transport == Transport::Http => self
                .builder(&certs, verify)?
                .tls_certs_only(certs.roots.clone())
                .build()
                .map_err(|error| config("the TLS settings", error)),
            Err(error) => Err(config("the TLS settings", error)),
        }
    }

    /// Returns whether the host itself may have any certificate.
    pub(super) fn takes_any_certificate(&self) -> bool {
        matches!(self.transport, Transport::Insecure | Transport::Loopback)
    }

    fn builder(
        &self,
        certs: &HostCerts,
        verify: bool,
    ) -> Result<reqwest::ClientBuilder, RegistryError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("docker-cachex/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .http1_only()
            .connect_timeout(self.timeouts.connect)
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60))
            .no_proxy();
        if !verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if !certs.roots.is_empty() {
            builder = builder.tls_certs_merge(certs.roots.clone());
        }
        if let Some(identity) = &certs.identity {
            builder = builder.identity(identity.clone());
        }
        // A token server on this machine is never behind a proxy either.
        let excepted = self.proxy.no_proxy.as_deref().unwrap_or_default();
        let no_proxy = NoProxy::from_string(&format!("{excepted},{LOOPBACK}"));
        let schemes = [
            (
                "the HTTP proxy",
                &self.proxy.http,
                (|url| Proxy::http(url)) as MakeProxy,
            ),
            ("the HTTPS proxy", &self.proxy.https, |url| {
                Proxy::https(url)
            }),
        ];
        for (what, url, make) in schemes {
            let Some(url) = url.as_deref().filter(|u| !u.is_empty()) else {
                continue;
            };
            // The error of reqwest would show the URL, which may hold a password.
            let proxy = make(url).map_err(|error| config(what, error.without_url()))?;
            if !is_loopback(&self.name) {
                builder = builder.proxy(proxy.no_proxy(no_proxy.clone()));
            }
        }
        Ok(builder)
    }
}

type MakeProxy = fn(&str) -> reqwest::Result<Proxy>;

fn config(what: &str, source: reqwest::Error) -> RegistryError {
    RegistryError::Config {
        what: what.to_owned(),
        source: Box::new(source),
    }
}

/// Returns whether a host, with or without a port, is this machine.
fn is_loopback(name: &str) -> bool {
    let host = match name.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => name.rsplit_once(':').map_or(name, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The TLS files of one host, as docker finds them: `*.crt` are authorities, `NAME.cert` with
/// `NAME.key` is a client certificate.
#[derive(Default)]
struct HostCerts {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
}

impl HostCerts {
    fn load(dirs: &[PathBuf], host: &str) -> Result<Self, RegistryError> {
        let mut certs = Self::default();
        // A host name is checked before it becomes a path.
        if host.contains(['/', '\\']) || host.starts_with('.') {
            return Ok(certs);
        }
        for dir in dirs {
            certs.load_dir(&dir.join(host))?;
        }
        Ok(certs)
    }

    fn load_dir(&mut self, dir: &Path) -> Result<(), RegistryError> {
        let mut files: Vec<PathBuf> = match fs_err::read_dir(dir) {
            Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).collect(),
            // As in BuildKit: a folder that is absent or not for this user holds nothing.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(());
            }
            Err(source) => {
                return Err(RegistryError::CertFile {
                    path: dir.to_owned(),
                    source,
                });
            }
        };
        files.sort();
        for file in files {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => {
                    let roots = Certificate::from_pem_bundle(&read(&file)?)
                        .map_err(|error| config(&file.display().to_string(), error))?;
                    self.roots.extend(roots);
                }
                Some("cert") if self.identity.is_none() => {
                    let mut pem = read(&file)?;
                    pem.push(b'\n');
                    pem.extend(read(&file.with_extension("key"))?);
                    let identity = Identity::from_pem(&pem)
                        .map_err(|error| config(&file.display().to_string(), error))?;
                    self.identity = Some(identity);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs_err::read(path).map_err(|source| RegistryError::CertFile {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_their_addresses() {
        let cases = [
            (
                "docker.io",
                "https://registry-1.docker.io/",
                Transport::Https,
            ),
            (
                "index.docker.io",
                "https://registry-1.docker.io/",
                Transport::Https,
            ),
            ("ghcr.io", "https://ghcr.io/", Transport::Https),
            (
                "localhost:5000",
                "https://localhost:5000/",
                Transport::Loopback,
            ),
            (
                "127.0.0.7:5000",
                "https://127.0.0.7:5000/",
                Transport::Loopback,
            ),
            ("[::1]:5000", "https://[::1]:5000/", Transport::Loopback),
            (
                "localhost.example",
                "https://localhost.example/",
                Transport::Https,
            ),
            ("10.0.0.1:443", "https://10.0.0.1/", Transport::Https),
        ];
        for (name, url, transport) in cases {
            let host = HostConfig::new(name);
            assert_eq!(host.root("https").unwrap().as_str(), url);
            assert_eq!(host.transport, transport, "{name}");
        }
        assert_eq!(
            HostConfig::new("a:1").insecure(true).transport,
            Transport::Insecure
        );
    }

    #[test]
    fn a_name_that_is_not_a_host_is_refused() {
        for name in ["", "a/b", "u@h", "h?x", "h#x", "h:port"] {
            assert!(HostConfig::new(name).root("https").is_err(), "{name}");
        }
    }

    #[test]
    fn certificates_are_taken_from_the_folder_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("r.example:5000");
        fs_err::create_dir(&host).unwrap();
        let mut config = HostConfig::new("r.example:5000");
        config.cert_dirs = vec![dir.path().join("absent"), dir.path().to_owned()];
        fs_err::write(host.join("README"), "not a certificate").unwrap();
        assert!(
            HostCerts::load(&config.cert_dirs, config.name())
                .unwrap()
                .roots
                .is_empty()
        );

        fs_err::write(host.join("client.cert"), "nothing").unwrap();
        let error = config.http(false).unwrap_err();
        assert!(
            matches!(&error, RegistryError::CertFile { path, .. } if path.ends_with("client.key")),
            "{error}"
        );
        fs_err::write(host.join("client.key"), "nothing").unwrap();
        let error = config.http(false).unwrap_err();
        assert!(error.to_string().contains("client.cert"), "{error}");
        fs_err::remove_file(host.join("client.cert")).unwrap();
        config.http(false).unwrap();
    }

    #[test]
    fn a_proxy_that_is_not_a_url_is_named_without_its_password() {
        let mut config = HostConfig::new("r.example");
        config.proxy.https = Some("http://user:hunter2@[bad".to_owned());
        let error = crate::error::chain(&config.http(false).unwrap_err());
        assert!(error.contains("the HTTPS proxy"), "{error}");
        assert!(!error.contains("hunter2") && !format!("{config:?}").contains("hunter2"));
    }
}
