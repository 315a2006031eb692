//! The driver options of a docker-container node, and the container that they describe.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum, SystemInfo, SystemInfoCgroupDriverEnum,
};

use crate::builder::buildkitd::{CONFIG_DIR, CONFIG_FILE};
use crate::builder::text::{self, TextError};

use super::cores::cores;

/// Image of a builder whose options name none.
pub const DEFAULT_IMAGE: &str = "moby/buildkit:buildx-stable-1";
/// Folder of buildkitd's state in the container, on a volume.
pub const STATE_DIR: &str = "/var/lib/buildkit";
const DEFAULT_CGROUP: &str = "/docker/buildx";

/// A driver option that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// There is no such option.
    #[error(
        "invalid driver option {key} for {driver} driver{}",
        did_you_mean(key, driver)
    )]
    Unknown {
        /// The option.
        key: String,
        /// The driver.
        driver: &'static str,
    },
    /// The option has a bad value.
    #[error("driver option {key}: {value:?} is not {expected}")]
    Value {
        /// The option.
        key: String,
        /// The value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// `env.` without a name.
    #[error("invalid env option {key:?}, expecting env.FOO=bar")]
    NoEnvName {
        /// The option.
        key: String,
    },
    /// A value is not a size.
    #[error("driver option {key}")]
    Size {
        /// The option.
        key: String,
        /// The cause.
        #[source]
        source: TextError,
    },
    /// Some of the options for TLS were given, but not all that are needed.
    #[error("tls enabled, but missing keys {missing}")]
    MissingTls {
        /// Their names.
        missing: String,
    },
}

/// The driver options of docker-container nodes, `env.NAME` apart.
pub const KEYS: &[&str] = &[
    "network",
    "image",
    "memory",
    "memory-swap",
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "cgroup-parent",
    "restart-policy",
    "default-load",
    "provenance-add-gha",
    "allow-untrusted-image",
];

/// The driver options of remote nodes.
pub const REMOTE_KEYS: &[&str] = &["cacert", "cert", "key", "servername", "default-load"];

fn did_you_mean(key: &str, driver: &str) -> String {
    let flat = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
    let keys = if driver == "remote" {
        REMOTE_KEYS
    } else {
        KEYS
    };
    keys.iter()
        .find(|known| flat(known) == flat(key) || (key.len() > 3 && known.starts_with(key)))
        .map_or_else(String::new, |known| format!(", did you mean {known}?"))
}

/// The driver options of a docker-container node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerOptions {
    /// Image of the builder.
    pub image: String,
    /// Network mode; empty: the daemon's default.
    pub network: String,
    memory: Option<i64>,
    memory_swap: Option<i64>,
    cpu_period: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_shares: Option<i64>,
    cpuset_cpus: String,
    cpuset_mems: String,
    cgroup_parent: String,
    restart: (RestartPolicyNameEnum, i64),
    env: Vec<String>,
    /// The GitHub Actions context is written into the container for provenance.
    pub provenance_add_gha: bool,
    /// The image is run whoever signed it.
    pub allow_untrusted_image: bool,
}

