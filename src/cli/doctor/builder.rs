//! The store of builders, and the builder that a build would take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::report::{Report, because, way_out};
use crate::builder::load::{self, LoadedBuilder, LoadedNode};
use crate::builder::{DockerEnv, Status, resolve};
use crate::cli::Context;
use crate::cli::probe::BuildkitProbe;
use crate::text::counted;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

const OTHER_FOLDER: &str = "let this user write there, or let BUILDX_CONFIG name another folder";

/// Looks at the store.
pub(super) fn store(docker_env: &DockerEnv, report: &mut Report) {
    let check = "builder store";
    let store = docker_env.store();
    let dir = store.dir().display();
    let count = match store.list() {
        Ok(groups) => groups.len(),
        Err(error) => {
            let advice =
                "mend or remove the file that is named, or let BUILDX_CONFIG name another folder";
            return report.missing(check, because(&error), advice);
        }
    };
    // The folder comes with the first builder.
    let is_there = |dir: &&Path| dir.symlink_metadata().is_ok();
    let existing = store.dir().ancestors().find(is_there);
    match existing.map(tempfile::tempfile_in) {
        Some(Ok(_)) => report.yes(check, format!("{dir}, {}", counted(count, "builder"))),
        Some(Err(error)) => report.no(
            check,
            format!("{dir} cannot be written: {error}"),
            OTHER_FOLDER,
        ),
        None => report.no(check, format!("{dir} is not there"), OTHER_FOLDER),
    }
}

/// Looks at the builder and its nodes.
pub(super) async fn look(docker_env: &Arc<DockerEnv>, ctx: &Context, report: &mut Report) {
    let check = "builder";
    let found = match resolve::find(docker_env, ctx.builder_name(None)) {
        Ok(found) => found,
        Err(error) => {
            let advice = way_out(
                &error.hints(),
                "mend what is named, or name another builder with --builder",
            );
            return report.missing(check, because(&error), advice);
        }
    };
    let loaded = load::load(docker_env, found, Some(&BuildkitProbe), TIMEOUT).await;
    let name = &loaded.name;
    if let Some(error) = &loaded.error {
        // Of the engine's own builder the engine tells; of one in the store what is noted of it cannot be read.
        let (reason, otherwise) = if loaded.is_context {
            let reason =
                format!("{name} is the engine's own, and the engine cannot be asked: {error}");
            (
                reason,
                "make the engine answer, then docker cachex create --use".to_owned(),
            )
        } else {
            let otherwise =
                "mend or remove the file that is named, or name another builder with --builder";
            (format!("{name}: {error}"), otherwise.to_owned())
        };
        return report.missing(check, reason, way_out(&loaded.hints, &otherwise));
    }
    let driver = &loaded.driver;
    match driver.as_str() {
        "docker-container" | "remote" => {
            report.yes(check, format!("{name} ({driver})"));
            nodes(&loaded, report);
        }
        "docker" => report.missing(
            check,
            format!("{name} ({driver}) is the engine's own, which cachex does not build with"),
            "docker cachex create --use makes one that it does; docker cachex ls shows what is there",
        ),
        _ => report.missing(
            check,
            format!("{name} ({driver}) is of a driver that only docker buildx builds with"),
            "docker cachex create --use makes one for cachex; docker cachex ls shows what is there",
        ),
    }
}

fn nodes(loaded: &LoadedBuilder, report: &mut Report) {
    let check = "BuildKit";
    for node in &loaded.nodes {
        let name = &node.stored.name;
        let hints = &node.hints;
        if let Some(error) = &node.error {
            let otherwise = format!(
                "docker cachex inspect --bootstrap {0} starts it; where that fails, docker cachex rm {0} and create another one",
                loaded.name
            );
            report.missing(
                check,
                format!("{name}: {error}"),
                way_out(hints, &otherwise),
            );
        } else if node.status == Some(Status::Running) {
            report.yes(check, running(node));
        } else if loaded.driver == "remote" {
            let silence = node.silence.as_deref().unwrap_or("it does not say why");
            let endpoint = &node.stored.endpoint;
            let reason = format!("{name} does not answer at {endpoint}: {silence}");
            let otherwise = "is buildkitd running, and does it listen there?";
            report.missing(check, reason, way_out(hints, otherwise));
        } else {
            report.yes(check, format!("{name} is started by the first build"));
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
