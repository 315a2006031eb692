//! The text of `inspect`, as `docker buildx inspect` prints it.

use std::fmt::Write as _;

use crate::builder::load::{Device, GcRule, LoadedBuilder, LoadedNode};
use crate::builder::platform::format_groups;
use crate::cli::table;
use crate::options::{duration, size};
use crate::text::go_quote;

/// Features of a node that are shown in debug mode; `default-load` is the node's own.
const FEATURES: &[&str] = &[
    "Cache export",
    "Direct push",
    "Docker exporter",
    "Multi-platform build",
    "OCI exporter",
];

/// Returns the text, a new line at its end.
pub(super) fn text(builder: &LoadedBuilder, debug: bool) -> String {
    let mut out = String::new();
    line(&mut out, "Name", &builder.name);
    line(&mut out, "Driver", &builder.driver);
    if let Some(time) = builder.last_activity {
        let time = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
        line(&mut out, "Last Activity", &time);
    }
    if let Some(error) = &builder.error {
        line(&mut out, "Error", error);
    } else {
        out.push_str("\nNodes:\n");
        for (index, one) in builder.nodes.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            node(&mut out, one, &builder.driver, debug);
        }
    }
    table::columns(&out, 0, 1)
}

fn node(out: &mut String, node: &LoadedNode, driver: &str, debug: bool) {
    let stored = &node.stored;
    line(out, "Name", &stored.name);
    line(out, "Endpoint", &stored.endpoint);
    if !stored.driver_opts.is_empty() {
        let options: Vec<String> = stored
            .driver_opts
            .iter()
            .map(|(key, value)| format!("{key}={}", go_quote::quote(value)))
            .collect();
        line(out, "Driver Options", &options.join(" "));
    }
    if let Some(error) = &node.error {
        return line(out, "Error", error);
    }
    let status = node.status.map(|s| s.to_string()).unwrap_or_default();
    line(out, "Status", &status);
    if !stored.flags.is_empty() {
        line(out, "BuildKit daemon flags", &stored.flags.join(" "));
    }
    if !node.version.is_empty() {
        line(out, "BuildKit version", &node.version);
    }
    let platforms = format_groups(&stored.platforms, &node.platforms);
    if !platforms.is_empty() {
        line(out, "Platforms", &platforms.join(", "));
    }
    if debug && driver != "docker" {
        features(out, node);
    }
    if !node.labels.is_empty() {
        out.push_str("Labels:\n");
        for (key, value) in &node.labels {
            line(out, &format!("\t{key}"), value);
        }
    }
    if !node.devices.is_empty() {
        out.push_str("Devices:\n");
        node.devices.iter().for_each(|device_| device(out, device_));
    }
    for (index, one) in node.gc_policy.iter().enumerate() {
        rule(out, index, one);
    }
    for (path, content) in &stored.files {
        let _ = writeln!(out, "File#{path}:");
        for text in String::from_utf8_lossy(&content.0).split('\n') {
            let _ = writeln!(out, "\t> {text}");
        }
    }
}

fn features(out: &mut String, node: &LoadedNode) {
    out.push_str("Features:\n");
    let load = node.stored.driver_opts.get("default-load");
    let load = load.is_some_and(|v| crate::options::boolean::parse_bool(v) == Some(true));
    let mut features: Vec<(&str, bool)> = FEATURES.iter().map(|name| (*name, true)).collect();
    features.push((
        "Automatically load images to the Docker Engine image store",
        load,
    ));
    features.sort_unstable();
    for (name, there) in features {
        line(out, &format!("\t{name}"), &there.to_string());
    }
}

fn device(out: &mut String, device: &Device) {
    line(out, "\tName", &device.name);
    if device.on_demand {
        line(out, "\tOn-Demand", "true");
    } else {
        line(
            out,
            "\tAutomatically allowed",
            &device.auto_allow.to_string(),
        );
    }
    if !device.annotations.is_empty() {
        out.push_str("\tAnnotations:\n");
        for (key, value) in &device.annotations {
            line(out, &format!("\t\t{key}"), value);
        }
    }
}

