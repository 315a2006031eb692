//! Where a Git repository is, by its URL.

/// Returns host and path of a repository in lower case, whatever the form of its URL: `https://host/owner/name.git` and
/// `git@host:owner/name` are the same one. `None` for what is no URL, such as a folder.
pub fn address(url: &str) -> Option<(String, String)> {
    let (authority, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        // As ssh takes it: a colon before any slash.
        None => url
            .split_once(':')
            .filter(|(host, _)| !host.contains('/'))?,
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host.split(':').next().unwrap_or(host);
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_one = !host.is_empty() && !path.is_empty();
    is_one.then(|| (host.to_lowercase(), path.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_the_same_place() {
        for url in [
            "https://github.com/acme/App.git",
            "https://x:token@github.com/acme/app/",
            "git://github.com/acme/app.git",
            "git@github.com:acme/app.git",
            "ssh://git@GitHub.com:22/acme/app.git",
        ] {
            let expected = ("github.com".to_owned(), "acme/app".to_owned());
            assert_eq!(address(url), Some(expected), "{url}");
        }
        for url in [
            "",
            "origin",
            "../app",
            "/srv/app.git",
            "./a:b",
            "file:///srv/app",
            "https://github.com",
        ] {
            assert_eq!(address(url), None, "{url}");
        }
    }
}
