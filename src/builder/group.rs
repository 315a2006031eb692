//! A builder as the store holds it: a group of nodes of one driver (the JSON of buildx).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::docker::go_json;

use super::name::{self, InvalidName};
use super::platform::Platform;

/// A builder in the store. Fields that this program does not know are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGroup {
    /// Name as the user wrote it; the file is named by its lower-case form.
    #[serde(rename = "Name")]
    pub name: String,
    /// Driver name, for example `docker-container`.
    #[serde(rename = "Driver", default, deserialize_with = "nullable::deserialize")]
    pub driver: String,
    /// The nodes, in the order in which they were appended.
    #[serde(rename = "Nodes", default, with = "nullable")]
    pub nodes: Vec<StoredNode>,
    /// True for nodes that the driver finds at run time; such a group cannot be edited.
    #[serde(
        rename = "Dynamic",
        default,
        deserialize_with = "nullable::deserialize"
    )]
    pub dynamic: bool,
    /// Fields of other versions.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The fields of a node that this program knows.
const NODE_FIELDS: [&str; 6] = [
    "Name",
    "Endpoint",
    "Platforms",
    "DriverOpts",
    "Flags",
    "Files",
];

/// A node of a builder in the store. Fields that this program does not know are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNode {
    /// Name; the container is `buildx_buildkit_<name>`.
    #[serde(rename = "Name")]
    pub name: String,
    /// Docker context name or host address; for the remote driver the address of BuildKit.
    #[serde(
        rename = "Endpoint",
        default,
        deserialize_with = "nullable::deserialize"
    )]
    pub endpoint: String,
    /// Platforms that the user fixed for this node.
    #[serde(rename = "Platforms", default, with = "nullable")]
    pub platforms: Vec<Platform>,
    /// Options of the driver.
    #[serde(rename = "DriverOpts", default, with = "nullable")]
    pub driver_opts: BTreeMap<String, String>,
    /// Arguments for buildkitd.
    #[serde(rename = "Flags", default, with = "nullable")]
    pub flags: Vec<String>,
    /// Files below `/etc/buildkit` in the container: `buildkitd.toml` and certificates.
    #[serde(rename = "Files", default, with = "nullable")]
    pub files: BTreeMap<String, FileContent>,
    /// Fields of other versions.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Content of a configuration file; base64 in JSON. It may hold a private key, so it is not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileContent(pub Vec<u8>);

impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileContent({} bytes)", self.0.len())
    }
}

