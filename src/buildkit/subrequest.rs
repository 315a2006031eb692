//! Questions to a frontend that are no build (`frontend.lint` and the like; BuildKit
//! `frontend/subrequests`).

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::SolveRequest;
use tonic::Status;

use super::error::RpcError;

/// Attribute with the name of the question.
const REQUEST_ID: &str = "requestid";
/// Attribute with what a frontend must be able to do.
const CAPS: &str = "frontend.caps";
/// Capability to answer questions.
const CAP: &str = "moby.buildkit.frontend.subrequests+forward";
/// Attribute that makes `dockerfile.v0` run a frontend image.
const SYNTAX: &str = "build-arg:BUILDKIT_SYNTAX";
/// A frontend that answers the questions below; the image that buildx falls back to.
const FRONTEND: &str = "docker/dockerfile:1.8.1@sha256:e87caa74dcb7d46cd820352bfea12591f3dba3ddc4285e19c7dcd13359f7cefd";
/// The questions that [`FRONTEND`] answers.
const ANSWERED: [&str; 3] = ["frontend.outline", "frontend.targets", "frontend.lint"];

/// Adds the attributes that ask a question, named as in `--call`, instead of a build.
pub fn ask(name: &str, attrs: &mut BTreeMap<String, String>) {
    let caps = attrs.entry(CAPS.to_owned()).or_default();
    if !caps.is_empty() {
        caps.push(',');
    }
    caps.push_str(CAP);
    attrs.insert(REQUEST_ID.to_owned(), format!("frontend.{name}"));
}

/// Returns the request to repeat where a frontend does not know the question: the same to a
/// frontend image that does. `None` for any other error.
pub(super) fn fallback(mut request: SolveRequest, status: &Status) -> Option<SolveRequest> {
    request.frontend_opt.get(REQUEST_ID)?;
    let error = RpcError::from(status.clone());
    let unknown = match error.unsupported_subrequest() {
        Some(name) => ANSWERED.contains(&name),
        // BuildKit 0.8 has no typed errors.
        None => ANSWERED.iter().any(|name| {
            let message = status.message();
            message.contains(&format!("unsupported request {name}"))
        }),
    };
    if !unknown {
        return None;
    }
    request
        .frontend_opt
        .insert(SYNTAX.to_owned(), FRONTEND.to_owned());
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(name: &str) -> SolveRequest {
        let mut attrs = BTreeMap::new();
        ask(name, &mut attrs);
        SolveRequest {
            frontend_opt: attrs.into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn questions_add_to_the_capabilities() {
        let mut attrs = BTreeMap::from([(CAPS.to_owned(), "a+forward".to_owned())]);
        ask("lint", &mut attrs);
        assert_eq!(attrs[CAPS], format!("a+forward,{CAP}"));
        assert_eq!(attrs[REQUEST_ID], "frontend.lint");
        assert_eq!(asking("x").frontend_opt[CAPS], CAP);
    }

    #[test]
    fn only_an_unknown_question_goes_to_the_other_frontend() {
        let unknown = Status::unknown("unsupported request frontend.lint");
        let other = fallback(asking("lint"), &unknown).unwrap();
        assert_eq!(other.frontend_opt[SYNTAX], FRONTEND);
        assert_eq!(other.frontend_opt[REQUEST_ID], "frontend.lint");
        let error = Status::unknown("failed to read dockerfile");
        assert!(fallback(asking("lint"), &error).is_none());
        let strange = Status::unknown("unsupported request frontend.strange");
        assert!(fallback(asking("strange"), &strange).is_none());
        assert!(fallback(SolveRequest::default(), &unknown).is_none());
    }
}