impl ContainerOptions {
    /// Reads the options of a node.
    ///
    /// # Errors
    ///
    /// Fails for an unknown option or a bad value.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut parsed = Self {
            image: DEFAULT_IMAGE.to_owned(),
            network: String::new(),
            memory: None,
            memory_swap: None,
            cpu_period: None,
            cpu_quota: None,
            cpu_shares: None,
            cpuset_cpus: String::new(),
            cpuset_mems: String::new(),
            cgroup_parent: String::new(),
            restart: (RestartPolicyNameEnum::UNLESS_STOPPED, 0),
            env: Vec::new(),
            provenance_add_gha: true,
            allow_untrusted_image: false,
        };
        for (key, value) in options {
            parsed.set(key, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), OptionError> {
        match key {
            "network" => value.clone_into(&mut self.network),
            "image" if value.is_empty() => {}
            "image" => value.clone_into(&mut self.image),
            "memory" => self.memory = size(key, value)?,
            "memory-swap" if value == "-1" => self.memory_swap = Some(-1),
            "memory-swap" => self.memory_swap = size(key, value)?,
            "cpu-period" => self.cpu_period = integer(key, value)?,
            "cpu-quota" => self.cpu_quota = integer(key, value)?,
            "cpu-shares" => self.cpu_shares = integer(key, value)?,
            "cpuset-cpus" => value.clone_into(&mut self.cpuset_cpus),
            "cpuset-mems" => value.clone_into(&mut self.cpuset_mems),
            "cgroup-parent" => value.clone_into(&mut self.cgroup_parent),
            "restart-policy" => self.restart = restart_policy(key, value)?,
            // The build reads it; here it is only checked.
            "default-load" => drop(boolean(key, value)?),
            "provenance-add-gha" => self.provenance_add_gha = boolean(key, value)?,
            "allow-untrusted-image" => self.allow_untrusted_image = boolean(key, value)?,
            _ => self.set_env(key, value)?,
        }
        Ok(())
    }

    /// Returns how many cores the container is limited to.
    pub(super) fn cores(&self) -> Option<f64> {
        cores(self.cpu_quota, self.cpu_period, &self.cpuset_cpus)
    }

    fn set_env(&mut self, key: &str, value: &str) -> Result<(), OptionError> {
        let name = key
            .strip_prefix("env.")
            .ok_or_else(|| OptionError::Unknown {
                key: key.to_owned(),
                driver: "docker-container",
            })?;
        if name.is_empty() {
            return Err(OptionError::NoEnvName {
                key: key.to_owned(),
            });
        }
        self.env.push(format!("{name}={value}"));
        Ok(())
    }

    /// Returns the container for a node, as buildx makes it.
    pub fn container(
        &self,
        node: &ContainerNode<'_>,
        daemon: Option<&SystemInfo>,
    ) -> ContainerCreateBody {
        let mut host = HostConfig {
            privileged: Some(true),
            init: Some(true),
            restart_policy: Some(RestartPolicy {
                name: Some(self.restart.0),
                maximum_retry_count: Some(self.restart.1),
            }),
            mounts: Some(mounts(node)),
            network_mode: non_empty(&self.network),
            memory: self.memory,
            memory_swap: self.memory_swap,
            cpu_quota: self.cpu_quota,
            cpu_period: self.cpu_period,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: non_empty(&self.cpuset_cpus),
            cpuset_mems: non_empty(&self.cpuset_mems),
            device_requests: node.gpus.then(|| vec![all_gpus()]),
            ..HostConfig::default()
        };
        if let Some(info) = daemon {
            if info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::CGROUPFS) {
                // One group for all builders, so that limits can be set for all builds of the host.
                host.cgroup_parent =
                    non_empty(&self.cgroup_parent).or_else(|| Some(DEFAULT_CGROUP.to_owned()));
            }
            if has_user_namespaces(info) {
                host.userns_mode = Some("host".to_owned());
            }
        }
        ContainerCreateBody {
            image: Some(self.image.clone()),
            env: (!self.env.is_empty()).then(|| self.env.clone()),
            cmd: command(node),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }
}

/// What the container of a node depends on besides its options.
#[derive(Debug, Clone, Copy)]
pub struct ContainerNode<'a> {
    /// Name of the container.
    pub container: &'a str,
    /// Arguments for buildkitd.
    pub flags: &'a [String],
    /// The node has a configuration file.
    pub has_config: bool,
    /// The daemon can give GPUs to containers.
    pub gpus: bool,
    /// Folder of the WSL libraries, to be mounted.
    pub wsl_libraries: Option<&'a str>,
}

fn mounts(node: &ContainerNode<'_>) -> Vec<Mount> {
    let mut mounts = vec![Mount {
        typ: Some(MountType::VOLUME),
        source: Some(format!("{}_state", node.container)),
        target: Some(STATE_DIR.to_owned()),
        ..Mount::default()
    }];
    mounts.extend(node.wsl_libraries.map(|path| Mount {
        typ: Some(MountType::BIND),
        source: Some(path.to_owned()),
        target: Some(path.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }));
    mounts
}

/// The configuration comes first, so that the user's own `--config` wins.
fn command(node: &ContainerNode<'_>) -> Option<Vec<String>> {
    let mut command = Vec::new();
    if node.has_config {
        command.extend(["--config".to_owned(), format!("{CONFIG_DIR}/{CONFIG_FILE}")]);
    }
    command.extend_from_slice(node.flags);
    (!command.is_empty()).then_some(command)
}

/// Returns the request for all GPUs of a host.
pub fn all_gpus() -> DeviceRequest {
    DeviceRequest {
        count: Some(-1),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        options: Some(HashMap::new()),
        ..DeviceRequest::default()
    }
}

fn has_user_namespaces(info: &SystemInfo) -> bool {
    info.security_options.iter().flatten().any(|option| {
        option
            .split(',')
            .any(|part| part == "name=userns" || part == "userns")
    })
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn size(key: &str, value: &str) -> Result<Option<i64>, OptionError> {
    match text::bytes(value) {
        Ok(0) => Ok(None),
        Ok(size) => Ok(Some(size)),
        Err(source) => Err(OptionError::Size {
            key: key.to_owned(),
            source,
        }),
    }
}

fn integer(key: &str, value: &str) -> Result<Option<i64>, OptionError> {
    match value.parse() {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(bad(key, value, "a whole number")),
    }
}

/// Reads a truth value as Go does: `1 t T TRUE true True` and their opposites.
pub(super) fn boolean(key: &str, value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(bad(key, value, "true or false")),
    }
}

fn restart_policy(key: &str, value: &str) -> Result<(RestartPolicyNameEnum, i64), OptionError> {
    let (name, count) = value.split_once(':').unwrap_or((value, ""));
    let name = match name {
        "" if value.is_empty() => RestartPolicyNameEnum::EMPTY,
        "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => {
            let expected = "no, always, unless-stopped or on-failure[:max-retries]";
            return Err(bad(key, value, expected));
        }
    };
    let count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| bad(key, value, "a restart policy with a whole retry count"))?,
    };
    Ok((name, count))
}

