//! How a build is cancelled, and how long its caches may still be stored then.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How long after a signal a cache may still be exported.
pub(super) const AFTER_SIGNAL: Duration = Duration::from_secs(10);
/// Of that, what is left for config and manifest when the layers take too long.
pub(super) const FOR_PUBLISHING: Duration = Duration::from_secs(3);

/// What ends a build before its time.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    /// The user has cancelled: the build ends, and what has finished is kept.
    pub graceful: CancellationToken,
    /// The user has asked twice: nothing is kept any more.
    pub force: CancellationToken,
    /// Set by the build as soon as its solve has failed, before it keeps what has finished.
    pub failed: CancellationToken,
}

/// Returns until when the layers of a cache may arrive, and until when it may be published, if the user cancels now.
/// `timeout` is what the user allows.
pub(super) fn deadlines(timeout: Option<Duration>) -> (tokio::time::Instant, tokio::time::Instant) {
    let time = timeout.unwrap_or(AFTER_SIGNAL);
    let end = Instant::now() + time.max(FOR_PUBLISHING);
    (before(end, FOR_PUBLISHING), end.into())
}

/// Returns the time so long before another.
pub(super) fn before(time: Instant, span: Duration) -> tokio::time::Instant {
    time.checked_sub(span).unwrap_or(time).into()
}

/// Returns until when something may be made that is to be published by then.
pub fn before_publishing(deadline: Instant) -> tokio::time::Instant {
    before(deadline, FOR_PUBLISHING)
}
