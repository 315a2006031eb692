//! The machine: engine, store, builder, credentials, folders.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::report::{Report, because};
use super::{clock, keys};
use crate::builder::load::{self, LoadedBuilder, LoadedNode};
use crate::builder::{DockerEnv, Status, resolve};
use crate::cli::Context;
use crate::cli::probe::BuildkitProbe;
use crate::docker::Engine;
use crate::docker::direct_may_enter;
use crate::plugin::alias::{Alias, Status as AliasStatus};

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Looks at everything that has nothing to do with a registry.
pub(super) async fn look(docker_env: &Arc<DockerEnv>, ctx: &Context, report: &mut Report) {
    let engine = engine(docker_env, report).await;
    if let Some(engine) = &engine {
        about_engine(engine, report).await;
    }
    alias(ctx, report);
    store(docker_env, report);
    builder(docker_env, ctx, report).await;
    direct(engine.as_ref(), ctx, report);
    credentials(docker_env, ctx, report);
    keys::look(&ctx.env, report);
    spool(ctx, report);
}

async fn engine(docker_env: &DockerEnv, report: &mut Report) -> Option<Engine> {
    let name = docker_env.contexts().current_name().to_owned();
    let engine = match docker_env.engine(&name).await {
        Ok(engine) => engine,
        Err(error) => {
            let advice = error.hints().join("; ");
            report.no("engine", because(&error), advice);
            return None;
        }
    };
    let host = engine.endpoint().host.clone();
    match engine.api().version().await {
        Ok(found) => {
            let version = found.version;
            let version = version.unwrap_or_else(|| "of an unknown version".to_owned());
            report.yes("engine", format!("Docker {version} at {host}"));
            Some(engine)
        }
        Err(error) => {
            let advice = "docker version shows whether the engine answers; docker context use chooses another one";
            report.no("engine", because(&error), advice);
            None
        }
    }
}

/// What an engine that answers tells of itself.
async fn about_engine(engine: &Engine, report: &mut Report) {
    let asked = SystemTime::now();
    let info = match engine.api().info().await {
        Ok(info) => info,
        Err(error) => return report.untried("containerd image store", because(&error)),
    };
    let theirs = info.system_time.as_deref();
    let theirs = theirs.and_then(|time| time.parse::<Timestamp>().ok());
    let lead = theirs.and_then(|theirs| {
        let ours = Timestamp::try_from(asked).ok()?;
        Some(theirs.as_second() - ours.as_second())
    });
    clock::compare("clock of the engine", lead, report);
    let mut words = info.driver_status.iter().flatten().flatten();
    if words.any(|word| word.starts_with("io.containerd.snapshotter.")) {
        report.yes("containerd image store", "images are loaded as they are");
    } else {
        report.no(
            "containerd image store",
            "the engine has its own store",
            "without it --load takes one platform and no attestations; the engine's setting features.containerd-snapshotter turns it on",
        );
    }
}

fn alias(ctx: &Context, report: &mut Report) {
    let status = ctx.docker_quietly().and_then(|docker| {
        let dir = std::path::absolute(&docker.config_dir)?;
        let file = std::path::absolute(&docker.config.path)?;
        Ok(Alias::new(&dir, &file).status()?)
    });
    match status {
        Ok(AliasStatus::On(path)) => {
            report.yes("alias", format!("docker buildx is {}", path.display()));
        }
        Ok(AliasStatus::Off) => report.no(
            "alias",
            "docker buildx is buildx",
            "docker cachex alias on lets docker buildx, docker build and compose reach cachex",
        ),
        Ok(AliasStatus::Broken) => {
            report.no("alias", "its link is broken", "docker cachex alias on");
        }
        Ok(AliasStatus::Behind(path)) => report.no(
            "alias",
            format!("{} comes before it", path.display()),
            "docker cachex alias on",
        ),
        Err(error) => report.no(
            "alias",
            error.message(),
            "mend docker's configuration file by hand; it is not changed as long as it is like that",
        ),
    }
}

fn store(docker_env: &DockerEnv, report: &mut Report) {
    let store = docker_env.store();
    let dir = store.dir().display();
    let count = match store.list() {
        Ok(groups) => groups.len(),
        Err(error) => {
            let advice =
                "mend or remove the file that is named, or let BUILDX_CONFIG name another folder";
            return report.missing("builder store", because(&error), advice);
        }
    };
    // The folder comes with the first builder.
    let existing = store.dir().ancestors().find(|dir| dir.is_dir());
    let writable = existing.map(tempfile::tempfile_in);
    match writable {
        Some(Ok(_)) => report.yes("builder store", format!("{dir}, {count} builders")),
        Some(Err(error)) => report.no(
            "builder store",
            format!("{dir} cannot be written: {error}"),
            "BUILDX_CONFIG names another folder",
        ),
        None => report.no(
            "builder store",
            format!("{dir} is not there"),
            "BUILDX_CONFIG names another folder",
        ),
    }
}

