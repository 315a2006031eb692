//! Waiting for BuildKit in a container, and saying why it does not come.

use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState};
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::is_created;
use crate::builder::driver::container::Container;
use crate::builder::error::BuilderError;
use crate::docker::engine::Engine;
use crate::docker::exec::ExecOutput;
use crate::text::foreign;

/// How long BuildKit in a container is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two questions grows by this each time, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(120);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Question after which a container that another process made but did not start is started here.
const START_FOR_OTHERS: u32 = 6;
/// A container that was restarted this often and has ended again will not come up.
const MAX_RESTARTS: i64 = 3;
/// This many ends while it was waited for are enough, too.
const MAX_ENDS: i64 = 2;
const LOG_LINES: &str = "20";

/// What is done with a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::builder) enum Starts {
    /// It is started, once: another process may have stopped it a moment ago.
    Ended,
    /// Nothing.
    Nothing,
}

impl Container {
    /// Waits until BuildKit in the running container answers; another process may have started it a
    /// moment ago.
    ///
    /// # Errors
    ///
    /// Fails if it does not come up, or is no BuildKit; with [`BuilderError::NotRunning`] if the
    /// container has ended.
    pub async fn ready(&self) -> Result<(), BuilderError> {
        self.wait(self.engine().await?, Starts::Nothing).await
    }

    /// Waits until BuildKit in the container answers.
    pub(super) async fn wait(&self, engine: &Engine, starts: Starts) -> Result<(), BuilderError> {
        let end = Instant::now() + PATIENCE;
        let mut watch = Watch::new(starts);
        let mut attempt = 1;
        loop {
            let reason = match self.check(engine).await {
                Ok(()) => return Ok(()),
                Err(Check::Fatal(error)) => return Err(error),
                Err(Check::NotYet(reason)) => reason,
            };
            let found = self.inspect().await?;
            let step = watch.next(found.as_ref(), attempt);
            self.take(engine, step).await?;
            if Instant::now() > end {
                return Err(self.no_answer(engine, reason).await);
            }
            tokio::time::sleep((PAUSE * attempt).min(MAX_PAUSE)).await;
            attempt += 1;
        }
    }

    async fn take(&self, engine: &Engine, step: Step) -> Result<(), BuilderError> {
        match step {
            Step::Wait => Ok(()),
            Step::Fill => {
                self.copy_files(engine).await?;
                self.start(engine).await
            }
            Step::Start => self.start(engine).await,
            Step::NotRunning => Err(self.not_running()),
            Step::Paused => Err(self.paused()),
            Step::Broken(reason) => Err(self.broken(engine, reason).await),
        }
    }

    /// Says why BuildKit in the container does not answer; `None` if it does.
    pub(in crate::builder) async fn diagnose(&self) -> Result<(), BuilderError> {
        let engine = self.engine().await?;
        let reason = match self.check(engine).await {
            Ok(()) => return Ok(()),
            Err(Check::Fatal(error)) => return Err(error),
            Err(Check::NotYet(reason)) => reason,
        };
        let found = self.inspect().await?;
        let step = Watch::new(Starts::Nothing).next(found.as_ref(), 1);
        self.take(engine, step).await?;
        Err(self.no_answer(engine, reason).await)
    }

    /// Asks BuildKit in the container for its workers, once.
    async fn check(&self, engine: &Engine) -> Result<(), Check> {
        let command = ["buildctl", "debug", "workers"];
        let asked = engine.exec_output(self.container(), &command);
        let Ok(asked) = tokio::time::timeout(ANSWER_TIMEOUT, asked).await else {
            let seconds = ANSWER_TIMEOUT.as_secs();
            return Err(Check::NotYet(format!("no answer within {seconds} s")));
        };
        match asked {
            Ok(output) if output.exit_code == Some(0) => Ok(()),
            Ok(output) => {
                let told = told(&output);
                if is_missing_program(&told) {
                    return Err(self.no_buildctl().await);
                }
                Err(Check::NotYet(told))
            }
            Err(error) if is_missing_program(&error.to_string()) => Err(self.no_buildctl().await),
            Err(error) if error.is_not_found() || error.may_pass() => {
                Err(Check::NotYet(crate::error::chain(&error)))
            }
            Err(error) => Err(Check::Fatal(error.into())),
        }
    }

