//! The refs of builds, which `docker buildx history` reads: where context and Dockerfile of a build
//! were on this machine (buildx `localstate`).

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::docker::{go_json, settings};

use super::store::{Store, StoreError, Transaction};

const REFS: &str = "refs";
const GROUPS: &str = "__group__";

/// What is noted about one build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRef {
    /// Name of the target; `default` if the user named none.
    #[serde(rename = "Target", default)]
    pub target: String,
    /// Absolute path of the context, or its address.
    #[serde(rename = "LocalPath", default)]
    pub local_path: String,
    /// Absolute path of the Dockerfile, or a relative one in a remote context.
    #[serde(rename = "DockerfilePath", default)]
    pub dockerfile_path: String,
    /// Name of the group of builds that this belongs to.
    #[serde(rename = "GroupRef", default, skip_serializing_if = "String::is_empty")]
    pub group_ref: String,
}

#[derive(Debug, Default, Deserialize)]
struct RefGroup {
    #[serde(rename = "Refs", default)]
    refs: Option<Vec<String>>,
}

impl Store {
    /// Notes a build under its ref.
    ///
    /// # Errors
    ///
    /// Fails for a name or ref that is empty or no file name, and for a file that cannot be written.
    pub fn save_ref(
        &self,
        builder: &str,
        node: &str,
        build_ref: &str,
        state: &BuildRef,
    ) -> Result<(), StoreError> {
        let mut path = PathBuf::from(REFS);
        for part in [builder, node, build_ref] {
            if part.is_empty() || part.contains('/') || part.starts_with('.') {
                return Err(super::name::InvalidName {
                    name: part.to_owned(),
                }
                .into());
            }
        }
        path.extend([builder, node]);
        self.make_dir(&path)?;
        path.push(build_ref);
        let json = serde_json::to_vec(state).map_err(|source| StoreError::BadFile {
            path: path.clone(),
            source,
        })?;
        self.write(&path, &json)
    }
}

impl Transaction {
    /// Forgets all builds of a builder.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be removed.
    pub(super) fn remove_builder_refs(&self, builder: &str) -> Result<(), StoreError> {
        let dir = self.dir().join(REFS).join(builder);
        for node in entries(&dir)? {
            self.remove_node_refs(builder, &node)?;
        }
        remove_dir_optional(&dir)
    }

    /// Forgets all builds of one node, and the groups that have no builds elsewhere.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be removed.
    pub fn remove_node_refs(&self, builder: &str, node: &str) -> Result<(), StoreError> {
        let dir = self.dir().join(REFS).join(builder).join(node);
        let mut in_group = std::collections::BTreeMap::<String, usize>::new();
        for build_ref in entries(&dir)? {
            let state: Option<BuildRef> = read_json(&dir.join(build_ref));
            if let Some(group) = state.map(|s| s.group_ref).filter(|g| is_file_name(g)) {
                *in_group.entry(group).or_default() += 1;
            }
        }
        for (group, count) in in_group {
            let path = self.dir().join(REFS).join(GROUPS).join(group);
            let refs = read_json::<RefGroup>(&path).and_then(|g| g.refs);
            if refs.is_some_and(|refs| refs.len() == count) {
                fs_err::remove_file(path).map_err(|source| StoreError::Io {
                    action: "write",
                    source,
                })?;
            }
        }
        remove_dir_optional(&dir)
    }
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && !text.starts_with('.')
}

/// Reads a JSON file of the refs; a file that is broken or gone is as none: it is being removed.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    go_json::from_slice(&settings::read(path).ok()?).ok()
}

fn entries(dir: &Path) -> Result<Vec<String>, StoreError> {
    let reading = |source| StoreError::Io {
        action: "read",
        source,
    };
    match fs_err::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| {
                Ok(entry
                    .map_err(reading)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned())
            })
            .collect(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(reading(error)),
    }
}

fn remove_dir_optional(dir: &Path) -> Result<(), StoreError> {
    match fs_err::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io {
            action: "write",
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refs_are_those_of_buildx_and_go_with_the_builder() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), None);
        let mut state = BuildRef {
            target: "default".to_owned(),
            local_path: "/src".to_owned(),
            dockerfile_path: "/src/Dockerfile".to_owned(),
            group_ref: String::new(),
        };
        store.save_ref("foo", "foo0", "abc", &state).unwrap();
        let path = dir.path().join("refs/foo/foo0/abc");
        assert_eq!(
            fs_err::read_to_string(&path).unwrap(),
            r#"{"Target":"default","LocalPath":"/src","DockerfilePath":"/src/Dockerfile"}"#
        );
        state.group_ref = "grp".to_owned();
        store.save_ref("foo", "foo0", "def", &state).unwrap();
        let groups = dir.path().join("refs/__group__");
        fs_err::create_dir(&groups).unwrap();
        fs_err::write(groups.join("grp"), r#"{"Refs":["foo/foo0/def"]}"#).unwrap();
        fs_err::write(groups.join("shared"), r#"{"Refs":["a","b"]}"#).unwrap();

        let txn = store.begin().await.unwrap();
        txn.remove("foo").unwrap();
        assert!(!dir.path().join("refs/foo").exists());
        assert!(!groups.join("grp").exists());
        assert!(groups.join("shared").exists());
    }

    #[test]
    fn a_ref_is_never_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), None);
        for (builder, node, build_ref) in [("..", "n", "r"), ("b", "", "r"), ("b", "n", "a/b")] {
            let saved = store.save_ref(builder, node, build_ref, &BuildRef::default());
            assert!(saved.is_err());
        }
    }
}
