//! Keys of commands (BuildKit `solver/llbsolver/ops/exec.go`).

use bollard_buildkit_proto::pb::{
    CacheOpt, ExecOp, Meta, Mount, MountContentCache, MountType, Platform, SecretOpt, SshOpt,
};

use super::content::{self, Selector};
use super::go_json::Object;
use super::{InputRule, StepKey, Unknown};
use crate::digest::Digest;
use crate::fsutil::join_paths;

/// Stands for no input, and for no output.
const NONE: i64 = -1;

/// Returns the key of a command on a platform.
pub(super) fn key(exec: &ExecOp, platform: &Platform, inputs: usize) -> Result<StepKey, Unknown> {
    let meta = exec.meta.as_ref().ok_or(Unknown::Invalid("no command"))?;
    if meta.args.is_empty() {
        return Err(Unknown::Invalid("no command"));
    }
    if !exec.mounts.iter().any(|mount| mount.dest == "/") {
        return Err(Unknown::Invalid("no root file system"));
    }
    Ok(StepKey {
        digests: vec![Digest::of(json(exec, meta, platform).as_bytes())],
        inputs: rules(exec, inputs)?,
    })
}

/// Returns the text that the key is the digest of.
fn json(exec: &ExecOp, meta: &Meta, platform: &Platform) -> String {
    // Versions that left out all mounts have written caches: those of a plain command still are.
    let mounts: Vec<String> = match exec.mounts.as_slice() {
        [root] if is_plain_root(root) => Vec::new(),
        mounts => mounts.iter().map(mount).collect(),
    };
    let secrets = exec.secretenv.iter().map(|secret| {
        Object::new()
            .text("ID", &secret.id)
            .text("name", &secret.name)
            .flag("optional", secret.optional)
            .end()
    });
    let devices = exec.cdi_devices.iter().map(|device| {
        Object::new()
            .text("name", &device.name)
            .flag("optional", device.optional)
            .end()
    });
    let op = Object::new()
        .raw("meta", &meta_json(meta))
        .list("mounts", &mounts)
        .number("network", exec.network)
        .number("security", exec.security)
        .list("secretenv", &secrets.collect::<Vec<_>>())
        .list("cdiDevices", &devices.collect::<Vec<_>>());
    Object::new()
        .raw("Type", "\"buildkit.exec.v0\"")
        .raw("Exec", &op.end())
        .raw("OS", &super::go_json::quote(&platform.os))
        .raw("Arch", &super::go_json::quote(&platform.architecture))
        .text("Variant", &platform.variant)
        .text("OSVersion", &platform.os_version)
        .texts("OSFeatures", &platform.os_features)
        .end()
}

/// Writes all but the proxies and the addresses of hosts, which are not part of the key.
fn meta_json(meta: &Meta) -> String {
    let hosts = meta.extra_hosts.iter();
    let hosts = hosts.map(|host| Object::new().text("Host", &host.host).end());
    let limits = meta.ulimit.iter().map(|limit| {
        Object::new()
            .text("Name", &limit.name)
            .number("Soft", limit.soft)
            .number("Hard", limit.hard)
            .end()
    });
    let codes = meta.valid_exit_codes.iter().map(ToString::to_string);
    Object::new()
        .texts("args", &meta.args)
        .texts("env", &meta.env)
        .text("cwd", &meta.cwd)
        .text("user", &meta.user)
        .list("extraHosts", &hosts.collect::<Vec<_>>())
        .text("hostname", &meta.hostname)
        .list("ulimit", &limits.collect::<Vec<_>>())
        .text("cgroupParent", &meta.cgroup_parent)
        .flag(
            "removeMountStubsRecursive",
            meta.remove_mount_stubs_recursive,
        )
        .list("validExitCodes", &codes.collect::<Vec<_>>())
        .end()
}

