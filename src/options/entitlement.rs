//! `--allow`: privileges that a build may use.

use super::csv;
use super::error::OptionError;
use super::suggest;

/// Lets `RUN --network=host` run.
pub const NETWORK_HOST: &str = "network.host";
/// Lets `RUN --security=insecure` run.
pub const SECURITY_INSECURE: &str = "security.insecure";
/// Lets `RUN --device` run; alone for every device, or with `=NAME[,alias=NAME]`.
pub const DEVICE: &str = "device";
/// Lets a local output with `mode=delete` delete outside the working directory. It stays on this
/// side.
pub const LOCAL_DELETE: &str = "buildx.local.delete";

const KNOWN: [&str; 4] = [NETWORK_HOST, SECURITY_INSECURE, DEVICE, LOCAL_DELETE];

/// What a build is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// What goes to BuildKit, in the order of the flags.
    pub granted: Vec<String>,
    /// Whether [`LOCAL_DELETE`] is there.
    pub local_delete: bool,
}

impl Entitlements {
    /// Parses the values of all `--allow` flags; empty ones are skipped.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Self, OptionError> {
        let mut allowed = Self::default();
        for value in values
            .iter()
            .map(AsRef::as_ref)
            .filter(|value| !value.is_empty())
        {
            let (key, argument) = match value.split_once('=') {
                Some((key, argument)) => (key, Some(argument)),
                None => (value, None),
            };
            match (key, argument) {
                (DEVICE, argument) => check_device(argument.unwrap_or_default(), value)?,
                (key, None) if KNOWN.contains(&key) => {}
                (key, Some(_)) if KNOWN.contains(&key) => {
                    return Err(
                        OptionError::other(format!("{key} does not accept a value")).within(value)
                    );
                }
                _ => {
                    return Err(
                        OptionError::bad_value("entitlement", value, KNOWN.join(", "))
                            .within(value)
                            .suggest(suggest::closest(key, &KNOWN)),
                    );
                }
            }
            if key == LOCAL_DELETE {
                allowed.local_delete = true;
            } else {
                allowed.granted.push(value.to_owned());
            }
        }
        Ok(allowed)
    }
}

/// Checks `NAME[,alias=NAME]`; nothing at all stands for every device.
fn check_device(argument: &str, value: &str) -> Result<(), OptionError> {
    if argument.is_empty() {
        return Ok(());
    }
    let fields = csv::fields(argument).map_err(|error| OptionError {
        value: Some(value.to_owned()),
        ..error
    })?;
    for field in fields.iter().skip(1) {
        if !field.text.starts_with("alias=") {
            return Err(OptionError::bad_value("device", &field.text, "alias=NAME").within(value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ones_are_granted() {
        let values = [
            "network.host",
            "",
            "security.insecure",
            "device",
            "device=vendor.example/gpu=all",
            "device=vendor.example/gpu=0,alias=gpu",
        ];
        let allowed = Entitlements::parse_list(&values).unwrap();
        let expected: Vec<&str> = values
            .into_iter()
            .filter(|value| !value.is_empty())
            .collect();
        assert_eq!(allowed.granted, expected);
        assert!(!allowed.local_delete);
    }

    #[test]
    fn local_delete_is_not_sent() {
        let allowed = Entitlements::parse_list(&["buildx.local.delete"]).unwrap();
        assert_eq!(
            allowed,
            Entitlements {
                granted: Vec::new(),
                local_delete: true
            }
        );
    }

    #[test]
    fn errors() {
        for (value, text) in [
            (
                "network.hots",
                r#"invalid value "network.hots" for "entitlement", expected network.host, security.insecure, device, buildx.local.delete, did you mean "network.host"?"#,
            ),
            (
                "network.host=1",
                r#"network.host does not accept a value in "network.host=1""#,
            ),
            (
                "buildx.local.delete=true",
                r#"buildx.local.delete does not accept a value in "buildx.local.delete=true""#,
            ),
            (
                "device=a,alais=b",
                r#"invalid value "alais=b" for "device", expected alias=NAME in "device=a,alais=b""#,
            ),
        ] {
            assert_eq!(
                Entitlements::parse_list(&[value]).unwrap_err().to_string(),
                text
            );
        }
    }
}
