//! Unix sockets.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

/// A stream to another program of this machine.
pub type LocalStream = tokio::net::UnixStream;

/// Connects to the socket at a path.
///
/// # Errors
///
/// Fails if nobody listens there.
pub async fn connect(path: &Path) -> io::Result<LocalStream> {
    LocalStream::connect(path).await
}

/// Connects to the socket that docker names to its plugins, inside of the runtime. Go writes the name of an abstract
/// socket, which only Linux has, with a leading `@`.
///
/// # Errors
///
/// Fails if nobody listens there.
pub fn connect_named(name: &str) -> io::Result<LocalStream> {
    let stream = match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            StdStream::connect_addr(&address)?
        }
        _ => StdStream::connect(name)?,
    };
    stream.set_nonblocking(true)?;
    LocalStream::from_std(stream)
}
