//! The addresses of a remote BuildKit (BuildKit `client/connhelper`, buildx `driver/remote`).

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::docker::ssh::SshSpec;

/// Where a BuildKit is, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix://PATH`.
    Unix(PathBuf),
    /// `tcp://HOST:PORT`.
    Tcp {
        /// Host and port.
        authority: String,
        /// The host alone, an IPv6 address without its brackets.
        host: String,
    },
    /// `docker-container://NAME?context=CONTEXT`: a container of a Docker engine.
    Container {
        /// The container.
        name: String,
        /// The docker context; nothing for the current one.
        context: Option<String>,
    },
    /// A program whose standard input and output are the stream: ssh or kubectl.
    Program {
        /// The program.
        program: &'static str,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl Address {
    /// Understands an address.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        match scheme {
            "unix" if rest.is_empty() => Err("it has no path"),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" => tcp(rest),
            "docker-container" => container(rest),
            "kube-pod" => pod(rest),
            "ssh" => Ok(Self::Program {
                program: "ssh",
                arguments: SshSpec::parse(rest)?.buildctl(),
            }),
            "npipe" => Err("named pipes are there on Windows only"),
            _ => Err("its scheme is none of unix, tcp, ssh, docker-container, kube-pod"),
        }
    }

    /// Returns an address without its password, if it has one, for messages.
    pub fn redacted(text: &str) -> String {
        let Some((scheme, rest)) = text.split_once("://") else {
            return text.to_owned();
        };
        match rest.rsplit_once('@') {
            Some((user, place)) if user.contains(':') => {
                let user = user.split(':').next().unwrap_or_default();
                format!("{scheme}://{user}:xxxxx@{place}")
            }
            _ => text.to_owned(),
        }
    }

    /// Returns the host that a TLS certificate is expected for.
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            _ => "",
        }
    }

    /// Returns whether TLS may be spoken there: sockets only.
    pub fn can_have_tls(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::Tcp { .. })
    }
}

fn tcp(rest: &str) -> Result<Address, &'static str> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').ok_or("it has no port")?;
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.contains('@') {
        return Err("it takes no user and no password");
    }
    if port.parse::<u16>().is_err() {
        return Err("the port is no number up to 65535");
    }
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or("a bracket is not closed")?,
        None if host.contains(':') => return Err("an IPv6 address needs brackets"),
        None => host,
    };
    Ok(Address::Tcp {
        authority: authority.to_owned(),
        host: host.to_owned(),
    })
}

fn container(rest: &str) -> Result<Address, &'static str> {
    let (name, query) = name_and_query(rest);
    if name.is_empty() {
        return Err("it has no name of a container");
    }
    Ok(Address::Container {
        name,
        context: value(query, "context"),
    })
}

/// `kube-pod://POD?context=CONTEXT&namespace=NAMESPACE&container=CONTAINER`, through kubectl.
fn pod(rest: &str) -> Result<Address, &'static str> {
    let (pod, query) = name_and_query(rest);
    if pod.is_empty() {
        return Err("it has no name of a pod");
    }
    let namespace = value(query, "namespace").unwrap_or_default();
    let container = value(query, "container").unwrap_or_default();
    let is_name = |text: &str| {
        text.chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
    };
    if pod.starts_with('-')
        || ![&pod, &namespace, &container]
            .iter()
            .all(|text| is_name(text))
    {
        return Err("a name in it is none that Kubernetes has");
    }
    let context = value(query, "context").unwrap_or_default();
    let words = ["exec", "-i", &pod, "--", "buildctl", "dial-stdio"].map(str::to_owned);
    let mut arguments = vec![
        format!("--context={context}"),
        format!("--namespace={namespace}"),
    ];
    arguments.extend(words);
    arguments.insert(3, format!("--container={container}"));
    Ok(Address::Program {
        program: "kubectl",
        arguments,
    })
}

fn name_and_query(rest: &str) -> (String, &str) {
    let rest = rest.split('#').next().unwrap_or_default();
    let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
    let name = name.split(['/', ':']).next().unwrap_or_default();
    (name.to_owned(), query)
}

/// Returns a parameter that is there and not empty.
fn value(query: &str, name: &str) -> Option<String> {
    let found = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name);
    let (_, text) = found.filter(|(_, text)| !text.is_empty())?;
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        for (text, want) in [
            ("unix:///run/b.sock", Address::Unix("/run/b.sock".into())),
            (
                "tcp://h:1234",
                Address::Tcp {
                    authority: "h:1234".into(),
                    host: "h".into(),
                },
            ),
            (
                "tcp://[::1]:1/",
                Address::Tcp {
                    authority: "[::1]:1".into(),
                    host: "::1".into(),
                },
            ),
            (
                "docker-container://name",
                Address::Container {
                    name: "name".into(),
                    context: None,
                },
            ),
            (
                "docker-container://name?context=my%2Fctx",
                Address::Container {
                    name: "name".into(),
                    context: Some("my/ctx".into()),
                },
            ),
        ] {
            assert_eq!(Address::parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn programs_get_their_arguments() {
        for (text, program, want) in [
            ("ssh://u@h:22", "ssh", "-l u -p 22 -- h buildctl dial-stdio"),
            (
                "kube-pod://p",
                "kubectl",
                "--context= --namespace= exec --container= -i p -- buildctl dial-stdio",
            ),
            (
                "kube-pod://p?container=c&namespace=n&context=user@cluster",
                "kubectl",
                "--context=user@cluster --namespace=n exec --container=c -i p -- buildctl dial-stdio",
            ),
        ] {
            let Ok(Address::Program {
                program: found,
                arguments,
            }) = Address::parse(text)
            else {
                panic!("{text}");
            };
            assert_eq!(found, program);
            let arguments = arguments.join(" ");
            assert!(arguments.ends_with(want), "{arguments}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (text, want) in [
            ("ssh://u:p:q@h", "ssh://u:xxxxx@h"),
            ("ssh://u@h:22", "ssh://u@h:22"),
            ("tcp://h:1", "tcp://h:1"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(Address::redacted(text), want);
        }
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for text in [
            "h:1",
            "foo://h",
            "tcp://h",
            "tcp://:1",
            "tcp://h:x",
            "tcp://u:p@h:1",
            "tcp://::1:80",
            "tcp://[::1:80",
            "unix://",
            "npipe:////./pipe/x",
            "docker-container://",
            "docker-container://?context=x",
            "kube-pod://",
            "kube-pod://a_b",
            "kube-pod://p?namespace=a_b",
            "kube-pod://-p",
            "ssh://",
            "ssh://u:p@h",
            "ssh://h?x",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_panics(text in "(tcp|unix|ssh|kube-pod|docker-container)://[a-z:@/?#%&=\\[\\].-]{0,20}") {
            let _ = Address::parse(&text);
        }
    }
}
