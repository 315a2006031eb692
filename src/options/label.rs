//! `--label`: labels of the image.

use std::collections::BTreeMap;

use super::error::OptionError;

/// Parses the values of all `--label` flags: `KEY[=VALUE]`; without a value it is empty, of one key
/// the last counts.
pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<BTreeMap<String, String>, OptionError> {
    let mut labels = BTreeMap::new();
    for text in values.iter().map(AsRef::as_ref) {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(OptionError::empty_key(text));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let labels = parse_list(&["a=1", "b", "c=x=y", "a=2", "d="]).unwrap();
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        assert_eq!(labels, ["a:2", "b:", "c:x=y", "d:"]);
    }

    #[test]
    fn empty_keys_are_errors() {
        for text in ["", "=x"] {
            let error = parse_list(&[text]).unwrap_err().to_string();
            assert_eq!(error, format!("invalid key-value pair {text:?}: empty key"));
        }
    }
}
