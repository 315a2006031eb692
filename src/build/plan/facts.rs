//! What is known about a node, its builder and this side, as far as a plan depends on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord;
use bollard_buildkit_proto::pb::Platform;

use crate::build::cache::UnsupportedBackends;

/// Label of a worker of a Docker Engine: the address that `host-gateway` stands for.
const HOST_GATEWAY_LABEL: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

/// What is known before the builder is asked.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// Proxy variables of the docker config, which become build arguments unless given.
    pub proxy_args: BTreeMap<String, String>,
    /// The result becomes part of an index with those of other nodes, and is an index even of one platform.
    pub is_part_of_index: bool,
    /// Layers were taken uncompressed out of this builder before; see
    /// [`Store::mark_uncompressed`](crate::builder::Store::mark_uncompressed).
    pub had_uncompressed: bool,
    /// Layers were taken as zstd out of this builder before.
    pub had_zstd: bool,
    /// The engine that images are loaded into imports OCI layouts (it has the containerd store).
    pub engine_imports_oci: bool,
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
}

/// What the builder answers.
#[derive(Debug, Clone, Default)]
pub struct BuilderFacts {
    /// It makes attestations (BuildKit 0.11 and newer).
    pub attestations: bool,
    /// It takes several exporters (BuildKit 0.13 and newer).
    pub several_exporters: bool,
    /// Address that `host-gateway` stands for.
    pub host_gateway: Option<IpAddr>,
    /// The platform for which it builds where none is named (BuildKit `frontend/dockerui`: the first of the first worker).
    pub platform: Option<Platform>,
    /// Cache backends that it does not have.
    pub unsupported: UnsupportedBackends,
}

impl BuilderFacts {
    /// Reads them out of what the builder says about its workers.
    pub fn new(workers: &[WorkerRecord], unsupported: UnsupportedBackends) -> Self {
        let worker = workers.first();
        Self {
            // Workers tell their version since BuildKit 0.11, the first that makes attestations.
            attestations: worker.is_some_and(|w| w.buildkit_version.is_some()),
            several_exporters: takes_several_exporters(workers),
            host_gateway: worker
                .and_then(|w| w.labels.get(HOST_GATEWAY_LABEL))
                .and_then(|ip| ip.parse::<IpAddr>().ok()),
            platform: worker.and_then(|w| w.platforms.first().cloned()),
            unsupported,
        }
    }
}

/// BuildKit takes several exporters since 0.13, and workers tell its version since 0.11. A build that is not a release
/// (0.0.0) counts as a new one.
fn takes_several_exporters(workers: &[WorkerRecord]) -> bool {
    let Some(version) = workers.first().and_then(|w| w.buildkit_version.as_ref()) else {
        return false;
    };
    let mut numbers = version
        .version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(minor))) => !(1..13).contains(&minor),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::types::BuildkitVersion;

    use super::*;

    fn facts(worker: WorkerRecord) -> BuilderFacts {
        BuilderFacts::new(&[worker], UnsupportedBackends::default())
    }

    #[test]
    fn several_exporters_need_a_version() {
        for (version, takes) in [
            ("v0.12.5", false),
            ("v0.11.0-rc1", false),
            ("v0.13.0", true),
            ("0.25.1", true),
            ("v1.0.0", true),
            ("v0.0.0+unknown", true),
            ("strange", true),
        ] {
            let worker = WorkerRecord {
                buildkit_version: Some(BuildkitVersion {
                    version: version.into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            assert_eq!(facts(worker).several_exporters, takes, "{version}");
        }
        let old = facts(WorkerRecord::default());
        assert!(!old.several_exporters && !old.attestations);
    }

    #[test]
    fn the_engines_gateway_is_a_label_of_its_worker() {
        let worker = |ip: &str| WorkerRecord {
            labels: [(HOST_GATEWAY_LABEL.to_owned(), ip.to_owned())].into(),
            ..WorkerRecord::default()
        };
        let expected = "172.17.0.1".parse().ok();
        assert_eq!(facts(worker("172.17.0.1")).host_gateway, expected);
        assert_eq!(facts(worker("none")).host_gateway, None);
    }
}