async fn builder(docker_env: &Arc<DockerEnv>, ctx: &Context, report: &mut Report) {
    let found = match resolve::find(docker_env, ctx.builder_name(None)) {
        Ok(found) => found,
        Err(error) => {
            return report.missing("builder", because(&error), error.hints().join("; "));
        }
    };
    let loaded = load::load(docker_env, found, Some(&BuildkitProbe), TIMEOUT).await;
    let name = format!("{} ({})", loaded.name, loaded.driver);
    if let Some(error) = &loaded.error {
        return report.missing(
            "builder",
            format!("{name}: {error}"),
            format!(
                "docker cachex rm {0} removes it, and docker cachex create --use makes another one",
                loaded.name
            ),
        );
    }
    match loaded.driver.as_str() {
        "docker-container" | "remote" => {}
        "docker" => {
            return report.missing(
                "builder",
                format!("{name} is the engine's own, which cachex does not build with"),
                "docker cachex create --use",
            );
        }
        _ => {
            return report.missing(
                "builder",
                format!("{name} is of a driver that is not supported"),
                "docker cachex create --use",
            );
        }
    }
    report.yes("builder", name);
    nodes(&loaded, report);
}

fn nodes(loaded: &LoadedBuilder, report: &mut Report) {
    for node in &loaded.nodes {
        let name = &node.stored.name;
        match (&node.error, node.status) {
            (Some(error), _) => report.missing(
                "BuildKit",
                format!("{name}: {error}"),
                "docker cachex inspect --bootstrap",
            ),
            (None, Some(Status::Running)) => report.yes("BuildKit", running(node)),
            (None, _) if loaded.driver == "remote" => report.missing(
                "BuildKit",
                format!("{name} does not answer at {}", node.stored.endpoint),
                "is buildkitd running, and does it listen there?",
            ),
            (None, _) => {
                report.yes("BuildKit", format!("{name} is started by the first build"));
            }
        }
    }
}

fn running(node: &LoadedNode) -> String {
    let platforms: Vec<_> = node.platforms.iter().map(ToString::to_string).collect();
    format!(
        "{}: {} for {}",
        node.stored.name,
        node.version,
        platforms.join(", ")
    )
}

fn direct(engine: Option<&Engine>, ctx: &Context, report: &mut Report) {
    let is_on = ctx.env.get(crate::env::CACHEX_DIRECT);
    let is_on = is_on.and_then(crate::options::boolean::parse_bool) != Some(false);
    let socket = engine.and_then(|engine| engine.endpoint().host.strip_prefix("unix://"));
    match socket {
        Some(socket) if is_on && direct_may_enter(socket.as_ref()) => {
            report.yes(
                "direct path",
                "containers of builders are reached past the engine",
            );
        }
        Some(_) if !is_on => report.no(
            "direct path",
            "CACHEX_DIRECT=0",
            "unset CACHEX_DIRECT, unless it was set for a reason",
        ),
        Some(_) => report.no(
            "direct path",
            "this user may not enter containers",
            "nothing has to be done: builds go through the engine, a little slower; root and the user of a rootless engine have it",
        ),
        None => report.no(
            "direct path",
            "the engine is not on this machine",
            "nothing has to be done: builds go through the engine, a little slower",
        ),
    }
}

fn credentials(docker_env: &DockerEnv, ctx: &Context, report: &mut Report) {
    let config = docker_env.config();
    let helpers = config.cred_helpers.values().chain([&config.creds_store]);
    let search = ctx.env.path("PATH").map(|path| path.as_os_str().to_owned());
    let is_there = |helper: &&String| {
        let file = format!("docker-credential-{helper}{}", std::env::consts::EXE_SUFFIX);
        let mut dirs = search.iter().flat_map(std::env::split_paths);
        dirs.any(|dir| dir.join(&file).is_file())
    };
    let mut used: Vec<&String> = helpers.filter(|helper| !helper.is_empty()).collect();
    used.sort();
    used.dedup();
    let absent = used.iter().find(|helper| !is_there(helper));
    match absent {
        Some(helper) => report.no(
            "credentials",
            format!("docker-credential-{helper} is not in PATH"),
            format!("install it, or take it out of {}", config.path.display()),
        ),
        None if !used.is_empty() => {
            let used: Vec<&str> = used.into_iter().map(String::as_str).collect();
            report.yes("credentials", format!("helpers: {}", used.join(", ")));
        }
        None => report.yes(
            "credentials",
            format!("{} in {}", config.auths.len(), config.path.display()),
        ),
    }
}

/// The folder for uploads that must be sent again.
fn spool(ctx: &Context, report: &mut Report) {
    let dirs = ctx.env.spool_dirs();
    let writable = dirs.iter().find(|dir| tempfile::tempfile_in(dir).is_ok());
    match writable {
        Some(dir) => report.yes("spool folder", dir.display().to_string()),
        None => report.no(
            "spool folder",
            "none can be written",
            "TMPDIR names another folder; without one a broken upload cannot start again",
        ),
    }
}
