//! Runs a command on a thread of its own and hears the signals on another, so that one ends the command also while it
//! is stuck in a call that blocks: a read of standard input or of a pipe, a lock that another process holds, a folder of
//! a network that is gone.

use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Commands, Context};
use crate::env::DOCKER_CLI_PLUGIN_SOCKET;
use crate::error::{CommandError, ErrorKind};
use crate::plugin::cancel::CancelWatch;

/// How long background work may take to end after the command.
const SHUTDOWN: Duration = Duration::from_millis(200);
/// How long a command may take to notice that it is cancelled, and to end after what it ends in order.
const NOTICE: Duration = Duration::from_millis(700);
/// The stack that the first thread of a process has.
const STACK: usize = 8 << 20;

/// Runs a command until it ends, or until it is cancelled and does not notice.
///
/// # Errors
///
/// Fails with the error of the command, or if the system gives no thread or no signal handler.
pub(super) fn run(command: Commands, ctx: Context) -> Result<(), CommandError> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let attendant = Builder::new_current_thread().enable_all().build()?;
    let (cancel, orderly) = (ctx.cancel.clone(), ctx.orderly.clone());
    let guard = attendant.enter();
    let socket = ctx.env.get(DOCKER_CLI_PLUGIN_SOCKET);
    let _watch = CancelWatch::start(&cancel, &ctx.hurry, socket)?;
    drop(guard);
    let (end, ended) = oneshot::channel();
    let work = move || {
        let result = runtime.block_on(run_cancellable(command, &ctx));
        // Children that are killed on drop are dropped here; a read of a terminal may never end.
        runtime.shutdown_timeout(SHUTDOWN);
        // Nobody waits for a command that was left.
        drop(end.send(result));
    };
    let thread = thread::Builder::new().name("command".to_owned());
    thread.stack_size(STACK).spawn(work)?;
    attendant.block_on(async {
        tokio::select! {
            biased;
            result = ended => result.unwrap_or_else(|_| {
                Err(CommandError::failed("the command ended without a result"))
            }),
            () = stuck(&cancel, &orderly) => Err(cancelled()),
        }
    })
}

async fn run_cancellable(command: Commands, ctx: &Context) -> Result<(), CommandError> {
    // reqwest takes the provider of the process. A second installation fails, which is no harm.
    drop(rustls::crypto::ring::default_provider().install_default());
    if command.handles_cancel() {
        return Box::pin(command.run(ctx)).await;
    }
    tokio::select! {
        result = Box::pin(command.run(ctx)) => result,
        () = ctx.cancel.cancelled() => Err(cancelled()),
    }
}

fn cancelled() -> CommandError {
    CommandError::new(ErrorKind::Cancelled, "cancelled")
}

/// Waits until the command is cancelled and has had time to notice, and nothing of it is ended in order.
async fn stuck(cancel: &CancellationToken, orderly: &TaskTracker) {
    cancel.cancelled().await;
    tokio::time::sleep(NOTICE).await;
    orderly.close();
    loop {
        orderly.wait().await;
        tokio::time::sleep(NOTICE).await;
        if orderly.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_ended_in_order_is_waited_for() {
        let (cancel, orderly) = (CancellationToken::new(), TaskTracker::new());
        let token = orderly.token();
        cancel.cancel();
        let stuck = stuck(&cancel, &orderly);
        tokio::pin!(stuck);
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, &mut stuck).await.is_err());
        drop(token);
        assert!(tokio::time::timeout(2 * NOTICE, &mut stuck).await.is_ok());
    }
}
