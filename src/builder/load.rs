//! Asking the nodes of builders for their state, for `ls` and `inspect`. A node that fails is an
//! answer too.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::boot::BootSink;
use super::docker_env::DockerEnv;
use super::driver::remote::Remote;
use super::driver::{Driver, Status};
use super::error::BuilderError;
use super::group::{NodeGroup, StoredNode};
use super::platform::{self, Platform};
use super::reach::{Absent, ReachError, Unanswered};
use super::resolve::context_driver;
use super::{ByteStream, resolve};

/// A garbage collection rule of a BuildKit worker. Sizes are in bytes; 0 means that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcRule {
    /// The rule is for internal and frontend records too.
    pub all: bool,
    /// Filters of the records.
    pub filters: Vec<String>,
    /// Records younger than this stay.
    pub keep_duration: Duration,
    /// Space that stays used.
    pub reserved_space: i64,
    /// Space that may be used.
    pub max_used_space: i64,
    /// Space of the disk that is left free.
    pub min_free_space: i64,
}

/// A CDI device of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Builds may use it without being allowed to.
    pub auto_allow: bool,
    /// It is set up when first asked for.
    pub on_demand: bool,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a worker of BuildKit says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// Identifier.
    pub id: String,
    /// Platforms that it builds for.
    pub platforms: Vec<Platform>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Garbage collection rules.
    pub gc_policy: Vec<GcRule>,
    /// CDI devices.
    pub devices: Vec<Device>,
}

/// What a BuildKit daemon says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerReport {
    /// Its workers, the default one first.
    pub workers: Vec<Worker>,
    /// Its version, if it reports it.
    pub version: Option<String>,
}

/// Why a BuildKit did not tell its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// The text.
    pub text: String,
    /// There was no answer at all.
    pub unanswered: bool,
}

impl Unanswered for ProbeError {
    fn is_unanswered(&self) -> bool {
        self.unanswered
    }
}

/// Asks a BuildKit at the other end of a stream for its workers.
pub trait Probe: Sync {
    /// Asks; `authority` is the name that the request is addressed to.
    fn probe<'a>(
        &'a self,
        stream: ByteStream,
        authority: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<WorkerReport, ProbeError>> + Send + 'a>>;
}

/// A builder and what its nodes answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedBuilder {
    /// Name.
    pub name: String,
    /// Driver; empty if it could not be found out.
    pub driver: String,
    /// Last use.
    pub last_activity: Option<jiff::Timestamp>,
    /// Its nodes are found by the driver.
    pub dynamic: bool,
    /// It stands for a docker context.
    pub is_context: bool,
    /// The nodes.
    pub nodes: Vec<LoadedNode>,
    /// Why the builder could not be loaded at all.
    pub error: Option<String>,
    /// What the user can do about that, one sentence each.
    pub hints: Vec<String>,
}

/// A node and what it answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedNode {
    /// The node in the store.
    pub stored: StoredNode,
    /// State; `None` if it could not be asked.
    pub status: Option<Status>,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// Why a remote one is inactive: it did not answer.
    pub silence: Option<String>,
    /// What the user can do about either, one sentence each.
    pub hints: Vec<String>,
    /// Version of BuildKit.
    pub version: String,
    /// Identifiers of the workers, sorted.
    pub ids: Vec<String>,
    /// Fixed platforms and those of the workers, each once.
    pub platforms: Vec<Platform>,
    /// Labels of the default worker.
    pub labels: BTreeMap<String, String>,
    /// Garbage collection rules of the default worker.
    pub gc_policy: Vec<GcRule>,
    /// CDI devices.
    pub devices: Vec<Device>,
    /// Proxy variables that builds on this node get.
    pub proxies: BTreeMap<String, String>,
}

impl LoadedBuilder {
    /// Returns whether no node runs.
    pub fn is_inactive(&self) -> bool {
        self.nodes.iter().all(|n| n.status != Some(Status::Running))
    }

    fn fail(&mut self, error: Ask) {
        (self.error, self.hints) = (Some(error.text), error.hints);
    }
}

