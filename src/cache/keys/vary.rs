//! Steps that differ in one thing only, looked up in a cache: without a word from the build that wrote
//! it, they tell what has changed.

use std::collections::HashSet;

use bollard_buildkit_proto::pb::{ExecOp, Platform, op};

use super::plan::{Plan, normalized};
use super::{Facts, exec, record};
use crate::cache::config::CacheConfig;

/// Platforms that are tried, as `OS`, architecture and variant.
const PLATFORMS: [(&str, &str, &str); 9] = [
    ("linux", "amd64", ""),
    ("linux", "arm64", ""),
    ("linux", "arm", "v7"),
    ("linux", "arm", "v6"),
    ("linux", "386", ""),
    ("linux", "ppc64le", ""),
    ("linux", "s390x", ""),
    ("linux", "riscv64", ""),
    ("windows", "amd64", ""),
];

/// The digests of a cache's records.
#[derive(Debug)]
pub struct Records<'a>(HashSet<&'a str>);

impl<'a> Records<'a> {
    /// Collects them.
    pub fn of(config: &'a CacheConfig) -> Self {
        Self(
            config
                .records
                .iter()
                .map(|record| record.digest.as_str())
                .collect(),
        )
    }

    fn has(&self, command: &ExecOp, platform: &Platform, inputs: usize, output: i64) -> bool {
        let key = exec::key(command, platform, inputs).ok();
        let digests = key.into_iter().flat_map(|key| key.digests);
        let mut records = digests.map(|digest| record(&digest, output));
        records.any(|record| self.0.contains(record.as_str()))
    }
}

/// Returns the other platforms, such as `linux/arm64`, for which the cache has the same command.
pub fn other_platforms(
    plan: &Plan,
    facts: &Facts<'_>,
    vertex: usize,
    records: &Records<'_>,
) -> Vec<String> {
    let Some(command) = Command::of(plan, facts, vertex) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (os, architecture, variant) in PLATFORMS {
        let platform = Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        };
        if platform != command.platform && command.is_in(records, command.exec, &platform) {
            let parts = [os, architecture, variant];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            found.push(parts.join("/"));
        }
    }
    found
}

/// Returns the name of the variable without which the cache has the command: an `ARG` or `ENV` that was
/// added above it.
pub fn added_variable(
    plan: &Plan,
    facts: &Facts<'_>,
    vertex: usize,
    records: &Records<'_>,
) -> Option<String> {
    let command = Command::of(plan, facts, vertex)?;
    let env = &command.exec.meta.as_ref()?.env;
    let without = |at: usize| {
        let mut changed = command.exec.clone();
        changed.meta.as_mut()?.env.remove(at);
        command
            .is_in(records, &changed, &command.platform)
            .then(|| env.get(at)?.split('=').next().map(str::to_owned))?
    };
    (0..env.len()).find_map(without)
}

/// A command that is varied.
struct Command<'a> {
    exec: &'a ExecOp,
    platform: Platform,
    inputs: usize,
    output: i64,
}

impl<'a> Command<'a> {
    fn of(plan: &'a Plan, facts: &Facts<'_>, vertex: usize) -> Option<Self> {
        let output = plan.outputs(vertex).next().unwrap_or(0);
        let vertex = plan.vertices().get(vertex)?;
        let Ok(op::Op::Exec(exec)) = &vertex.op else {
            return None;
        };
        let platform = vertex.platform.as_ref().or(facts.platform.as_ref())?;
        Some(Self {
            exec,
            platform: normalized(platform),
            inputs: vertex.inputs.len(),
            output,
        })
    }

    fn is_in(&self, records: &Records<'_>, exec: &ExecOp, platform: &Platform) -> bool {
        records.has(exec, platform, self.inputs, self.output)
    }
}
