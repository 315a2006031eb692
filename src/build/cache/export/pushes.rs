//! Whether this build's login may push to the caches, asked beside the start of the build.
//!
//! A token that may only read is no mistake: in the pull request of a fork every token is one. Where a cache is
//! allowed to fail, such a build need not compress anything for it, and has one remark at its end.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::targets::{CacheTarget, RegistryTarget};
use crate::cache::registries::Registries;
use crate::later::{Later, later};
use crate::registry::{Access, RegistryError};

/// How long the build waits for an answer. Without one the cache is exported, and fails or not.
const DEADLINE: Duration = Duration::from_secs(3);

/// The caches to write, in the order of the targets, and the answers that are on their way. Dropping this aborts them.
#[derive(Debug, Clone, Default)]
pub struct Pushes(Vec<Option<Later<Answer>>>);

/// Why the login may not push; nothing where it may, or where nobody knows.
type Answer = Option<Arc<str>>;

impl Pushes {
    /// Asks the registry of every cache that is allowed to fail.
    pub fn start(targets: &[CacheTarget], registries: &Arc<Registries>) -> Self {
        let ask = |target: &CacheTarget| {
            let CacheTarget::Registry(target) = target else {
                return None;
            };
            if !target.cache.ignore_error {
                return None;
            }
            let (target, registries) = (target.clone(), Arc::clone(registries));
            let asked = async move { refusal(&target, &registries).await };
            Some(later(asked, |_died| None))
        };
        Self(targets.iter().map(ask).collect())
    }

    /// Waits for the answers, and returns the targets that may be written with a remark about each of the others.
    pub async fn allowed(&self, targets: &[CacheTarget]) -> (Vec<CacheTarget>, Vec<String>) {
        let answers = targets.iter().enumerate().map(async |(at, _)| {
            let asked = self.0.get(at)?.clone()?;
            tokio::time::timeout(DEADLINE, asked).await.ok().flatten()
        });
        let answers = futures_util::future::join_all(answers).await;
        let (mut allowed, mut remarks) = (Vec::new(), Vec::new());
        for (target, answer) in targets.iter().zip(answers) {
            match (target, answer) {
                (CacheTarget::Registry(target), Some(why)) => {
                    let reference = &target.cache.raw_ref;
                    remarks.push(format!(
                        "the cache {reference} is not written, the login may not push: {why}"
                    ));
                }
                _ => allowed.push(target.clone()),
            }
        }
        (allowed, remarks)
    }
}

async fn refusal(target: &RegistryTarget, registries: &Registries) -> Answer {
    let insecure = target.cache.insecure == Some(true);
    let repository = registries.repository(&target.cache.reference, insecure, Access::Push);
    let asked = match repository {
        Ok(repository) => repository.try_push().await,
        Err(error) => Err(error),
    };
    let error = asked.err()?;
    let why = crate::error::chain(&error);
    if is_refusal(&error) {
        return Some(why.into());
    }
    tracing::debug!(
        reference = target.cache.raw_ref,
        why,
        "not known whether the login may push"
    );
    None
}

/// Some registries hide what they do not allow.
fn is_refusal(error: &RegistryError) -> bool {
    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
    error
        .status()
        .is_some_and(|status| refused.contains(&status))
        || error.has_code("DENIED")
}
