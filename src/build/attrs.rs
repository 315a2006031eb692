//! The attributes of the Dockerfile frontend, named as in BuildKit's `frontend/dockerui`.
//!
//! They decide cache keys, so each is sent in buildx's own spelling.

use std::collections::BTreeMap;
use std::net::IpAddr;

use thiserror::Error;

use super::spec::{BuildSpec, Network, NoCache};
use crate::options::OptionError;
use crate::options::add_host;
use crate::options::boolean::parse_bool;
use crate::options::platform::Platform;
use crate::options::ulimit;

/// The entitlement that `--network=host` needs.
const NETWORK_HOST: &str = "network.host";

/// What the builder tells that attributes depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuilderFacts {
    /// The daemon makes attestations (BuildKit 0.11 and newer).
    pub attestations: bool,
    /// Address that `host-gateway` stands for.
    pub host_gateway: Option<IpAddr>,
}

/// Frontend and attributes of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// `dockerfile.v0`, or `gateway.v0` where the user names a frontend image.
    pub name: &'static str,
    /// The attributes, without those of the inputs.
    pub attrs: BTreeMap<String, String>,
    /// Entitlements for the solve.
    pub entitlements: Vec<String>,
}

/// Why a build cannot be put into attributes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AttrError {
    /// `--build-arg BUILDKIT_SYNTAX=` with nothing behind it.
    #[error(
        "empty BUILDKIT_SYNTAX build-arg is invalid, use --build-arg BUILDKIT_SYNTAX without '=' for optional behavior"
    )]
    EmptySyntax,
    /// The daemon is too old for what is asked.
    #[error("attestations are not supported by the current BuildKit daemon")]
    Attestations,
    /// `host-gateway` without an address.
    #[error(transparent)]
    AddHost(#[from] OptionError),
}

/// Makes the attributes.
///
/// # Errors
///
/// Fails where the builder cannot do what is asked.
pub fn frontend(spec: &BuildSpec, facts: BuilderFacts) -> Result<Frontend, AttrError> {
    let mut attrs = BTreeMap::new();
    let name = syntax(spec, &mut attrs)?;
    attestations(spec, facts, &mut attrs)?;
    for (key, value) in &spec.proxy_args {
        if !spec
            .build_args
            .keys()
            .any(|given| given.eq_ignore_ascii_case(key))
        {
            attrs.insert(format!("build-arg:{key}"), value.clone());
        }
    }
    for (key, value) in &spec.build_args {
        attrs.insert(format!("build-arg:{key}"), value.clone());
    }
    for (key, value) in &spec.labels {
        attrs.insert(format!("label:{key}"), value.clone());
    }
    result_attrs(spec, &mut attrs);
    step_attrs(spec, facts, &mut attrs)?;
    let mut entitlements = spec.allow.granted.clone();
    if spec.network == Network::Host && !entitlements.iter().any(|e| e == NETWORK_HOST) {
        entitlements.push(NETWORK_HOST.to_owned());
    }
    Ok(Frontend {
        name,
        attrs,
        entitlements,
    })
}

/// `BUILDKIT_SYNTAX` names a frontend image and its command line.
fn syntax(
    spec: &BuildSpec,
    attrs: &mut BTreeMap<String, String>,
) -> Result<&'static str, AttrError> {
    let Some(cmdline) = spec.build_args.get("BUILDKIT_SYNTAX") else {
        return Ok("dockerfile.v0");
    };
    let source = cmdline
        .split_whitespace()
        .next()
        .ok_or(AttrError::EmptySyntax)?;
    attrs.insert("source".into(), source.to_owned());
    attrs.insert("cmdline".into(), cmdline.clone());
    Ok("gateway.v0")
}

fn attestations(
    spec: &BuildSpec,
    facts: BuilderFacts,
    attrs: &mut BTreeMap<String, String>,
) -> Result<(), AttrError> {
    for (kind, params) in &spec.attests {
        let Some(params) = params else { continue };
        if !facts.attestations {
            return Err(AttrError::Attestations);
        }
        attrs.insert(format!("attest:{kind}"), params.clone());
    }
    let asked = spec.attests.contains_key("provenance");
    if !asked && spec.default_provenance && facts.attestations {
        attrs.insert(
            "attest:provenance".into(),
            "mode=min,inline-only=true".into(),
        );
    }
    Ok(())
}

/// Which result is built.
fn result_attrs(spec: &BuildSpec, attrs: &mut BTreeMap<String, String>) {
    if let Some(target) = spec.target.as_ref().filter(|t| !t.is_empty()) {
        attrs.insert("target".into(), target.clone());
    }
    if !spec.platforms.is_empty() {
        let list: Vec<String> = spec.platforms.iter().map(Platform::to_string).collect();
        attrs.insert("platform".into(), list.join(","));
    }
    let multi = spec
        .build_args
        .get("BUILDKIT_MULTI_PLATFORM")
        .map(String::as_str);
    if spec.multi_platform || multi.is_some_and(|v| parse_bool(v) == Some(true)) {
        attrs.insert("multi-platform".into(), "true".into());
    }
    if spec.pull {
        attrs.insert("image-resolve-mode".into(), "pull".into());
    }
    match &spec.no_cache {
        NoCache::Never => {}
        NoCache::Always => {
            attrs.insert("no-cache".into(), String::new());
        }
        NoCache::Stages(stages) => {
            attrs.insert("no-cache".into(), stages.join(","));
        }
    }
}