fn bad(key: &str, value: &str, expected: &'static str) -> OptionError {
    OptionError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::map;

    fn options(pairs: &[(&str, &str)]) -> Result<ContainerOptions, OptionError> {
        ContainerOptions::parse(&map(pairs))
    }

    fn body(pairs: &[(&str, &str)], daemon: Option<&SystemInfo>) -> serde_json::Value {
        let node = ContainerNode {
            container: "buildx_buildkit_foo0",
            flags: &["--debug".to_owned()],
            has_config: true,
            gpus: false,
            wsl_libraries: None,
        };
        let body = options(pairs).unwrap().container(&node, daemon);
        let mut json = serde_json::to_value(body).unwrap();
        strip_nulls(&mut json);
        json
    }

    fn strip_nulls(json: &mut serde_json::Value) {
        if let Some(map) = json.as_object_mut() {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
    }

    #[test]
    fn the_default_container_is_that_of_buildx() {
        let daemon = SystemInfo {
            cgroup_driver: Some(SystemInfoCgroupDriverEnum::CGROUPFS),
            security_options: Some(vec!["name=seccomp,profile=builtin".to_owned()]),
            ..SystemInfo::default()
        };
        let expected = serde_json::json!({
            "Image": "moby/buildkit:buildx-stable-1",
            "Cmd": ["--config", "/etc/buildkit/buildkitd.toml", "--debug"],
            "HostConfig": {
                "Privileged": true,
                "Init": true,
                "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
                "CgroupParent": "/docker/buildx",
                "Mounts": [{
                    "Type": "volume",
                    "Source": "buildx_buildkit_foo0_state",
                    "Target": "/var/lib/buildkit"
                }]
            }
        });
        assert_eq!(body(&[], Some(&daemon)), expected);
    }

    #[test]
    fn every_option_reaches_the_container() {
        let daemon = SystemInfo {
            cgroup_driver: Some(SystemInfoCgroupDriverEnum::CGROUPFS),
            security_options: Some(vec!["name=userns".to_owned()]),
            ..SystemInfo::default()
        };
        let json = body(
            &[
                ("network", "host"),
                ("image", "img:1"),
                ("memory", "1g"),
                ("memory-swap", "-1"),
                ("cpu-period", "100000"),
                ("cpu-quota", "50000"),
                ("cpu-shares", "512"),
                ("cpuset-cpus", "0-1"),
                ("cpuset-mems", "0"),
                ("cgroup-parent", "/mine"),
                ("restart-policy", "on-failure:3"),
                ("env.A", "b=c"),
                ("env.HTTP_PROXY", "http://p"),
                ("default-load", "true"),
                ("provenance-add-gha", "false"),
                ("allow-untrusted-image", "1"),
            ],
            Some(&daemon),
        );
        let host = &json["HostConfig"];
        assert_eq!(json["Image"], "img:1");
        assert_eq!(
            json["Env"],
            serde_json::json!(["A=b=c", "HTTP_PROXY=http://p"])
        );
        assert_eq!(host["NetworkMode"], "host");
        assert_eq!(host["Memory"], 1_073_741_824);
        assert_eq!(host["MemorySwap"], -1);
        assert_eq!(host["CpuPeriod"], 100_000);
        assert_eq!(host["CpuQuota"], 50_000);
        assert_eq!(host["CpuShares"], 512);
        assert_eq!(host["CpusetCpus"], "0-1");
        assert_eq!(host["CpusetMems"], "0");
        assert_eq!(host["CgroupParent"], "/mine");
        assert_eq!(host["UsernsMode"], "host");
        assert_eq!(
            host["RestartPolicy"],
            serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 3})
        );
    }

    #[test]
    fn cgroup_parent_is_for_cgroupfs_only() {
        let json = body(&[("cgroup-parent", "/mine")], Some(&SystemInfo::default()));
        assert!(json["HostConfig"].get("CgroupParent").is_none());
    }

    #[test]
    fn bad_options_are_refused() {
        for (key, value) in [
            ("foo", "bar"),
            ("memory", "lots"),
            ("memory-swap", "-2"),
            ("cpu-quota", "1.5"),
            ("restart-policy", "sometimes"),
            ("restart-policy", ":3"),
            ("restart-policy", "on-failure:x"),
            ("default-load", "yes"),
            ("env.", "x"),
        ] {
            assert!(options(&[(key, value)]).is_err(), "{key}={value}");
        }
        let error = options(&[("cpuquota", "1")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid driver option cpuquota for docker-container driver, did you mean cpu-quota?"
        );
    }
}
