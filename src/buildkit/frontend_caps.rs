//! What a frontend cannot do, in words.
//!
//! A frontend refuses a build that needs a capability which it does not have (BuildKit
//! `solver/errdefs/frontendcap.go`), and a question that it does not know (`subrequest.go`), each by its
//! internal name.

/// What BuildKit says before the name of a capability.
const UNSUPPORTED_CAP: &str = "unsupported frontend capability ";
/// What it says before the name of a question.
const UNSUPPORTED_REQUEST: &str = "unsupported request ";
/// What we say before what a frontend cannot do.
const REFUSED: &str = "the Dockerfile's frontend does not support ";

/// A capability that users meet as a flag.
struct Capability {
    name: &'static str,
    /// What it stands for.
    what: &'static str,
    /// Since when there is one.
    since: &'static str,
}

const CAPABILITIES: [Capability; 3] = [
    Capability {
        name: "moby.buildkit.frontend.contexts",
        what: "named contexts (--build-context)",
        since: "docker/dockerfile:1.4",
    },
    Capability {
        name: "moby.buildkit.frontend.gitquerystring",
        what: "Git URLs with a query",
        since: "docker/dockerfile:1.18",
    },
    Capability {
        name: "moby.buildkit.frontend.subrequests",
        what: "questions (--call, --check)",
        since: "docker/dockerfile:1.4",
    },
];

/// Returns the refusal of a capability in the user's words; `None` for any other message.
pub(super) fn message(buildkit: &str) -> Option<String> {
    let (_, name) = buildkit.split_once(UNSUPPORTED_CAP)?;
    let known = CAPABILITIES.iter().find(|cap| name.starts_with(cap.name))?;
    Some(format!("{REFUSED}{}", known.what))
}

/// Returns what can be done about a message of this module, or about a question that a frontend does
/// not know.
pub(super) fn hint(message: &str) -> Option<String> {
    if let Some((_, what)) = message.split_once(REFUSED) {
        let known = CAPABILITIES.iter().find(|cap| what.starts_with(cap.what))?;
        return Some(format!(
            "they need {} or newer: name it in the Dockerfile's first line, `# syntax=docker/dockerfile:1`, or with \
             --build-arg BUILDKIT_SYNTAX=docker/dockerfile:1, or update the builder",
            known.since
        ));
    }
    let (_, name) = message.split_once(UNSUPPORTED_REQUEST)?;
    let name = name.split([' ', ':']).next().unwrap_or(name);
    let call = name.strip_prefix("frontend.").unwrap_or(name);
    Some(format!(
        "{REFUSED}--call={call}; --call=subrequests.describe lists what it does"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_explained_by_what_the_user_typed() {
        for (message, flag, remedy) in [
            (
                "unsupported frontend capability moby.buildkit.frontend.contexts",
                "--build-context",
                "docker/dockerfile:1.4",
            ),
            (
                "failed: unsupported frontend capability moby.buildkit.frontend.gitquerystring",
                "Git URLs with a query",
                "docker/dockerfile:1.18",
            ),
            (
                "unsupported frontend capability moby.buildkit.frontend.subrequests",
                "--call",
                "BUILDKIT_SYNTAX",
            ),
            (
                "unsupported request frontend.strange",
                "--call=strange",
                "--call=subrequests.describe",
            ),
        ] {
            let text = super::message(message).unwrap_or_else(|| message.to_owned());
            let text = format!("{text}: {}", hint(&text).unwrap());
            assert!(text.contains(flag) && text.contains(remedy), "{text}");
        }
        for message in [
            "unsupported frontend capability moby.buildkit.frontend.other",
            "failed to read dockerfile",
        ] {
            assert_eq!(super::message(message), None, "{message}");
            assert_eq!(hint(message), None, "{message}");
        }
    }
}
