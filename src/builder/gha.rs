//! The context of a GitHub Actions job, which buildkitd adds to the provenance of its builds.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::env::Env;

/// Path of the context among a node's files.
pub const FILE: &str = "provenance.d/github_actions_context.json";

/// The variables that are taken, each with its field; a group is taken whole or not at all.
const GROUPS: &[&[(&str, &str)]] = &[
    &[
        ("GITHUB_ACTOR", "github_actor"),
        ("GITHUB_ACTOR_ID", "github_actor_id"),
        ("GITHUB_TRIGGERING_ACTOR", "github_triggering_actor"),
    ],
    &[
        ("GITHUB_REF", "github_ref"),
        ("GITHUB_REF_NAME", "github_ref_name"),
        ("GITHUB_REF_PROTECTED", "github_ref_protected"),
        ("GITHUB_REF_TYPE", "github_ref_type"),
    ],
    &[
        ("GITHUB_REPOSITORY", "github_repository"),
        ("GITHUB_REPOSITORY_ID", "github_repository_id"),
        ("GITHUB_REPOSITORY_OWNER", "github_repository_owner"),
        ("GITHUB_REPOSITORY_OWNER_ID", "github_repository_owner_id"),
    ],
    &[
        ("GITHUB_JOB", "github_job"),
        ("GITHUB_RUN_ATTEMPT", "github_run_attempt"),
        ("GITHUB_RUN_ID", "github_run_id"),
        ("GITHUB_RUN_NUMBER", "github_run_number"),
        ("GITHUB_SERVER_URL", "github_server_url"),
        ("GITHUB_WORKFLOW", "github_workflow"),
        ("GITHUB_WORKFLOW_REF", "github_workflow_ref"),
        ("GITHUB_WORKFLOW_SHA", "github_workflow_sha"),
    ],
    &[
        ("ImageOS", "github_runner_image_os"),
        ("ImageVersion", "github_runner_image_version"),
        ("RUNNER_OS", "github_runner_os"),
        ("RUNNER_ARCH", "github_runner_arch"),
        ("RUNNER_ENVIRONMENT", "github_runner_environment"),
        ("RUNNER_TRACKING_ID", "github_runner_tracking_id"),
        ("RUNNER_NAME", "github_runner_name"),
    ],
];

/// Why the context cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GhaError {
    /// The event file cannot be read.
    #[error("failed to read GITHUB_EVENT_PATH")]
    Read(#[source] std::io::Error),
    /// The event file is no JSON object.
    #[error("failed to unmarshal GitHub event payload from {path}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Returns the context as JSON, or nothing outside a job.
///
/// # Errors
///
/// Fails if the event file that the environment names cannot be read.
pub fn context(env: &Env) -> Result<Option<Vec<u8>>, GhaError> {
    let in_job = matches!(
        env.get("GITHUB_ACTIONS"),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True")
    );
    let (Some(event), Some(path)) = (
        env.non_empty("GITHUB_EVENT_NAME").filter(|_| in_job),
        env.path("GITHUB_EVENT_PATH"),
    ) else {
        return Ok(None);
    };
    let content = fs_err::read(path).map_err(GhaError::Read)?;
    let parse_error = |source| GhaError::Parse {
        path: PathBuf::from(path),
        source,
    };
    let payload: Map<String, Value> = serde_json::from_slice(&content).map_err(parse_error)?;
    // Sorted as Go sorts the keys of a map.
    let mut fields = std::collections::BTreeMap::from([
        ("github_event_name", Value::from(event)),
        ("github_event_payload", Value::Object(payload)),
    ]);
    for group in GROUPS {
        let values: Option<Vec<&str>> = group.iter().map(|(var, _)| env.non_empty(var)).collect();
        for ((_, field), value) in group.iter().zip(values.into_iter().flatten()) {
            fields.insert(field, Value::from(value));
        }
    }
    serde_json::to_vec(&fields).map(Some).map_err(parse_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let event = dir.path().join("event.json");
        fs_err::write(&event, r#"{"ref":"refs/heads/x"}"#).unwrap();
        let event = event.display().to_string();
        let env = Env::from_pairs(
            [
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_EVENT_PATH", event.as_str()),
                ("GITHUB_ACTOR", "a"),
                ("GITHUB_ACTOR_ID", "1"),
                ("GITHUB_TRIGGERING_ACTOR", "b"),
                ("GITHUB_REF", "refs/heads/x"),
            ],
            "/home",
        );
        let json: Value = serde_json::from_slice(&context(&env).unwrap().unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "github_actor": "a",
                "github_actor_id": "1",
                "github_event_name": "push",
                "github_event_payload": {"ref": "refs/heads/x"},
                "github_triggering_actor": "b"
            })
        );
    }

    #[test]
    fn outside_a_job_there_is_none() {
        let none = Env::from_pairs([("GITHUB_EVENT_NAME", "push")], "/home");
        assert!(context(&none).unwrap().is_none());
        let broken = Env::from_pairs(
            [
                ("GITHUB_ACTIONS", "1"),
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_EVENT_PATH", "/nonexistent/event"),
            ],
            "/home",
        );
        assert!(context(&broken).is_err());
    }
}
