//! The machine: engine, store, builder, credentials, folders.

use std::sync::Arc;
use std::time::Duration;

use super::report::{Report, because};
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
    alias(ctx, report);
    store(docker_env, report);
    builder(docker_env, ctx, report).await;
    direct(engine.as_ref(), ctx, report);
    credentials(docker_env, ctx, report);
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
    let version = engine.api().version().await;
    let version = version.ok().and_then(|found| found.version);
    let version = version.unwrap_or_else(|| "of an unknown version".to_owned());
    report.yes("engine", format!("Docker {version} at {host}"));
    let info = engine.api().info().await;
    let status = info.ok().and_then(|info| info.driver_status);
    let is_containerd = status.is_some_and(|pairs| {
        let mut words = pairs.iter().flatten();
        words.any(|word| word.starts_with("io.containerd.snapshotter."))
    });
    if is_containerd {
        report.yes("containerd image store", "images are loaded as they are");
    } else {
        report.no(
            "containerd image store",
            "the engine has its own store",
            "without it --load takes one platform and no attestations",
        );
    }
    Some(engine)
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
        Err(error) => report.no("alias", error.message(), ""),
    }
}

fn store(docker_env: &DockerEnv, report: &mut Report) {
    let store = docker_env.store();
    let dir = store.dir().display();
    let count = match store.list() {
        Ok(groups) => groups.len(),
        Err(error) => return report.missing("builder store", because(&error), ""),
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
        None => report.no("builder store", format!("{dir} is not there"), ""),
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
        return report.missing("builder", format!("{name}: {error}"), "");
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
        Some(_) if !is_on => report.no("direct path", "CACHEX_DIRECT=0", ""),
        Some(_) => report.no("direct path", "this user may not enter containers", ""),
        None => report.no("direct path", "the engine is not on this machine", ""),
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