/// Returns all builders of the store, and the docker contexts that no builder has the name of.
///
/// # Errors
///
/// Fails if the store or the contexts cannot be read.
pub fn all(docker_env: &DockerEnv) -> Result<Vec<resolve::Found>, BuilderError> {
    let mut found: Vec<_> = docker_env
        .store()
        .list()?
        .into_iter()
        .map(|group| resolve::Found {
            group,
            is_context: false,
        })
        .collect();
    let mut contexts = docker_env.contexts().names()?;
    contexts.sort_unstable();
    contexts.retain(|c| !found.iter().any(|f| f.group.name == *c));
    found.extend(contexts.iter().map(|context| resolve::Found {
        group: resolve::context_builder(context),
        is_context: true,
    }));
    Ok(found)
}

/// Asks all nodes of a builder, at the same time; those that do not answer until the time-out have
/// an error. A time-out of zero means none.
pub async fn load(
    docker_env: &Arc<DockerEnv>,
    found: resolve::Found,
    probe: Option<&dyn Probe>,
    timeout: Duration,
) -> LoadedBuilder {
    let mut group = found.group;
    let mut loaded = LoadedBuilder {
        name: group.name.clone(),
        dynamic: group.dynamic,
        is_context: found.is_context,
        ..LoadedBuilder::default()
    };
    match docker_env.store().last_activity(&group.name) {
        Ok(time) => loaded.last_activity = time,
        Err(error) => loaded.fail(BuilderError::from(error).into()),
    }
    if found.is_context {
        let driver = within(timeout, context_driver(docker_env, &group.name)).await;
        match driver {
            Ok(driver) => driver.clone_into(&mut group.driver),
            Err(error) => {
                loaded.fail(error);
                return loaded;
            }
        }
    }
    loaded.driver.clone_from(&group.driver);
    let proxies = proxies(docker_env);
    let nodes = group.nodes.iter().map(|node| {
        let group = &group;
        let proxies = proxies.clone();
        load_node(docker_env, group, node, probe, timeout, proxies)
    });
    loaded.nodes = futures_util::future::join_all(nodes).await;
    loaded
}

async fn load_node(
    docker_env: &Arc<DockerEnv>,
    group: &NodeGroup,
    node: &StoredNode,
    probe: Option<&dyn Probe>,
    timeout: Duration,
    proxies: BTreeMap<String, String>,
) -> LoadedNode {
    let mut loaded = LoadedNode {
        stored: node.clone(),
        platforms: node.platforms.clone(),
        proxies,
        ..LoadedNode::default()
    };
    let ask = ask(docker_env, group, node, probe, &mut loaded);
    if let Err(error) = Box::pin(within(timeout, ask)).await {
        (loaded.error, loaded.hints) = (Some(error.text), error.hints);
    }
    loaded
}

async fn ask(
    docker_env: &Arc<DockerEnv>,
    group: &NodeGroup,
    node: &StoredNode,
    probe: Option<&dyn Probe>,
    loaded: &mut LoadedNode,
) -> Result<(), Ask> {
    let driver = Driver::new(docker_env, &group.name, &group.driver, node)?;
    if let (Driver::Remote(remote), Some(probe)) = (&driver, probe) {
        return ask_remote(remote, probe, loaded).await;
    }
    let status = driver.status().await?;
    loaded.status = Some(status);
    let Some(probe) = probe.filter(|_| status == Status::Running) else {
        return Ok(());
    };
    // A node that was started a moment ago is waited for.
    let mut unseen = |_| ();
    let sink = BootSink::new(&mut unseen);
    let speak = |stream| probe.probe(stream, None);
    let reached = driver.reach(&node.name, Absent::Leave, &sink, speak);
    let report = match reached.await {
        Ok(report) => report,
        Err(ReachError::Node(error)) => return Err(error.into()),
        Err(ReachError::Speech(error)) => {
            return Err(match driver.diagnose().await {
                Some(error) => error.into(),
                None => Ask::without_hints(format!("listing workers: {}", error.text)),
            });
        }
    };
    take(loaded, &report);
    match report.version {
        Some(version) => loaded.version = version,
        None => loaded.version = driver.version().await?.unwrap_or_default(),
    }
    Ok(())
}

