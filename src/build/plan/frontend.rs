//! The attributes of the Dockerfile frontend, named as in BuildKit's `frontend/dockerui`.
//!
//! They decide cache keys, so each is sent in buildx's own spelling.

use std::collections::BTreeMap;

use thiserror::Error;

use super::facts::{BuilderFacts, NodeFacts};
use crate::build::request::{BuildRequest, Network, NoCache};
use crate::options::OptionError;
use crate::options::add_host;
use crate::options::boolean::parse_bool;
use crate::options::platform::Platform;
use crate::options::ulimit;

/// The entitlement that `--network=host` needs.
const NETWORK_HOST: &str = "network.host";

/// Frontend and attributes of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frontend {
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

/// Creates the attributes.
///
/// # Errors
///
/// Fails if the builder cannot do what is asked.
pub(super) fn frontend(
    request: &BuildRequest,
    node: &NodeFacts,
    builder: &BuilderFacts,
) -> Result<Frontend, AttrError> {
    let mut attrs = BTreeMap::new();
    let name = syntax(request, &mut attrs)?;
    attestations(request, builder, &mut attrs)?;
    for (key, value) in &node.proxy_args {
        if !request
            .build_args
            .keys()
            .any(|given| given.eq_ignore_ascii_case(key))
        {
            attrs.insert(format!("build-arg:{key}"), value.clone());
        }
    }
    for (key, value) in &request.build_args {
        attrs.insert(format!("build-arg:{key}"), value.clone());
    }
    for (key, value) in &request.labels {
        attrs.insert(format!("label:{key}"), value.clone());
    }
    result_attrs(request, node, &mut attrs);
    step_attrs(request, builder, &mut attrs)?;
    let mut entitlements = request.allow.granted.clone();
    if request.network == Network::Host && !entitlements.iter().any(|e| e == NETWORK_HOST) {
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
    request: &BuildRequest,
    attrs: &mut BTreeMap<String, String>,
) -> Result<&'static str, AttrError> {
    let Some(cmdline) = request.build_args.get("BUILDKIT_SYNTAX") else {
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
    request: &BuildRequest,
    builder: &BuilderFacts,
    attrs: &mut BTreeMap<String, String>,
) -> Result<(), AttrError> {
    for (kind, params) in &request.attests {
        let Some(params) = params else { continue };
        if !builder.attestations {
            return Err(AttrError::Attestations);
        }
        attrs.insert(format!("attest:{kind}"), params.clone());
    }
    let asked = request.attests.contains_key("provenance");
    if !asked && request.default_provenance && builder.attestations {
        attrs.insert(
            "attest:provenance".into(),
            "mode=min,inline-only=true".into(),
        );
    }
    Ok(())
}

/// Which result is built.
fn result_attrs(request: &BuildRequest, node: &NodeFacts, attrs: &mut BTreeMap<String, String>) {
    if let Some(target) = request.target.as_ref().filter(|t| !t.is_empty()) {
        attrs.insert("target".into(), target.clone());
    }
    if !request.platforms.is_empty() {
        let list: Vec<String> = request.platforms.iter().map(Platform::to_string).collect();
        attrs.insert("platform".into(), list.join(","));
    }
    let multi = request
        .build_args
        .get("BUILDKIT_MULTI_PLATFORM")
        .map(String::as_str);
    if node.is_part_of_index || multi.is_some_and(|v| parse_bool(v) == Some(true)) {
        attrs.insert("multi-platform".into(), "true".into());
    }
    if request.pull {
        attrs.insert("image-resolve-mode".into(), "pull".into());
    }
    match &request.no_cache {
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
    request: &BuildRequest,
    builder: &BuilderFacts,
    attrs: &mut BTreeMap<String, String>,
) -> Result<(), AttrError> {
    match request.network {
        Network::Default => {}
        Network::Host => {
            attrs.insert("force-network-mode".into(), "host".into());
        }
        Network::None => {
            attrs.insert("force-network-mode".into(), "none".into());
        }
    }
    if let Some(hosts) = add_host::attr(&request.add_hosts, builder.host_gateway)? {
        attrs.insert("add-hosts".into(), hosts);
    }
    if request.shm_size > 0 {
        attrs.insert("shm-size".into(), request.shm_size.to_string());
    }
    if let Some(limits) = ulimit::attr(&request.ulimits) {
        attrs.insert("ulimit".into(), limits);
    }
    attrs.extend(request.resources.clone());
    if let Some(parent) = request.cgroup_parent.as_ref().filter(|p| !p.is_empty()) {
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

    fn new() -> BuilderFacts {
        BuilderFacts {
            attestations: true,
            ..BuilderFacts::default()
        }
    }

    fn plain(request: &BuildRequest) -> Result<Frontend, AttrError> {
        frontend(request, &NodeFacts::default(), &new())
    }

    fn attrs(request: &BuildRequest) -> BTreeMap<String, String> {
        plain(request).unwrap().attrs
    }

    #[test]
    fn nothing_asked_is_nothing_sent() {
        let plain = plain(&BuildRequest::default()).unwrap();
        assert_eq!(plain.name, "dockerfile.v0");
        assert!(plain.attrs.is_empty() && plain.entitlements.is_empty());
    }

    #[test]
    fn every_flag_has_its_attribute() {
        let request = BuildRequest {
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
            ..Default::default()
        };
        let node = NodeFacts {
            is_part_of_index: true,
            ..NodeFacts::default()
        };
        assert_eq!(
            frontend(&request, &node, &new()).unwrap().attrs,
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
        let mut request = BuildRequest {
            network: Network::Host,
            ..Default::default()
        };
        assert_eq!(plain(&request).unwrap().entitlements, [NETWORK_HOST]);
        request.allow.granted.push(NETWORK_HOST.into());
        assert_eq!(plain(&request).unwrap().entitlements, [NETWORK_HOST]);
    }

    #[test]
    fn default_provenance_unless_refused_or_impossible() {
        let mut request = BuildRequest {
            default_provenance: true,
            ..Default::default()
        };
        assert_eq!(
            attrs(&request)["attest:provenance"],
            "mode=min,inline-only=true"
        );
        let old = |request: &BuildRequest| {
            frontend(request, &NodeFacts::default(), &BuilderFacts::default())
        };
        assert!(old(&request).unwrap().attrs.is_empty());
        request.attests.insert("provenance".into(), None);
        assert!(attrs(&request).is_empty());
        request.attests.insert("sbom".into(), Some(String::new()));
        assert_eq!(attrs(&request)["attest:sbom"], "");
        assert_eq!(old(&request), Err(AttrError::Attestations));
    }

    #[test]
    fn proxies_give_way_to_build_arguments() {
        let request = BuildRequest {
            build_args: map(&[("http_proxy", "mine")]),
            ..Default::default()
        };
        let node = NodeFacts {
            proxy_args: map(&[("HTTP_PROXY", "p"), ("http_proxy", "p"), ("NO_PROXY", "n")]),
            ..NodeFacts::default()
        };
        assert_eq!(
            frontend(&request, &node, &new()).unwrap().attrs,
            map(&[
                ("build-arg:http_proxy", "mine"),
                ("build-arg:NO_PROXY", "n")
            ])
        );
    }

    #[test]
    fn syntax_argument_names_the_frontend() {
        let request = BuildRequest {
            build_args: map(&[("BUILDKIT_SYNTAX", "docker/dockerfile:1 --x")]),
            ..Default::default()
        };
        let frontend = plain(&request).unwrap();
        assert_eq!(frontend.name, "gateway.v0");
        assert_eq!(frontend.attrs["source"], "docker/dockerfile:1");
        assert_eq!(frontend.attrs["cmdline"], "docker/dockerfile:1 --x");
        let empty = BuildRequest {
            build_args: map(&[("BUILDKIT_SYNTAX", "")]),
            ..Default::default()
        };
        assert_eq!(plain(&empty), Err(AttrError::EmptySyntax));
    }
}