/// How RUN steps run.
fn step_attrs(
    spec: &BuildSpec,
    facts: BuilderFacts,
    attrs: &mut BTreeMap<String, String>,
) -> Result<(), AttrError> {
    match spec.network {
        Network::Default => {}
        Network::Host => {
            attrs.insert("force-network-mode".into(), "host".into());
        }
        Network::None => {
            attrs.insert("force-network-mode".into(), "none".into());
        }
    }
    if let Some(hosts) = add_host::attr(&spec.add_hosts, facts.host_gateway)? {
        attrs.insert("add-hosts".into(), hosts);
    }
    if spec.shm_size > 0 {
        attrs.insert("shm-size".into(), spec.shm_size.to_string());
    }
    if let Some(limits) = ulimit::attr(&spec.ulimits) {
        attrs.insert("ulimit".into(), limits);
    }
    attrs.extend(spec.resources.clone());
    if let Some(parent) = spec.cgroup_parent.as_ref().filter(|p| !p.is_empty()) {
        attrs.insert("cgroup-parent".into(), parent.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::add_host::AddHost;
    use crate::options::ulimit::Ulimit;
    use crate::testing::map;

    const NEW: BuilderFacts = BuilderFacts {
        attestations: true,
        host_gateway: None,
    };

    fn attrs(spec: &BuildSpec) -> BTreeMap<String, String> {
        frontend(spec, NEW).unwrap().attrs
    }

    #[test]
    fn nothing_asked_is_nothing_sent() {
        let plain = frontend(&BuildSpec::default(), NEW).unwrap();
        assert_eq!(plain.name, "dockerfile.v0");
        assert!(plain.attrs.is_empty() && plain.entitlements.is_empty());
    }

    #[test]
    fn every_flag_has_its_attribute() {
        let spec = BuildSpec {
            build_args: map(&[("A", "1")]),
            labels: map(&[("l", "2")]),
            target: Some("prod".into()),
            platforms: Platform::parse_list(&["linux/amd64,linux/arm64"]).unwrap(),
            network: Network::None,
            add_hosts: AddHost::parse_list(&["a:1.2.3.4"]).unwrap(),
            shm_size: 64,
            ulimits: vec![Ulimit::parse("nofile=1:2").unwrap()],
            cgroup_parent: Some("/x".into()),
            resources: map(&[("memory", "5")]),
            no_cache: NoCache::Stages(vec!["a".into(), "b".into()]),
            pull: true,
            multi_platform: true,
            ..Default::default()
        };
        assert_eq!(
            attrs(&spec),
            map(&[
                ("build-arg:A", "1"),
                ("label:l", "2"),
                ("target", "prod"),
                ("platform", "linux/amd64,linux/arm64"),
                ("force-network-mode", "none"),
                ("add-hosts", "a=1.2.3.4"),
                ("shm-size", "64"),
                ("ulimit", "nofile=1:2"),
                ("cgroup-parent", "/x"),
                ("memory", "5"),
                ("multi-platform", "true"),
                ("no-cache", "a,b"),
                ("image-resolve-mode", "pull"),
            ])
        );
    }

    #[test]
    fn host_network_brings_its_entitlement_once() {
        let mut spec = BuildSpec {
            network: Network::Host,
            ..Default::default()
        };
        assert_eq!(frontend(&spec, NEW).unwrap().entitlements, [NETWORK_HOST]);
        spec.allow.granted.push(NETWORK_HOST.into());
        assert_eq!(frontend(&spec, NEW).unwrap().entitlements, [NETWORK_HOST]);
    }

    #[test]
    fn default_provenance_unless_refused_or_impossible() {
        let mut spec = BuildSpec {
            default_provenance: true,
            ..Default::default()
        };
        assert_eq!(
            attrs(&spec)["attest:provenance"],
            "mode=min,inline-only=true"
        );
        let old = BuilderFacts {
            attestations: false,
            ..NEW
        };
        assert!(frontend(&spec, old).unwrap().attrs.is_empty());
        spec.attests.insert("provenance".into(), None);
        assert!(attrs(&spec).is_empty());
        spec.attests.insert("sbom".into(), Some(String::new()));
        assert_eq!(attrs(&spec)["attest:sbom"], "");
        assert_eq!(frontend(&spec, old), Err(AttrError::Attestations));
    }

    #[test]
    fn proxies_give_way_to_build_arguments() {
        let spec = BuildSpec {
            build_args: map(&[("http_proxy", "mine")]),
            proxy_args: map(&[("HTTP_PROXY", "p"), ("http_proxy", "p"), ("NO_PROXY", "n")]),
            ..Default::default()
        };
        assert_eq!(
            attrs(&spec),
            map(&[
                ("build-arg:http_proxy", "mine"),
                ("build-arg:NO_PROXY", "n")
            ])
        );
    }

    #[test]
    fn syntax_argument_names_the_frontend() {
        let spec = BuildSpec {
            build_args: map(&[("BUILDKIT_SYNTAX", "docker/dockerfile:1 --x")]),
            ..Default::default()
        };
        let frontend = frontend(&spec, NEW).unwrap();
        assert_eq!(frontend.name, "gateway.v0");
        assert_eq!(frontend.attrs["source"], "docker/dockerfile:1");
        assert_eq!(frontend.attrs["cmdline"], "docker/dockerfile:1 --x");
        let empty = BuildSpec {
            build_args: map(&[("BUILDKIT_SYNTAX", "")]),
            ..Default::default()
        };
        assert_eq!(super::frontend(&empty, NEW), Err(AttrError::EmptySyntax));
    }
}
