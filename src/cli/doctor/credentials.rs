//! Where logins come from: docker's configuration file and its helpers.

use std::path::Path;

use super::report::{Report, because};
use crate::builder::DockerEnv;
use crate::cli::Context;
use crate::docker::ConfigFile;
use crate::env::DOCKER_AUTH_CONFIG;

const CHECK: &str = "credentials";

/// Looks at the file and at the helpers that it names; no helper is run.
pub(super) fn look(docker_env: &DockerEnv, ctx: &Context, report: &mut Report) {
    let config = docker_env.config();
    // The environment has an empty configuration where the file cannot be read.
    let dir = config.path.parent();
    let read = dir.map_or_else(|| Ok(config.clone()), ConfigFile::load);
    let wrong = match &read {
        Ok(config) => config.mismatch.as_deref(),
        Err(error) => Some(error),
    };
    if let Some(error) = wrong {
        return report.missing(CHECK, because(error), error.hint());
    }
    if let [first, ..] = docker_env.credentials().warnings() {
        let advice = format!("mend {DOCKER_AUTH_CONFIG}, or unset it");
        return report.missing(CHECK, first.as_str(), advice);
    }
    let Some(helper) = absent(config, ctx) else {
        return report.yes(CHECK, found(config));
    };
    let reason = format!("docker-credential-{helper} is not in PATH");
    let file = config.path.display();
    if *helper == config.creds_store {
        let advice = format!(
            "install it, or take credsStore out of {file}; no registry can be logged in to without it"
        );
        return report.missing(CHECK, reason, advice);
    }
    let hosts = config
        .cred_helpers
        .iter()
        .filter(|(_, used)| *used == helper);
    let hosts: Vec<&str> = hosts.map(|(host, _)| host.as_str()).collect();
    let advice = format!(
        "install it, or take {} out of credHelpers in {file}",
        hosts.join(" and ")
    );
    report.no(CHECK, reason, advice);
}

fn used(config: &ConfigFile) -> Vec<&String> {
    let helpers = config.cred_helpers.values();
    // That of all registries counts most.
    let all = std::iter::once(&config.creds_store).chain(helpers);
    let mut used: Vec<&String> = all.filter(|helper| !helper.is_empty()).collect();
    let mut seen = std::collections::HashSet::new();
    used.retain(|helper| seen.insert(helper.as_str()));
    used
}

/// Returns the first helper that is not installed.
fn absent<'a>(config: &'a ConfigFile, ctx: &Context) -> Option<&'a String> {
    let search = ctx.env.path("PATH").map(Path::as_os_str);
    let is_there = |helper: &str| {
        let file = format!("docker-credential-{helper}{}", std::env::consts::EXE_SUFFIX);
        let mut dirs = search.into_iter().flat_map(std::env::split_paths);
        dirs.any(|dir| dir.join(&file).is_file())
    };
    used(config).into_iter().find(|helper| !is_there(helper))
}

fn found(config: &ConfigFile) -> String {
    let used: Vec<&str> = used(config).into_iter().map(String::as_str).collect();
    if used.is_empty() {
        format!("{} in {}", config.auths.len(), config.path.display())
    } else {
        format!("helpers: {}", used.join(", "))
    }
}