/// A remote node runs if its BuildKit answers; whatever else is there, the node is inactive. It is
/// connected once: each connection may be a login of ssh.
async fn ask_remote(
    remote: &Remote,
    probe: &dyn Probe,
    loaded: &mut LoadedNode,
) -> Result<(), Ask> {
    let answered = match remote.dial().await {
        Ok(stream) => {
            let answered = probe.probe(stream, remote.authority()).await;
            answered.map_err(|error| Ask::without_hints(error.text))
        }
        Err(error) => Err(error.into()),
    };
    match answered {
        Ok(report) => {
            loaded.status = Some(Status::Running);
            take(loaded, &report);
            loaded.version = report.version.unwrap_or_default();
        }
        Err(reason) => {
            tracing::debug!(reason = reason.text, "a remote node is inactive");
            (loaded.silence, loaded.hints) = (Some(reason.text), reason.hints);
            loaded.status = Some(Status::Inactive);
        }
    }
    Ok(())
}

fn take(loaded: &mut LoadedNode, report: &WorkerReport) {
    let workers = &report.workers;
    loaded.ids = workers.iter().map(|w| w.id.clone()).collect();
    loaded.ids.sort_unstable();
    let all = workers.iter().flat_map(|w| w.platforms.iter().cloned());
    loaded.platforms = platform::dedupe(loaded.stored.platforms.iter().cloned().chain(all));
    if let Some(first) = workers.first() {
        loaded.labels.clone_from(&first.labels);
        loaded.gc_policy.clone_from(&first.gc_policy);
    }
    if let Some(last) = workers.last() {
        loaded.devices.clone_from(&last.devices);
    }
}

/// What went wrong with a builder or one node, and what the user can do about it.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    text: String,
    hints: Vec<String>,
}

impl Ask {
    fn without_hints(text: String) -> Self {
        let hints = Vec::new();
        Self { text, hints }
    }
}

impl From<BuilderError> for Ask {
    fn from(error: BuilderError) -> Self {
        Self {
            text: crate::error::chain(&error),
            hints: error.hints(),
        }
    }
}

async fn within<T, E: Into<Ask>>(
    timeout: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Ask> {
    let result = if timeout.is_zero() {
        work.await
    } else {
        let silent = |_| format!("no answer within {} s", timeout.as_secs_f64());
        let answered = tokio::time::timeout(timeout, work).await;
        answered.map_err(silent).map_err(Ask::without_hints)?
    };
    result.map_err(Into::into)
}

/// The proxy variables of docker's configuration for the current daemon, as buildx lists them.
fn proxies(docker_env: &DockerEnv) -> BTreeMap<String, String> {
    let host = docker_env
        .contexts()
        .current()
        .map(|endpoint| endpoint.host)
        .unwrap_or_default();
    let mut proxies = docker_env.config().proxy_variables(&host);
    proxies.retain(|name, _| {
        matches!(
            name.as_str(),
            "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY" | "FTP_PROXY"
        )
    });
    proxies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_several_workers_are_put_together() {
        let worker = |id: &str, platforms: &[&str]| Worker {
            id: id.to_owned(),
            platforms: platforms
                .iter()
                .map(|p| Platform::parse(p).unwrap())
                .collect(),
            labels: BTreeMap::from([("id".to_owned(), id.to_owned())]),
            ..Worker::default()
        };
        let mut loaded = LoadedNode::default();
        loaded.stored.platforms = vec![Platform::parse("linux/arm64").unwrap()];
        let report = WorkerReport {
            workers: vec![
                worker("z", &["linux/amd64", "linux/arm64/v8"]),
                worker("a", &["linux/amd64"]),
            ],
            version: None,
        };
        take(&mut loaded, &report);
        assert_eq!(loaded.ids, ["a", "z"]);
        assert_eq!(loaded.labels["id"], "z");
        let shown: Vec<_> = loaded.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["linux/arm64", "linux/amd64"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_has_an_error() {
        let never = std::future::pending::<Result<(), BuilderError>>();
        let error = within(Duration::from_secs(20), never).await.unwrap_err();
        assert_eq!(error.text, "no answer within 20 s");
        let ok: Result<_, BuilderError> = Ok(1);
        assert_eq!(within(Duration::ZERO, async { ok }).await, Ok(1));
    }
}
