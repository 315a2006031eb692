//! The docker-container driver: one container with BuildKit per node.

use std::sync::Arc;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use tokio::sync::OnceCell;

use crate::builder::ByteStream;
use crate::builder::buildkitd::{CONFIG_FILE, Files};
use crate::builder::docker_env::DockerEnv;
use crate::builder::error::BuilderError;
use crate::builder::group::StoredNode;
use crate::docker::engine::Engine;

use super::Status;
use super::container_options::ContainerOptions;
use super::in_container;
use super::meter::ContainerMeter;

const PREFIX: &str = "buildx_buildkit_";
const WSL_LIBRARIES: &str = "/usr/lib/wsl";

/// A node of the docker-container driver.
#[derive(Debug)]
pub struct Container {
    docker_env: Arc<DockerEnv>,
    builder: String,
    node: StoredNode,
    name: String,
    options: ContainerOptions,
    engine: OnceCell<Engine>,
}

impl Container {
    /// Takes a node of a builder. Nothing is started or asked.
    ///
    /// # Errors
    ///
    /// Fails for a bad driver option.
    pub fn new(
        docker_env: Arc<DockerEnv>,
        builder: &str,
        node: StoredNode,
    ) -> Result<Self, BuilderError> {
        Ok(Self {
            docker_env,
            builder: builder.to_owned(),
            name: format!("{PREFIX}{}", node.name),
            options: ContainerOptions::parse(&node.driver_opts)?,
            node,
            engine: OnceCell::new(),
        })
    }

    pub(in crate::builder) fn builder(&self) -> &str {
        &self.builder
    }

    pub(in crate::builder) fn node(&self) -> &str {
        &self.node.name
    }

    pub(in crate::builder) fn container(&self) -> &str {
        &self.name
    }

    pub(in crate::builder) fn flags(&self) -> &[String] {
        &self.node.flags
    }

    pub(in crate::builder) fn files(&self) -> &Files {
        &self.node.files
    }

    pub(in crate::builder) fn has_config(&self) -> bool {
        self.node.files.contains_key(CONFIG_FILE)
    }

    /// Returns the driver options of the node.
    pub fn options(&self) -> &ContainerOptions {
        &self.options
    }

    pub(in crate::builder) fn docker_env(&self) -> &DockerEnv {
        &self.docker_env
    }

    /// Returns the Docker engine of the node, connected once.
    ///
    /// # Errors
    ///
    /// Fails if the endpoint is unknown or the engine cannot be reached.
    pub async fn engine(&self) -> Result<&Engine, BuilderError> {
        let connect = || self.docker_env.engine(&self.node.endpoint);
        self.engine.get_or_try_init(connect).await
    }