    /// Creates the error of a container that does not work, with its last log lines.
    pub(super) async fn broken(&self, engine: &Engine, reason: String) -> BuilderError {
        BuilderError::Broken {
            builder: self.builder().to_owned(),
            container: self.container().to_owned(),
            reason,
            logs: self.logs(engine).await,
        }
    }

    async fn no_answer(&self, engine: &Engine, reason: String) -> BuilderError {
        BuilderError::NoAnswer {
            builder: self.builder().to_owned(),
            container: self.container().to_owned(),
            reason,
            logs: self.logs(engine).await,
        }
    }

    /// Returns the last lines of the container's log, or why they are not to be had.
    async fn logs(&self, engine: &Engine) -> String {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(LOG_LINES)
            .build();
        let logs = engine.api().logs(self.container(), Some(options));
        let lines: Result<Vec<_>, _> = logs.try_collect().await;
        match lines {
            Ok(lines) => foreign::lines(&lines.iter().map(ToString::to_string).collect::<String>())
                .into_owned(),
            Err(error) => {
                let error = engine.error("read the builder's log", error);
                tracing::debug!(error = %crate::error::chain(&error), "no log");
                String::new()
            }
        }
    }

    async fn no_buildctl(&self) -> Check {
        let found = self.inspect().await.ok().flatten();
        let image = found.and_then(|found| found.config?.image);
        Check::Fatal(BuilderError::NotBuildKit {
            builder: self.builder().to_owned(),
            container: self.container().to_owned(),
            image: image.unwrap_or_else(|| self.options().image.clone()),
            reason: "it has no buildctl".to_owned(),
        })
    }
}

/// Why BuildKit did not answer.
enum Check {
    /// It may still come up.
    NotYet(String),
    /// It never will.
    Fatal(BuilderError),
}

/// What to do about a container in which BuildKit did not answer.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Wait,
    /// Give it its files and start it.
    Fill,
    Start,
    NotRunning,
    Paused,
    Broken(String),
}

/// Looks at a container again and again while it comes up.
#[derive(Debug)]
struct Watch {
    starts: Starts,
    has_started: bool,
    /// How often it had been restarted at the first look.
    restarts: Option<i64>,
}

impl Watch {
    fn new(starts: Starts) -> Self {
        Self {
            starts,
            has_started: false,
            restarts: None,
        }
    }

    fn next(&mut self, found: Option<&ContainerInspectResponse>, attempt: u32) -> Step {
        let may_start = self.starts == Starts::Ended;
        let Some(found) = found else {
            // The engine keeps the name before it shows a container that is being created.
            return if may_start && attempt < START_FOR_OTHERS {
                Step::Wait
            } else {
                Step::NotRunning
            };
        };
        let nothing = ContainerState::default();
        let state = found.state.as_ref().unwrap_or(&nothing);
        let exit_code = state.exit_code.unwrap_or_default();
        let restarts = found.restart_count.unwrap_or_default();
        let before = *self.restarts.get_or_insert(restarts);
        if is_created(state) {
            return match (may_start, attempt < START_FOR_OTHERS) {
                (true, false) => Step::Fill,
                (true, true) => Step::Wait,
                (false, _) => Step::NotRunning,
            };
        }
        if state.paused == Some(true) {
            return Step::Paused;
        }
        let ends = state.restarting == Some(true) && restarts >= MAX_RESTARTS;
        if ends || restarts >= before + MAX_ENDS {
            return Step::Broken(format!(
                "it ends with exit code {exit_code} again and again"
            ));
        }
        if state.running != Some(false) || state.restarting == Some(true) {
            return Step::Wait;
        }
        if !may_start {
            return Step::NotRunning;
        }
        if self.has_started {
            return Step::Broken(format!("it ended with exit code {exit_code}"));
        }
        self.has_started = true;
        Step::Start
    }
}

