//! How BuildKit's errors tell that a blob could not be read.
//!
//! There is no type for it. All of these name the blob, whatever reads it (containerd
//! `core/remotes/docker`, `core/content`, BuildKit `util/contentutil`):
//!
//! - gone: `… could not fetch content descriptor sha256:… from remote: not found`
//! - damaged: `failed commit on ref "layer-sha256:…": … unexpected commit digest sha256:…`
//! - cut off: `… unexpected status from GET request to http://…/blobs/sha256:…: 416 …`
//! - registry gone: `… Get "http://…/blobs/sha256:…": dial tcp …: connection refused`

use crate::digest::Digest;

/// What BuildKit says where a program of the user's ended with an error (BuildKit `solver/llbsolver/ops`,
/// `executor`). Such a step has failed, whatever digests its text has.
const USER_FAILURE: &str = "did not complete successfully";
/// What the messages begin with where content is fetched (containerd `core/remotes`).
const FETCHING: [&str; 3] = [
    "failed to copy: ",
    "failed commit on ref \"",
    "could not fetch content descriptor ",
];

/// Returns whether an error is that of a user's program.
pub fn is_of_a_program(message: &str) -> bool {
    message.contains(USER_FAILURE)
}

/// Returns the digests that an error names, unless it is that of a user's program.
pub(super) fn blobs(message: &str) -> Vec<Digest> {
    if is_of_a_program(message) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, _) in message.match_indices("sha256:") {
        let digest = message.get(at..at + "sha256:".len() + 64);
        if let Some(digest) = digest.and_then(|text| text.parse::<Digest>().ok())
            && !found.contains(&digest)
        {
            found.push(digest);
        }
    }
    found
}

/// Returns whether an error is one of fetching content.
pub(super) fn is_fetch_failure(message: &str) -> bool {
    !is_of_a_program(message) && FETCHING.iter().any(|text| message.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn blobs_are_found_in_the_errors_of_buildkit() {
        let (blob, other) = (digest(1), digest(2));
        for message in [
            format!(
                "failed to compute cache key: failed to copy: httpReadSeeker: failed open: could not fetch \
                 content descriptor {blob} (application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found"
            ),
            format!(
                "failed to copy: httpReadSeeker: failed open: unexpected status from GET request to \
                 http://127.0.0.1:5000/v2/a/blobs/{blob}: 416 Requested Range Not Satisfiable"
            ),
            format!("failed to copy: rpc error: code = NotFound desc = {blob}: not found"),
        ] {
            assert_eq!(blobs(&message), std::slice::from_ref(&blob), "{message}");
            assert!(is_fetch_failure(&message));
        }
        let damaged = format!(
            "failed commit on ref \"layer-{blob}\": commit failed: unexpected commit digest {other}, expected \
             {blob}: failed precondition"
        );
        assert_eq!(blobs(&damaged), [blob, other]);
        assert!(is_fetch_failure(&damaged));
    }

    #[test]
    fn the_failure_of_a_step_is_none() {
        let blob = digest(1);
        let message = format!(
            "process \"/bin/sh -c fetch {blob} || failed to copy: x\" did not complete successfully: exit code: 1"
        );
        assert!(blobs(&message).is_empty() && !is_fetch_failure(&message));
        assert!(blobs("sha256:00 sha256:").is_empty());
        assert!(blobs("sha256:é").is_empty());
    }
}
