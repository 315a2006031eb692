//! Words that BuildKit fetches by itself: URLs and Git repositories (buildx `urlutil`, BuildKit
//! `dfgitutil`). Whether a folder has that name is not asked here.

use std::path::Path;

/// How a repository begins that needs no scheme.
pub(super) const GITHUB: &str = "github.com/";

pub(super) fn is_http_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

pub(super) fn is_git_url(text: &str) -> bool {
    let base = text.split(['#', '?']).next().unwrap_or(text);
    let is_repository = || {
        let extension = Path::new(base).extension();
        extension.is_some_and(|extension| extension == "git")
    };
    text.starts_with("git://")
        || is_git_ssh(text)
        || (is_http_url(text) && (is_repository() || text.contains(".git?")))
}

/// Returns whether this is a Git repository that is reached by SSH: by URL, or as `user@host:path`.
pub fn is_git_ssh(text: &str) -> bool {
    let word = |part: &str, more: &[char]| {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || more.contains(&c);
        !part.is_empty() && part.chars().all(valid)
    };
    let short = || {
        let (host, _) = text.split_once(':')?;
        let (user, host) = host.split_once('@')?;
        Some(word(user, &['_']) && word(host, &['.']))
    };
    text.starts_with("ssh://") || short() == Some(true)
}

/// Returns whether BuildKit takes this for a Git repository.
pub(super) fn is_repository(text: &str) -> bool {
    is_git_url(text) || text.starts_with(GITHUB)
}

/// Returns whether BuildKit fetches this itself: HTTP(S) or Git.
pub fn is_remote_url(text: &str) -> bool {
    is_http_url(text) || is_repository(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_repositories_are_remote() {
        for text in [
            "https://example.com/x.tar",
            "git://example.com/r",
            "ssh://git@example.com/r.git",
            "git@example.com:me/r.git#main",
            "me@example.com:r",
            "github.com/me/app",
        ] {
            assert!(is_remote_url(text), "{text}");
        }
        for text in [
            "git@host",
            "git@host/x:y",
            "./github.com/me",
            "a:b",
            "a@b",
            "app.git",
        ] {
            assert!(!is_remote_url(text), "{text}");
        }
    }
}
