//! Asks a BuildKit for its workers, for `ls`, `inspect` and `create`.

use std::pin::Pin;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord;

use crate::builder::load::{Device, GcRule, Probe, ProbeError, Worker, WorkerReport};
use crate::builder::platform::Platform;
use crate::builder::{ByteStream, Unanswered as _};
use crate::buildkit::{Client, RpcError};

/// The probe that speaks BuildKit's API.
#[derive(Debug, Clone, Copy)]
pub struct BuildkitProbe;

impl Probe for BuildkitProbe {
    fn probe<'a>(
        &'a self,
        stream: ByteStream,
        authority: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<WorkerReport, ProbeError>> + Send + 'a>> {
        Box::pin(async move {
            ask(stream, authority).await.map_err(|error| ProbeError {
                text: crate::error::chain(&error),
                unanswered: error.is_unanswered(),
            })
        })
    }
}

async fn ask(stream: ByteStream, authority: Option<&str>) -> Result<WorkerReport, RpcError> {
    let client = Client::connect_as(stream, authority).await?;
    let workers = client.list_workers().await?;
    Ok(WorkerReport {
        version: client.version().await?,
        workers: workers.into_iter().map(worker).collect(),
    })
}

fn worker(record: WorkerRecord) -> Worker {
    let platform = |p: bollard_buildkit_proto::pb::Platform| Platform {
        architecture: p.architecture,
        os: p.os,
        os_version: p.os_version,
        os_features: p.os_features,
        variant: p.variant,
    };
    let rules = record.gc_policy.into_iter().map(|rule| GcRule {
        all: rule.all,
        filters: rule.filters,
        keep_duration: Duration::from_nanos(rule.keep_duration.try_into().unwrap_or(0)),
        reserved_space: rule.reserved_space,
        max_used_space: rule.max_used_space,
        min_free_space: rule.min_free_space,
    });
    let devices = record.cdi_devices.into_iter().map(|device| Device {
        name: device.name,
        auto_allow: device.auto_allow,
        on_demand: device.on_demand,
        annotations: device.annotations.into_iter().collect(),
    });
    Worker {
        id: record.id,
        labels: record.labels.into_iter().collect(),
        platforms: record.platforms.into_iter().map(platform).collect(),
        gc_policy: rules.collect(),
        devices: devices.collect(),
    }
}
