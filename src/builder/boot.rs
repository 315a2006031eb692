//! Booting a node of the docker-container driver: pull, create, start, and wait for BuildKit.
//!
//! Several processes may boot one node at the same time, buildx among them: who finds the container
//! made by another one waits for it, and starts it if the other one does not.

use bollard::auth::DockerCredentials;
use bollard::models::{ContainerCreateBody, ContainerState, ContainerStateStatusEnum, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt as _;

use crate::docker::credentials::{Credential, DOCKER_HUB_KEY};
use crate::docker::engine::Engine;

use super::driver::config_tar;
use super::driver::container::Container;
use super::driver::container_options::{ContainerNode, all_gpus};
use super::error::BuilderError;
use super::gha;
use super::group::FileContent;
use super::verified;

mod sink;
mod wait;

pub use sink::{BootEvent, BootSink};
use wait::Starts;

impl Container {
    /// Starts the node: creates its container if there is none, starts it, and waits until
    /// BuildKit answers.
    ///
    /// # Errors
    ///
    /// Fails if the image is not to be had, the container does not start, or there is no BuildKit
    /// in it.
    pub async fn boot(&self, sink: &BootSink<'_>) -> Result<(), BuilderError> {
        sink.node(self.node(), Box::pin(self.boot_steps(sink)))
            .await
    }

    async fn boot_steps(&self, sink: &BootSink<'_>) -> Result<(), BuilderError> {
        let engine = self.engine().await?;
        let Some(found) = self.inspect().await? else {
            return self.create(engine, sink).await;
        };
        if found.state.as_ref().is_some_and(|s| s.paused == Some(true)) {
            return Err(self.paused());
        }
        let state = found.state.unwrap_or_default();
        let step = if state.running == Some(true) && state.restarting != Some(true) {
            format!("waiting for BuildKit in container {}", self.container())
        } else {
            format!("starting container {}", self.container())
        };
        sink.step(self.node(), step, async {
            // A container that never ran may lack its files: its maker was killed on the way.
            if is_created(&state) {
                self.copy_files(engine).await?;
            }
            self.start(engine).await?;
            self.wait(engine, Starts::Ended).await
        })
        .await
    }

    async fn create(&self, engine: &Engine, sink: &BootSink<'_>) -> Result<(), BuilderError> {
        let image = &self.options().image;
        verified::refuse_unverified(self)?;
        let step = format!("pulling image {image}");
        let pulled = sink.step(self.node(), step, self.pull(engine, image)).await;
        if let Err(error) = pulled {
            if engine.api().inspect_image(image).await.is_err() {
                return Err(error);
            }
            let step = format!("using local image {image}");
            let used = async { Ok::<_, BuilderError>(()) };
            sink.step(self.node(), step, used).await?;
        }
        let step = format!("creating container {}", self.container());
        sink.step(self.node(), step, async {
            if self.create_container(engine).await? {
                self.copy_files(engine).await?;
                self.start(engine).await?;
            }
            self.wait(engine, Starts::Ended).await
        })
        .await
    }

    async fn pull(&self, engine: &Engine, image: &str) -> Result<(), BuilderError> {
        let (name, tag) = split_image(image);
        let options = CreateImageOptionsBuilder::default()
            .from_image(&name)
            .tag(&tag)
            .build();
        let credentials = self.credentials(&name).await;
        let failed = |error| BuilderError::Pull {
            image: image.to_owned(),
            source: engine.error("pull the image", error),
        };
        let mut events = Box::pin(engine.api().create_image(Some(options), None, credentials));
        while let Some(event) = events.next().await {
            let event = event.map_err(failed)?;
            if let Some(message) = event.error_detail.and_then(|detail| detail.message) {
                let error = bollard::errors::Error::DockerStreamError { error: message };
                return Err(failed(error));
            }
        }
        Ok(())
    }

    /// Returns the user's credentials for the registry of an image. Credentials that cannot be read
    /// are no reason not to try without.
    async fn credentials(&self, image: &str) -> Option<DockerCredentials> {
        let host = registry_host(image);
        let found = self.docker_env().credentials().get(&host, &[]).await;
        let mut credentials = DockerCredentials {
            serveraddress: Some(host),
            ..DockerCredentials::default()
        };
        match found {
            Ok(Credential::Anonymous) => return None,
            Ok(Credential::Basic { username, password }) => {
                credentials.username = Some(username);
                credentials.password = Some(password.expose().to_owned());
            }
            Ok(Credential::IdentityToken(token)) => {
                credentials.identitytoken = Some(token.expose().to_owned());
            }
            Ok(Credential::RegistryToken(token)) => {
                credentials.registrytoken = Some(token.expose().to_owned());
            }
            Err(error) => {
                tracing::warn!(%error, "the builder image is pulled without credentials");
                return None;
            }
        }
        Some(credentials)
    }

    /// Creates the container; returns false if another process did so meanwhile.
    async fn create_container(&self, engine: &Engine) -> Result<bool, BuilderError> {
        let daemon = engine.api().info().await.ok();
        let node = ContainerNode {
            container: self.container(),
            flags: self.flags(),
            has_config: self.has_config(),
            gpus: self.has_gpus(engine).await,
            wsl_libraries: self.wsl_libraries(engine),
        };
        let body = self.options().container(&node, daemon.as_ref());
        let options = CreateContainerOptionsBuilder::default()
            .name(self.container())
            .build();
        let created = engine.api().create_container(Some(options), body).await;
        match created.map_err(|e| engine.error("create the builder's container", e)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether the daemon can give GPUs to a container. There is no call to ask for it, so a
    /// container that does nothing is started with the request.
    async fn has_gpus(&self, engine: &Engine) -> bool {
        let body = ContainerCreateBody {
            image: Some(self.options().image.clone()),
            entrypoint: Some(vec!["/bin/true".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                auto_remove: Some(true),
                device_requests: Some(vec![all_gpus()]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let Ok(created) = engine.api().create_container(None, body).await else {
            return false;
        };
        let started = engine
            .api()
            .start_container(&created.id, None)
            .await
            .is_ok();
        if !started {
            // Removed by the daemon in most versions; then this fails, which is as well.
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            let removed = engine
                .api()
                .remove_container(&created.id, Some(force))
                .await;
            tracing::debug!(?removed, "removed the container of the GPU test");
        }
        started
    }

    async fn copy_files(&self, engine: &Engine) -> Result<(), BuilderError> {
        let mut files = self.files().clone();
        if self.options().provenance_add_gha
            && let Some(context) = gha::context(self.docker_env().env())?
        {
            files.insert(gha::FILE.to_owned(), FileContent(context));
        }
        let archive = config_tar::archive(&files)?;
        let options = UploadToContainerOptionsBuilder::default()
            .path("/etc")
            .build();
        engine
            .api()
            .upload_to_container(
                self.container(),
                Some(options),
                bollard::body_full(archive.into()),
            )
            .await
            .map_err(|e| engine.error("copy the configuration into the builder", e))?;
        Ok(())
    }

    async fn start(&self, engine: &Engine) -> Result<(), BuilderError> {
        let started = engine.api().start_container(self.container(), None).await;
        match started {
            // 304: it runs already.
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 304, ..
            })
            | Ok(()) => Ok(()),
            Err(error) => match engine.error("start it", error) {
                // It is in other hands: started, stopped or removed just now.
                error if error.is_conflict() || error.is_not_found() => Ok(()),
                error => Err(self.broken(engine, crate::error::chain(&error)).await),
            },
        }
    }
}

fn is_created(state: &ContainerState) -> bool {
    state.status == Some(ContainerStateStatusEnum::CREATED)
}

/// Splits an image reference into the name and the tag or digest that the pull is asked for.
fn split_image(image: &str) -> (String, String) {
    if let Some((name, digest)) = image.split_once('@') {
        return (split_image(name).0, digest.to_owned());
    }
    let after_host = image.rfind('/').map_or(0, |at| at + 1);
    match image[after_host..].find(':') {
        Some(at) => {
            let (name, tag) = image.split_at(after_host + at);
            (name.to_owned(), tag.trim_start_matches(':').to_owned())
        }
        None => (image.to_owned(), "latest".to_owned()),
    }
}

/// Returns the key under which credentials for the registry of an image are kept.
fn registry_host(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => DOCKER_HUB_KEY.to_owned(),
            host => host.to_owned(),
        },
        _ => DOCKER_HUB_KEY.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_split_for_the_pull() {
        for (image, name, tag) in [
            (
                "moby/buildkit:buildx-stable-1",
                "moby/buildkit",
                "buildx-stable-1",
            ),
            ("moby/buildkit", "moby/buildkit", "latest"),
            ("127.0.0.1:5000/bk", "127.0.0.1:5000/bk", "latest"),
            ("127.0.0.1:5000/bk:v1", "127.0.0.1:5000/bk", "v1"),
            ("r.io/a/b:v@sha256:ab", "r.io/a/b", "sha256:ab"),
        ] {
            assert_eq!(split_image(image), (name.to_owned(), tag.to_owned()));
        }
    }

    #[test]
    fn registries_of_images() {
        for (image, host) in [
            ("moby/buildkit", DOCKER_HUB_KEY),
            ("docker.io/moby/buildkit", DOCKER_HUB_KEY),
            ("busybox", DOCKER_HUB_KEY),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000"),
            ("ghcr.io/a/b", "ghcr.io"),
        ] {
            assert_eq!(registry_host(image), host);
        }
    }
}
