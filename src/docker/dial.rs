//! A byte stream to a daemon: unix socket, TCP, TLS, or `ssh HOST docker system dial-stdio`.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::context::Endpoint;
use super::host;
use super::process::ProcessStream;
use super::ssh::SshSpec;
use super::tls::{self, TlsError};
use crate::platform::sockets::{self, LocalStream};

/// Longest wait for a connection to be made, TLS included; as docker's client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a daemon cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The scheme of the address needs another operating system or program.
    #[error("addresses of the form {scheme}:// are not supported here")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The address is wrong.
    #[error("{reason}")]
    Address {
        /// What is wrong.
        reason: &'static str,
    },
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone)]
enum Target {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, ServerName<'static>),
    Ssh(SshSpec),
}

/// Opens byte streams to one daemon.
#[derive(Clone)]
pub struct Dialer {
    target: Target,
    tls: Option<TlsConnector>,
    authority: String,
    base_path: String,
}

impl Dialer {
    /// Understands the address of an endpoint and reads its TLS files. Nothing is connected.
    ///
    /// # Errors
    ///
    /// Fails on a scheme that is not supported and on TLS files that cannot be used.
    pub fn new(endpoint: &Endpoint) -> Result<Self, DialError> {
        let (scheme, rest) = endpoint.host.split_once("://").ok_or(DialError::Address {
            reason: "the address has no scheme",
        })?;
        let mut dialer = Self {
            target: Target::Unix(PathBuf::new()),
            tls: None,
            authority: "docker".to_owned(),
            base_path: String::new(),
        };
        match scheme {
            "unix" => dialer.target = Target::Unix(PathBuf::from(rest)),
            "tcp" | "http" | "https" => dialer.set_tcp(scheme, rest, endpoint)?,
            "ssh" => {
                let spec = SshSpec::parse(rest).map_err(|reason| DialError::Address { reason })?;
                dialer.target = Target::Ssh(spec);
            }
            _ => {
                return Err(DialError::Scheme {
                    scheme: scheme.to_owned(),
                });
            }
        }
        Ok(dialer)
    }

    fn set_tcp(&mut self, scheme: &str, rest: &str, endpoint: &Endpoint) -> Result<(), DialError> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (name, port) =
            host::split_port(authority).map_err(|reason| DialError::Address { reason })?;
        let port = port.unwrap_or(match scheme {
            "http" => "80",
            "https" => "443",
            _ => "2375",
        });
        let address = format!("{name}:{port}");
        path.trim_end_matches('/').clone_into(&mut self.base_path);
        authority.clone_into(&mut self.authority);
        if scheme != "https" && endpoint.tls.is_none() && !endpoint.skip_verify {
            self.target = Target::Tcp(address);
            return Ok(());
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let server_name =
            ServerName::try_from(bare.to_owned()).map_err(|_| DialError::Address {
                reason: "the name of the host cannot be used for TLS",
            })?;
        let files = endpoint.tls.clone().unwrap_or_default();
        let config = tls::client_config(&files, endpoint.skip_verify)?;
        self.tls = Some(TlsConnector::from(Arc::new(config)));
        self.target = Target::Tls(address, server_name);
        Ok(())
    }

    /// Returns the `Host` header of requests.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns what stands before the path of every request; empty for most daemons.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Opens a stream.
    ///
    /// # Errors
    ///
    /// Fails if the daemon does not answer within 30 seconds or refuses.
    pub async fn dial(&self) -> Result<Conn, DialError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                "no connection within 30 seconds",
            ))),
        }
    }

    async fn open(&self) -> Result<Conn, DialError> {
        match &self.target {
            Target::Unix(path) => Ok(Conn::Local(sockets::connect(path).await?)),
            Target::Tcp(address) => Ok(Conn::Tcp(connect_tcp(address).await?)),
            Target::Tls(address, name) => {
                let connector = self.tls.as_ref().ok_or(DialError::Address {
                    reason: "TLS was not set up",
                })?;
                let stream = connect_tcp(address).await?;
                let stream = connector.connect(name.clone(), stream).await?;
                Ok(Conn::Tls(Box::new(stream)))
            }
            Target::Ssh(spec) => Ok(Conn::Ssh(Box::new(ProcessStream::spawn(
                "ssh",
                &spec.docker(),
            )?))),
        }
    }
}

async fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An open byte stream to a daemon.
pub enum Conn {
    /// Socket of this machine.
    Local(LocalStream),
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// Standard input and output of ssh.
    Ssh(Box<ProcessStream>),
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Conn::Local(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Conn::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Conn::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
            Conn::Ssh(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

/// A connection in the form that hyper takes.
pub(super) type HyperConn = TokioIo<Conn>;

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Local(stream) => stream.is_write_vectored(),
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Ssh(_) => false,
        }
    }
}
