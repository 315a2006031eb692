//! Reaching the BuildKit of a node: it is dialled and spoken to, and waited for while it comes up.

use std::time::Duration;

use super::ByteStream;
use super::boot::BootSink;
use super::driver::Driver;
use super::error::BuilderError;

/// How long the first answer may take; with each try twice as long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// What is done with a node that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It is booted.
    Boot,
    /// It is left: that is the error.
    Leave,
}

/// What went wrong in speaking to BuildKit.
pub trait Unanswered {
    /// Returns whether there was no answer at all, which may be because BuildKit is still coming up.
    fn is_unanswered(&self) -> bool;
}

/// Why a node was not reached.
#[derive(Debug)]
pub enum ReachError<E> {
    /// The node.
    Node(BuilderError),
    /// What was said over the stream.
    Speech(E),
}

impl<E> From<BuilderError> for ReachError<E> {
    fn from(error: BuilderError) -> Self {
        Self::Node(error)
    }
}

impl<E: Unanswered> ReachError<E> {
    fn may_pass(&self, absent: Absent) -> bool {
        match self {
            // A container that is not running may be on its way.
            Self::Node(BuilderError::NotRunning { .. }) => true,
            // Who does not boot a node does not wait for an address either.
            Self::Node(BuilderError::RemoteConnect { .. }) if absent == Absent::Leave => false,
            Self::Node(error) => error.may_pass(),
            Self::Speech(error) => error.is_unanswered(),
        }
    }
}

impl Driver {
    /// Connects to the node's BuildKit and speaks to it.
    ///
    /// That BuildKit is still coming up in a container that runs, that the container is just being
    /// restarted, or that there is no BuildKit, is seen only when it is spoken to. Then the node is
    /// booted, or waited for if it is not to be, and dialled again.
    ///
    /// # Errors
    ///
    /// Fails if the node can be neither reached nor booted, or with what was said at last.
    pub async fn reach<T, E, Said>(
        &self,
        node: &str,
        absent: Absent,
        sink: &BootSink<'_>,
        speak: impl Fn(ByteStream) -> Said,
    ) -> Result<T, ReachError<E>>
    where
        E: Unanswered,
        Said: Future<Output = Result<T, E>>,
    {
        let mut patience = ANSWER_TIMEOUT;
        let mut tries = TRIES;
        loop {
            let step = "waiting for BuildKit to answer".to_owned();
            let asked = self.ask(node, patience, &speak);
            let error = match sink.if_slow(node, step, asked).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tries -= 1;
            if tries == 0 || !error.may_pass(absent) {
                return Err(error);
            }
            match absent {
                Absent::Boot => Box::pin(self.boot(sink)).await?,
                Absent::Leave => {
                    let step = "waiting for BuildKit to come up".to_owned();
                    sink.if_slow(node, step, Box::pin(self.ready())).await?;
                }
            }
            patience *= 2;
        }
    }

    async fn ask<T, E, Said>(
        &self,
        node: &str,
        patience: Duration,
        speak: impl Fn(ByteStream) -> Said,
    ) -> Result<T, ReachError<E>>
    where
        Said: Future<Output = Result<T, E>>,
    {
        let stream = self.dial().await?;
        match tokio::time::timeout(patience, speak(stream)).await {
            Ok(answer) => answer.map_err(ReachError::Speech),
            Err(_) => Err(BuilderError::Silent {
                node: node.to_owned(),
                seconds: patience.as_secs(),
            }
            .into()),
        }
    }
}
