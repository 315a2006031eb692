//! `--add-host`: lines for `/etc/hosts` of build steps.

use std::fmt;
use std::net::IpAddr;

use super::csv;
use super::error::OptionError;

/// The word that stands for the address of the builder's host.
pub const HOST_GATEWAY: &str = "host-gateway";

/// Where a host name points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// To an address.
    Ip(IpAddr),
    /// To the builder's host.
    Gateway,
}

/// A host name and its addresses; [`Display`](fmt::Display) writes `NAME=ADDRESS[,ADDRESS…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddHost {
    /// The name; without `=` and `:`.
    pub host: String,
    /// At least one address, or [`HostAddress::Gateway`] alone.
    pub addresses: Vec<HostAddress>,
}

impl AddHost {
    /// Parses `NAME=ADDRESS[,ADDRESS…]` or `NAME:ADDRESS[,ADDRESS…]`; an address may stand in square
    /// brackets, and may be `host-gateway` where it is the only one.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let error = |expected: &str| OptionError::bad_value("host", value, expected).within(value);
        let Some((host, addresses)) = value.split_once('=').or_else(|| value.split_once(':'))
        else {
            return Err(error("NAME=ADDRESS or NAME:ADDRESS"));
        };
        if host.is_empty() || host.contains([':', ',']) || host.contains(char::is_whitespace) {
            return Err(error("a host name before the address"));
        }
        if addresses == HOST_GATEWAY {
            return Ok(Self {
                host: host.to_owned(),
                addresses: vec![HostAddress::Gateway],
            });
        }
        let addresses = addresses
            .split(',')
            .map(|address| read_ip(address).map(HostAddress::Ip))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| error("an IPv4 or IPv6 address, or host-gateway"))?;
        Ok(Self {
            host: host.to_owned(),
            addresses,
        })
    }

    /// Parses the values of all `--add-host` flags, each a comma-separated list of hosts. Several
    /// addresses of one host need quotes around the field.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<Self>, OptionError> {
        let mut hosts = Vec::new();
        for value in values
            .iter()
            .map(AsRef::as_ref)
            .filter(|value| !value.is_empty())
        {
            for field in csv::fields(value)? {
                hosts.push(Self::parse(&field.text)?);
            }
        }
        Ok(hosts)
    }
}

impl fmt::Display for AddHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        for (index, address) in self.addresses.iter().enumerate() {
            let separator = if index == 0 { '=' } else { ',' };
            match address {
                HostAddress::Ip(ip) => write!(f, "{separator}{ip}")?,
                HostAddress::Gateway => write!(f, "{separator}{HOST_GATEWAY}")?,
            }
        }
        Ok(())
    }
}

fn read_ip(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok()
}

/// Returns the hosts as BuildKit's `add-hosts` attribute takes them: one `NAME=ADDRESS` for every
/// address. `gateway` is the address of the builder's host; it is an error when it is needed and not
/// known. `None` without hosts.
pub fn attr(hosts: &[AddHost], gateway: Option<IpAddr>) -> Result<Option<String>, OptionError> {
    let mut list = Vec::new();
    for entry in hosts {
        for address in &entry.addresses {
            let ip = match address {
                HostAddress::Ip(ip) => *ip,
                HostAddress::Gateway => gateway.ok_or_else(|| {
                    OptionError::other(format!(
                        "host-gateway is not supported by this builder, give {:?} an address",
                        entry.host
                    ))
                })?,
            };
            list.push(format!("{}={ip}", entry.host));
        }
    }
    Ok((!list.is_empty()).then(|| list.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (value, display) in [
            ("myhost=192.168.0.1", "myhost=192.168.0.1"),
            ("myhost:192.168.0.1", "myhost=192.168.0.1"),
            (
                "thathost-nosquarebrackets:10.0.2.1",
                "thathost-nosquarebrackets=10.0.2.1",
            ),
            ("anipv6host:2003:0:ab34:e::1", "anipv6host=2003:0:ab34:e::1"),
            ("ipv6local=::1", "ipv6local=::1"),
            ("ipv6local:::1", "ipv6local=::1"),
            ("ipv6local:[::1]", "ipv6local=::1"),
            ("v4=[1.2.3.4]", "v4=1.2.3.4"),
            (
                "host.docker.internal:host-gateway",
                "host.docker.internal=host-gateway",
            ),
            ("multi=1.2.3.4,[::1]", "multi=1.2.3.4,::1"),
        ] {
            let host = AddHost::parse(value).unwrap();
            assert_eq!(host.to_string(), display, "{value}");
            assert_eq!(AddHost::parse(display).unwrap(), host);
        }
    }

    #[test]
    fn errors() {
        for value in [
            "myhost",
            "myhost=",
            "myhost:",
            "=1.2.3.4",
            ":1.2.3.4",
            "myhost=192.notanipaddress.1",
            "myhost=[",
            "myhost=[]",
            "my:host=1.2.3.4",
            "myhost=1.2.3.4,host-gateway",
            "a b=1.2.3.4",
            "thathost-nosemicolon10.0.0.1",
            "myhost=1.2.3.4,",
            "myhost=01.2.3.4",
        ] {
            let error = AddHost::parse(value).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid value {value:?} for \"host\"")),
                "{error}"
            );
        }
    }

    #[test]
    fn attribute() {
        let hosts =
            AddHost::parse_list(&["", r#"a:1.1.1.1,"b=2.2.2.2,::2""#, "c=host-gateway"]).unwrap();
        let gateway = Some("172.17.0.1".parse().unwrap());
        assert_eq!(
            attr(&hosts, gateway).unwrap().unwrap(),
            "a=1.1.1.1,b=2.2.2.2,b=::2,c=172.17.0.1"
        );
        assert!(
            attr(&hosts, None)
                .unwrap_err()
                .to_string()
                .contains("host-gateway")
        );
        assert_eq!(attr(&[], None).unwrap(), None);
    }
}
