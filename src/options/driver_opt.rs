//! `--driver-opt`: options of a builder's driver.

use std::collections::BTreeMap;

use super::csv;
use super::error::{OptionError, Problem};

/// Parses the values of all `--driver-opt` flags, each a comma-separated list of `KEY=VALUE`. Keys
/// keep their letter case (`env.HTTP_PROXY`); of one key the last counts. Which keys a driver knows
/// the driver says.
pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<BTreeMap<String, String>, OptionError> {
    let mut options = BTreeMap::new();
    for value in values.iter().map(AsRef::as_ref) {
        for field in csv::fields(value)? {
            let Some((key, text)) = field.text.split_once('=') else {
                return Err(OptionError::new(Problem::NotKeyValue { field: field.text })
                    .at(field.position)
                    .within(value));
            };
            if key.is_empty() || key == "env." {
                return Err(OptionError::other(
                    "empty key, expected KEY=VALUE or env.NAME=VALUE",
                ));
            }
            options.insert(key.to_owned(), text.to_owned());
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let options = parse_list(&[
            "network=host,env.A=1",
            r#""env.B=x,y",image=a"#,
            "image=b=c",
        ])
        .unwrap();
        let options: Vec<_> = options.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        assert_eq!(
            options,
            ["env.A:1", "env.B:x,y", "image:b=c", "network:host"]
        );
    }

    #[test]
    fn errors() {
        for (value, text) in [
            ("network", r#""network" is not of the form key=value"#),
            ("a=1,b", r#""b" is not of the form key=value in "a=1,b""#),
            ("env.=1", "empty key, expected KEY=VALUE or env.NAME=VALUE"),
            ("", "empty value, expected a comma-separated list"),
        ] {
            assert_eq!(parse_list(&[value]).unwrap_err().to_string(), text);
        }
    }
}
