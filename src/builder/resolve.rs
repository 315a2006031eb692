//! Which builder is meant: the named one, else the current one, else that of the docker context.

use std::sync::Arc;

use super::docker_env::DockerEnv;
use super::driver::{Driver, docker};
use super::error::BuilderError;
use super::group::{NodeGroup, StoredNode};
use super::store::StoreError;
use super::{Builder, Store};

/// A builder that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The builder; for a docker context one node of the context's name and no driver.
    pub group: NodeGroup,
    /// It is not in the store, but stands for a docker context.
    pub is_context: bool,
}

/// Finds a builder by name, in the store and then among the docker contexts; without a name the
/// current one.
///
/// # Errors
///
/// Fails if there is neither a builder nor a context of the name.
pub fn find(docker_env: &DockerEnv, name: Option<&str>) -> Result<Found, BuilderError> {
    let (store, contexts) = (docker_env.store(), docker_env.contexts());
    match name.filter(|name| !name.is_empty()) {
        Some(name) => find_named(docker_env, name),
        None => match store.current(contexts.context_key())? {
            Some(group) => Ok(Found {
                group,
                is_context: false,
            }),
            None => find_named(docker_env, contexts.current_name()),
        },
    }
}

fn find_named(docker_env: &DockerEnv, name: &str) -> Result<Found, BuilderError> {
    match docker_env.store().get(name) {
        Ok(Some(group)) => {
            return Ok(Found {
                group,
                is_context: false,
            });
        }
        // The name of a context need not be one that a builder can have.
        Ok(None) | Err(StoreError::Name(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if !docker_env.contexts().names()?.iter().any(|c| c == name) {
        return Err(BuilderError::NotFound {
            name: name.to_owned(),
        });
    }
    Ok(Found {
        group: context_builder(name),
        is_context: true,
    })
}

/// Returns the builder that stands for a docker context. Its driver is found by asking the engine.
pub fn context_builder(context: &str) -> NodeGroup {
    NodeGroup {
        name: context.to_owned(),
        nodes: vec![StoredNode {
            name: context.to_owned(),
            endpoint: context.to_owned(),
            ..StoredNode::default()
        }],
        ..NodeGroup::default()
    }
}

/// Asks the engine of a docker context which driver buildx would use there: `docker` if it has a
/// BuildKit inside, else `docker-container`.
///
/// # Errors
///
/// Fails if the engine cannot be reached.
pub async fn context_driver(
    docker_env: &DockerEnv,
    context: &str,
) -> Result<&'static str, BuilderError> {
    let engine = docker_env.engine(context).await?;
    Ok(match docker::dial(&engine).await {
        Ok(_) => "docker",
        Err(_) => "docker-container",
    })
}

/// Returns the builder to build with.
///
/// # Errors
///
/// Fails if it is not found, if it is the engine's own (the docker driver, refused with what to do
/// instead), or of a driver that is not supported.
pub async fn resolve(
    docker_env: &Arc<DockerEnv>,
    name: Option<&str>,
) -> Result<Builder, BuilderError> {
    let builder = with_engine(docker_env, name).await?;
    if builder.driver() == "docker" {
        return Err(BuilderError::DockerDriver {
            name: builder.name().to_owned(),
            others: usable(docker_env.store())?,
        });
    }
    Ok(builder)
}

/// Returns a builder for commands that serve the engine's own as well, which is not built with.
///
/// # Errors
///
/// Fails if it is not found, or of a driver that is not supported.
pub async fn with_engine(
    docker_env: &Arc<DockerEnv>,
    name: Option<&str>,
) -> Result<Builder, BuilderError> {
    let mut found = find(docker_env, name)?;
    if found.is_context {
        let context = found.group.name.clone();
        if context != docker_env.contexts().current_name() {
            return Err(BuilderError::OtherContext { name: context });
        }
        let driver = context_driver(docker_env, &context).await?;
        driver.clone_into(&mut found.group.driver);
    }
    if !Driver::is_supported(&found.group.driver) {
        return Err(BuilderError::DriverNotSupported {
            name: found.group.name,
            driver: found.group.driver,
        });
    }
    Builder::new(docker_env, found.group)
}

fn usable(store: &Store) -> Result<Vec<String>, StoreError> {
    let groups = store.list()?.into_iter();
    Ok(groups
        .filter(|g| matches!(g.driver.as_str(), "docker-container" | "remote"))
        .map(|g| g.name)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::config::ConfigFile;
    use crate::docker::context::{Contexts, EndpointOptions};
    use crate::docker::credentials::CredentialStore;
    use crate::env::Env;

    /// A store with the builders `one` (container), `kube` and `far` (remote), and the contexts
    /// `default` and `one` (hidden by the builder) and `other`.
    async fn docker_env(env: &[(&str, &str)]) -> (tempfile::TempDir, Arc<DockerEnv>) {
        let dir = tempfile::tempdir().unwrap();
        for (id, name) in [("a", "one"), ("b", "other")] {
            let meta = dir.path().join("contexts/meta").join(id);
            fs_err::create_dir_all(&meta).unwrap();
            let json = format!(
                r#"{{"Name":"{name}","Endpoints":{{"docker":{{"Host":"unix:///nonexistent"}}}}}}"#
            );
            fs_err::write(meta.join("meta.json"), json).unwrap();
        }
        let store = Store::new(dir.path().join("buildx"), None);
        let txn = store.begin().await.unwrap();
        for (name, driver) in [
            ("one", "docker-container"),
            ("kube", "kubernetes"),
            ("far", "remote"),
        ] {
            txn.save(&NodeGroup {
                name: name.to_owned(),
                driver: driver.to_owned(),
                ..NodeGroup::default()
            })
            .unwrap();
        }
        drop(txn);
        let env = Env::from_pairs(env.iter().copied(), dir.path());
        let config = ConfigFile::default();
        let options = EndpointOptions::default();
        let contexts = Contexts::new(dir.path(), dir.path(), &config, &options, &env).unwrap();
        let credentials = CredentialStore::new(config.clone(), &env);
        let docker_env = DockerEnv::new(store, contexts, config, credentials, env);
        (dir, Arc::new(docker_env))
    }

    fn message(error: &BuilderError) -> String {
        error.to_string()
    }

    #[tokio::test]
    async fn the_store_comes_before_the_contexts() {
        let (_dir, docker_env) = docker_env(&[]).await;
        let one = find(&docker_env, Some("one")).unwrap();
        assert!(!one.is_context);
        let other = find(&docker_env, Some("other")).unwrap();
        assert!(other.is_context);
        assert_eq!(other.group.nodes[0].endpoint, "other");
        let default = find(&docker_env, None).unwrap();
        assert!(default.is_context);
        assert_eq!(default.group.name, "default");
        let missing = find(&docker_env, Some("no")).unwrap_err();
        assert_eq!(message(&missing), "no builder \"no\" found");
        let odd = find(&docker_env, Some(".x/y")).unwrap_err();
        assert_eq!(message(&odd), "no builder \".x/y\" found");
    }

    #[tokio::test]
    async fn the_current_choice_is_that_of_the_context_key() {
        let (_dir, docker_env) = docker_env(&[("DOCKER_HOST", "tcp://h:1")]).await;
        let txn = docker_env.store().begin().await.unwrap();
        txn.set_current("tcp://h:1", "far", false, false).unwrap();
        drop(txn);
        let builder = resolve(&docker_env, None).await.unwrap();
        assert_eq!((builder.name(), builder.driver()), ("far", "remote"));
        assert_eq!(
            resolve(&docker_env, Some("one")).await.unwrap().name(),
            "one"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_by_name() {
        let (_dir, docker_env) = docker_env(&[]).await;
        let kube = resolve(&docker_env, Some("kube")).await.unwrap_err();
        assert!(message(&kube).contains("uses the kubernetes driver, which is not supported yet"));
        assert!(kube.hints()[0].contains("docker buildx --builder kube"));
        let other = resolve(&docker_env, Some("other")).await.unwrap_err();
        assert!(message(&other).contains("docker --context=other cachex"));
        let refused = BuilderError::DockerDriver {
            name: "default".to_owned(),
            others: usable(docker_env.store()).unwrap(),
        };
        assert_eq!(
            refused.hints(),
            [
                "create a builder with: docker cachex create --use",
                "or build with docker buildx; CACHEX_HAND_ON=1 hands such builds on to it",
                "or take one that exists (far, one) with: docker cachex use far"
            ]
        );
    }
}