fn rule(out: &mut String, index: usize, rule: &GcRule) {
    let _ = writeln!(out, "GC Policy rule#{index}:");
    line(out, "\tAll", &rule.all.to_string());
    if !rule.filters.is_empty() {
        line(out, "\tFilters", &rule.filters.join(" "));
    }
    if !rule.keep_duration.is_zero() {
        line(
            out,
            "\tKeep Duration",
            &duration::format(rule.keep_duration),
        );
    }
    for (name, bytes) in [
        ("\tReserved Space", rule.reserved_space),
        ("\tMax Used Space", rule.max_used_space),
        ("\tMin Free Space", rule.min_free_space),
    ] {
        if let Ok(bytes @ 1..) = u64::try_from(bytes) {
            line(out, name, &size::bytes_size(bytes));
        }
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    // A line end in an error would end the column too.
    let _ = writeln!(out, "{name}:\t{}", value.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Status;
    use crate::builder::group::{FileContent, StoredNode};
    use crate::builder::platform::Platform;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn full() -> LoadedNode {
        LoadedNode {
            stored: StoredNode {
                name: "foo0".to_owned(),
                endpoint: "unix:///var/run/docker.sock".to_owned(),
                platforms: vec![Platform::parse("linux/arm64").unwrap()],
                driver_opts: BTreeMap::from([
                    ("env.A".to_owned(), "x \"y\"".to_owned()),
                    ("network".to_owned(), "host".to_owned()),
                ]),
                flags: vec!["--debug".to_owned(), "--x".to_owned()],
                files: BTreeMap::from([(
                    "buildkitd.toml".to_owned(),
                    FileContent(b"a = 1\nb = 2\n".to_vec()),
                )]),
                ..StoredNode::default()
            },
            status: Some(Status::Running),
            version: "v0.29.0".to_owned(),
            platforms: vec![
                Platform::parse("linux/arm64").unwrap(),
                Platform::parse("linux/amd64").unwrap(),
            ],
            labels: BTreeMap::from([
                ("org.x.executor".to_owned(), "oci".to_owned()),
                ("org.x.host".to_owned(), "h".to_owned()),
            ]),
            gc_policy: vec![
                GcRule {
                    filters: vec!["type==source.local".to_owned(), "b".to_owned()],
                    keep_duration: Duration::from_secs(48 * 3600),
                    max_used_space: 512_000_000,
                    ..GcRule::default()
                },
                GcRule {
                    all: true,
                    reserved_space: 10 << 30,
                    min_free_space: 1,
                    ..GcRule::default()
                },
            ],
            ..LoadedNode::default()
        }
    }

    #[test]
    fn the_text_is_that_of_buildx() {
        let mut broken = LoadedNode::default();
        broken.stored.name = "foo1".to_owned();
        broken.stored.endpoint = "other".to_owned();
        broken.error = Some("cannot connect\n".to_owned());
        let builder = LoadedBuilder {
            name: "foo".to_owned(),
            driver: "docker-container".to_owned(),
            last_activity: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            nodes: vec![full(), broken],
            ..LoadedBuilder::default()
        };
        let expected = r#"Name:          foo
Driver:        docker-container
Last Activity: 2026-01-02 03:04:05 +0000 UTC

Nodes:
Name:                  foo0
Endpoint:              unix:///var/run/docker.sock
Driver Options:        env.A="x \"y\"" network="host"
Status:                running
BuildKit daemon flags: --debug --x
BuildKit version:      v0.29.0
Platforms:             linux/arm64*, linux/amd64
Labels:
 org.x.executor: oci
 org.x.host:     h
GC Policy rule#0:
 All:            false
 Filters:        type==source.local b
 Keep Duration:  48h0m0s
 Max Used Space: 488.3MiB
GC Policy rule#1:
 All:            true
 Reserved Space: 10GiB
 Min Free Space: 1B
File#buildkitd.toml:
 > a = 1
 > b = 2
 > 

Name:     foo1
Endpoint: other
Error:    cannot connect
"#;
        assert_eq!(text(&builder, false), expected);
    }

    #[test]
    fn a_builder_that_cannot_be_loaded_has_its_error() {
        let builder = LoadedBuilder {
            name: "far".to_owned(),
            error: Some("no answer".to_owned()),
            ..LoadedBuilder::default()
        };
        assert_eq!(
            text(&builder, false),
            "Name:   far\nDriver: \nError:  no answer\n"
        );
    }

    #[test]
    fn debug_shows_features_and_devices_are_listed() {
        let mut node = full();
        node.devices = vec![Device {
            name: "vendor.com/dev".to_owned(),
            auto_allow: true,
            annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            ..Device::default()
        }];
        let builder = LoadedBuilder {
            driver: "docker-container".to_owned(),
            nodes: vec![node],
            ..LoadedBuilder::default()
        };
        let shown = text(&builder, true);
        assert!(
            shown.contains("Features:\n Automatically load images"),
            "{shown}"
        );
        assert!(shown.contains("Devices:\n Name:                  vendor.com/dev\n Automatically allowed: true\n Annotations:\n  k: v\n"), "{shown}");
        assert!(!text(&builder, false).contains("Features"));
    }
}
