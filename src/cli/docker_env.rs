//! Puts together what builders depend on, from flags and environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::builder::DockerEnv;
use crate::builder::store::Store;
use crate::docker::credentials::CredentialStore;
use crate::env::{BUILDX_CONFIG, Env};
use crate::error::CommandError;
use crate::platform::files::{self, Owner};

use super::{Context, DockerSettings};

/// Reads docker's configuration and contexts, and finds the store of builders.
///
/// # Errors
///
/// Fails for a broken configuration file or an address that is wrong.
pub fn docker_env(context: &Context) -> Result<Arc<DockerEnv>, CommandError> {
    made_of(context, context.docker()?)
}

/// Does the same without a word about a configuration file that cannot be read.
///
/// # Errors
///
/// Fails as [`docker_env`].
pub fn quiet_docker_env(context: &Context) -> Result<Arc<DockerEnv>, CommandError> {
    made_of(context, context.docker_quietly()?)
}

fn made_of(context: &Context, docker: DockerSettings) -> Result<Arc<DockerEnv>, CommandError> {
    let env = &context.env;
    let store_dir = env
        .path(BUILDX_CONFIG)
        .map_or_else(|| docker.config_dir.join("buildx"), PathBuf::from);
    let credentials = CredentialStore::new(docker.config.clone(), env).with_scoped(&store_dir)?;
    let store = Store::new(&store_dir, sudoer(env, &store_dir));
    Ok(Arc::new(DockerEnv::new(
        store,
        docker.contexts,
        docker.config,
        credentials,
        env.clone(),
    )))
}

/// Returns the user who called sudo, if the store is in that user's home folder: files in it must
/// stay usable without sudo.
fn sudoer(env: &Env, store_dir: &Path) -> Option<Owner> {
    env.get("SUDO_COMMAND")?;
    let uid: u32 = env.non_empty("SUDO_UID")?.parse().ok()?;
    let gid: u32 = env.non_empty("SUDO_GID")?.parse().ok()?;
    let home = env.home()?;
    let inside = store_dir.starts_with(home) && store_dir != home;
    (inside && is_home_of(home, uid)).then_some(Owner { uid, gid })
}

/// Returns whether the folder is the user's home. The users of macOS are in no file, and there the owner tells.
fn is_home_of(home: &Path, uid: u32) -> bool {
    if cfg!(target_vendor = "apple") {
        return fs_err::metadata(home).is_ok_and(|found| files::owner(&found).uid == uid);
    }
    let passwd = fs_err::read_to_string("/etc/passwd").unwrap_or_default();
    home_of(&passwd, uid) == Some(home)
}

/// Returns the home folder of a user from the text of `/etc/passwd`.
fn home_of(passwd: &str, uid: u32) -> Option<&Path> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [_, _, id, _, _, home, ..] if id.parse() == Ok(uid) => Some(Path::new(*home)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_folders_are_found_by_user_id() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nu:x:1000:1000::/home/u:/bin/sh\n";
        assert_eq!(home_of(passwd, 1000), Some(Path::new("/home/u")));
        assert_eq!(home_of(passwd, 1), None);
    }

    #[test]
    fn without_sudo_there_is_no_owner() {
        let env = Env::from_pairs([("SUDO_UID", "0"), ("SUDO_GID", "0")], "/root");
        assert_eq!(sudoer(&env, Path::new("/root/.docker/buildx")), None);
        let root = Env::from_pairs(
            [("SUDO_COMMAND", "x"), ("SUDO_UID", "0"), ("SUDO_GID", "0")],
            "/root",
        );
        assert_eq!(
            sudoer(&root, Path::new("/root/.docker/buildx")),
            Some(Owner { uid: 0, gid: 0 })
        );
        assert_eq!(sudoer(&root, Path::new("/elsewhere")), None);
    }
}
