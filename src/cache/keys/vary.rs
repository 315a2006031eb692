//! Steps that differ in one thing only, looked up in a cache: without a word from the build that wrote
//! it, they tell what has changed.

use std::collections::HashSet;

use bollard_buildkit_proto::pb::file_action::Action;
use bollard_buildkit_proto::pb::{Platform, op};

use super::plan::{Kind, Plan, Vertex, normalized};
use super::{Facts, record, step};
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

/// The time of files that keep their own.
const NO_TIME: i64 = -1;

/// The digests of a cache's records.
#[derive(Debug)]
pub struct Records<'a>(HashSet<&'a str>);

impl<'a> Records<'a> {
    /// Collects them.
    pub fn of(config: &'a CacheConfig) -> Self {
        let records = config.records.iter();
        Self(records.map(|record| record.digest.as_str()).collect())
    }

    /// Returns whether one of them is that of a step's first output that is used.
    fn has(&self, plan: &Plan, facts: &Facts<'_>, vertex: usize, changed: &Vertex) -> bool {
        let output = plan.outputs(vertex).next().unwrap_or(0);
        let keys = step(changed, facts).into_iter();
        let mut digests = keys.flat_map(|key| key.digests);
        digests.any(|key| self.0.contains(record(&key, output).as_str()))
    }
}

/// Returns the other platforms, such as `linux/arm64`, for which the cache has the same command or image.
pub fn other_platforms(
    plan: &Plan,
    facts: &Facts<'_>,
    vertex: usize,
    records: &Records<'_>,
) -> Vec<String> {
    let Some(own) = plan.vertices().get(vertex) else {
        return Vec::new();
    };
    let platform = own.platform.as_ref().or(facts.platform.as_ref());
    let Some(platform) = platform.map(normalized) else {
        return Vec::new();
    };
    if !matches!(own.kind(), Kind::Exec | Kind::Image) {
        return Vec::new();
    }
    let mut changed = own.clone();
    let mut found = Vec::new();
    for (os, architecture, variant) in PLATFORMS {
        let other = Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        };
        if other == platform {
            continue;
        }
        changed.platform = Some(other);
        if records.has(plan, facts, vertex, &changed) {
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
    let own = plan.vertices().get(vertex)?;
    let Ok(op::Op::Exec(exec)) = &own.op else {
        return None;
    };
    let mut changed = own.clone();
    for (at, entry) in exec.meta.as_ref()?.env.iter().enumerate() {
        let mut without = exec.clone();
        without.meta.as_mut()?.env.remove(at);
        changed.op = Ok(op::Op::Exec(without));
        if records.has(plan, facts, vertex, &changed) {
            return entry.split('=').next().map(str::to_owned);
        }
    }
    None
}

/// What a command has that another one of the same text may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Mounts.
    Mounts,
    /// A network mode.
    Network,
    /// A security mode.
    Security,
}

/// Returns what was added to a command that the cache has without it.
pub fn added_option(
    plan: &Plan,
    facts: &Facts<'_>,
    vertex: usize,
    records: &Records<'_>,
) -> Option<Extra> {
    let own = plan.vertices().get(vertex)?;
    let Ok(op::Op::Exec(exec)) = &own.op else {
        return None;
    };
    let mut changed = own.clone();
    let extras = [Extra::Mounts, Extra::Network, Extra::Security];
    extras.into_iter().find(|extra| {
        let mut without = exec.clone();
        match extra {
            Extra::Mounts => without.mounts.retain(|mount| mount.dest == "/"),
            Extra::Network => without.network = 0,
            Extra::Security => without.security = 0,
        }
        let is_other = without != *exec;
        changed.op = Ok(op::Op::Exec(without));
        is_other && records.has(plan, facts, vertex, &changed)
    })
}

/// Returns whether the cache has a file operation without the time that it gives its files (`SOURCE_DATE_EPOCH`).
pub fn is_there_without_time(
    plan: &Plan,
    facts: &Facts<'_>,
    vertex: usize,
    records: &Records<'_>,
) -> bool {
    let Some(own) = plan.vertices().get(vertex) else {
        return false;
    };
    let Ok(op::Op::File(file)) = &own.op else {
        return false;
    };
    let mut without = file.clone();
    for action in &mut without.actions {
        let time = match &mut action.action {
            Some(Action::Copy(copy)) => &mut copy.timestamp,
            Some(Action::Mkfile(made)) => &mut made.timestamp,
            Some(Action::Mkdir(made)) => &mut made.timestamp,
            _ => continue,
        };
        *time = NO_TIME;
    }
    let mut changed = own.clone();
    changed.op = Ok(op::Op::File(without));
    changed.op != own.op && records.has(plan, facts, vertex, &changed)
}
