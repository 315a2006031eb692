//! What a build leaves in the store of builders: that the builder was used, what was built, and that layers were
//! taken otherwise than as gzip.

use std::path::PathBuf;

use super::job::Job;
use crate::build::cache::CacheTarget;
use crate::builder::{BuildRef, BuilderError};
use crate::error::CommandError;
use crate::options::cache::{CacheTo, Compression, Compressor};

impl Job<'_> {
    /// A build that takes layers otherwise than images have them leaves a mark, before it does.
    pub(super) fn mark_compression(&self) -> Result<(), CommandError> {
        let takes = |cache: &CacheTo| match cache {
            CacheTo::Registry(cache) => {
                cache.compressor == Compressor::Client
                    || cache.compression == Some(Compression::Uncompressed)
            }
            CacheTo::Other { attrs, .. } => {
                attrs.get("compression").map(String::as_str) == Some("uncompressed")
            }
        };
        let store = self.common.docker_env.store();
        let (builder, node) = (self.common.builder.name(), self.node.name());
        let cache_to = &self.request.cache_to;
        if cache_to.iter().any(takes) {
            let marked = store.mark_uncompressed(builder, node);
            marked.map_err(BuilderError::Store)?;
        }
        if self.common.targets.iter().any(CacheTarget::takes_zstd) {
            let marked = store.mark_zstd(builder, node);
            marked.map_err(BuilderError::Store)?;
        }
        Ok(())
    }

    /// `docker buildx ls` shows when a builder was last used. A store that cannot be written is no
    /// reason not to build.
    pub(super) fn record_activity(&self) {
        if let Err(error) = self
            .common
            .docker_env
            .store()
            .record_activity(self.common.builder.name())
        {
            tracing::debug!(error = %crate::error::chain(&error), "cannot record the activity");
        }
    }

    /// `docker buildx history` shows name and context of a build from this record.
    pub(super) fn record_build(&self, build_ref: &str) {
        let state = self.local_state();
        let (builder, node) = (self.common.builder.name(), self.node.name());
        if let Err(error) = self
            .common
            .docker_env
            .store()
            .save_ref(builder, node, build_ref, &state)
        {
            tracing::debug!(error = %crate::error::chain(&error), "cannot record the build");
        }
    }

    fn local_state(&self) -> BuildRef {
        let inputs = &self.request.inputs;
        let remote = inputs.context_is_remote();
        let absolute = |path: &str| -> String {
            let path: PathBuf = inputs.current_dir.join(path).components().collect();
            path.display().to_string()
        };
        let local = |path: &str| match path {
            "" | "-" => path.to_owned(),
            _ if remote => path.to_owned(),
            _ => absolute(path),
        };
        BuildRef {
            target: "default".to_owned(),
            local_path: local(&inputs.context),
            dockerfile_path: local(inputs.dockerfile.as_deref().unwrap_or_default()),
            ..BuildRef::default()
        }
    }
}