impl Serialize for FileContent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for FileContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Go writes an empty slice as "" and a missing one as null.
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        go_json::base64(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Go's JSON of lists and maps: `null` when empty.
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T, S>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize + Default + PartialEq,
        S: Serializer,
    {
        if *value == T::default() {
            serializer.serialize_none()
        } else {
            value.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: Deserialize<'de> + Default,
        D: Deserializer<'de>,
    {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

/// A change of a node that `create` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// Name of the node; empty: a new node with the next free name.
    pub node: String,
    /// Endpoint of the node.
    pub endpoint: String,
    /// The user named the endpoint, so it replaces that of an existing node.
    pub endpoint_set: bool,
    /// A node that does not exist is added.
    pub append: bool,
    /// Fixed platforms; empty: those of an existing node stay.
    pub platforms: Vec<Platform>,
    /// Arguments for buildkitd; `None`: those of an existing node stay.
    pub flags: Option<Vec<String>>,
    /// Options of the driver; `None`: those of an existing node stay.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Configuration files; `None`: those of an existing node stay.
    pub files: Option<BTreeMap<String, FileContent>>,
}

/// A change of a group that is refused. The texts are those of buildx.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Nodes of a dynamic group are not the user's.
    #[error("dynamic node group does not support {action}")]
    Dynamic {
        /// What was asked for.
        action: &'static str,
    },
    /// The node to leave is not there.
    #[error("node {node:?} not found for {group}")]
    NoSuchNode {
        /// The node.
        node: String,
        /// The builder.
        group: String,
    },
    /// A builder has at least one node.
    #[error("can not leave last node, do you want to rm instance instead?")]
    LastNode,
    /// The node to change is not there, and adding was not asked for.
    #[error("node {node} not found, did you mean to append?")]
    NoAppend {
        /// The node.
        node: String,
    },
    /// Two nodes of one builder have one endpoint.
    #[error("invalid duplicate endpoint {endpoint}")]
    DuplicateEndpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// The name of a node is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl NodeGroup {
    /// Parses a file of the store, as Go would.
    ///
    /// # Errors
    ///
    /// Fails for a text that describes no builder.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut value = go_json::value(text)?;
        if let Some(group) = value.as_object_mut() {
            go_json::fold_names(group, &["Name", "Driver", "Nodes", "Dynamic"]);
            let nodes = group.get_mut("Nodes").and_then(Value::as_array_mut);
            for node in nodes.into_iter().flatten() {
                if let Some(node) = node.as_object_mut() {
                    go_json::fold_names(node, &NODE_FIELDS);
                }
            }
        }
        serde_json::from_value(value)
    }

    /// Removes a node.
    ///
    /// # Errors
    ///
    /// Fails for the last node, a node that is not there, or a dynamic group.
    pub fn leave(&mut self, node: &str) -> Result<(), GroupError> {
        if self.dynamic {
            return Err(GroupError::Dynamic { action: "Leave" });
        }
        let index = self.find(node).ok_or_else(|| GroupError::NoSuchNode {
            node: node.to_owned(),
            group: self.name.clone(),
        })?;
        if self.nodes.len() == 1 {
            return Err(GroupError::LastNode);
        }
        self.nodes.remove(index);
        Ok(())
    }

    /// Adds or changes a node. Returns true if an existing node was changed in a way that a running
    /// container does not see.
    ///
    /// # Errors
    ///
    /// Fails for a node that is not there without `append`, a bad node name or an endpoint that
    /// another node of the group has; the group may be changed then and must be thrown away.
    pub fn update(&mut self, change: NodeChange) -> Result<bool, GroupError> {
        if self.dynamic {
            return Err(GroupError::Dynamic { action: "Update" });
        }
        let endpoint = change.endpoint.clone();
        let found = self.find(&change.node);
        if found.is_none() && !change.append && !self.nodes.is_empty() {
            return Err(GroupError::NoAppend { node: change.node });
        }
        let (index, needs_restart) = match found {
            Some(index) => (index, self.change(index, change)),
            None => (self.add(change)?, false),
        };
        self.settle(&endpoint, index)?;
        Ok(needs_restart)
    }

    fn change(&mut self, index: usize, change: NodeChange) -> bool {
        let node = &mut self.nodes[index];
        let needs_restart = change.endpoint_set
            || change.flags.is_some()
            || change.driver_opts.is_some()
            || change.files.is_some();
        if change.endpoint_set {
            node.endpoint = change.endpoint;
        }
        if !change.platforms.is_empty() {
            node.platforms = change.platforms;
        }
        if let Some(flags) = change.flags {
            node.flags = flags;
        }
        if let Some(driver_opts) = change.driver_opts {
            node.driver_opts = driver_opts;
        }
        node.files.extend(change.files.into_iter().flatten());
        needs_restart
    }

    fn add(&mut self, change: NodeChange) -> Result<usize, GroupError> {
        let node_name = if change.node.is_empty() {
            self.next_node_name()
        } else {
            change.node
        };
        self.nodes.push(StoredNode {
            name: name::validate(&node_name)?,
            endpoint: change.endpoint,
            platforms: change.platforms,
            driver_opts: change.driver_opts.unwrap_or_default(),
            flags: change.flags.unwrap_or_default(),
            files: change.files.unwrap_or_default(),
            unknown: Map::new(),
        });
        Ok(self.nodes.len() - 1)
    }

    /// Refuses a second node of one endpoint and takes the platforms of the node at `index` away
    /// from all others.
    fn settle(&mut self, endpoint: &str, index: usize) -> Result<(), GroupError> {
        if self.nodes.iter().filter(|n| n.endpoint == endpoint).count() > 1 {
            return Err(GroupError::DuplicateEndpoint {
                endpoint: endpoint.to_owned(),
            });
        }
        let taken: Vec<String> = self.nodes[index]
            .platforms
            .iter()
            .map(ToString::to_string)
            .collect();
        for (other, node) in self.nodes.iter_mut().enumerate() {
            if other != index {
                node.platforms.retain(|p| !taken.contains(&p.format()));
            }
        }
        Ok(())
    }

    fn find(&self, node: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name == node)
    }

    fn next_node_name(&self) -> String {
        let mut number = 0;
        loop {
            let candidate = format!("{}{number}", self.name);
            if self.find(&candidate).is_none() {
                return candidate;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platforms(texts: &[&str]) -> Vec<Platform> {
        Platform::parse_list(texts).unwrap()
    }

    fn change(node: &str, endpoint: &str, append: bool, texts: &[&str]) -> NodeChange {
        NodeChange {
            node: node.to_owned(),
            endpoint: endpoint.to_owned(),
            endpoint_set: true,
            append,
            platforms: platforms(texts),
            ..NodeChange::default()
        }
    }

    fn shown(node: &StoredNode) -> Vec<String> {
        node.platforms.iter().map(Platform::format).collect()
    }

    #[test]
    fn nodes_are_added_changed_and_left() {
        let mut group = NodeGroup {
            name: "grp".to_owned(),
            ..NodeGroup::default()
        };
        let mut first = change("foo", "ep0", false, &["linux/amd64"]);
        first.flags = Some(vec!["--debug".to_owned()]);
        assert_eq!(group.update(first), Ok(false));
        let refused = group.update(change("foo1", "ep1", false, &[]));
        assert_eq!(
            refused,
            Err(GroupError::NoAppend {
                node: "foo1".to_owned()
            })
        );
        let second = change("foo1", "ep1", true, &["linux/arm64", "linux/arm/v7"]);
        assert_eq!(group.update(second), Ok(false));

        // A platform that moves to one node is taken away from the other.
        let moved = change("foo", "ep2", false, &["linux/amd64", "linux/arm"]);
        assert_eq!(group.update(moved), Ok(true));
        assert_eq!(shown(&group.nodes[0]), ["linux/amd64", "linux/arm/v7"]);
        assert_eq!(shown(&group.nodes[1]), ["linux/arm64"]);
        assert_eq!(group.nodes[0].endpoint, "ep2");
        assert_eq!(group.nodes[0].flags, ["--debug"]);

        let mut copy = group.clone();
        assert_eq!(
            copy.update(change("foo1", "ep2", false, &[])),
            Err(GroupError::DuplicateEndpoint {
                endpoint: "ep2".to_owned()
            })
        );
        assert_eq!(group.leave("foo"), Ok(()));
        assert_eq!(group.leave("foo1"), Err(GroupError::LastNode));
        assert!(matches!(
            group.leave("bar"),
            Err(GroupError::NoSuchNode { .. })
        ));
    }

    #[test]
    fn nodes_get_the_next_free_name() {
        let mut group = NodeGroup {
            name: "b".to_owned(),
            ..NodeGroup::default()
        };
        for endpoint in ["x", "y", "z"] {
            group.update(change("", endpoint, true, &[])).unwrap();
        }
        group.leave("b1").unwrap();
        group.update(change("", "w", true, &[])).unwrap();
        let names: Vec<_> = group.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["b0", "b2", "b1"]);
    }

    #[test]
    fn json_is_that_of_buildx_and_unknown_fields_stay() {
        let seen = r#"{"Name":"remo","Driver":"remote","Nodes":[{"Name":"remo0","Endpoint":"tcp://127.0.0.1:1","Platforms":null,"DriverOpts":null,"Flags":null,"Files":null}],"Dynamic":false}"#;
        let group: NodeGroup = serde_json::from_str(seen).unwrap();
        assert_eq!(serde_json::to_string(&group).unwrap(), seen);

        let future = r#"{"Name":"f","Driver":"docker-container","Nodes":[{"Name":"f0","Endpoint":"e","Platforms":[{"architecture":"amd64","os":"linux"}],"DriverOpts":{"a":"b"},"Flags":["--x"],"Files":{"buildkitd.toml":"YSA9IDEK"},"New":{"z":[1]}}],"Dynamic":true,"Other":"o"}"#;
        let group: NodeGroup = serde_json::from_str(future).unwrap();
        assert_eq!(group.nodes[0].files["buildkitd.toml"].0, b"a = 1\n");
        assert_eq!(serde_json::to_string(&group).unwrap(), future);
        assert!(!format!("{group:?}").contains("YSA9"));
    }

    #[test]
    fn json_is_read_as_go_reads_it() {
        let text = "\u{feff}{\"name\":\"b\",\"DRIVER\":\"remote\",\"Dynamic\":null,\"nodes\":[{\"name\":\"b0\",\
                    \"endpoint\":null,\"driveropts\":{\"a\":\"b\"},\"Files\":{\"x\":\"YSA9\\nIDEK\"},\"new\":1}]}";
        let group = NodeGroup::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (group.name.as_str(), group.driver.as_str()),
            ("b", "remote")
        );
        assert!(!group.dynamic && group.unknown.is_empty());
        let node = &group.nodes[0];
        assert_eq!((node.name.as_str(), node.endpoint.as_str()), ("b0", ""));
        assert_eq!(node.driver_opts["a"], "b");
        assert_eq!(node.files["x"].0, b"a = 1\n");
        assert_eq!(node.unknown["new"], 1);
        assert!(NodeGroup::parse(b"[]").is_err());
    }

    #[test]
    fn a_dynamic_group_is_not_edited() {
        let mut group = NodeGroup {
            dynamic: true,
            ..NodeGroup::default()
        };
        assert!(group.leave("x").is_err());
        assert!(group.update(NodeChange::default()).is_err());
    }
}
