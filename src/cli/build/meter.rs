//! How busy the node of a build is, as its driver tells, and this machine where the node is on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fs_err::tokio as fs;

use crate::build::cache::early::{CpuTime, Meter};
use crate::builder::Node;
use crate::builder::driver::meter::ContainerMeter;

/// What Linux counts CPU time in, for programs, on every architecture that Docker runs on: hundredths
/// of a second, here in milliseconds.
const TICK: u64 = 10;

/// How long it may take to find out who can tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the meter of a node; nothing if nobody can tell.
pub(super) async fn of(node: &Node) -> Option<Arc<dyn Meter>> {
    match tokio::time::timeout(PATIENCE, node.driver().meter()).await {
        Ok(Ok(meter)) => Some(Arc::new(NodeMeter(meter?))),
        Ok(Err(error)) => {
            not_told(&error);
            None
        }
        Err(elapsed) => {
            not_told(&elapsed);
            None
        }
    }
}

/// A builder that nobody tells of counts as one that has a core to spare, so this is no failure.
fn not_told(error: &(dyn std::error::Error + 'static)) {
    let error = crate::error::chain(error);
    tracing::debug!(error, "nobody tells how busy the builder is");
}

#[derive(Debug)]
struct NodeMeter(ContainerMeter);

#[tonic::async_trait]
impl Meter for NodeMeter {
    async fn cpu_time(&self) -> Option<CpuTime> {
        let (used, cores) = match self.0.cpu_time().await {
            Ok(time) => time?,
            Err(error) => {
                not_told(&error);
                return None;
            }
        };
        let at = Instant::now();
        let idle = if self.0.is_local() {
            let stat = fs::read_to_string("/proc/stat").await.ok();
            stat.and_then(|stat| idle(&stat))
        } else {
            None
        };
        Some(CpuTime {
            used,
            cores,
            idle,
            at,
        })
    }
}

/// Reads the idle time of all cores together out of `/proc/stat`: `cpu  user nice system idle iowait …`.
/// Who waits for a disk needs no core.
fn idle(stat: &str) -> Option<Duration> {
    let ticks = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks = ticks
        .split_whitespace()
        .map_while(|text| text.parse::<u64>().ok());
    let [_user, _nice, _system, idle, iowait] =
        ticks.take(5).collect::<Vec<_>>().try_into().ok()?;
    let ticks = idle.checked_add(iowait)?;
    Some(Duration::from_millis(ticks.checked_mul(TICK)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle() {
        let stat = "cpu  10 20 30 400 50 6 7 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(idle(stat), Some(Duration::from_millis(4500)));
        assert_eq!(idle("intr 1 2 3 4 5"), None);
        assert_eq!(idle(""), None);
    }
}
