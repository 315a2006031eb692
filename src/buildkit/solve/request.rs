//! What BuildKit is told about a build, and its forms for the Control and Gateway services.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::Policy;
use bollard_buildkit_proto::pb::Definition;

/// A named kind with attributes: an exporter or a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// BuildKit's name of the kind, such as `image` or `registry`.
    pub kind: String,
    /// Its attributes as BuildKit names them.
    pub attrs: BTreeMap<String, String>,
}

/// All that BuildKit is told about a build.
#[derive(Debug, Clone, Default)]
pub struct SolveRequest {
    /// Identifier of the build, made by [`new_id`](crate::buildkit::new_id).
    pub build_ref: String,
    /// Identifier of the session that serves it.
    pub session: String,
    /// Frontend: `dockerfile.v0` or `gateway.v0`.
    pub frontend: String,
    /// Attributes of the frontend, without the cache imports.
    pub attrs: BTreeMap<String, String>,
    /// Definitions that are inputs of the frontend, by name.
    pub inputs: BTreeMap<String, Definition>,
    /// Exporters in the order of their identifiers.
    pub exporters: Vec<Entry>,
    /// Caches to write.
    pub cache_exports: Vec<Entry>,
    /// Caches to read.
    pub cache_imports: Vec<Entry>,
    /// Entitlements that the user allows, such as `network.host`.
    pub entitlements: Vec<String>,
    /// Which sources may be used, and which stand for others.
    pub source_policy: Option<Policy>,
    /// The solve is not a build of the user's: the builder's history does not have it.
    pub internal: bool,
}

impl SolveRequest {
    /// Returns the frontend's attributes with the cache imports among them. BuildKit's frontends
    /// read the imports only from there (BuildKit `client/solve.go`, `frontend/dockerui`).
    fn attrs_with_imports(&self) -> HashMap<String, String> {
        let mut attrs: HashMap<String, String> = self.attrs.clone().into_iter().collect();
        if !self.cache_imports.is_empty() {
            let imports: Vec<_> = self
                .cache_imports
                .iter()
                .map(|c| serde_json::json!({"Type": c.kind, "Attrs": c.attrs}))
                .collect();
            attrs.insert(
                "cache-imports".into(),
                serde_json::Value::from(imports).to_string(),
            );
        }
        attrs
    }

    pub(in crate::buildkit) fn to_control(&self) -> control::SolveRequest {
        let first = self.exporters.first();
        control::SolveRequest {
            r#ref: self.build_ref.clone(),
            session: self.session.clone(),
            frontend_attrs: self.attrs_with_imports(),
            exporters: self
                .exporters
                .iter()
                .map(|e| control::Exporter {
                    r#type: e.kind.clone(),
                    attrs: e.attrs.clone().into_iter().collect(),
                })
                .collect(),
            // Daemons older than 0.13 know only these two.
            exporter_deprecated: first.map(|e| e.kind.clone()).unwrap_or_default(),
            exporter_attrs_deprecated: first
                .map(|e| e.attrs.clone().into_iter().collect())
                .unwrap_or_default(),
            cache: Some(control::CacheOptions {
                exports: self.cache_exports.iter().map(to_cache_entry).collect(),
                imports: self.cache_imports.iter().map(to_cache_entry).collect(),
                ..Default::default()
            }),
            entitlements: self.entitlements.clone(),
            internal: self.internal,
            source_policy: self.source_policy.clone(),
            ..Default::default()
        }
    }

    pub(super) fn to_gateway(&self) -> gateway::SolveRequest {
        gateway::SolveRequest {
            frontend: self.frontend.clone(),
            frontend_opt: self.attrs_with_imports(),
            frontend_inputs: self.inputs.clone().into_iter().collect(),
            allow_result_return: true,
            allow_result_array_ref: true,
            ..Default::default()
        }
    }
}

fn to_cache_entry(entry: &Entry) -> control::CacheOptionsEntry {
    control::CacheOptionsEntry {
        r#type: entry.kind.clone(),
        attrs: entry.attrs.clone().into_iter().collect(),
    }
}
