//! The machine: engine, alias, folders.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use super::report::{Report, because, way_out};
use super::{builder, clock, credentials, keys};
use crate::builder::DockerEnv;
use crate::cli::Context;
use crate::docker::Engine;
use crate::docker::direct_may_enter;
use crate::error::CommandError;
use crate::plugin::alias::{Alias, Status as AliasStatus};

/// What to do about an engine of which nothing better is known.
const NO_ENGINE: &str =
    "docker version shows whether the engine answers; docker context use chooses another one";

/// Looks at everything that has nothing to do with a registry.
pub(super) async fn look(docker_env: &Arc<DockerEnv>, ctx: &Context, report: &mut Report) {
    let engine = engine(docker_env, report).await;
    match &engine {
        Some(engine) => about_engine(engine, report).await,
        None => {
            for check in ["clock of the engine", "containerd image store"] {
                report.untried(check, "no engine answers");
            }
        }
    }
    alias(ctx, report);
    builder::store(docker_env, report);
    builder::look(docker_env, ctx, report).await;
    direct(engine.as_ref(), ctx, report);
    credentials::look(docker_env, ctx, report);
    keys::look(&ctx.env, report);
    spool(ctx, report);
}

async fn engine(docker_env: &DockerEnv, report: &mut Report) -> Option<Engine> {
    let name = docker_env.contexts().current_name().to_owned();
    let engine = match docker_env.engine(&name).await {
        Ok(engine) => engine,
        Err(error) => {
            report.no(
                "engine",
                because(&error),
                way_out(&error.hints(), NO_ENGINE),
            );
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
            let error = engine.error("ask the engine for its version", error);
            let hints: Vec<String> = error.hint().into_iter().map(str::to_owned).collect();
            report.no("engine", because(&error), way_out(&hints, NO_ENGINE));
            None
        }
    }
}

/// What an engine that answers tells of itself.
async fn about_engine(engine: &Engine, report: &mut Report) {
    let asked = SystemTime::now();
    let info = match engine.api().info().await {
        Ok(info) => info,
        Err(error) => {
            let reason = because(&engine.error("ask the engine about itself", error));
            for check in ["clock of the engine", "containerd image store"] {
                report.untried(check, reason.as_str());
            }
            return;
        }
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
        Ok::<_, CommandError>(Alias::new(&dir, &file).status()?)
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
        Err(error) => {
            let reason = error.message();
            let advice = way_out(&error.hints, "let this user read what is named");
            report.no("alias", reason, advice);
        }
    }
}

fn direct(engine: Option<&Engine>, ctx: &Context, report: &mut Report) {
    let check = "direct path";
    let is_on = ctx.env.get(crate::env::CACHEX_DIRECT);
    let is_on = is_on.and_then(crate::options::boolean::parse_bool) != Some(false);
    let Some(engine) = engine else {
        return report.untried(check, "no engine answers");
    };
    match engine.endpoint().host.strip_prefix("unix://") {
        Some(socket) if is_on && direct_may_enter(socket.as_ref()) => {
            report.yes(check, "containers of builders are reached past the engine");
        }
        Some(_) if !is_on => report.no(
            check,
            "CACHEX_DIRECT=0",
            "unset CACHEX_DIRECT, unless it was set for a reason",
        ),
        Some(_) => report.no(
            check,
            "this user may not enter containers",
            "nothing has to be done: builds go through the engine, a little slower; root and the user of a rootless engine have it",
        ),
        None => report.no(
            check,
            "the engine is not on this machine",
            "nothing has to be done: builds go through the engine, a little slower",
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
