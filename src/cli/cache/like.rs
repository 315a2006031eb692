//! Builds that commands about caches are given: looked at by their frontend, and never run.

use std::ffi::OsString;

use crate::build::explain::forecast::Forecast;
use crate::cache::record::observe::Observed;
use crate::cache::record::{Detail, Record};
use crate::cli::build::{self, BuildArgs, NodeForecast};
use crate::cli::{Context, build_args};
use crate::error::CommandError;

/// Where names of steps come from that the cache itself does not tell.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LikeArgs {
    /// Name steps as a build of PATH does; all arguments behind it are those of the build
    #[arg(long, value_name = "PATH [BUILD OPTIONS]", num_args = 1.., allow_hyphen_values = true)]
    like: Vec<OsString>,
}

impl LikeArgs {
    /// Reads the arguments of the build, if there are any.
    ///
    /// # Errors
    ///
    /// Fails if they are not those of a build.
    pub(super) fn read(&self, ctx: &Context) -> Result<Option<Like>, CommandError> {
        if self.like.is_empty() {
            return Ok(None);
        }
        let (mut build, ctx) = build_args(&self.like, ctx)?;
        // Only the names are wanted.
        build.cache = Some("off".to_owned());
        build.cache_from.clear();
        Ok(Some(Like { build, ctx }))
    }
}

/// A build that has names for steps.
#[derive(Debug)]
pub(super) struct Like {
    build: BuildArgs,
    ctx: Context,
}

impl Like {
    /// Returns the record of a cache with the steps of the build. Its frontend runs, and nothing else.
    ///
    /// # Errors
    ///
    /// Fails if the builder cannot be used, or the frontend fails.
    pub(super) async fn add_to(self, record: Option<Record>) -> Result<Record, CommandError> {
        let Self { build, ctx } = self;
        let (file, target) = (build.file.clone(), build.target.clone());
        let mut record = record.unwrap_or_default();
        for node in Box::pin(forecast(build, &ctx)).await? {
            let Forecast { definitions, .. } = node.forecast;
            let observed = Observed {
                definitions,
                dockerfile: file.clone().unwrap_or_default(),
                target: target.clone().unwrap_or_default(),
                ..Observed::default()
            };
            record.add(&observed.record(Detail::Steps, None, false));
        }
        Ok(record)
    }
}

/// Runs the frontends of a build, and nothing else, without a word unless progress was asked for.
///
/// # Errors
///
/// Fails if the arguments are wrong, the builder cannot be used, or a frontend fails.
pub(super) async fn forecast(
    mut build: BuildArgs,
    ctx: &Context,
) -> Result<Vec<NodeForecast>, CommandError> {
    if build.progress.is_none() {
        build.quiet = true;
    }
    Box::pin(build::forecast(&build, ctx)).await
}
