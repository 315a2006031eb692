//! The address of a daemon, as `-H` and `DOCKER_HOST` give it.

/// Address of the daemon where nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const DEFAULT_TLS_HOST: &str = "tcp://127.0.0.1:2376";
const DEFAULT_TCP_NAME: &str = "127.0.0.1";
const DEFAULT_TCP_PORT: &str = "2375";

/// A daemon address that cannot be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid address of a Docker daemon {host:?}: {reason}")]
pub struct HostError {
    /// The text as given.
    pub host: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Completes a daemon address: an empty one is the default (the TLS port where TLS is asked for), one
/// without a scheme is TCP, TCP without a port gets 2375, `unix://` without a path the usual socket.
///
/// # Errors
///
/// Fails on an unknown scheme or a port that is none.
pub fn complete(host: &str, default_to_tls: bool) -> Result<String, HostError> {
    let host = host.trim();
    if host.is_empty() {
        let default = if default_to_tls {
            DEFAULT_TLS_HOST
        } else {
            DEFAULT_HOST
        };
        return Ok(default.to_owned());
    }
    let fail = |reason| HostError {
        host: host.to_owned(),
        reason,
    };
    let (scheme, rest) = host.split_once("://").unwrap_or(("tcp", host));
    if rest.contains("://") {
        return Err(fail("it has two schemes"));
    }
    match scheme {
        "tcp" => complete_tcp(rest).map_err(fail),
        "unix" if rest.is_empty() => Ok(format!("unix://{DEFAULT_SOCKET}")),
        "unix" | "npipe" | "fd" | "ssh" | "http" | "https" => Ok(host.to_owned()),
        _ => Err(fail("the scheme is none of unix, tcp, ssh")),
    }
}

fn complete_tcp(rest: &str) -> Result<String, &'static str> {
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (name, port) = split_port(authority)?;
    let name = if name.is_empty() {
        DEFAULT_TCP_NAME
    } else {
        name
    };
    let port = port.unwrap_or(DEFAULT_TCP_PORT);
    if port.parse::<u16>().is_err() {
        return Err("the port is no number up to 65535");
    }
    Ok(format!("tcp://{name}:{port}{path}"))
}

/// Splits `name:port`; an IPv6 address keeps its brackets.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or("a bracket is not closed")? + 1;
        let (name, rest) = authority.split_at(end);
        return match rest.strip_prefix(':') {
            Some("") => Ok((name, None)),
            Some(port) => Ok((name, Some(port))),
            None if rest.is_empty() => Ok((name, None)),
            None => Err("there is text behind the bracket"),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("an IPv6 address needs brackets"),
        Some((name, "")) => Ok((name, None)),
        Some((name, port)) => Ok((name, Some(port))),
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (given, tls, want) in [
            ("", false, DEFAULT_HOST),
            ("  ", true, DEFAULT_TLS_HOST),
            ("unix://", false, "unix:///var/run/docker.sock"),
            ("unix:///x.sock", true, "unix:///x.sock"),
            ("tcp://h:1234", false, "tcp://h:1234"),
            ("tcp://h", true, "tcp://h:2375"),
            ("h:1", false, "tcp://h:1"),
            (":2376", false, "tcp://127.0.0.1:2376"),
            ("tcp://", false, "tcp://127.0.0.1:2375"),
            ("tcp://[::1]", false, "tcp://[::1]:2375"),
            ("tcp://[::1]:9/p", false, "tcp://[::1]:9/p"),
            ("ssh://u@h:22", false, "ssh://u@h:22"),
            (" tcp://h:1 ", false, "tcp://h:1"),
        ] {
            assert_eq!(complete(given, tls).as_deref(), Ok(want), "{given}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for given in [
            "foo://h",
            "tcp://h:99999",
            "tcp://h:x",
            "tcp://unix:///x",
            "tcp://::1",
            "tcp://[::1",
            "tcp://[::1]x",
        ] {
            let error = complete(given, false).unwrap_err();
            assert_eq!(error.host, given);
        }
    }
}
