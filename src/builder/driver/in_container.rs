//! The way to BuildKit in a running container: its socket, where this process may open it, or else
//! `buildctl dial-stdio`, which the engine runs in the container.

use crate::builder::ByteStream;
use crate::builder::docker_env::DockerEnv;
use crate::docker::engine::{Engine, EngineError};

/// Connects to BuildKit in a container.
///
/// # Errors
///
/// Fails as [`exec_stdio`](Engine::exec_stdio).
pub(super) async fn dial(
    engine: &Engine,
    container: &str,
    docker_env: &DockerEnv,
) -> Result<ByteStream, EngineError> {
    #[cfg(target_os = "linux")]
    if direct::may_be_tried(engine, docker_env.env()) {
        match direct::dial(engine, container).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(reason) => tracing::debug!(%reason, "the engine connects to the builder"),
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = docker_env;
    let command = ["buildctl", "dial-stdio"];
    let (stream, _) = engine.exec_stdio(container, &command, &[], None).await?;
    Ok(Box::new(stream))
}

#[cfg(target_os = "linux")]
mod direct {
    use std::path::Path;

    use bollard::models::ContainerInspectResponse;
    use tokio::net::UnixStream;

    use crate::docker::direct;
    use crate::docker::engine::Engine;
    use crate::env::{self, Env};
    use crate::options::boolean::parse_bool;

    /// Where buildkitd listens unless it is told to elsewhere.
    const SOCKET: &str = "/run/buildkit/buildkitd.sock";

    /// Returns whether it is worth asking the engine for the container's process.
    pub(super) fn may_be_tried(engine: &Engine, env: &Env) -> bool {
        let forbidden = env
            .non_empty(env::CACHEX_DIRECT)
            .is_some_and(|text| parse_bool(text) == Some(false));
        !forbidden && engine.endpoint().socket().is_some_and(direct::may_enter)
    }

    /// Connects past the engine, or says why not.
    pub(super) async fn dial(engine: &Engine, container: &str) -> Result<UnixStream, String> {
        let found = engine.inspect_container(container).await;
        let found = found.map_err(|error| crate::error::chain(&error))?;
        let process = found.as_ref().and_then(process);
        let (id, pid) = process.ok_or("the socket of the container is not known")?;
        let stream = direct::connect(id, pid, Path::new(SOCKET)).await;
        stream.map_err(|error| error.to_string())
    }

    /// Returns the ID of a container and its first process, if that listens where it usually does.
    fn process(found: &ContainerInspectResponse) -> Option<(&str, u32)> {
        let state = found.state.as_ref()?;
        let runs = state.running == Some(true) && state.paused != Some(true);
        let pid = u32::try_from(state.pid?)
            .ok()
            .filter(|pid| *pid != 0 && runs)?;
        let env = found.config.as_ref().and_then(|config| config.env.as_ref());
        // It tells `buildctl` to look elsewhere.
        let moved =
            env.is_some_and(|env| env.iter().any(|text| text.starts_with("BUILDKIT_HOST=")));
        let id = found.id.as_deref().filter(|_| !moved)?;
        Some((id, pid))
    }

    #[cfg(test)]
    mod tests {
        use bollard::models::{ContainerConfig, ContainerState};

        use super::*;

        #[test]
        fn only_a_running_container_with_the_usual_socket_has_a_process() {
            let running = ContainerInspectResponse {
                id: Some("id".into()),
                state: Some(ContainerState {
                    running: Some(true),
                    pid: Some(7),
                    ..ContainerState::default()
                }),
                ..ContainerInspectResponse::default()
            };
            assert_eq!(process(&running), Some(("id", 7)));
            let changes: [fn(&mut ContainerState); 5] = [
                |state| state.running = Some(false),
                |state| state.paused = Some(true),
                |state| state.pid = Some(0),
                |state| state.pid = Some(-1),
                |state| state.pid = None,
            ];
            for change in changes {
                let mut found = running.clone();
                found.state.as_mut().map(change);
                assert_eq!(process(&found), None, "{found:?}");
            }
            assert_eq!(process(&ContainerInspectResponse::default()), None);
            let env = |text: &str| ContainerInspectResponse {
                config: Some(ContainerConfig {
                    env: Some(vec!["PATH=/bin".into(), text.into()]),
                    ..ContainerConfig::default()
                }),
                ..running.clone()
            };
            assert!(process(&env("RIG_HOST=x")).is_some());
            assert!(process(&env("BUILDKIT_HOST=tcp://127.0.0.1:1")).is_none());
        }
    }
}