/// Returns what a program wrote, or else its exit code.
fn told(output: &ExecOutput) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let told = [stdout.trim(), output.stderr.as_str()].join(" ");
    match (told.trim(), output.exit_code) {
        ("", Some(code)) => format!("buildctl ended with exit code {code}"),
        ("", None) => "buildctl does not end".to_owned(),
        (told, _) => foreign::lines(told).into_owned(),
    }
}

/// The engine has no other sign of it: the exit codes are those of anything that it cannot run, in a
/// container that is ending as well.
fn is_missing_program(text: &str) -> bool {
    text.contains("executable file") && text.contains("not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(running: bool, restarting: bool, restarts: i64) -> ContainerInspectResponse {
        ContainerInspectResponse {
            restart_count: Some(restarts),
            state: Some(ContainerState {
                running: Some(running),
                restarting: Some(restarting),
                exit_code: Some(3),
                ..ContainerState::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    #[test]
    fn a_container_that_was_stopped_is_started_once() {
        let ended = container(false, false, 0);
        let mut watch = Watch::new(Starts::Ended);
        assert_eq!(watch.next(Some(&ended), 1), Step::Start);
        let running = container(true, false, 0);
        assert_eq!(watch.next(Some(&running), 2), Step::Wait);
        let broken = Step::Broken("it ended with exit code 3".to_owned());
        assert_eq!(watch.next(Some(&ended), 3), broken);

        let mut watch = Watch::new(Starts::Nothing);
        assert_eq!(watch.next(Some(&running), 1), Step::Wait);
        assert_eq!(watch.next(Some(&ended), 2), Step::NotRunning);
        assert_eq!(watch.next(None, 2), Step::NotRunning);
    }

    #[test]
    fn restarts_of_other_days_do_not_count() {
        let mut watch = Watch::new(Starts::Ended);
        assert_eq!(watch.next(Some(&container(true, false, 7)), 1), Step::Wait);
        assert_eq!(watch.next(Some(&container(true, false, 8)), 2), Step::Wait);
        let again = Step::Broken("it ends with exit code 3 again and again".to_owned());
        assert_eq!(watch.next(Some(&container(true, false, 9)), 3), again);
        let mut watch = Watch::new(Starts::Nothing);
        assert_eq!(watch.next(Some(&container(true, true, 1)), 1), Step::Wait);
        assert_eq!(watch.next(Some(&container(true, true, 3)), 2), again);
    }

    #[test]
    fn a_container_that_nobody_starts_is_started() {
        let mut made = container(false, false, 0);
        let created = bollard::models::ContainerStateStatusEnum::CREATED;
        made.state = made.state.map(|state| ContainerState {
            status: Some(created),
            ..state
        });
        let mut watch = Watch::new(Starts::Ended);
        assert_eq!(watch.next(None, 1), Step::Wait);
        assert_eq!(watch.next(Some(&made), 5), Step::Wait);
        assert_eq!(watch.next(Some(&made), 6), Step::Fill);
        let mut watch = Watch::new(Starts::Nothing);
        assert_eq!(watch.next(Some(&made), 6), Step::NotRunning);
    }

    #[test]
    fn only_the_engines_word_makes_a_program_missing() {
        let missing =
            "OCI runtime exec failed: exec: \"buildctl\": executable file not found in $PATH";
        assert!(is_missing_program(missing));
        for text in [
            "OCI runtime exec failed: error executing setns process: exit status 1",
            "dial unix /run/buildkit/buildkitd.sock: connect: no such file or directory",
        ] {
            assert!(!is_missing_program(text), "{text}");
        }
        let output = |stdout: &str, code| ExecOutput {
            stdout: stdout.into(),
            stderr: String::new(),
            exit_code: code,
        };
        assert_eq!(told(&output("a\r\n", Some(127))), "a");
        assert_eq!(
            told(&output("", Some(1))),
            "buildctl ended with exit code 1"
        );
    }
}