    /// Under WSL the libraries for GPUs are on the host, which is here if the engine is local.
    pub(in crate::builder) fn wsl_libraries(&self, engine: &Engine) -> Option<&'static str> {
        let in_wsl = self.docker_env.env().non_empty("WSL_DISTRO_NAME").is_some();
        let local = engine.endpoint().is_local();
        (in_wsl && local && std::path::Path::new(WSL_LIBRARIES).is_dir()).then_some(WSL_LIBRARIES)
    }

    /// Returns the container, or `None` if there is none.
    pub(in crate::builder) async fn inspect(
        &self,
    ) -> Result<Option<ContainerInspectResponse>, BuilderError> {
        let engine = self.engine().await?;
        Ok(engine.inspect_container(&self.name).await?)
    }

    /// Asks for the state of the container.
    ///
    /// # Errors
    ///
    /// Fails if the engine cannot be asked.
    pub async fn status(&self) -> Result<Status, BuilderError> {
        Ok(match self.inspect().await? {
            None => Status::Inactive,
            Some(found)
                if found
                    .state
                    .as_ref()
                    .is_some_and(|s| s.running == Some(true)) =>
            {
                Status::Running
            }
            Some(_) => Status::Stopped,
        })
    }

    /// Connects to BuildKit in the running container.
    ///
    /// # Errors
    ///
    /// Fails with [`BuilderError::NotRunning`] if the container is not there or does not run.
    pub async fn dial(&self) -> Result<ByteStream, BuilderError> {
        let engine = self.engine().await?;
        match in_container::dial(engine, &self.name, &self.docker_env).await {
            Ok(stream) => Ok(stream),
            Err(error) if error.is_conflict() && error.to_string().contains("paused") => {
                Err(self.paused())
            }
            Err(error) if error.is_conflict() || error.is_not_found() => Err(self.not_running()),
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::builder) fn not_running(&self) -> BuilderError {
        BuilderError::NotRunning {
            node: self.node.name.clone(),
            container: self.name.clone(),
        }
    }

    pub(in crate::builder) fn paused(&self) -> BuilderError {
        BuilderError::Paused {
            node: self.node.name.clone(),
            container: self.name.clone(),
        }
    }

    /// Asks the program in the container for its version; for a BuildKit without the Info call.
    ///
    /// # Errors
    ///
    /// Fails if the engine cannot be asked.
    pub async fn version(&self) -> Result<Option<String>, BuilderError> {
        let engine = self.engine().await?;
        let command = ["buildkitd", "--version"];
        let output = engine.exec_output(&self.name, &command).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(match words.as_slice() {
            [_, _, version, _] => Some((*version).to_owned()),
            _ => None,
        })
    }

    /// Returns what tells how busy the container is.
    ///
    /// # Errors
    ///
    /// Fails if the engine cannot be reached.
    pub async fn meter(&self) -> Result<ContainerMeter, BuilderError> {
        let engine = self.engine().await?.clone();
        Ok(ContainerMeter::new(
            engine,
            &self.name,
            self.options.cores(),
        ))
    }

    /// Stops the container if it runs.
    ///
    /// # Errors
    ///
    /// Fails if the engine refuses it.
    pub async fn stop(&self) -> Result<(), BuilderError> {
        if self.status().await? == Status::Running {
            let engine = self.engine().await?;
            let stopped = engine.api().stop_container(&self.name, None).await;
            stopped.map_err(|e| engine.error("stop the builder's container", e))?;
        }
        Ok(())
    }

    /// Returns whether BuildKit must end by itself before its container is removed: its state is kept, or it may
    /// have set up networks for its steps in the host's network namespace, which nobody else takes down.
    pub fn must_stop_before_removal(&self, keep_state: bool) -> bool {
        keep_state || (self.options.network == "host" && self.sets_networks_up())
    }

    /// Returns whether flags or configuration may have given the steps networks of their own.
    fn sets_networks_up(&self) -> bool {
        let by_flags = self.node.flags.iter().any(|flag| flag.contains("-net"));
        let config = self.node.files.get(CONFIG_FILE);
        let by_config = config.is_some_and(|file| {
            let text = String::from_utf8_lossy(&file.0);
            text.contains("networkMode") || text.contains("cni")
        });
        by_flags || by_config
    }

    /// Removes the container, and its state volume unless that is kept.
    ///
    /// # Errors
    ///
    /// Fails if the engine refuses it.
    pub async fn remove(&self, keep_state: bool) -> Result<(), BuilderError> {
        let Some(found) = self.inspect().await? else {
            return Ok(());
        };
        let engine = self.engine().await?;
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        engine
            .api()
            .remove_container(&self.name, Some(options))
            .await
            .map_err(|e| engine.error("remove the builder's container", e))?;
        let volume = format!("{}_state", self.name);
        let mounts = found.mounts.unwrap_or_default();
        if !keep_state && mounts.iter().any(|m| m.name.as_deref() == Some(&volume)) {
            engine
                .api()
                .remove_volume(
                    &volume,
                    None::<bollard::query_parameters::RemoveVolumeOptions>,
                )
                .await
                .map_err(|e| engine.error("remove the builder's state", e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::group::FileContent;

    fn must_stop(network: &str, flags: &[&str], config: &str) -> bool {
        let node = StoredNode {
            name: "n0".to_owned(),
            driver_opts: [("network".to_owned(), network.to_owned())].into(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            files: [(
                CONFIG_FILE.to_owned(),
                FileContent(config.as_bytes().to_vec()),
            )]
            .into(),
            ..StoredNode::default()
        };
        let container = Container::new(Arc::new(DockerEnv::of_nobody()), "b", node).unwrap();
        assert!(
            container.must_stop_before_removal(true),
            "its state is kept"
        );
        container.must_stop_before_removal(false)
    }

    #[test]
    fn only_networks_on_the_host_need_an_orderly_end() {
        let (flags, config) = (
            ["--oci-worker-net=bridge"],
            "[worker.oci]\nnetworkMode = \"cni\"",
        );
        assert!(must_stop("host", &flags, ""));
        assert!(must_stop("host", &[], config));
        assert!(!must_stop("host", &["--debug"], "debug = true"));
        assert!(
            !must_stop("", &flags, config),
            "they end with the container"
        );
    }
}
