//! What the registries say about the caches, asked before anything else needs to know.
//!
//! The questions go out together when the build begins, beside the connection to the builder. One request
//! a cache, and nothing is tried again: where there is no answer BuildKit may still get one.

use std::sync::Arc;
use std::time::Duration;

use crate::build::cache::{CacheImport, RegistrySource};
use crate::build::later::{Later, later};
use crate::cache::registries::Registries;
use crate::error::chain;
use crate::registry::{Access, RawManifest, RegistryError, Repository};

/// How long a registry that takes connections may be silent. A build does not wait longer for a cache.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// How long an answer may take before it is looked whether the registry can be reached from here.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may be silent after that.
const REST: Duration = DEADLINE.saturating_sub(PATIENCE);
/// How long a cache may take that only this program can read; its requests are tried again.
pub(super) const CLIENT_DEADLINE: Duration = Duration::from_secs(30);

/// What a registry said.
#[derive(Debug)]
pub(super) enum Answer {
    /// There is a manifest.
    Found(Repository, RawManifest),
    /// There is nothing.
    Missing,
    /// It cannot be told from here, which says nothing about the builder.
    Unknown(String),
    /// The registry takes connections and does not answer.
    Silent,
}

/// The caches to read, in the order of the flags, and the questions that are on their way. They end with
/// this.
#[derive(Debug, Clone, Default)]
pub struct Asked(Vec<Question>);

/// One cache, and its registry's answer where it has one.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) import: CacheImport,
    answer: Option<Later<Arc<Answer>>>,
}

impl Asked {
    /// Asks for every registry cache.
    pub fn start(imports: &[CacheImport], registries: &Arc<Registries>) -> Self {
        let ask = |import: &CacheImport| {
            let (source, through_session) = match import {
                CacheImport::Registry(source, _) => (source.clone(), false),
                CacheImport::Client(source) => (source.clone(), true),
                CacheImport::Builder(_) | CacheImport::Layout(_) => return None,
            };
            let registries = Arc::clone(registries);
            let asked = async move {
                Arc::new(if through_session {
                    ask_patiently(&source, &registries).await
                } else {
                    ask_once(&source, &registries).await
                })
            };
            let lost = |error| Arc::new(Answer::Unknown(chain(&error)));
            Some(later(asked, lost))
        };
        let question = |import: &CacheImport| Question {
            import: import.clone(),
            answer: ask(import),
        };
        Self(imports.iter().map(question).collect())
    }

    pub(super) fn questions(&self) -> impl Iterator<Item = &Question> {
        self.0.iter()
    }
}

impl Question {
    /// Waits for what the registry says.
    pub(super) async fn answer(&self) -> Option<Arc<Answer>> {
        Some(self.answer.clone()?.await)
    }
}

async fn ask_once(source: &RegistrySource, registries: &Registries) -> Answer {
    let repository = match repository(source, registries) {
        Ok(repository) => repository,
        Err(error) => return Answer::Unknown(chain(&error)),
    };
    let silence = silence(repository.clone());
    tokio::select! {
        found = repository.manifest_at_once(source.named()) => answer(repository.clone(), found),
        answer = silence => answer,
    }
}

async fn ask_patiently(source: &RegistrySource, registries: &Registries) -> Answer {
    let repository = match repository(source, registries) {
        Ok(repository) => repository,
        Err(error) => return Answer::Unknown(chain(&error)),
    };
    match tokio::time::timeout(CLIENT_DEADLINE, repository.manifest(source.named())).await {
        Ok(found) => answer(repository.clone(), found),
        Err(_) => Answer::Unknown(no_answer(CLIENT_DEADLINE)),
    }
}

fn repository(
    source: &RegistrySource,
    registries: &Registries,
) -> Result<Repository, RegistryError> {
    registries.repository(&source.reference, source.insecure, Access::Pull)
}

fn answer(repository: Repository, found: Result<Option<RawManifest>, RegistryError>) -> Answer {
    match found {
        Ok(Some(raw)) => Answer::Found(repository, raw),
        Ok(None) => Answer::Missing,
        Err(error) => Answer::Unknown(chain(&error)),
    }
}

/// Waits until an answer is due no more. A registry that cannot be reached from here, perhaps behind
/// a firewall, is not waited for as long as one that can: the builder may be on the other side.
async fn silence(repository: Repository) -> Answer {
    tokio::time::sleep(PATIENCE).await;
    let reached = tokio::time::timeout(PATIENCE, repository.client().takes_connections()).await;
    if reached != Ok(true) {
        return Answer::Unknown("it cannot be reached from here".to_owned());
    }
    tokio::time::sleep(REST).await;
    Answer::Silent
}

/// What is said about a registry that does not answer.
pub(super) fn no_answer(deadline: Duration) -> String {
    format!("no answer within {} s", deadline.as_secs())
}

/// What is said about a registry that answers, but too slowly.
pub(super) fn not_read(deadline: Duration) -> String {
    format!("its config did not come within {} s", deadline.as_secs())
}
