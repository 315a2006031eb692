//! Waiting for BuildKit in a started container, and telling why it does not come.

use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::TryStreamExt as _;

use super::is_created;
use crate::builder::driver::container::Container;
use crate::builder::error::BuilderError;
use crate::docker::engine::{Engine, EngineError};
use crate::text::foreign;

/// Tries to reach BuildKit in a started container; the pause grows by [`PAUSE`] each time.
const TRIES: u32 = 16;
const PAUSE: Duration = Duration::from_millis(120);
/// Try after which a container that another process made but did not start is started here.
const START_FOR_OTHERS: u32 = 6;
/// A container that was restarted this often will not come up.
const MAX_RESTARTS: i64 = 3;
const LOG_LINES: &str = "20";

impl Container {
    /// Waits until BuildKit in the running container answers; another process may have started it a
    /// moment ago.
    ///
    /// # Errors
    ///
    /// Fails if it does not come up, or is no BuildKit.
    pub async fn ready(&self) -> Result<(), BuilderError> {
        self.wait(self.engine().await?).await
    }

    /// Waits until BuildKit in the container answers.
    pub(super) async fn wait(&self, engine: &Engine) -> Result<(), BuilderError> {
        let mut last = String::new();
        for attempt in 1..=TRIES {
            match self.check(engine).await {
                Ok(()) => return Ok(()),
                Err(Check::Fatal(error)) => return Err(error),
                Err(Check::NotYet(reason)) => last = reason,
            }
            if let Some(error) = self.look(engine, attempt).await? {
                return Err(error);
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        Err(self.broken(engine, last).await)
    }

    /// Asks BuildKit in the container for its workers, once.
    pub(in crate::builder) async fn check(&self, engine: &Engine) -> Result<(), Check> {
        let command = ["buildctl", "debug", "workers"];
        match engine.exec_output(self.container(), &command).await {
            Ok(output) if output.exit_code == Some(0) => Ok(()),
            Ok(output) if matches!(output.exit_code, Some(126 | 127)) => {
                let reason = "it has no buildctl";
                Err(Check::Fatal(self.not_buildkit(reason).await))
            }
            Ok(output) => {
                let code = output
                    .exit_code
                    .map_or("none".to_owned(), |c| c.to_string());
                let reason = format!("BuildKit does not answer (exit code {code})");
                Err(Check::NotYet(match output.stderr.as_str() {
                    "" => reason,
                    stderr => format!("{reason}: {stderr}"),
                }))
            }
            Err(error) if is_missing_program(&error) => {
                let reason = "it has no buildctl";
                Err(Check::Fatal(self.not_buildkit(reason).await))
            }
            Err(error) if error.is_conflict() || error.is_not_found() => {
                Err(Check::NotYet(crate::error::chain(&error)))
            }
            Err(error) => Err(Check::Fatal(error.into())),
        }
    }

    /// Looks at a container in which BuildKit did not answer: returns an error if it never will,
    /// and starts it if another process forgot to.
    async fn look(
        &self,
        engine: &Engine,
        attempt: u32,
    ) -> Result<Option<BuilderError>, BuilderError> {
        let Some(found) = self.inspect().await? else {
            // The engine keeps the name before it shows a container that is being created.
            if attempt < START_FOR_OTHERS {
                return Ok(None);
            }
            let reason = "it was removed while it booted".to_owned();
            return Ok(Some(self.broken(engine, reason).await));
        };
        let state = found.state.unwrap_or_default();
        if is_created(&state) {
            if attempt >= START_FOR_OTHERS {
                self.copy_files(engine).await?;
                self.start(engine).await?;
            }
            return Ok(None);
        }
        if state.paused == Some(true) {
            return Ok(Some(self.paused()));
        }
        let reason = if found
            .restart_count
            .is_some_and(|count| count >= MAX_RESTARTS)
        {
            Some(format!(
                "it ends with exit code {} again and again",
                state.exit_code.unwrap_or_default()
            ))
        } else if state.running == Some(false) && state.restarting != Some(true) {
            Some(format!(
                "it ended with exit code {}",
                state.exit_code.unwrap_or_default()
            ))
        } else {
            None
        };
        match reason {
            Some(reason) => Ok(Some(self.broken(engine, reason).await)),
            None => Ok(None),
        }
    }

    /// Makes the error of a container that does not work, with its last log lines.
    pub(in crate::builder) async fn broken(&self, engine: &Engine, reason: String) -> BuilderError {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(LOG_LINES)
            .build();
        let lines: Result<Vec<_>, _> = engine
            .api()
            .logs(self.container(), Some(options))
            .try_collect()
            .await;
        let logs: String = lines
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        BuilderError::Broken {
            builder: self.builder().to_owned(),
            container: self.container().to_owned(),
            reason,
            logs: foreign::lines(&logs).into_owned(),
        }
    }

    async fn not_buildkit(&self, reason: &str) -> BuilderError {
        let found = self.inspect().await.ok().flatten();
        let image = found.and_then(|found| found.config?.image);
        BuilderError::NotBuildKit {
            builder: self.builder().to_owned(),
            container: self.container().to_owned(),
            image: image.unwrap_or_else(|| self.options().image.clone()),
            reason: reason.to_owned(),
        }
    }
}

/// Why BuildKit did not answer.
pub(in crate::builder) enum Check {
    /// It may still come up.
    NotYet(String),
    /// It never will.
    Fatal(BuilderError),
}

fn is_missing_program(error: &EngineError) -> bool {
    let text = error.to_string();
    text.contains("executable file not found") || text.contains("no such file or directory")
}