/// Writes all but the selector, which is part of the link to the input.
fn mount(mount: &Mount) -> String {
    let tmpfs = mount.tmpfs_opt.as_ref();
    let cache = mount.cache_opt.as_ref();
    Object::new()
        .number("input", mount.input)
        .text("dest", &mount.dest)
        .number("output", mount.output)
        .flag("readonly", mount.readonly)
        .number("mountType", mount.mount_type)
        .maybe(
            "TmpfsOpt",
            tmpfs.map(|tmpfs| Object::new().number("size", tmpfs.size).end()),
        )
        .maybe("cacheOpt", cache.map(|cache| cache_opt(cache, &mount.dest)))
        .maybe("secretOpt", mount.secret_opt.as_ref().map(secret))
        .maybe("SSHOpt", mount.ssh_opt.as_ref().map(ssh))
        .text("resultID", &mount.result_id)
        .number("contentCache", mount.content_cache)
        .end()
}

/// Writes a cache mount. Which cache it is only counts where it is the default one.
fn cache_opt(cache: &CacheOpt, dest: &str) -> String {
    let name = cache.id.split_once('/').map(|(_, name)| name);
    if cache.sharing != 0 || (cache.id != dest && name != Some(dest)) {
        return Object::new().end();
    }
    Object::new().text("ID", &cache.id).end()
}

fn secret(secret: &SecretOpt) -> String {
    let rights = [secret.uid, secret.gid, secret.mode];
    of_session(&secret.id, rights, secret.optional)
}

fn ssh(ssh: &SshOpt) -> String {
    of_session(&ssh.id, [ssh.uid, ssh.gid, ssh.mode], ssh.optional)
}

/// Writes a mount that the session serves, with its owner, group and mode.
fn of_session(id: &str, [uid, gid, mode]: [u32; 3], optional: bool) -> String {
    Object::new()
        .text("ID", id)
        .number("uid", uid)
        .number("gid", gid)
        .number("mode", mode)
        .flag("optional", optional)
        .end()
}

fn is_plain_root(mount: &Mount) -> bool {
    mount.dest == "/"
        && !mount.readonly
        && mount.mount_type == i32::from(MountType::Bind)
        && mount.cache_opt.is_none()
        && mount.ssh_opt.is_none()
        && mount.secret_opt.is_none()
        && mount.result_id.is_empty()
}

/// Returns how the command is linked to its inputs.
fn rules(exec: &ExecOp, inputs: usize) -> Result<Vec<InputRule>, Unknown> {
    let mut read: Vec<(Vec<String>, bool)> = vec![(Vec::new(), false); inputs];
    for mount in &exec.mounts {
        let kind = mount.mount_type();
        if matches!(kind, MountType::Secret | MountType::Ssh | MountType::Tmpfs)
            || mount.input == NONE
        {
            continue;
        }
        let input = usize::try_from(mount.input).ok();
        let input = input.and_then(|input| read.get_mut(input));
        let (paths, by_content) = input.ok_or(Unknown::MissingInput)?;
        let path = join_paths("/", &mount.selector);
        *by_content = match mount.content_cache() {
            MountContentCache::Off => false,
            MountContentCache::On => true,
            MountContentCache::Default => {
                mount.dest != "/" && (mount.output == NONE || mount.readonly || path == "/")
            }
        };
        paths.push(path);
    }
    Ok(read
        .into_iter()
        .map(|(paths, by_content)| InputRule {
            selector: (!paths.is_empty()).then(|| content::joined(&paths)),
            content: by_content.then(|| selectors(&paths)),
        })
        .collect())
}

/// Returns what is read of an input: all of it, or some paths.
fn selectors(paths: &[String]) -> Vec<Selector> {
    let paths = content::outermost(paths);
    if paths.iter().any(|path| path == "/") {
        return Vec::new();
    }
    let selector = |path| Selector {
        path,
        follow_links: true,
        ..Selector::default()
    };
    paths.into_iter().map(selector).collect()
}
