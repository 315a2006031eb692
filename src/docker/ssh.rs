//! `ssh://` addresses: the standard input and output of `ssh HOST docker system dial-stdio`.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::host;

/// Where to, taken from an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSpec {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    socket: Option<String>,
}

impl SshSpec {
    /// Parses what stands behind `ssh://`.
    ///
    /// # Errors
    ///
    /// Says what is wrong: a password, a query, no host, a port that is none.
    pub fn parse(rest: &str) -> Result<Self, &'static str> {
        if rest.contains(['?', '#']) {
            return Err("an ssh address takes no query and no fragment");
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("an ssh address takes no password");
        }
        let (name, port) = host::split_port(place)?;
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let starts_with_dash = |text: &str| text.starts_with('-');
        if name.is_empty() {
            return Err("the ssh address has no host");
        }
        if starts_with_dash(name) || user.is_some_and(starts_with_dash) {
            return Err("user and host of an ssh address must not start with a dash");
        }
        let port = port
            .map(str::parse)
            .transpose()
            .map_err(|_| "the port is no number up to 65535")?;
        Ok(Self {
            user: user.filter(|u| !u.is_empty()).map(str::to_owned),
            host: name.to_owned(),
            port,
            socket: (!path.trim_matches('/').is_empty()).then(|| path.to_owned()),
        })
    }

    /// Returns the arguments of ssh. Prompts are off: the docker command line runs ssh without a
    /// terminal, too.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"]
            .map(str::to_owned)
            .into();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone()]);
        arguments.push(match &self.socket {
            None => "docker system dial-stdio".to_owned(),
            Some(socket) => format!(
                "docker --host={} system dial-stdio",
                shell_quote(&format!("unix://{socket}"))
            ),
        });
        arguments
    }
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The pipes of a running ssh. Dropping it ends ssh.
pub struct SshStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _child: Child,
}

impl SshStream {
    /// Starts ssh. Its messages go to standard error.
    ///
    /// # Errors
    ///
    /// Fails where ssh is not installed.
    pub fn spawn(spec: &SshSpec) -> io::Result<Self> {
        let mut child = Command::new("ssh")
            .args(spec.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Ctrl-C must not end ssh before the daemon heard of the cancellation.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| io::Error::other("ssh has no pipes"))?;
        Ok(Self {
            stdin: Some(stdin),
            stdout,
            _child: child,
        })
    }

    fn stdin(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.stdin
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stdin()?.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stdin()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is the only half-close that a process understands.
        drop(self.get_mut().stdin.take());
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_arguments() {
        for (given, want) in [
            ("h", "-- h docker system dial-stdio"),
            ("u@h:2222", "-l u -p 2222 -- h docker system dial-stdio"),
            ("[::1]:22/", "-p 22 -- ::1 docker system dial-stdio"),
            (
                "h/run/d's.sock",
                r"-- h docker --host='unix:///run/d'\''s.sock' system dial-stdio",
            ),
        ] {
            let arguments = SshSpec::parse(given).unwrap().arguments().join(" ");
            let want = format!("-o ConnectTimeout=30 -o BatchMode=yes -T {want}");
            assert_eq!(arguments, want, "{given}");
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for given in ["", "u:p@h", "h?x=1", "-oProxyCommand=x", "-x@h", "h:port"] {
            assert!(SshSpec::parse(given).is_err(), "{given}");
        }
    }
}
