//! The source policy that `EXPERIMENTAL_BUILDKIT_SOURCE_POLICY` names: a file in JSON or protobuf.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
    AttrConstraint, AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector, Update,
};
use fs_err as fs;
use prost::Message as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// Why the policy cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("failed to read policy file")]
    Read(#[from] io::Error),
    /// The file is neither of the two forms; this is what is wrong with it as JSON.
    #[error("failed to parse source policy")]
    Parse(#[from] serde_json::Error),
}

/// Reads a policy.
///
/// # Errors
///
/// Fails if the file is no policy.
pub fn read(path: &Path) -> Result<Policy, PolicyError> {
    parse(&fs::read(path)?)
}

fn parse(data: &[u8]) -> Result<Policy, PolicyError> {
    match serde_json::from_slice::<JsonPolicy>(data) {
        Ok(policy) => Ok(policy.into()),
        Err(error) => Policy::decode(data).map_err(|_| error.into()),
    }
}

#[derive(Deserialize)]
struct JsonPolicy {
    #[serde(default)]
    version: i64,
    #[serde(default)]
    rules: Vec<JsonRule>,
}

#[derive(Deserialize)]
struct JsonRule {
    #[serde(default, deserialize_with = "action")]
    action: PolicyAction,
    selector: Option<JsonSelector>,
    updates: Option<JsonUpdate>,
}

#[derive(Deserialize)]
struct JsonSelector {
    #[serde(default)]
    identifier: String,
    #[serde(default, alias = "matchType", deserialize_with = "match_type")]
    match_type: MatchType,
    #[serde(default)]
    constraints: Vec<JsonConstraint>,
}

#[derive(Deserialize)]
struct JsonConstraint {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default, deserialize_with = "condition")]
    condition: AttrMatch,
}

#[derive(Deserialize)]
struct JsonUpdate {
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    attrs: HashMap<String, String>,
}

/// An enumeration by name or by number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Name(String),
    Number(i32),
}

fn word<'de, D: Deserializer<'de>, T: TryFrom<i32>>(
    deserializer: D,
    by_name: fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let word = Word::deserialize(deserializer)?;
    let (value, shown) = match word {
        Word::Name(name) => (by_name(&name), name),
        Word::Number(number) => (T::try_from(number).ok(), number.to_string()),
    };
    value.ok_or_else(|| serde::de::Error::custom(format!("unknown word {shown:?}")))
}

fn action<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PolicyAction, D::Error> {
    word(deserializer, PolicyAction::from_str_name)
}

fn match_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MatchType, D::Error> {
    word(deserializer, MatchType::from_str_name)
}

fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AttrMatch, D::Error> {
    word(deserializer, AttrMatch::from_str_name)
}

impl From<JsonPolicy> for Policy {
    fn from(policy: JsonPolicy) -> Self {
        Self {
            version: policy.version,
            rules: policy.rules.into_iter().map(Rule::from).collect(),
        }
    }
}

impl From<JsonRule> for Rule {
    fn from(rule: JsonRule) -> Self {
        let constraint = |given: JsonConstraint| AttrConstraint {
            key: given.key,
            value: given.value,
            condition: given.condition.into(),
        };
        Self {
            action: rule.action.into(),
            selector: rule.selector.map(|given| Selector {
                identifier: given.identifier,
                match_type: given.match_type.into(),
                constraints: given.constraints.into_iter().map(constraint).collect(),
            }),
            updates: rule.updates.map(|given| Update {
                identifier: given.identifier,
                attrs: given.attrs,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_protobuf() {
        let json = br#"{"version": 1, "rules": [
            {"action": "CONVERT",
             "selector": {"identifier": "docker-image://a", "match_type": "EXACT",
                          "constraints": [{"key": "k", "value": "v", "condition": "MATCHES"}]},
             "updates": {"identifier": "docker-image://b", "attrs": {"x": "y"}}},
            {"action": 1, "selector": {"identifier": "*"}}]}"#;
        let policy = parse(json).unwrap();
        assert_eq!(policy.version, 1);
        assert_eq!(policy.rules[0].action(), PolicyAction::Convert);
        let selector = policy.rules[0].selector.as_ref().unwrap();
        assert_eq!(selector.match_type(), MatchType::Exact);
        assert_eq!(selector.constraints[0].condition(), AttrMatch::Matches);
        assert_eq!(policy.rules[1].action(), PolicyAction::Deny);
        assert_eq!(parse(&policy.encode_to_vec()).unwrap(), policy);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in ["{\"rules\": [{\"action\": \"NOPE\"}]}", "{", "rules"] {
            let error = parse(text.as_bytes());
            assert!(matches!(error, Err(PolicyError::Parse(_))), "{text}");
        }
        assert!(read(Path::new("/nonexistent/policy")).is_err());
    }
}
