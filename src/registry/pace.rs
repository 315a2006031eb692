//! The bound of a small answer as a whole.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes a second that an answer must have after the patience has ended. One that has them may go on: the
/// line is slow, and nobody holds the answer back.
const RATE: u64 = 16 * 1024;

/// How long a small answer may still take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    patience: Duration,
    begun: Instant,
    end: Instant,
}

impl Pace {
    /// Begins to count. The whole answer may take as long as `patience`; what comes of it gives more.
    pub(super) fn new(patience: Duration) -> Self {
        let begun = Instant::now();
        Self {
            patience,
            begun,
            end: begun + patience,
        }
    }

    /// Notes bytes that have come.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.end += Duration::from_secs(bytes as u64) / u32::try_from(RATE).unwrap_or(1);
    }

    /// Waits for the next piece. The error is how long there was for it all.
    pub(super) async fn within<F: Future>(&self, piece: F) -> Result<F::Output, Duration> {
        let late = |_| self.patience.max(self.end - self.begun);
        tokio::time::timeout_at(self.end, piece).await.map_err(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: usize, size: usize, pause: Duration) -> Result<(), Duration> {
        let mut pace = Pace::new(Duration::from_secs(10));
        for _ in 0..pieces {
            pace.within(tokio::time::sleep(pause)).await?;
            pace.moved(size);
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_ends_and_a_slow_line_does_not() {
        let second = Duration::from_secs(1);
        assert!(read(1000, 1, second).await.is_err());
        assert!(read(1000, 20 * 1024, second).await.is_ok());
        assert!(read(1, 1, 11 * second).await.is_err());
        assert!(read(9, 1, second).await.is_ok());
    }
}
