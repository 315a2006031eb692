//! An answer that is on its way while other things are got ready.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// An answer that any number may wait for.
pub type Later<T> = Shared<BoxFuture<'static, T>>;

/// Begins to work on an answer, which ends when nobody can wait for it any more. `lost` is the answer
/// where the work died by a panic.
pub fn later<T: Clone + Send + Sync + 'static>(
    answer: impl Future<Output = T> + Send + 'static,
    lost: impl FnOnce(JoinError) -> T + Send + 'static,
) -> Later<T> {
    let task = AbortOnDropHandle::new(tokio::spawn(answer));
    let answered = task.map(|answer| answer.unwrap_or_else(lost));
    answered.boxed().shared()
}
