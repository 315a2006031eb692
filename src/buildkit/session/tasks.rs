//! Tasks of a session: none outlives the call that started it, nor the session.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::Status;

/// Starts tasks that end with the session.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// Starts a task; dropping the handle ends it.
    pub(super) fn spawn<F>(&self, work: F) -> AbortOnDropHandle<Result<(), Status>>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        AbortOnDropHandle::new(self.tracker.spawn(async move {
            cancel
                .run_until_cancelled(work)
                .await
                .unwrap_or_else(|| Err(session_over()))
        }))
    }

    /// Ends all tasks and waits until they are gone.
    pub(super) async fn end(&self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn session_over() -> Status {
    Status::cancelled("the build session is over")
}

/// What a task sends, followed by its error if it fails. Dropping the stream ends the task.
#[derive(Debug)]
pub(super) struct WorkStream<T> {
    items: mpsc::Receiver<T>,
    work: Option<AbortOnDropHandle<Result<(), Status>>>,
}

impl<T> WorkStream<T> {
    pub(super) fn new(
        items: mpsc::Receiver<T>,
        work: AbortOnDropHandle<Result<(), Status>>,
    ) -> Self {
        Self {
            items,
            work: Some(work),
        }
    }
}

impl<T> Stream for WorkStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = ready!(self.items.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(item)));
        }
        let Some(work) = self.work.as_mut() else {
            return Poll::Ready(None);
        };
        let outcome = ready!(Pin::new(work).poll(cx));
        self.work = None;
        Poll::Ready(match outcome {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(error) => Some(Err(Status::internal(format!(
                "a task of the build session failed: {error}"
            )))),
        })
    }
}
