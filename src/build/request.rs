//! A build as the user asked for it: typed, each value checked on its own, not yet in BuildKit's terms. It never changes:
//! what else decides about a build is a fact that the [plan](super::plan) takes beside it.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::Policy;

use crate::options::add_host::AddHost;
use crate::options::attest::Attests;
use crate::options::cache::{CacheFrom, CacheTo};
use crate::options::call::Call;
use crate::options::entitlement::Entitlements;
use crate::options::explain::{Explain, HitRate};
use crate::options::output::Output;
use crate::options::platform::Platform;
use crate::options::secret::Secret;
use crate::options::ssh::Ssh;
use crate::options::tag::Tag;
use crate::options::ulimit::Ulimit;

use super::context::inputs::InputSpec;
use super::context::vcs::VcsOptions;

/// Everything about one build.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Context, Dockerfile and named contexts.
    pub inputs: InputSpec,
    /// Build arguments; their values may be secret.
    pub build_args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Names of the image.
    pub tags: Vec<Tag>,
    /// Annotations of the image by exporter attribute.
    pub annotations: BTreeMap<String, String>,
    /// Stage to build.
    pub target: Option<String>,
    /// Platforms to build for; empty: the builder's own.
    pub platforms: Vec<Platform>,
    /// A question to the frontend instead of a build.
    pub call: Option<Call>,
    /// Where the result goes.
    pub outputs: Vec<Output>,
    /// Caches to write.
    pub cache_to: Vec<CacheTo>,
    /// Caches to read.
    pub cache_from: Vec<CacheFrom>,
    /// Attestations asked for, or refused (`None`), by kind.
    pub attests: Attests,
    /// Make the default provenance where none is asked for.
    pub default_provenance: bool,
    /// Secrets.
    pub secrets: Vec<Secret>,
    /// SSH agents.
    pub ssh: Vec<Ssh>,
    /// Privileges that the user allows.
    pub allow: Entitlements,
    /// Network of RUN steps.
    pub network: Network,
    /// Host names for RUN steps.
    pub add_hosts: Vec<AddHost>,
    /// Size of `/dev/shm` in bytes; 0: the builder's own.
    pub shm_size: u64,
    /// Limits of RUN steps.
    pub ulimits: Vec<Ulimit>,
    /// Parent cgroup of RUN steps.
    pub cgroup_parent: Option<String>,
    /// Resource limits of RUN steps, as attributes of the frontend.
    pub resources: BTreeMap<String, String>,
    /// Which sources may be used, and which stand for others.
    pub source_policy: Option<Policy>,
    /// The user switched off the policies in Rego that lie beside Dockerfiles.
    pub policy_off: bool,
    /// Images with attestations are not made in the form of OCI artifacts.
    pub no_oci_artifact: bool,
    /// Which steps do without cache.
    pub no_cache: NoCache,
    /// Ask registries for newer base images.
    pub pull: bool,
    /// Which facts about the commit are told.
    pub vcs: VcsOptions,
    /// What is told of the steps that run, and how many may.
    pub steps: StepWishes,
}

/// What is told of the steps that run, and how many may.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepWishes {
    /// How much is told of why they ran.
    pub explain: Explain,
    /// None may run.
    pub require_cached: bool,
    /// So many must come out of caches.
    pub min_hit_rate: Option<HitRate>,
    /// A report is made of them.
    pub is_reported: bool,
}

/// Network of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The builder's own.
    #[default]
    Default,
    /// The network of the builder's host; needs the entitlement `network.host`.
    Host,
    /// None.
    None,
}

/// Which steps do without cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// Every step may use it.
    #[default]
    Never,
    /// No step uses it.
    Always,
    /// The steps of these stages do not.
    Stages(Vec<String>),
}
