//! A registry: whether it answers, and what this login may do there.

use std::time::Duration;

use super::clock;
use super::report::{Report, because, way_out};
use super::trial::{Trial, failed};
use crate::cli::errors::registry_hint;
use crate::cli::invocation::Invocation;
use crate::error::CommandError;
use crate::reference::Reference;
use crate::registry::{Access, RegistryError, Repository, RetryPolicy};

/// Somebody waits for the answer, and a registry that cannot answer now is an answer, too.
const QUICK: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_delay: Duration::from_millis(200),
    max_delay: Duration::from_secs(1),
    max_retry_after: Duration::from_secs(2),
    max_wait: Duration::from_secs(4),
};

/// Reads the argument.
///
/// # Errors
///
/// Fails if it is not the name of a repository.
pub(super) fn parse(text: &str) -> Result<Reference, CommandError> {
    // Docker Hub has repositories of one word, but none with a dot or a port.
    if !text.contains('/') && text.contains(['.', ':']) && !text.ends_with(['.', ':']) {
        let error = format!("{text:?} is a registry without a repository");
        let hint = format!("name a repository in it that is yours, such as {text}/me/app");
        return Err(CommandError::failed(error).hint(hint));
    }
    Reference::parse_normalized(text).map_err(CommandError::failed)
}

/// Tries the registry of a repository.
pub(super) async fn look(
    invocation: &Invocation,
    reference: &Reference,
    insecure: bool,
    report: &mut Report,
) {
    let registries = invocation.registries.with_retries(QUICK);
    let open = |access| registries.repository(reference, insecure, access);
    let (reader, writer) = match (open(Access::Pull), open(Access::Push)) {
        (Ok(reader), Ok(writer)) => (reader, writer),
        (Err(error), _) | (_, Err(error)) => {
            let hints: Vec<String> = registry_hint(&error).into_iter().collect();
            let otherwise =
                "mend docker's settings for this registry, such as its certificates or proxies";
            return report.missing("registry", because(&error), way_out(&hints, otherwise));
        }
    };
    let tag = format!("cachex-doctor-{:08x}", rand::random::<u32>());
    if !pull(&reader, &tag, report).await {
        return;
    }
    let trial = Trial {
        repository: &writer,
        tag: &tag,
    };
    trial.run(report).await;
    registries.close().await;
}

/// Returns whether the registry answers at all.
async fn pull(repository: &Repository, tag: &str, report: &mut Report) -> bool {
    let host = repository.client().host();
    let answer = repository.manifest_at_once(tag).await;
    if let Err(error) = &answer
        && error.status().is_none()
    {
        let check = match error.last() {
            RegistryError::Credentials { .. } | RegistryError::Challenge { .. } => "login",
            _ => "registry",
        };
        failed(report, check, error, repository, "read");
        return false;
    }
    report.yes("registry", host);
    let lead = repository.client().clock_lead();
    clock::compare("clock of the registry", lead, report);
    match answer {
        Ok(_) => report.yes("pull", repository.name()),
        Err(error) => failed(report, "pull", &error, repository, "read"),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_alone_is_no_repository() {
        for text in ["ghcr.io", "127.0.0.1:5000", "localhost:5000"] {
            let error = parse(text).unwrap_err();
            assert!(
                error.to_string().contains("without a repository"),
                "{error}"
            );
        }
        for text in ["debian", "me/app", "ghcr.io/me/app", "127.0.0.1:5000/a"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }
}
