//! From a request to all that BuildKit is told about a build. Nothing here asks anybody or waits.

mod facts;
mod frontend;

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::Policy;
use bollard_buildkit_proto::pb::Definition;
use thiserror::Error;

use super::cache::CacheTarget;
use super::context::inputs::Inputs;
use super::output::exporters::{self, Export, ExportError, ExportFacts};
use super::request::BuildRequest;
use crate::buildkit::solve::{Entry, SolveRequest};
use crate::buildkit::subrequest;

pub use self::facts::{BuilderFacts, NodeFacts};
pub use self::frontend::AttrError;
use self::frontend::{Frontend, frontend};

/// Build argument that asks for attributes in the build's record inside images.
const BUILDINFO_ARG: &str = "BUILDKIT_INLINE_BUILDINFO_ATTRS";

/// Why a build cannot be planned.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The outputs cannot be served.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The builder cannot do what is asked.
    #[error(transparent)]
    Attr(#[from] AttrError),
}

/// What decides about a build besides its request.
#[derive(Debug, Clone, Copy)]
pub struct PlanContext<'a> {
    /// The caches to write.
    pub targets: &'a [CacheTarget],
    /// Where files come from.
    pub inputs: &'a Inputs,
    /// Attributes that name the commit of the context.
    pub commit: &'a BTreeMap<String, String>,
    /// What is known about the node.
    pub node: &'a NodeFacts,
    /// What its builder answers.
    pub builder: &'a BuilderFacts,
    /// A cache that is read holds layers as zstd.
    pub reads_zstd: bool,
}

/// A build as BuildKit is told of it.
#[derive(Debug)]
pub struct BuildPlan {
    /// Exporters and where their bytes go; the place in the list is the exporter's identifier.
    pub exports: Vec<Export>,
    frontend: Frontend,
    inputs: BTreeMap<String, Definition>,
    cache_exports: Vec<Entry>,
    source_policy: Option<Policy>,
    is_call: bool,
}

/// The session as a solve names it.
#[derive(Debug, Clone, Default)]
pub struct SessionNames {
    /// Its identifier.
    pub id: String,
    /// The URL under which it hands out a context that comes by standard input.
    pub upload_url: Option<String>,
}

/// Plans a build.
///
/// # Errors
///
/// Fails if the outputs cannot be served, or if the builder cannot do what is asked.
pub fn plan(request: &BuildRequest, context: PlanContext<'_>) -> Result<BuildPlan, PlanError> {
    let exports = exports(request, context)?;
    let mut frontend = frontend(request, context.node, context.builder)?;
    let attrs = &mut frontend.attrs;
    attrs.extend(context.inputs.attrs.clone());
    attrs.extend(context.commit.clone());
    if let Some(call) = &request.call {
        subrequest::ask(&call.name, attrs);
    }
    let written = context.targets.iter().map(CacheTarget::entry);
    let unsupported = &context.builder.unsupported;
    Ok(BuildPlan {
        exports,
        frontend,
        inputs: context.inputs.definitions.clone(),
        cache_exports: written.filter(|entry| !unsupported.has(entry)).collect(),
        source_policy: request.source_policy.clone(),
        is_call: request.call.is_some(),
    })
}

impl BuildPlan {
    /// Returns all that BuildKit is told in one solve. A build that is run again has another identifier and perhaps other
    /// caches to read; nothing else differs.
    pub fn solve_request(
        &self,
        build_ref: String,
        session: &SessionNames,
        cache_imports: Vec<Entry>,
    ) -> SolveRequest {
        let mut attrs = self.frontend.attrs.clone();
        if let Some(url) = &session.upload_url {
            attrs.insert("context".into(), url.clone());
        }
        SolveRequest {
            build_ref,
            session: session.id.clone(),
            frontend: self.frontend.name.to_owned(),
            attrs,
            inputs: self.inputs.clone(),
            exporters: self.exports.iter().map(|e| e.entry.clone()).collect(),
            cache_exports: self.cache_exports.clone(),
            cache_imports,
            entitlements: self.frontend.entitlements.clone(),
            source_policy: self.source_policy.clone(),
            internal: self.is_call,
        }
    }
}

fn exports(request: &BuildRequest, context: PlanContext<'_>) -> Result<Vec<Export>, ExportError> {
    let (node, builder) = (context.node, context.builder);
    let takes_zstd = context.targets.iter().any(CacheTarget::takes_zstd);
    let attested = request.attests.values().any(Option::is_some);
    let facts = ExportFacts {
        engine_imports_oci: node.engine_imports_oci,
        result_is_list: request.platforms.len() > 1 || attested,
        stdout_is_terminal: node.stdout_is_terminal,
        recompress: node.had_uncompressed,
        has_zstd: takes_zstd || context.reads_zstd || node.had_zstd,
    };
    let BuildRequest {
        outputs,
        tags,
        annotations,
        ..
    } = request;
    let mut exports = exporters::plan(outputs, tags, annotations, facts)?;
    if exports.len() > 1 && !builder.several_exporters {
        return Err(ExportError::Several);
    }
    let buildinfo = request.build_args.get(BUILDINFO_ARG).map(String::as_str);
    let no_oci_artifact = request.no_oci_artifact && builder.attestations;
    exporters::add_image_attrs(&mut exports, buildinfo, no_oci_artifact);
    Ok(exports)
}

#[cfg(test)]
mod tests;
