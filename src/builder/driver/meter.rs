//! How busy the container of a node is.

use std::time::Duration;

use bollard::models::{ContainerCpuStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;

use crate::builder::error::BuilderError;
use crate::docker::engine::Engine;

/// Reads the CPU time of one container, with everything that runs in it.
#[derive(Debug, Clone)]
pub struct ContainerMeter {
    engine: Engine,
    container: String,
    /// Cores that the container is limited to.
    limit: Option<f64>,
}

impl ContainerMeter {
    pub(super) fn new(engine: Engine, container: &str, limit: Option<f64>) -> Self {
        Self {
            engine,
            container: container.to_owned(),
            limit,
        }
    }

    /// Returns whether the engine is asked over a socket of this machine.
    pub fn is_local(&self) -> bool {
        self.engine.endpoint().is_local()
    }

    /// Returns the CPU time that the container has used, and how many cores it may use; `None` if
    /// the engine does not know.
    ///
    /// # Errors
    ///
    /// Fails if the engine cannot be asked.
    pub async fn cpu_time(&self) -> Result<Option<(Duration, f64)>, BuilderError> {
        // Without one-shot the engine answers after a second, with two looks.
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true);
        let mut answers = self
            .engine
            .api()
            .stats(&self.container, Some(options.build()));
        let answer = match answers.next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return Err(self.engine.error("read the CPU time", error).into()),
            None => return Ok(None),
        };
        Ok(cpu_time(&answer, self.limit))
    }
}

fn cpu_time(answer: &ContainerStatsResponse, limit: Option<f64>) -> Option<(Duration, f64)> {
    let ContainerCpuStats {
        cpu_usage,
        online_cpus,
        ..
    } = answer.cpu_stats.as_ref()?;
    let used = cpu_usage.as_ref()?.total_usage?;
    let cores = f64::from((*online_cpus)?);
    Some((
        Duration::from_nanos(used),
        limit.map_or(cores, |limit| cores.min(limit)),
    ))
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerCpuUsage;

    use super::*;

    #[test]
    fn a_limit_counts_where_it_is_less_than_the_machine() {
        let mut answer = ContainerStatsResponse {
            cpu_stats: Some(ContainerCpuStats {
                cpu_usage: Some(ContainerCpuUsage {
                    total_usage: Some(1_500_000_000),
                    ..Default::default()
                }),
                online_cpus: Some(4),
                ..Default::default()
            }),
            ..Default::default()
        };
        let used = Duration::from_millis(1500);
        assert_eq!(cpu_time(&answer, None), Some((used, 4.0)));
        assert_eq!(cpu_time(&answer, Some(0.5)), Some((used, 0.5)));
        assert_eq!(cpu_time(&answer, Some(8.0)), Some((used, 4.0)));
        answer.cpu_stats = None;
        assert_eq!(cpu_time(&answer, None), None);
    }
}
