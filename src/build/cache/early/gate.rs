//! Exports beside the build wait until the builder has a core to spare, so that steps which need all
//! of them are not slowed down.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the builder is watched at a time.
const WINDOW: Duration = Duration::from_millis(250);
/// The same while it is busy: looking costs the engine some work, too.
const BUSY_WINDOW: Duration = Duration::from_secs(1);
/// So many times in a row a core has to be idle: between two busy steps it is, too, for a moment.
const CALM: u32 = 2;
/// What has to be idle of a core, or of all that the builder has where that is less: compression takes
/// one.
const SPARE: f64 = 0.75;

/// CPU time that a builder has used, with all steps that it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime {
    /// Used since it was started, summed over its cores.
    pub used: Duration,
    /// Cores that it may use.
    pub cores: f64,
    /// Time that the cores of its machine had nothing to do, summed over them, where that is known:
    /// others may be at work there.
    pub idle: Option<Duration>,
    /// When that was.
    pub at: Instant,
}

/// Tells how busy a builder is.
#[tonic::async_trait]
pub trait Meter: Debug + Send + Sync {
    /// Returns the CPU time so far; nothing if it is not known.
    async fn cpu_time(&self) -> Option<CpuTime>;
}

/// Opens when the builder has a core to spare; always open where that is not known.
#[derive(Debug, Clone)]
pub struct Gate {
    meter: Option<Arc<dyn Meter>>,
}

impl Gate {
    /// Creates a gate for a builder.
    pub fn new(meter: Option<Arc<dyn Meter>>) -> Self {
        Self { meter }
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        let Some(meter) = &self.meter else {
            return;
        };
        let mut before = meter.cpu_time().await;
        let (mut calm, mut window) = (0, WINDOW);
        while let Some(earlier) = before {
            tokio::time::sleep(window).await;
            let now = meter.cpu_time().await;
            let has_spare = now.is_some_and(|now| has_spare(earlier, now));
            (calm, window) = if has_spare {
                (calm + 1, WINDOW)
            } else {
                (0, BUSY_WINDOW)
            };
            if calm == CALM {
                return;
            }
            before = now;
        }
    }
}

fn has_spare(earlier: CpuTime, now: CpuTime) -> bool {
    let elapsed = now.at.saturating_duration_since(earlier.at).as_secs_f64();
    if elapsed <= 0.0 {
        return false;
    }
    let passed = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / elapsed;
    let own = now.cores - passed(earlier.used, now.used);
    let idle = earlier.idle.zip(now.idle);
    let spare = idle.map_or(own, |(from, to)| own.min(passed(from, to)));
    spare >= SPARE * now.cores.min(1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use parking_lot::Mutex;

    use super::*;

    /// Answers with these times; then with nothing.
    #[derive(Debug)]
    struct Script(Mutex<VecDeque<CpuTime>>);

    #[tonic::async_trait]
    impl Meter for Script {
        async fn cpu_time(&self) -> Option<CpuTime> {
            self.0.lock().pop_front()
        }
    }

    /// A builder of so many cores that used so many milliseconds in each of several tenths of a second.
    fn script(cores: f64, used: &[u64]) -> Arc<Script> {
        let start = Instant::now();
        let mut sum = 0;
        let times = (0_u64..).zip(used).map(|(tenths, used)| {
            sum += used;
            CpuTime {
                used: Duration::from_millis(sum),
                cores,
                idle: None,
                at: start + Duration::from_millis(100 * tenths),
            }
        });
        Arc::new(Script(Mutex::new(times.collect())))
    }

    /// Opens a gate and returns how many answers were not needed.
    async fn left(cores: f64, used: &[u64]) -> usize {
        let script = script(cores, used);
        Gate::new(Some(Arc::clone(&script) as Arc<dyn Meter>))
            .opened()
            .await;
        script.0.lock().len()
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_a_core_to_spare() {
        let at_last = left(2.0, &[0, 200, 180, 0, 150, 0, 0, 0]).await;
        assert_eq!(at_last, 1, "it does not open between two busy steps");
        assert_eq!(
            left(2.0, &[0, 100, 100, 0]).await,
            1,
            "one of two is enough"
        );
        assert_eq!(left(0.5, &[0, 50, 5, 5, 0]).await, 1, "half a core");
    }

    #[test]
    fn others_on_the_machine_count() {
        let at = Instant::now();
        let time = |used, idle, at| CpuTime {
            used: Duration::from_millis(used),
            cores: 2.0,
            idle: Some(Duration::from_millis(idle)),
            at,
        };
        let later = at + Duration::from_millis(100);
        assert!(has_spare(time(0, 0, at), time(50, 150, later)));
        assert!(!has_spare(time(0, 0, at), time(50, 20, later)));
        assert!(!has_spare(time(0, 0, at), time(190, 150, later)));
        assert!(
            !has_spare(time(0, 0, at), time(0, 150, at)),
            "no time has passed"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_open_where_nothing_is_known() {
        Gate::new(None).opened().await;
        assert_eq!(left(2.0, &[]).await, 0);
        assert_eq!(left(2.0, &[0, 200]).await, 0, "the meter broke");
    }
}
