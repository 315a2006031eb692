//! A builder as JSON, with the fields that `docker buildx ls --format json` prints.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::builder::load::{GcRule, LoadedBuilder, LoadedNode};
use crate::builder::platform::Platform;

/// Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Returns the JSON of a builder, keys sorted at every level.
pub(super) fn builder(builder: &LoadedBuilder, current: bool) -> Value {
    let time = builder.last_activity.map(|time| time.to_string());
    let nodes: Vec<Value> = builder.nodes.iter().map(node).collect();
    let mut fields = BTreeMap::from([
        ("Current", json!(current)),
        ("Driver", json!(builder.driver)),
        ("Dynamic", json!(builder.dynamic)),
        ("LastActivity", json!(time.as_deref().unwrap_or(NO_TIME))),
        ("Name", json!(builder.name)),
        ("Nodes", json!(nodes)),
    ]);
    if let Some(error) = &builder.error {
        fields.insert("Err", json!(error.trim()));
    }
    sorted(fields)
}

fn node(node: &LoadedNode) -> Value {
    let stored = &node.stored;
    let encode = |content: &[u8]| base64::engine::general_purpose::STANDARD.encode(content);
    let files: BTreeMap<_, _> = stored
        .files
        .iter()
        .map(|(path, content)| (path, encode(&content.0)))
        .collect();
    let status = match (&node.error, node.status) {
        (Some(_), _) => "error".to_owned(),
        (None, status) => status.map(|s| s.to_string()).unwrap_or_default(),
    };
    let platforms: Vec<String> = node.platforms.iter().map(Platform::format).collect();
    let rules: Vec<Value> = node.gc_policy.iter().map(rule).collect();
    let mut fields = BTreeMap::from([
        ("DriverOpts", json!(stored.driver_opts)),
        (
            "Err",
            json!(node.error.as_deref().unwrap_or_default().trim()),
        ),
        ("Files", json!(files)),
        ("Flags", json!(stored.flags)),
        ("GCPolicy", json!(rules)),
        ("IDs", json!(node.ids)),
        ("Labels", json!(node.labels)),
        ("Platforms", json!(platforms)),
        ("ProxyConfig", json!(node.proxies)),
        ("Status", json!(status)),
        ("Version", json!(node.version)),
    ]);
    fields.retain(|_, value| !is_empty(value));
    fields.insert("Endpoint", json!(stored.endpoint));
    fields.insert("Name", json!(stored.name));
    sorted(fields)
}

fn rule(rule: &GcRule) -> Value {
    let filters = (!rule.filters.is_empty()).then_some(&rule.filters);
    let keep = u64::try_from(rule.keep_duration.as_nanos()).unwrap_or(u64::MAX);
    sorted(BTreeMap::from([
        ("all", json!(rule.all)),
        ("filter", json!(filters)),
        ("keepDuration", json!(keep)),
        ("maxUsedSpace", json!(rule.max_used_space)),
        ("minFreeSpace", json!(rule.min_free_space)),
        ("reservedSpace", json!(rule.reserved_space)),
    ]))
}

fn sorted(fields: BTreeMap<&str, Value>) -> Value {
    fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
