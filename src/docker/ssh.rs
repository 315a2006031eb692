//! `ssh://` addresses, and the arguments of ssh that connect to the daemon there.

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
    /// Parses what follows `ssh://`.
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

    /// Returns the arguments of ssh for the Docker daemon there.
    pub fn docker(&self) -> Vec<String> {
        self.arguments(match &self.socket {
            None => "docker system dial-stdio".to_owned(),
            Some(socket) => format!(
                "docker --host={} system dial-stdio",
                shell_quote(&format!("unix://{socket}"))
            ),
        })
    }

    /// Returns the arguments of ssh for the BuildKit daemon there.
    pub fn buildctl(&self) -> Vec<String> {
        self.arguments(match &self.socket {
            None => "buildctl dial-stdio".to_owned(),
            Some(socket) => format!(
                "buildctl --addr {} dial-stdio",
                shell_quote(&format!("unix://{socket}"))
            ),
        })
    }

    /// Prompts are off: the docker command line runs ssh without a terminal, too.
    fn arguments(&self, command: String) -> Vec<String> {
        let mut arguments: Vec<String> = ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"]
            .map(str::to_owned)
            .into();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone(), command]);
        arguments
    }
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
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
            let arguments = SshSpec::parse(given).unwrap().docker().join(" ");
            let want = format!("-o ConnectTimeout=30 -o BatchMode=yes -T {want}");
            assert_eq!(arguments, want, "{given}");
        }
        let spec = SshSpec::parse("u@h/run/b.sock").unwrap();
        assert_eq!(
            spec.buildctl().join(" "),
            "-o ConnectTimeout=30 -o BatchMode=yes -T -l u -- h buildctl --addr 'unix:///run/b.sock' dial-stdio"
        );
        let bare = SshSpec::parse("h").unwrap().buildctl();
        assert_eq!(bare.last().map(String::as_str), Some("buildctl dial-stdio"));
    }

    #[test]
    fn bad_addresses_are_refused() {
        for given in ["", "u:p@h", "h?x=1", "-oProxyCommand=x", "-x@h", "h:port"] {
            assert!(SshSpec::parse(given).is_err(), "{given}");
        }
    }
}
